"""The REST application: the services' routes, and what goes wrong around them, as the contract words it.

Paths may end in a slash, and what has GET has HEAD. Every error is ``{"error": TOKEN, "detail": words}``, also
those of the framework.
"""

import logging
from functools import partial
from typing import Final

import trio
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from query import openapi
from query.errors import ApiError
from query.pacing import Pacing
from query.ports import Backend
from query.requests import reply
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
    app = FastAPI(
        title="Thingscale",
        version="2.0.0",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=openapi.operation_id,
    )
    for service in SERVICES:
        app.include_router(service.routes(backend))
    app.openapi = partial(openapi.document, app)  # type: ignore[method-assign]
    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_error)
    for failure in (DiskFullError, RegistryBusyError):
        app.add_exception_handler(failure, on_unavailable)
    return Leniency(Pacing(app))


async def on_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    response = reply({"error": error.token, "detail": error.detail, **error.more}, error.status)
    response.headers.update(error.headers)
    if error.status == 401:
        response.headers["www-authenticate"] = (
            "X-APITOKEN"  # RFC 9110 section 15.5.2: some challenge must be there
        )
    return response


async def on_unavailable(request: Request, error: Exception) -> Response:
    """What is asked for cannot be written now; nothing has changed."""
    log.warning("%s %s: %s", request.method, request.url.path, error)
    words = "the disk is full" if isinstance(error, DiskFullError) else "the registry is locked"
    return await on_api_error(request, ApiError("UNAVAILABLE", words, {"Retry-After": "1"}))


async def on_http_error(request: Request, error: Exception) -> Response:
    """The router's own: no such path, wrong method."""
    assert isinstance(error, HTTPException)
    await trio.lowlevel.checkpoint()
    if error.status_code == 405:
        response = reply(
            {"error": "METHOD_NOT_ALLOWED", "detail": f"{request.method} is not for {asked_path(request)}"},
            405,
        )
        response.headers["allow"] = ", ".join(sorted(methods_of(request)))
        return response
    return reply({"error": "NOT_FOUND", "detail": f"there is nothing at {asked_path(request)}"}, 404)


def methods_of(request: Request) -> set[str]:
    """What the path can do: the router's own answer knows only the first of its routes."""
    found = {
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    return found | {"HEAD"} if "GET" in found else found
