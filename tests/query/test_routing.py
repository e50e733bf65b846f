"""query/routing.py: which handler a path and a method have."""

from typing import Any

import pytest
from fastapi import APIRouter, Request, Response

from query.routing import NoRouteError, Routes, key_of

router = APIRouter()


@router.get("/v2/thing")
async def things() -> Response:
    return Response(b"things")


@router.get("/v2/thing/first")
async def first(request: Request) -> Response:
    return Response(b"first " + request.method.encode())


@router.get("/v2/thing/{name:path}")
async def thing(request: Request, name: str) -> Response:
    if name == "odd":
        raise KeyError(name)
    if name == "none":
        raise ValueError(name)
    return Response(b"thing " + name.encode())


@router.put("/v2/thing/{name:path}")
async def change(name: str) -> Response:
    return Response(b"changed " + name.encode())


@router.get("/{version}/any/{name}")
async def anywhere(version: str, name: str) -> Response:
    return Response(f"{version} {name}".encode())


@router.get("/v2/any/late")
async def too_late() -> Response:
    raise AssertionError("the one before is for this path, too")


def refused(_request: Request, error: Exception) -> Response:
    return Response(repr(error).encode(), 499)


def not_there(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NoRouteError)
    return Response(",".join(sorted(error.methods)).encode(), 404)


ROUTES = Routes(router.routes, dict, {LookupError: refused, NoRouteError: not_there})


async def ask(method: str, path: str) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody asks for the body")

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}
    await ROUTES(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", "/v2/thing", (200, b"things")),
        ("GET", "/v2/thing/first", (200, b"first GET")),
        ("GET", "/v2/thing/second", (200, b"thing second")),
        ("GET", "/v2/thing/a/b/c", (200, b"thing a/b/c")),
        ("PUT", "/v2/thing/first", (200, b"changed first")),
        ("GET", "/v1/any/x", (200, b"v1 x")),
        ("GET", "/v2/any/late", (200, b"v2 late")),
        ("GET", "/v2/any/a/b", (404, b"")),
        ("GET", "/v2/thin", (404, b"")),
        ("GET", "/v2", (404, b"")),
        ("GET", "/", (404, b"")),
        ("GET", "", (404, b"")),
        ("POST", "/v2/thing", (404, b"GET")),
        ("POST", "/v2/thing/first", (404, b"GET,PUT")),
        ("GET", "/v2/thing/odd", (499, b"KeyError('odd')")),
    ],
)
async def test_a_path_and_a_method_have_a_handler(method: str, path: str, wanted: tuple[int, bytes]) -> None:
    assert await ask(method, path) == wanted


async def test_what_nobody_guards_against_goes_on() -> None:
    with pytest.raises(ValueError, match="none"):
        await ask("GET", "/v2/thing/none")


def test_the_key_is_the_first_two_segments() -> None:
    assert [key_of(path) for path in ("/v2/device/a/b", "/v2/device", "/v2", "/", "")] == [
        "/v2/device", "/v2/device", "/v2", "/", "",
    ]  # fmt: skip
