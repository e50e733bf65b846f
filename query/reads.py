"""What the Stream service reads, as works (query/written.py): everything that was looked up is in them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from query.aggregate import Aggregates, aggregate_rows, numeric_of
from query.buckets import Grouping, Path, Row, filled
from query.calendar import Calendar
from query.formats import Layout, Part, pieces_of
from query.formats.layout import streams_shown
from query.formats.results import Result, Shape, result_pieces
from query.measures import percentiles_of
from query.percentiles import add_percentiles
from query.points import Thinning, thin_out
from query.rows import EMPTY, ChannelRows, windowed
from query.stream_request import Format, StreamRequest
from query.taking import in_time_order
from query.written import Written
from storage.cover import TIME_MIN_US

if TYPE_CHECKING:
    import pyarrow as pa

    from storage.wide import PhysicalColumn

# Columns leave as they are read, so they are put in order where they are read; texts are written in order.
COLUMNAR: Final = frozenset({Format.ARROW, Format.PARQUET})

VARY: Final = {"Vary": "Accept, Accept-Encoding"}


@dataclass(frozen=True, slots=True)
class ChannelRead:
    """A channel of a request.

    Attributes:
        part: its frame, without rows.
        rows: what there is; None if there can be nothing.
    """

    part: Part
    rows: ChannelRows | None


@dataclass(frozen=True, slots=True)
class Read:
    """What all reads have in common.

    Attributes:
        channels: in order.
        asked: the request.
        layout: of the reply.
        is_list: the reply is a list, of one for each channel.
    """

    channels: Sequence[ChannelRead]
    asked: StreamRequest
    layout: Layout
    is_list: bool


@dataclass(frozen=True, slots=True)
class Range(Read):
    """All rows of a range."""

    def __call__(self) -> Written:
        finish = None
        if self.asked.format in COLUMNAR and not self.asked.is_unordered:
            finish = partial(in_time_order, descending=self.asked.descending)
        parts, estimate = [], 0
        for channel in self.channels:
            part = channel.part
            if channel.rows is not None:
                estimate += channel.rows.estimate()
                tables = windowed(
                    channel.rows, channel.rows.engine.ahead, descending=self.asked.descending, finish=finish
                )
                part = replace(part, tables=tables)
            parts.append(part)
        pieces = pieces_of(self.asked.format, parts, self.layout, is_list=self.is_list)
        told = VARY | {"X-ROWS-ESTIMATE": str(estimate)}
        return Written(pieces, self.asked.coding, is_whole=False, told=told)


# ---- aggregates


@dataclass(frozen=True, slots=True)
class _Found:
    """What a channel's datapoints come to."""

    rows: Sequence[Row] = ()
    paths: Sequence[Path] = ()
    is_approximate: bool = False


@dataclass(frozen=True, slots=True)
class Totals(Read):
    """Aggregates.

    Attributes:
        buckets_max, exact_values_max: the configuration's.
        now_us: nothing is filled beyond the present.
    """

    buckets_max: int
    exact_values_max: int
    now_us: int

    def __call__(self) -> Written:
        wanted = self.asked.aggregate
        assert wanted is not None
        calendar = None if wanted.interval is None else Calendar(wanted.interval, self.asked.zone)
        shape = Shape(wanted.names, calendar is not None, wanted.by)
        left = self.buckets_max
        made, estimated = [], ""
        for channel in self.channels:
            found = _Found()
            if channel.rows is not None:
                want = Aggregates(wanted.names, Grouping(calendar, wanted.by), left, self.exact_values_max)
                found = self._find(channel.rows, want)
            left -= sum(len(row.numbers) for row in found.rows)
            part, head = channel.part, dict(channel.part.head)
            if part.described or self.asked.with_meta:
                head["streams"] = streams_shown([part])
            head["aggr_type"] = ",".join(wanted.names)
            if found.is_approximate:
                head["approximate"] = list(percentiles_of(wanted.names))
                estimated = ",".join(head["approximate"])
            made.append(Result(part.number, head, found.rows, found.paths, part.described))
        pieces = result_pieces(self.asked.format, made, shape, self.layout, is_list=self.is_list)
        told = VARY | ({"X-APPROXIMATE": estimated} if estimated else {})
        return Written(pieces, self.asked.coding, told=told)

    def _find(self, rows: ChannelRows, want: Aggregates) -> _Found:
        """All of a channel."""
        buckets = aggregate_rows(rows, rows.engine, rows.published, want)
        add_percentiles(buckets, rows, rows.engine, rows.published, rows.hot, want)
        found = buckets.rows(want.names, want.grouping)
        paths = buckets.paths([column.name for column in rows.columns])
        calendar, asked = want.grouping.calendar, self.asked
        if calendar is not None and found and asked.aggregate is not None:
            first, last = found[0].start_us, found[-1].start_us
            assert first is not None
            assert last is not None
            start = first if asked.start_us <= TIME_MIN_US else asked.start_us
            # Nothing is filled beyond the present, whatever the end is.
            end = min(rows.selection.end_us - 1, max(self.now_us, last, start))
            found = filled(found, want.names, calendar, (start, end), asked.aggregate.fill, want.buckets_max)
        if asked.descending:
            found.reverse()
        return _Found(found, paths, buckets.is_approximate)


# ---- points


@dataclass(frozen=True, slots=True)
class Chart(Read):
    """Points of charts.

    Attributes:
        buckets_max: the configuration's.
    """

    buckets_max: int

    def __call__(self) -> Written:
        pieces = pieces_of(self.asked.format, list(self._parts()), self.layout, is_list=self.is_list)
        return Written(pieces, self.asked.coding, told=VARY)

    def _parts(self) -> Iterator[Part]:
        wanted = self.asked.points
        assert wanted is not None
        left = self.buckets_max
        for channel in self.channels:
            rows = channel.rows
            table: pa.Table = EMPTY
            columns: Sequence[PhysicalColumn] = ()
            if rows is not None:
                thinning = Thinning(wanted.count, wanted.method, wanted.by, left)
                table = thin_out(rows, rows.engine, rows.published, thinning)
                columns = numeric_of(rows)
            left -= table.num_rows
            yield replace(channel.part, columns=columns, tables=iter([table]))
