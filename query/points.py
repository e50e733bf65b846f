"""The points of a chart: each stream of a range thinned out on its own (query/downsample.pyx), as rows again.

A row of the result has only those streams that keep it. Rows are counted, then read window by window: once for the
extremes, in whatever order they are in; twice for LTTB, which wants them in the order of time. Their numbers go to
compiled code as they were read; the rest of a row is looked at only if it is kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from query.aggregate import Aggregates, aggregate_rows, numeric_of
from query.buckets import BY, Grouping, Key, too_many
from query.downsample import LargestTriangles, MinMax
from query.engine import Engine
from query.rows import EMPTY, ChannelRows, one_chunk, raw, windowed
from query.taking import in_time_order
from storage.cover import PublishedFile
from storage.kinds import Kind
from storage.wide import FIXED_FIELDS, TYPES, PhysicalColumn, distinct

METHODS: Final = ("lttb", "minmax")
POINTS_MIN: Final = 3

Series = tuple[str | None, Key]

# A point that is kept: where it is in time and order, whose it is (places in lists of names), what it is.
POINT: Final = np.dtype(
    [("at_us", np.int64), ("seq", np.int64), ("device", np.int32), ("tag", np.int32),
     ("cell", np.int64), ("column", np.int32)]
)  # fmt: skip
NOBODY: Final = -1


@dataclass(frozen=True, slots=True)
class Thinning:
    """What is asked for.

    Attributes:
        count: points of each series.
        method: one of METHODS.
        by: each device's, each tag's, or both ones' points are a series; else all of a stream.
        limit: series x points at most.
    """

    count: int
    method: str
    by: tuple[str, ...]
    limit: int


def thin_out(
    rows: ChannelRows, engine: Engine, published: Sequence[PublishedFile], asked: Thinning
) -> pa.Table:
    """The rows that are kept, in no order, with the columns of numbers. In a worker thread.

    Raises:
        ApiError: BAD_PARAMETER if there are too many.
    """
    grouping = Grouping(None, asked.by)
    # Counted even if nobody asks: the number of series is what the memory depends on.
    counting = Aggregates(("count",), grouping, asked.limit // asked.count, 0, has_nested=False)
    counts = {
        (path[0], key): tally.count
        for key, group in aggregate_rows(rows, engine, published, counting).tallies.items()
        for path, tally in group.items()
    }
    if len(counts) * asked.count > asked.limit:
        raise too_many(asked.limit)
    ends = rows.ends()
    if not counts or ends is None:
        return EMPTY

    columns = numeric_of(rows)
    reader = _Reader(columns, asked.by, list(counts))
    sampler: LargestTriangles | MinMax
    if asked.method == "lttb":
        sampler = LargestTriangles(np.array(list(counts.values()), np.int64), asked.count)
        order = partial(in_time_order, descending=False)
        if sampler.needs_averages:
            for table in windowed(rows, engine.ahead, descending=False, finish=order):
                for points in reader.points(table):
                    sampler.average(points.at_us, points.number, points.series)
            sampler.averaged()
        tables = windowed(rows, engine.ahead, descending=False, finish=order)
    else:
        sampler = MinMax(*ends, len(counts), asked.count)
        tables = windowed(rows, engine.ahead, descending=False)
    kept = np.zeros(sampler.places, POINT)
    is_kept = np.zeros(sampler.places, bool)
    for table in tables:
        for points in reader.points(table):
            if isinstance(sampler, MinMax):
                places, found = sampler.keep(points.at_us, points.seq, points.number, points.series)
            else:
                places, found = sampler.keep(points.at_us, points.number, points.series)
            if len(places):
                kept[places] = reader.described(table, points, found)
                is_kept[places] = True
    return reader.table(kept[is_kept])


@dataclass(slots=True)
class _Names:
    """Names by number."""

    listed: list[str | None] = field(default_factory=lambda: [None])
    _known: dict[str | None, int] = field(default_factory=lambda: {None: 0})

    def number(self, name: str | None) -> int:
        """The name's; a new one if it has none yet."""
        if name not in self._known:
            self._known[name] = len(self.listed)
            self.listed.append(name)
        return self._known[name]

    def numbers(self, column: pa.ChunkedArray) -> NDArray[np.int32]:
        """The number of each row's name."""
        if column.null_count == len(column):
            return np.zeros(len(column), np.int32)
        coded = one_chunk(column)
        own = [self.number(name) for name in coded.dictionary.to_pylist()]
        index = coded.indices.fill_null(len(own)).to_numpy(zero_copy_only=False)
        numbers: NDArray[np.int32] = np.array([*own, 0], np.int32)[index]
        return numbers


@dataclass(frozen=True, slots=True)
class _Points:
    """A stream's points in a table: arrays over all of its rows.

    Attributes:
        series: which one each row's point belongs to; NOBODY where there is no number.
        columns: (place among the columns, array) of those that may have it.
    """

    at_us: NDArray[np.int64]
    seq: NDArray[np.int64]
    number: NDArray[np.float64]
    series: NDArray[np.int32]
    columns: Sequence[tuple[int, pa.Array]]


