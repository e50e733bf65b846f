"""From a path to its handler.

FastAPI knows the routes and describes them; the way to a handler is this module's. Its own, through eight layers and a
list of all routes, cost a quarter to a half of a small request's time (docs/decisions/0008), for checks that no handler
here wants: each takes the raw request and the names in its path.

Routes are looked for among those that begin with the same two segments, in the order in which they were registered.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.convertors import PathConvertor, StringConvertor
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

# How many segments of a path are looked up; behind them most routes have parameters.
KEY_SEGMENTS: Final = 2


class Route(NamedTuple):
    """One handler.

    Attributes:
        methods: for which it is.
        pattern: of the path; its groups are the handler's arguments.
        handler: takes them by name.
        takes_request: and the request before them.
    """

    methods: frozenset[str]
    pattern: re.Pattern[str]
    handler: Callable[..., Awaitable[Response]]
    takes_request: bool


class NoRouteError(Exception):
    """Nothing is at the path; or, with methods, nothing for this one.

    Attributes:
        methods: what the path can do; HEAD is not among them.
    """

    def __init__(self, methods: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(methods)) or "no such path")
        self.methods = methods


Guard = Callable[[Request, Exception], Response]


class Routes:
    """The application that calls handlers.

    Args:
        routes: all of FastAPI's, in order.
        openapi: makes the document of them.
        guards: what becomes of exceptions that handlers raise, by their class. Others are the server's to tell of.
    """

    def __init__(
        self,
        routes: Iterable[BaseRoute],
        openapi: Callable[[], dict[str, Any]],
        guards: Mapping[type[Exception], Guard],
    ) -> None:
        self.openapi = openapi
        self._guards = dict(guards)
        self._guarded = tuple(self._guards)
        self._anywhere: list[Route] = []
        self._by_key: dict[str, list[Route]] = {}
        for route in routes:
            assert isinstance(route, APIRoute)
            self._add(route)

    def _add(self, route: APIRoute) -> None:
        assert all(
            isinstance(each, StringConvertor | PathConvertor) for each in route.param_convertors.values()
        )
        takes_request = "request" in inspect.signature(route.endpoint).parameters
        made = Route(frozenset(route.methods or ()), route.path_regex, route.endpoint, takes_request)
        key = key_of(route.path)
        if "{" not in key:
            self._by_key.setdefault(key, list(self._anywhere)).append(made)
            return
        self._anywhere.append(made)
        for listed in self._by_key.values():
            listed.append(made)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        request = Request(scope, receive, send)
        try:
            route, arguments = self._find(scope["method"], scope["path"])
            answering = (
                route.handler(request, **arguments) if route.takes_request else route.handler(**arguments)
            )
            response = await answering
            await response(scope, receive, send)
        except self._guarded as error:
            guard = next(self._guards[each] for each in type(error).__mro__ if each in self._guards)
            await guard(request, error)(scope, receive, send)

    def _find(self, method: str, path: str) -> tuple[Route, dict[str, Any]]:
        """Raises NoRouteError."""
        others: list[Route] = []
        for route in self._by_key.get(key_of(path), self._anywhere):
            if match := route.pattern.match(path):
                if method in route.methods:
                    return route, match.groupdict()
                others.append(route)
        raise NoRouteError(frozenset().union(*(route.methods for route in others)))


def key_of(path: str) -> str:
    """The first segments of a path: ``/v2/device`` of ``/v2/device/a/b``."""
    return "/".join(path.split("/", KEY_SEGMENTS + 1)[: KEY_SEGMENTS + 1])
