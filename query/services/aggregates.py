"""The Stream service's aggregates, and its points for charts."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Response

from query.aggregate import Aggregates, aggregate_rows, numeric_of
from query.background import in_background
from query.buckets import Grouping, Path, Row, filled
from query.calendar import Calendar
from query.engine import Engine
from query.formats import pieces_of
from query.formats.layout import streams_shown
from query.formats.results import Result, Shape, result_pieces
from query.measures import percentiles_of
from query.percentiles import add_percentiles
from query.points import Thinning, thin_out
from query.ports import Backend
from query.replies import begin_whole
from query.rows import EMPTY, ChannelRows
from query.services.stream_parts import (
    answer,
    columns_of,
    head_of,
    layout_of,
    part_of,
    rows_of,
    selection_of,
    span_of,
)  # fmt: skip
from query.stream_request import StreamRequest
from storage.cover import TIME_MIN_US
from storage.registry import Channel, User
from storage.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class _Found:
    """What a channel's datapoints come to."""

    rows: Sequence[Row] = ()
    paths: Sequence[Path] = ()
    is_approximate: bool = False


async def aggregates(
    backend: Backend, channels: Sequence[Channel], user: User, asked: StreamRequest, *, is_list: bool
) -> Response:
    """The reply to a request for aggregates."""
    wanted = asked.aggregate
    assert wanted is not None
    calendar = None if wanted.interval is None else Calendar(wanted.interval, asked.zone)
    shape = Shape(wanted.names, calendar is not None, wanted.by)
    left = backend.buckets_max
    results = []
    estimated: list[str] = []
    for channel in channels:
        want = Aggregates(wanted.names, Grouping(calendar, wanted.by), left, backend.exact_values_max)
        found = await _find(backend, channel, user, asked, want)
        left -= sum(len(row.numbers) for row in found.rows)
        if found.is_approximate:
            estimated = list(percentiles_of(wanted.names))
        results.append((channel, found))
    made = []
    for channel, found in results:
        described = backend.store.registry.stream_descriptions(channel.id)
        head = head_of(backend, channel, asked)
        if described or asked.with_meta:
            part = part_of(backend, channel, asked, columns_of(backend, channel), iter(()))
            head["streams"] = streams_shown([part])
        head["aggr_type"] = ",".join(wanted.names)
        if found.is_approximate:
            head["approximate"] = estimated
        made.append(Result(channel.number, head, found.rows, found.paths, described))
    pieces = result_pieces(asked.format, made, shape, layout_of(asked, is_list=is_list), is_list=is_list)
    begun = await in_background(begin_whole, pieces, asked.coding)
    return answer(begun, asked, {"X-APPROXIMATE": ",".join(estimated)} if estimated else None)


async def _find(
    backend: Backend, channel: Channel, user: User, asked: StreamRequest, want: Aggregates
) -> _Found:
    selection = selection_of(backend, user, channel, asked, span_of(asked))
    if selection is None:
        return _Found()
    async with backend.queries:
        with backend.store.snapshot(channel, selection.start_us, selection.end_us) as snapshot:
            rows = await rows_of(backend, snapshot, selection)
            return await in_background(
                _aggregate, backend.engine, snapshot, rows, asked, want, backend.now()[1]
            )


def _aggregate(
    engine: Engine, snapshot: Snapshot, rows: ChannelRows, asked: StreamRequest, want: Aggregates, now_us: int
) -> _Found:
    """All of a channel. In a worker thread."""
    buckets = aggregate_rows(rows, engine, snapshot.published, want)
    add_percentiles(buckets, rows, engine, snapshot.published, snapshot.hot, want)
    found = buckets.rows(want.names, want.grouping)
    paths = buckets.paths([column.name for column in rows.columns])
    calendar = want.grouping.calendar
    if calendar is not None and found and asked.aggregate is not None:
        first, last = found[0].start_us, found[-1].start_us
        assert first is not None
        assert last is not None
        start = first if asked.start_us <= TIME_MIN_US else asked.start_us
        # Nothing is filled beyond the present, whatever the end is.
        end = min(rows.selection.end_us - 1, max(now_us, last, start))
        found = filled(found, want.names, calendar, (start, end), asked.aggregate.fill, want.buckets_max)
    if asked.descending:
        found.reverse()
    return _Found(found, paths, buckets.is_approximate)


# ---- points


async def points(
    backend: Backend, channels: Sequence[Channel], user: User, asked: StreamRequest, *, is_list: bool
) -> Response:
    """The reply to a request for points of charts: datapoints, in whatever format."""
    wanted = asked.points
    assert wanted is not None
    left = backend.buckets_max
    parts = []
    for channel in channels:
        selection = selection_of(backend, user, channel, asked, span_of(asked))
        table = EMPTY
        columns = columns_of(backend, channel)[:0]
        if selection is not None:
            thinning = Thinning(wanted.count, wanted.method, wanted.by, left)
            async with backend.queries:
                with backend.store.snapshot(channel, selection.start_us, selection.end_us) as snapshot:
                    rows = await rows_of(backend, snapshot, selection)
                    table = await in_background(thin_out, rows, backend.engine, snapshot.published, thinning)
                    columns = tuple(numeric_of(rows))
        left -= table.num_rows
        parts.append(part_of(backend, channel, asked, columns, iter([table])))
    pieces = pieces_of(asked.format, parts, layout_of(asked, is_list=is_list), is_list=is_list)
    begun = await in_background(begin_whole, pieces, asked.coding)
    return answer(begun, asked)
