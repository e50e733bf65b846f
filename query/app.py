"""The REST application: the services' routes, and what goes wrong around them, as the contract words it.

Paths may end in a slash, and what has GET has HEAD. Every error is ``{"error": TOKEN, "detail": words}``.
"""

import logging
from collections.abc import Iterable
from functools import partial
from typing import Final

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from query import openapi
from query.errors import ApiError
from query.pacing import Pacing
from query.ports import Backend
from query.requests import reply
from query.routing import NoRouteError, Routes
from query.services import (
    admin,
    channel,
    device,
    docs,
    event,
    health,
    live,
    prometheus,
    publish,
    session,
    sql,
    stream,
    stream_description,
    user,
    v1,
    write,
)
from query.services.live import IS_HEAD
from query.services.v1 import asked_path
from storage.disk import DiskFullError
from storage.registry import RegistryBusyError

log = logging.getLogger("thingscale.rest")

SERVICES: Final = (
    device,
    channel,
    stream_description,
    event,
    stream,
    write,
    live,
    sql,
    publish,
    session,
    user,
    admin,
    v1,
    health,
    docs,
    prometheus,
)


class Leniency:
    """A trailing slash makes no difference; HEAD is a GET whose content the HTTP server leaves out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", IS_HEAD: True}
        if len(path) > 1 and path.endswith("/"):
            scope = {
                **scope,
                "path": path.rstrip("/") or "/",
                "raw_path": scope["raw_path"].rstrip(b"/") or b"/",
            }
        await self._app(scope, receive, send)


def make_app(backend: Backend) -> ASGIApp:
    """The application for the HTTP server."""
    routers = make_routers(backend)
    described = describe(routers)
    routes = Routes(
        (route for router in routers for route in router.routes),
        described.openapi,
        {
            ApiError: on_api_error,
            NoRouteError: on_no_route,
            DiskFullError: on_unavailable,
            RegistryBusyError: on_unavailable,
        },
    )
    return Leniency(Pacing(routes))


def make_routers(backend: Backend) -> list[APIRouter]:
    """The services' routes, in the order in which they are looked for."""
    return [service.routes(backend) for service in SERVICES]


def describe(routers: Iterable[APIRouter]) -> FastAPI:
    """What makes the document of these routes; requests do not go this way (query/routing.py)."""
    app = FastAPI(openapi_url=None, generate_unique_id_function=openapi.operation_id)
    for router in routers:
        app.include_router(router)
    app.openapi = partial(openapi.document, app)  # type: ignore[method-assign]
    return app


def on_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    response = reply({"error": error.token, "detail": error.detail, **error.more}, error.status)
    response.headers.update(error.headers)
    if error.status == 401:
        response.headers["www-authenticate"] = (
            "X-APITOKEN"  # RFC 9110 section 15.5.2: some challenge must be there
        )
    return response


def on_unavailable(request: Request, error: Exception) -> Response:
    """What is asked for cannot be written now; nothing has changed."""
    log.warning("%s %s: %s", request.method, request.url.path, error)
    words = "the disk is full" if isinstance(error, DiskFullError) else "the registry is locked"
    return on_api_error(request, ApiError("UNAVAILABLE", words, {"Retry-After": "1"}))


def on_no_route(request: Request, error: Exception) -> Response:
    """No such path, or the wrong method for it."""
    assert isinstance(error, NoRouteError)
    if not error.methods:
        return reply({"error": "NOT_FOUND", "detail": f"there is nothing at {asked_path(request)}"}, 404)
    words = f"{request.method} is not for {asked_path(request)}"
    response = reply({"error": "METHOD_NOT_ALLOWED", "detail": words}, 405)
    allowed = error.methods | ({"HEAD"} if "GET" in error.methods else set())
    response.headers["allow"] = ", ".join(sorted(allowed))
    return response
