"""The Stream service: range queries (contract 3.3, times as in 4)."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from query.background import in_background
from query.cursors import text_of
from query.errors import ApiError
from query.formats import Part, Piece, pieces_of
from query.measures import percentiles_of
from query.models import stream as about
from query.newest_rows import NewestRows
from query.pages import cursor_of, read_page, rest_of, window_rows
from query.per_device import newest_of_each
from query.plan import Selection
from query.ports import Backend
from query.reads import VARY, ChannelRead, Chart, Range, Totals
from query.replies import whole
from query.requests import channel_of, point_to_next, user_of
from query.services.reading import Found, Reading
from query.services.stream_parts import columns_of, layout_of, part_of, rows_of, selection_of, span_of
from query.stream_request import Format, StreamRequest, parse_request
from query.written import Work, Written, begin
from storage.kinds import Kind
from storage.registry import Channel, User
from storage.wide import PhysicalColumn

if TYPE_CHECKING:
    from query.rows import ChannelRows

# Channels of one request: each is a snapshot, and what the ring has of it is copied.
CHANNELS_MAX = 64
# So many of the newest are written at once, in less time than a worker thread takes to wake up.
ROWS_AT_ONCE = 1_000


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Stream"])
    store = backend.store

    async def written(pieces: Iterator[Piece], asked: StreamRequest) -> Response:
        """The reply of these pieces, which are not many."""
        begun, _ = await in_background(begin, lambda: Written(pieces, asked.coding, told=VARY))
        return whole(begun, asked.format.value)

    # ---- the newest

    async def newest_of(channel: Channel, user: User, asked: StreamRequest) -> Part:
        assert asked.limit is not None
        selection = selection_of(backend, user, channel, asked, span_of(asked))
        if selection is None:
            return part_of(backend, channel, asked, columns_of(backend, channel), iter(()))
        found = None
        if not asked.is_per_device:
            found = backend.newest.from_memory(channel, selection, asked.limit)
        if found is None:
            found = await newest_in_files(channel, selection, asked.limit, is_per_device=asked.is_per_device)
        columns, rows = found
        if asked.format is Format.JSON:
            return part_of(backend, channel, asked, columns, iter(()), rows)
        return part_of(backend, channel, asked, columns, iter([rows.table()]))

    async def newest_in_files(
        channel: Channel, selection: Selection, limit: int, *, is_per_device: bool
    ) -> tuple[tuple[PhysicalColumn, ...], NewestRows]:
        async with backend.queries:
            # Who waited for a turn behind somebody with the same question has the answer already.
            if not is_per_device and (found := backend.newest.from_memory(channel, selection, limit)):
                return found
            seen = backend.newest.seen
            with store.snapshot(channel, selection.start_us, selection.end_us) as snapshot:
                fresh = await rows_of(backend, snapshot, selection)
                if is_per_device:
                    table = await in_background(newest_of_each, snapshot, fresh, backend.engine, limit)
                    return snapshot.columns, backend.newest.out_of_files(table, snapshot.columns)
                table = await in_background(backend.newest.from_files, snapshot, fresh, limit)
        rows = backend.newest.out_of_files(table, snapshot.columns)
        backend.newest.keep(channel, selection, seen, limit, rows)
        return snapshot.columns, rows

    async def newest(
        channels: Sequence[Channel], user: User, asked: StreamRequest, *, is_list: bool
    ) -> Response:
        assert asked.limit is not None
        parts = [await newest_of(channel, user, asked) for channel in channels]
        pieces = pieces_of(asked.format, parts, layout_of(asked, is_list=is_list), is_list=is_list)
        if asked.format is Format.JSON and asked.limit <= ROWS_AT_ONCE and asked.coding is None:
            return Response(b"".join(pieces), media_type=asked.format.value, headers=VARY)
        return await written(pieces, asked)

    # ---- ranges

    reading = Reading(backend)

    async def ranged(
        request: Request, channels: Sequence[Channel], user: User, asked: StreamRequest, *, is_list: bool
    ) -> Response:
        """All rows of a range, aggregates, or points."""

        def work_of(found: Found) -> Work:
            read = []
            for channel, rows in zip(channels, found, strict=True):
                columns = columns_of(backend, channel) if rows is None else rows.columns
                read.append(ChannelRead(part_of(backend, channel, asked, columns, iter(())), rows))
            common = read, asked, layout_of(asked, is_list=is_list), is_list
            if asked.aggregate is not None:
                return Totals(*common, backend.buckets_max, backend.exact_values_max, backend.now()[1])
            if asked.points is not None:
                return Chart(*common, backend.buckets_max)
            return Range(*common)

        wanted = [
            (channel, selection_of(backend, user, channel, asked, span_of(asked))) for channel in channels
        ]
        # Numbers inside JSON, and percentiles, are found in all rows.
        is_summed = asked.aggregate is not None and not (
            percentiles_of(asked.aggregate.names)
            or any(
                column.kind is Kind.JSON for channel in channels for column in columns_of(backend, channel)
            )
        )
        return await reading.answer(
            request,
            wanted,
            asked.format.value,
            work_of,
            is_streamed=asked.aggregate is None and asked.points is None,
            is_summed=is_summed,
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
                    found.append(await rows_of(backend, snapshot, selection, window_rows(limit)))
                made = await in_background(
                    lambda: read_page(cursor, len(channels), found.__getitem__, limit, descending=descending)
                )
        following = None if made.following is None else text_of(made.following)
        touched = sorted(made.tables) or [cursor.part]
        parts = [
            part_of(backend, channels[i], asked, columns_of(backend, channels[i]),
                iter([made.tables[i]] if i in made.tables else []),
            )
            for i in touched
        ]  # fmt: skip
        layout = layout_of(asked, is_list=is_list, cursor=following)
        pieces = pieces_of(asked.format, parts, layout, is_list=is_list)
        response = await written(pieces, asked)
        if following is not None:
            point_to_next(request, response, "cursor", following)
        return response

    # ---- routes

    async def read(request: Request, user: User, numbers: Sequence[str] | None, number: str) -> Response:
        is_list = numbers is not None
        channels = [channel_of(backend, user, each) for each in (numbers or [number])]
        asked = parse_request(request, user, backend.page_rows_max, is_in_path=not is_list)
        began, _ = backend.now()
        if asked.aggregate is not None:
            kind = "aggregate"
            response = await ranged(request, channels, user, asked, is_list=is_list)
        elif asked.end_us is None:
            kind = "newest"
            response = await newest(channels, user, asked, is_list=is_list)
        else:
            kind = "range"
            do = page if asked.limit is not None else ranged
            response = await do(request, channels, user, asked, is_list=is_list)
        backend.counts.add(kind, backend.now()[0] - began)
        return response

    @router.get("/v2/stream/{number}", **about.GET)
    async def get_stream(request: Request, number: str) -> Response:
        return await read(request, user_of(request, backend), None, number)

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
