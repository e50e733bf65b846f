"""The Stream service: range queries (contract 3.3, times as in 4)."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import trio
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from query.aggregate import aggregate_rows
from query.errors import ApiError
from query.newest import EVERYTHING
from query.plan import Selection
from query.ports import Backend
from query.requests import channel_of, reply, user_of
from query.rows import ChannelRows, JsonRows, stream_rows
from query.services.channel import last_update
from query.stream_request import StreamRequest, parse_request
from storage.cover import TIME_MAX_US, TIME_MIN_US
from storage.registry import Channel, User
from storage.snapshot import Snapshot

# Replies that clients are still reading, for each query that may run: each holds two windows, some 100 MB.
REPLIES_PER_QUERY = 2


def selection_of(
    backend: Backend, user: User, channel: Channel, asked: StreamRequest, span: tuple[int, int]
) -> Selection | None:
    """Names resolved to ids; None if nothing can be there."""
    tag = device = None
    for name in asked.tags:
        number = backend.store.schema.tag_id(channel.id, name)
        if number <= 0:
            return None
        tag = name, number
    for name in asked.devices:
        known = backend.store.registry.device_by_name(user.user_id, name)
        if known is None:
            return None
        device = name, known
    return Selection(*span, tag, device)


class Pieces(Response):
    """A JSON reply whose rows are made piece by piece, as fast as the client takes them.

    Args:
        first: what there is already.
        rows: the further pieces; each step may block and runs in a worker thread.
        last: text behind the rows.
        limiter: how many such steps run at a time.
        close: when it is over, however it ends.
    """

    def __init__(
        self, first: bytes, rows: Iterator[bytes], last: bytes, limiter: trio.CapacityLimiter,
        close: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(media_type="application/json")
        del self.headers["content-length"]
        self._first, self._last = first, last
        self._rows = rows
        self._limiter = limiter
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            pieces, made = trio.open_memory_channel[bytes](0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._make, pieces)
                async with made:
                    async for piece in made:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": self._last})
        finally:
            self._close()

    async def _make(self, pieces: trio.MemorySendChannel[bytes]) -> None:
        """The next piece is made while the client takes one."""
        async with pieces:
            piece = self._first
            while piece:
                await pieces.send(piece)
                piece = await trio.to_thread.run_sync(next, self._rows, b"", limiter=self._limiter)


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Stream"])
    store = backend.store

    def head_of(channel: Channel, user: User) -> dict[str, Any]:
        return {
            "channel": channel.number,
            "channel_name": channel.channel_name,
            "last_update": last_update(store, channel, user),
        }

    def envelope(channel: Channel, user: User) -> tuple[bytes, bytes]:
        text = json.dumps(head_of(channel, user), ensure_ascii=False, separators=(",", ":")).encode()
        return text[:-1] + b',"stream":[', b"]}"

    async def rows_of(snapshot: Snapshot, selection: Selection) -> ChannelRows:
        """What only the ring has is copied at once, so that a long query does not keep the ring from being used."""
        rows = await trio.to_thread.run_sync(ChannelRows, snapshot, selection, backend.engine)
        snapshot.let_go_of_ring()
        return rows

    async def newest(channel: Channel, user: User, asked: StreamRequest) -> Response:
        assert asked.limit is not None
        before, after = envelope(channel, user)
        span = EVERYTHING.start_us, EVERYTHING.end_us
        selection = selection_of(backend, user, channel, asked, span)
        if selection is None:
            return Response(before + after, media_type="application/json")
        found = backend.newest.from_memory(channel, selection, asked.limit)
        if found is None:
            async with backend.queries:
                below_seq = store.ring.durable
                with store.snapshot(channel, *span) as snapshot:
                    fresh = await rows_of(snapshot, selection)
                    table = await trio.to_thread.run_sync(
                        backend.newest.from_files, snapshot, fresh, asked.limit
                    )
                    found = snapshot.columns, table
            backend.newest.keep(channel, selection, below_seq, asked.limit, table)
        columns, table = found
        rows = JsonRows(columns, asked.zone, descending=asked.descending)
        return Response(before + b"".join(rows.pieces(table)) + after, media_type="application/json")

    def span_of(asked: StreamRequest) -> tuple[int, int]:
        assert asked.end_us is not None
        return max(asked.start_us, TIME_MIN_US), min(asked.end_us + 1, TIME_MAX_US)

    unread: set[Snapshot] = set()

    def check_unread() -> None:
        """Clients that hardly read must not fill the memory. Raises ApiError."""
        if len(unread) >= REPLIES_PER_QUERY * backend.queries.total_tokens:
            raise ApiError(
                "UNAVAILABLE", f"{len(unread)} ranges are being read by slow clients", {"Retry-After": "1"}
            )

    async def entries(channel: Channel, user: User, asked: StreamRequest) -> Response:
        before, after = envelope(channel, user)
        selection = selection_of(backend, user, channel, asked, span_of(asked))
        if selection is None or selection.start_us >= selection.end_us:
            return Response(before + after, media_type="application/json")

        def begin(rows: ChannelRows) -> tuple[Iterator[bytes], bytes, bytes]:
            pieces = stream_rows(rows, asked.zone, backend.engine.ahead, descending=asked.descending)
            return pieces, next(pieces, b""), next(pieces, b"")

        check_unread()
        async with backend.queries:
            check_unread()
            snapshot = store.snapshot(channel, selection.start_us, selection.end_us)
            unread.add(snapshot)

            def close() -> None:
                unread.discard(snapshot)
                snapshot.close()

            try:
                rows = await rows_of(snapshot, selection)
                pieces, first, second = await trio.to_thread.run_sync(begin, rows)
            except BaseException:
                close()
                raise
        if not second:
            close()
            return Response(before + first + after, media_type="application/json")
        return Pieces(before + first + second, pieces, after, backend.queries, close)

    async def aggregate(channel: Channel, user: User, asked: StreamRequest) -> Response:
        (wanted,) = asked.aggregates
        result: list[dict[str, Any]] = []
        selection = selection_of(backend, user, channel, asked, span_of(asked))
        if selection is not None and selection.start_us < selection.end_us:
            async with backend.queries:
                with store.snapshot(channel, selection.start_us, selection.end_us) as snapshot:
                    rows = await rows_of(snapshot, selection)
                    found = await trio.to_thread.run_sync(
                        aggregate_rows, rows, backend.engine, snapshot.published, wanted
                    )
            if found.partials:
                result.append({"_id": None, "value": found.value()})
        return reply({**head_of(channel, user), "aggr_type": wanted, "result": result})

    @router.get(
        "/v2/stream/{number}", summary="Datapoints of a channel: the newest, a range, or an aggregate"
    )
    async def get_stream(request: Request, number: str) -> Response:
        user = user_of(request, backend)
        channel = channel_of(backend, user, number)
        asked = parse_request(request, user, backend.page_rows_max)
        began, _ = backend.now()
        if asked.aggregates:
            kind, answer = "aggregate", aggregate
        else:
            kind, answer = ("newest", newest) if asked.end_us is None else ("range", entries)
        response = await answer(channel, user, asked)
        backend.counts.add(kind, backend.now()[0] - began)
        return response

    return router
