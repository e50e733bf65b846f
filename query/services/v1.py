"""The remains of v1 (contract 3.8): two reads in their old shape; every other path of v1 is the same one of v2.

What v1 shows of an entry are four numbers. They are made out of v2's answer, row by row as it comes, so nothing of a
range is kept; a client of v1 ignores the status, so errors are v2's.
"""

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from starlette.types import Message, Receive, Scope, Send

from query.background import in_background
from query.errors import ApiError
from query.ports import Backend
from query.requests import channel_of, reply, user_of
from query.services.channel import last_update
from storage.registry import Channel, StreamDescription, User

# v1's four numbers, each with the names that a stream of v2 may have for it (contract 2.4).
VALUES: Final = {
    "value": ("value1", "value", "v"),
    "value2": ("value2", "v2"),
    "value3": ("value3", "v3"),
    "value4": ("value4", "v4"),
}
NOT_DESCRIBED: Final = StreamDescription()
# What stands before the list.
HEAD: Final = ("channel", "channel_name", "last_update", "aggr_type")
# The parameters of v2's Stream service that do not change what an entry looks like, or how it is written.
PARAMETERS: Final = ("start", "end", "limit", "cursor", "sort", "tag", "device", "aggregate", "zone")
# The path that the client asked for, in the scope of a request that was passed on.
ASKED: Final = "thingscale.asked_path"


def numbers_of(value: Any) -> dict[str, int | float]:
    """The numbers of an entry; those that are not there are left out, never null."""
    given = value if isinstance(value, dict) else {"value": value}
    found = {}
    for shown, names in VALUES.items():
        number = next((given[name] for name in names if name in given), None)
        if isinstance(number, int | float) and not isinstance(number, bool):
            found[shown] = number
    return found


class OldRows:
    """v2's answer of the Stream service into v1's, in pieces."""

    def __init__(self) -> None:
        self._text = ""
        self._has_head = False
        self._list = ""
        self._count = 0
        self._decoder = json.JSONDecoder()

    def feed(self, piece: bytes, *, is_last: bool) -> bytes:
        """What can be said after a further piece."""
        self._text += piece.decode()
        made = []
        if not self._has_head:
            opening = self._open()
            if opening is None:
                return b""
            made.append(opening)
        made += self._rows()
        if is_last:
            made.append("]}" if self._count else "}")
        return "".join(made).encode()

    def _open(self) -> str | None:
        """Everything before the list, whose key comes with the first row: old clients take element 0 unseen."""
        for name in ("stream", "result"):
            head, found, rest = self._text.partition(f'"{name}":[')
            if found:
                self._has_head, self._list, self._text = True, name, rest
                given = json.loads(head.rstrip(",") + "}")
                kept = {key: given[key] for key in HEAD if key in given}
                return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))[:-1]
        return None

    def _rows(self) -> Iterator[str]:
        at = 0
        while True:
            while self._text[at : at + 1] == ",":
                at += 1
            if self._text[at : at + 1] != "{":
                break
            try:
                row, at = self._decoder.raw_decode(self._text, at)
            except ValueError:
                break  # the rest of it is in the next piece
            kept = {name: row[name] for name in ("_id", "at") if name in row}
            text = json.dumps({**kept, **numbers_of(row["value"])}, separators=(",", ":"))
            yield ("," if self._count else f',"{self._list}":[') + text
            self._count += 1
        self._text = self._text[at:]


class Passed(Response):
    """The answer of the same application to the same request under v2's path."""

    def __init__(self, request: Request, path: str, *, is_old: bool) -> None:
        super().__init__()
        self._request = request
        self._path = path
        self._is_old = is_old

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inner = {name: value for name, value in scope.items() if name not in OUTER}
        inner.update(path=self._path, raw_path=quote(self._path).encode(), root_path="")
        inner[ASKED] = scope["path"]
        if self._is_old:
            inner["headers"] = old_headers(scope["headers"])
            inner["query_string"] = old_query(self._request)
            await self._request.app(inner, self._request.receive, OldSend(send))
        else:
            await self._request.app(inner, self._request.receive, send)


# What the router has found out for v1's path.
OUTER: Final = ("path_params", "endpoint", "route", "router", "app", "path", "raw_path", "root_path")


def old_headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The newest first, if nothing else is said; and plain JSON, which is what can be read row by row."""
    given = dict(headers)
    kept = [(name, value) for name, value in headers if name not in (b"accept", b"accept-encoding")]
    if given.get(b"x-endtime", b"").strip().lower() == b"last" and b"x-pagesort" not in given:
        kept.append((b"x-pagesort", b"desc"))
    return kept


def old_query(request: Request) -> bytes:
    """Without what is younger than v1's shape, as a format or buckets of time are."""
    given = request.query_params.multi_items()
    return urlencode([(name, value) for name, value in given if name in PARAMETERS]).encode()


def asked_path(request: Request) -> str:
    """The path as the client asked for it, under v1's name if that was it."""
    path: str = request.scope.get(ASKED, request.url.path)
    return path


class OldSend:
    """An ASGI send that turns v2's answer into v1's on its way."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._rows: OldRows | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            self._rows = OldRows()
            headers = [
                (name, value) for name, value in message["headers"] if name.lower() != b"content-length"
            ]
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body" and self._rows is not None:
            is_last = not message.get("more_body", False)
            piece = message.get("body", b"")
            made = await in_background(lambda rows: rows.feed(bytes(piece), is_last=is_last), self._rows)
            message = {**message, "body": made}
        await self._send(message)


def shown(backend: Backend, channel: Channel, user: User) -> dict[str, Any]:
    """A channel with the labels and units of its four streams."""
    described = backend.store.registry.stream_descriptions(channel.id)
    value: dict[str, Any] = {
        "channel": channel.number,
        "channel_name": channel.channel_name,
        "last_update": last_update(backend.store, channel, user),
    }
    for number, names in enumerate(VALUES.values(), 1):
        found = next((described[name] for name in names if name in described), NOT_DESCRIBED)
        value[f"value{number}_name"], value[f"value{number}_unit"] = found.label, found.unit
    return value


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Version 1"], include_in_schema=False)
    methods = ["GET", "POST", "PUT", "DELETE"]

    @router.get("/v1/channel", summary="All channels, with labels and units of four streams")
    async def list_channels(request: Request) -> Response:
        user = user_of(request, backend)
        channels = backend.store.registry.channels(user.user_id)
        return reply([shown(backend, channel, user) for channel in channels])

    @router.get("/v1/channel/{number}", summary="One channel, as an array")
    async def get_channel(request: Request, number: str) -> Response:
        user = user_of(request, backend)
        return reply([shown(backend, channel_of(backend, user, number), user)])

    @router.get("/v1/stream/{number}", summary="Entries of a channel as four numbers each")
    async def get_stream(request: Request, number: str) -> Response:
        asked = request.headers.getlist("x-aggregate") + request.query_params.getlist("aggregate")
        if any("," in each for each in asked):
            user_of(request, backend)
            raise ApiError("BAD_AGGREGATE", "X-AGGREGATE: v1 has one at a time")
        return Passed(request, f"/v2/stream/{number}", is_old=True)

    @router.api_route("/v1/{path:path}", methods=methods, summary="The same as v2's")
    async def pass_on(request: Request, path: str) -> Response:
        return Passed(request, f"/v2/{path}", is_old=False)

    return router
