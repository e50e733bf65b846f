"""The Stream service: range queries (contract 3.3, times as in 4)."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import trio
from fastapi import APIRouter, Request, Response

from query.aggregate import aggregate_rows
from query.errors import ApiError
from query.formats import Layout, Part, pieces_of
from query.models import stream as about
from query.newest import EVERYTHING
from query.pages import cursor_of, read_page, rest_of, window_rows
from query.per_device import newest_of_each
from query.plan import Selection
from query.ports import Backend
from query.replies import Begun, StreamedReply, begin, begin_whole
from query.requests import channel_of, reply, user_of
from query.rows import ChannelRows, windowed
from query.stream_request import Format, StreamRequest, parse_request
from query.times import format_time
from storage.cover import TIME_MAX_US, TIME_MIN_US
from storage.registry import Channel, User
from storage.snapshot import Snapshot
from storage.wide import PhysicalColumn, physical_columns

# Replies that clients are still reading, for each query that may run: each holds a few windows, some 100 MB.
REPLIES_PER_QUERY = 2
# Channels of one request: each is a snapshot, and what the ring has of it is copied.
CHANNELS_MAX = 64
# Windows that are read ahead of the one in hand. Columns leave as they are, so reading is all the work there is.
WINDOWS_AHEAD = {Format.ARROW: 2}
# So many of the newest are written at once, in less time than a worker thread takes to wake up.
ROWS_AT_ONCE = 1_000
VARY = {"Vary": "Accept, Accept-Encoding"}


def selection_of(
    backend: Backend, user: User, channel: Channel, asked: StreamRequest, span: tuple[int, int]
) -> Selection | None:
    """Names resolved to ids; None if nothing can be there."""
    tags = devices = None
    if asked.tags:
        numbers = ((name, backend.store.schema.tag_id(channel.id, name)) for name in asked.tags)
        tags = tuple((name, number) for name, number in numbers if number > 0)
    if asked.devices:
        known = ((name, backend.store.registry.device_by_name(user.user_id, name)) for name in asked.devices)
        devices = tuple((name, number) for name, number in known if number is not None)
    if tags == () or devices == () or span[0] >= span[1]:
        return None
    return Selection(*span, tags, devices, asked.streams or None)


def span_of(asked: StreamRequest) -> tuple[int, int]:
    """The range, end exclusive."""
    if asked.end_us is None:
        return max(asked.start_us, EVERYTHING.start_us), EVERYTHING.end_us
    return max(asked.start_us, TIME_MIN_US), min(asked.end_us + 1, TIME_MAX_US)


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Stream"])
    store = backend.store

    def head_of(channel: Channel, asked: StreamRequest) -> dict[str, Any]:
        at_us = store.last_update_us(channel)
        return {
            "channel": channel.number,
            "channel_name": channel.channel_name,
            "last_update": None if at_us is None else format_time(at_us, asked.zone),
        }

    def part_of(
        channel: Channel, asked: StreamRequest, columns: Sequence[PhysicalColumn], tables: Iterator[pa.Table]
    ) -> Part:
        wanted = Selection(0, 0, streams=asked.streams or None).wants
        return Part(
            number=channel.number,
            head=head_of(channel, asked),
            columns=[column for column in columns if wanted(column)],
            described=store.registry.stream_descriptions(channel.id),
            tables=tables,
        )

    def columns_of(channel: Channel) -> tuple[PhysicalColumn, ...]:
        return physical_columns(store.schema.columns_of(channel.id))

    def layout_of(asked: StreamRequest, *, is_list: bool, cursor: str | None = None) -> Layout:
        return Layout(
            zone=asked.zone,
            descending=None if asked.is_unordered else asked.descending,
            has_channel=is_list,
            with_meta=asked.with_meta,
            compression=asked.compression,
            cursor=cursor,
        )

    def answer(begun: Begun, asked: StreamRequest, headers: dict[str, str] | None = None) -> Response:
        """A reply that is complete."""
        assert begun.rest is None
        fields = head_fields(begun, asked) | (headers or {})
        return Response(b"".join(begun.first), media_type=asked.format.value, headers=fields)

    def head_fields(begun: Begun, asked: StreamRequest) -> dict[str, str]:
        return VARY | ({} if begun.coding is None else {"Content-Encoding": begun.coding})

    async def rows_of(
        snapshot: Snapshot, selection: Selection, window_rows: int | None = None
    ) -> ChannelRows:
        """What only the ring has is copied at once, so that a long query does not keep the ring from being used."""
        rows = await trio.to_thread.run_sync(ChannelRows, snapshot, selection, backend.engine, window_rows)
        snapshot.let_go_of_ring()
        return rows

    # ---- the newest

    async def newest_of(channel: Channel, user: User, asked: StreamRequest) -> Part:
        assert asked.limit is not None
        selection = selection_of(backend, user, channel, asked, span_of(asked))
        if selection is None:
            return part_of(channel, asked, columns_of(channel), iter(()))
        found = None
        if not asked.is_per_device:
            found = backend.newest.from_memory(channel, selection, asked.limit)
        if found is None:
            found = await newest_in_files(channel, selection, asked.limit, is_per_device=asked.is_per_device)
        columns, table = found
        return part_of(channel, asked, columns, iter([table]))

    async def newest_in_files(
        channel: Channel, selection: Selection, limit: int, *, is_per_device: bool
    ) -> tuple[tuple[PhysicalColumn, ...], pa.Table]:
        async with backend.queries:
            below_seq = store.ring.durable
            with store.snapshot(channel, selection.start_us, selection.end_us) as snapshot:
                fresh = await rows_of(snapshot, selection)
                if is_per_device:
                    table = await trio.to_thread.run_sync(
                        newest_of_each, snapshot, fresh, backend.engine, limit
                    )
                    return snapshot.columns, table
                table = await trio.to_thread.run_sync(backend.newest.from_files, snapshot, fresh, limit)
        backend.newest.keep(channel, selection, below_seq, limit, table)
        return snapshot.columns, table

    async def newest(
        channels: Sequence[Channel], user: User, asked: StreamRequest, *, is_list: bool
    ) -> Response:
        assert asked.limit is not None
        parts = [await newest_of(channel, user, asked) for channel in channels]
        pieces = pieces_of(asked.format, parts, layout_of(asked, is_list=is_list), is_list=is_list)
        if asked.format is Format.JSON and asked.limit <= ROWS_AT_ONCE and asked.coding is None:
            return Response(b"".join(pieces), media_type=asked.format.value, headers=VARY)
        begun = await trio.to_thread.run_sync(begin_whole, pieces, asked.coding)
        return answer(begun, asked)

    # ---- ranges

    unread: set[object] = set()

    def check_unread() -> None:
        """Clients that hardly read must not fill the memory. Raises ApiError."""
        if len(unread) >= REPLIES_PER_QUERY * backend.queries.total_tokens:
            raise ApiError(
                "UNAVAILABLE", f"{len(unread)} ranges are being read by slow clients", {"Retry-After": "1"}
            )

    async def entries(
        channels: Sequence[Channel], user: User, asked: StreamRequest, *, is_list: bool
    ) -> Response:
        selections = [selection_of(backend, user, channel, asked, span_of(asked)) for channel in channels]
        check_unread()
        async with backend.queries:
            check_unread()
            stack = ExitStack()
            unread.add(stack)

            def close() -> None:
                unread.discard(stack)
                stack.close()

            try:
                # All at one moment; what only the ring has is then copied channel by channel.
                snapshots = [
                    None
                    if selection is None
                    else stack.enter_context(store.snapshot(channel, selection.start_us, selection.end_us))
                    for channel, selection in zip(channels, selections, strict=True)
                ]
                parts = []
                for channel, selection, snapshot in zip(channels, selections, snapshots, strict=True):
                    tables: Iterator[pa.Table] = iter(())
                    columns = columns_of(channel)
                    if snapshot is not None and selection is not None:
                        columns = snapshot.columns
                        tables = windowed(
                            await rows_of(snapshot, selection), backend.engine.ahead,
                            descending=asked.descending, windows_ahead=WINDOWS_AHEAD.get(asked.format, 1),
                        )  # fmt: skip
                    parts.append(part_of(channel, asked, columns, tables))
                pieces = pieces_of(asked.format, parts, layout_of(asked, is_list=is_list), is_list=is_list)
                begun = await trio.to_thread.run_sync(begin, pieces, asked.coding)
            except BaseException:
                close()
                raise
        if begun.rest is None:
            close()
            return answer(begun, asked)
        return StreamedReply(
            begun.first, begun.rest, asked.format.value, head_fields(begun, asked), backend.queries, close
        )

    async def page(
        request: Request, channels: Sequence[Channel], user: User, asked: StreamRequest, *, is_list: bool
    ) -> Response:
        assert asked.limit is not None
        limit, descending = asked.limit, asked.descending
        async with backend.queries:
            cursor = cursor_of(asked, [channel.number for channel in channels], store.ring.durable)
            with ExitStack() as stack:
                found: list[ChannelRows | None] = [None] * cursor.part
                for i, channel in enumerate(channels[cursor.part :], cursor.part):
                    selection = selection_of(backend, user, channel, asked, span_of(asked))
                    if selection is not None and i == cursor.part:
                        selection = rest_of(selection, cursor, descending=descending)
                    if selection is None:
                        found.append(None)
                        continue
                    snapshot = stack.enter_context(
                        store.snapshot(channel, selection.start_us, selection.end_us)
                    )
                    found.append(await rows_of(snapshot, selection, window_rows(limit)))
                made = await trio.to_thread.run_sync(
                    lambda: read_page(cursor, len(channels), found.__getitem__, limit, descending=descending)
                )
        following = None if made.following is None else made.following.text()
        touched = sorted(made.tables) or [cursor.part]
        parts = [
            part_of(
                channels[i], asked, columns_of(channels[i]),
                iter([made.tables[i]] if i in made.tables else []),
            )
            for i in touched
        ]  # fmt: skip
        layout = layout_of(asked, is_list=is_list, cursor=following)
        pieces = pieces_of(asked.format, parts, layout, is_list=is_list)
        begun = await trio.to_thread.run_sync(begin_whole, pieces, asked.coding)
        headers = {}
        if following is not None:
            given = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
            target = f"{request.url.path}?{urlencode([*given, ('cursor', following)])}"
            headers = {"X-NEXT-CURSOR": following, "Link": f'<{target}>; rel="next"'}
        return answer(begun, asked, headers)

    # ---- aggregates

    async def aggregate(channel: Channel, user: User, asked: StreamRequest) -> dict[str, Any]:
        (wanted,) = asked.aggregates
        result: list[dict[str, Any]] = []
        selection = selection_of(backend, user, channel, asked, span_of(asked))
        if selection is not None:
            async with backend.queries:
                with store.snapshot(channel, selection.start_us, selection.end_us) as snapshot:
                    rows = await rows_of(snapshot, selection)
                    found = await trio.to_thread.run_sync(
                        aggregate_rows, rows, backend.engine, snapshot.published, wanted
                    )
            if found.partials:
                result.append({"_id": None, "value": found.value()})
        return {**head_of(channel, asked), "aggr_type": wanted, "result": result}

    # ---- routes

    async def read(request: Request, user: User, numbers: Sequence[str] | None, number: str) -> Response:
        is_list = numbers is not None
        channels = [channel_of(backend, user, each) for each in (numbers or [number])]
        asked = parse_request(request, user, backend.page_rows_max)
        began, _ = backend.now()
        if asked.aggregates:
            kind = "aggregate"
            results = [await aggregate(channel, user, asked) for channel in channels]
            response = reply(results if is_list else results[0])
        elif asked.end_us is None:
            kind = "newest"
            response = await newest(channels, user, asked, is_list=is_list)
        else:
            kind = "range"
            if asked.limit is not None:
                response = await page(request, channels, user, asked, is_list=is_list)
            else:
                response = await entries(channels, user, asked, is_list=is_list)
        backend.counts.add(kind, backend.now()[0] - began)
        return response

    @router.get("/v2/stream/{number}", **about.GET)
    async def get_stream(request: Request, number: str) -> Response:
        user = user_of(request, backend)
        if "channel" in request.query_params:
            channel_of(backend, user, number)
            raise ApiError("BAD_PARAMETER", "channel: the path names one already; several go with /v2/stream")
        return await read(request, user, None, number)

    @router.get("/v2/stream", **about.LIST)
    async def get_streams(request: Request) -> Response:
        user = user_of(request, backend)
        numbers = parse_request(request, user, backend.page_rows_max).channels
        if not 1 <= len(numbers) <= CHANNELS_MAX:
            raise ApiError(
                "BAD_PARAMETER", f"channel: expected 1 .. {CHANNELS_MAX} numbers, as in channel=1,2"
            )
        return await read(request, user, numbers, "")

    return router
