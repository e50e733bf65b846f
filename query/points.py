"""The points of a chart: each stream of a range thinned out on its own (query/downsample.py), as rows again.

A row of the result has only those streams that keep it. One pass over the rows in order of time, window by window;
before it one that counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from query.aggregate import Aggregates, aggregate_rows, numeric_of
from query.buckets import BY, Grouping, Key, too_many
from query.downsample import POINT, Downsampler, LargestTriangles, MinMax, Points
from query.engine import Engine
from query.order import time_order
from query.rows import EMPTY, ChannelRows, one_chunk, raw, windowed
from storage.cover import PublishedFile
from storage.kinds import Kind
from storage.wide import FIXED_FIELDS, TYPES, PhysicalColumn

METHODS: Final = ("lttb", "minmax")
POINTS_MIN: Final = 3

Series = tuple[str | None, Key]


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

    def sampler(series: Series) -> Downsampler:
        if asked.method == "lttb":
            return LargestTriangles(counts[series], asked.count)
        return MinMax(*ends, asked.count)

    columns = numeric_of(rows)
    reader = _Reader(columns, asked.by)
    samplers: dict[Series, Downsampler] = {}
    kept: list[Points] = []
    for table in windowed(rows, engine.ahead, descending=False):
        for series, points in reader.series(table):
            if series not in samplers:
                samplers[series] = sampler(series)
            kept += samplers[series].feed(points)
    for each in samplers.values():
        kept += each.end()
    return reader.table(np.concatenate(kept) if kept else np.zeros(0, POINT))


@dataclass(slots=True)
class _Names:
    """Names by number."""

    listed: list[str | None] = field(default_factory=lambda: [None])
    _known: dict[str | None, int] = field(default_factory=lambda: {None: 0})

    def numbers(self, column: pa.ChunkedArray) -> NDArray[np.int32]:
        """The number of each row's name."""
        if column.null_count == len(column):
            return np.zeros(len(column), np.int32)
        coded = one_chunk(column)
        own: list[int] = []
        for name in coded.dictionary.to_pylist():
            if name not in self._known:
                self._known[name] = len(self.listed)
                self.listed.append(name)
            own.append(self._known[name])
        index = coded.indices.fill_null(len(own)).to_numpy(zero_copy_only=False)
        numbers: NDArray[np.int32] = np.array([*own, 0], np.int32)[index]
        return numbers


class _Reader:
    """Tables as series of points, and back."""

    def __init__(self, columns: Sequence[PhysicalColumn], by: Sequence[str]) -> None:
        self._columns = columns
        self._by = by
        self._names = {name: _Names() for name in BY}

    def series(self, table: pa.Table) -> Iterator[tuple[Series, Points]]:
        """Each series' points, in order of time."""
        if not table.num_rows:
            return
        at_us, seq = raw(table, "at"), raw(table, "seq")
        order = time_order(at_us, seq, False)
        points = np.zeros(table.num_rows, POINT)
        points["at_us"], points["seq"] = at_us[order], seq[order]
        for name in BY:
            points[name] = self._names[name].numbers(table.column(name))[order]
        streams = dict.fromkeys(column.name for column in self._columns)
        for stream in streams:
            found = points.copy()
            valid = np.zeros(len(found), bool)
            for i, column in enumerate(self._columns):
                if column.name == stream and column.physical in table.column_names:
                    self._set(found, valid, i, one_chunk(table.column(column.physical)), order)
            if valid.any():
                yield from self._split(stream, found[valid])

    def _set(
        self, points: Points, valid: NDArray[np.bool_], place: int, array: pa.Array, order: NDArray[np.int64]
    ) -> None:
        here = array.is_valid().to_numpy(zero_copy_only=False)[order]
        cells = array.fill_null(0).to_numpy(zero_copy_only=False)[order]
        points["number"][here] = cells[here]
        points["cell"][here] = cells.view(np.int64)[here]
        points["column"][here] = place
        valid |= here

    def _split(self, stream: str | None, points: Points) -> Iterator[tuple[Series, Points]]:
        if not self._by:
            yield (stream, ()), points
            return
        codes = np.stack([points[name] for name in self._by], axis=1)
        for code in np.unique(codes, axis=0):
            names = tuple(
                self._names[name].listed[number] for name, number in zip(self._by, code.tolist(), strict=True)
            )
            yield (stream, names), points[(codes == code).all(axis=1)]

    def table(self, points: Points) -> pa.Table:
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