class _Reader:
    """Tables as points of series, and back.

    Args:
        columns: of numbers.
        by: names that tell series of a stream apart.
        series: all that there are, in the order of their numbers.
    """

    def __init__(
        self, columns: Sequence[PhysicalColumn], by: Sequence[str], series: Sequence[Series]
    ) -> None:
        self._columns = columns
        self._by = by
        self._numbers = {each: number for number, each in enumerate(series)}
        self._names = {name: _Names() for name in BY}

    def points(self, table: pa.Table) -> Iterator[_Points]:
        """Each stream's points, in the order of the table."""
        if not table.num_rows:
            return
        at_us, seq = raw(table, "at"), raw(table, "seq")
        keys, key_of = self._keys(table)
        for stream in dict.fromkeys(column.name for column in self._columns):
            known = [self._numbers.get((stream, key), NOBODY) for key in keys]
            columns = [
                (place, one_chunk(array))
                for place, column in enumerate(self._columns)
                if column.name == stream
                and column.physical in table.column_names
                and (array := table.column(column.physical)).null_count < len(array)
            ]
            if columns and max(known) != NOBODY:
                series = np.array(known, np.int32)[key_of]
                number, is_there = _numbers_of([array for _, array in columns])
                if is_there is not None:
                    series[~is_there] = NOBODY
                yield _Points(at_us, seq, number, series, columns)

    def _keys(self, table: pa.Table) -> tuple[list[Key], NDArray[np.int32]]:
        """The keys of the table's rows, and which one each row has."""
        key_of = np.zeros(table.num_rows, np.int32)
        keys: list[Key] = [()]
        for name in self._by:
            listed = self._names[name].listed
            own, number_of = distinct(self._names[name].numbers(table.column(name)).view(np.uint32))
            codes = np.arange(len(keys) * len(own))
            if len(keys) == 1:
                key_of = number_of
            elif len(own) > 1:
                both = key_of.astype(np.int64) * len(own) + number_of
                codes, inverse = np.unique(both, return_inverse=True)
                key_of = inverse.astype(np.int32)
            keys = [(*keys[code // len(own)], listed[own[code % len(own)]]) for code in codes.tolist()]
        return keys, key_of

    def described(self, table: pa.Table, points: _Points, rows: NDArray[np.int64]) -> NDArray[np.void]:
        """These rows' points as POINT."""
        made = np.zeros(len(rows), POINT)
        made["at_us"], made["seq"] = points.at_us[rows], points.seq[rows]
        for name in BY:
            made[name] = self._names[name].numbers(table.column(name).take(pa.array(rows)))
        for place, array in points.columns:
            taken = array.take(pa.array(rows))
            here = taken.is_valid().to_numpy(zero_copy_only=False)
            made["cell"][here] = taken.fill_null(0).to_numpy(zero_copy_only=False).view(np.int64)[here]
            made["column"][here] = place
        return made

    def table(self, points: NDArray[np.void]) -> pa.Table:
        """Points as rows: those of one datapoint are one row."""
        seq, first, row = np.unique(points["seq"], return_index=True, return_inverse=True)
        arrays: list[pa.Array] = [pa.array(seq), pa.array(points["at_us"][first]).view(FIXED_FIELDS[1].type)]
        for name in BY:
            numbers = points[name][first]
            listed = [each or "" for each in self._names[name].listed]
            arrays.append(
                pa.DictionaryArray.from_arrays(
                    pa.array(numbers, mask=numbers == 0), pa.array(listed, pa.string())
                )
            )
        fields = list(FIXED_FIELDS)
        for i, column in enumerate(self._columns):
            own = points["column"] == i
            if own.any():
                cells = np.zeros(len(seq), np.int64)
                missing = np.ones(len(seq), bool)
                cells[row[own]] = points["cell"][own]
                missing[row[own]] = False
                type_: Any = np.float64 if column.kind is Kind.NUMBER else np.int64
                fields.append(pa.field(column.physical, TYPES[column.kind]))
                arrays.append(pa.array(cells.view(type_), mask=missing))
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _numbers_of(columns: Sequence[pa.Array]) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """A stream's numbers out of the columns that may have them, and which rows have one; None if all have."""
    number = np.zeros(0)
    is_there: NDArray[np.bool_] | None = None
    for i, array in enumerate(columns):
        values = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array)]
        own = values.view(np.float64) if pa.types.is_floating(array.type) else values.astype(np.float64)
        valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
        if i == 0 or valid is None:
            number, is_there = own, valid
        elif is_there is not None:
            number, is_there = np.where(valid, own, number), is_there | valid
        else:
            number = np.where(valid, own, number)
    return number, is_there
