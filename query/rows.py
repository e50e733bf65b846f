"""Rows of a channel in a range, some at a time, as Arrow tables: out of published files, hot files and the ring.

The snapshot is let go of early: what only the ring has is copied first, so that a client who reads slowly never keeps
the ring from being overwritten. Files stay held until the query ends; they cost disk space only.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from query.engine import Engine
from query.names import CarriedNames, KnownNames, Name, Names
from query.plan import ROW_BYTES, WINDOW_ROWS, Selection, Window, plan
from query.stretches import Place, Stretch, source_of, stretches
from query.whole_files import RowGroup, groups_of, read_groups, read_whole
from storage.block import Block
from storage.cover import DAY_US, HotSegment, PublishedFile
from storage.hot import read_blocks
from storage.kinds import Kind
from storage.pivot import take
from storage.snapshot import Snapshot
from storage.wide import FIXED_FIELDS, distinct_ids, to_record_batch

T = TypeVar("T")

# What is read before it is wanted: two windows, or some stretches.
STEPS_AHEAD_MIN: Final = 1
AHEAD_ROWS: Final = 262_144


@dataclass(frozen=True, slots=True)
class Step:
    """Some rows, about so many, that are yet to be read."""

    rows: int
    read: Callable[[], pa.Table]


class ChannelRows:
    """What a query reads of one channel: a snapshot's files, and the ring's rows in memory. One thread at a time.

    It can be pickled: then a worker reads it.

    Attributes:
        columns, published, hot: as in the snapshot.

    Args:
        snapshot: its rows in the ring are copied now; the caller closes it when the files have been read.
        selection: what is asked.
        engine: finds rows in published files.
        window_rows: what a window holds at most, if fewer rows than usual are wanted.
    """

    def __init__(
        self, snapshot: Snapshot, selection: Selection, engine: Engine, window_rows: int | None = None
    ) -> None:
        self.selection = selection
        self.columns = snapshot.columns
        self.published, self.hot = snapshot.published, snapshot.hot
        self.engine = engine
        self._names: Names = KnownNames(snapshot.device_name, snapshot.tag_name)
        self._window_rows = window_rows
        self._texts = np.array(
            [each.id for each in self.columns if each.kind in (Kind.TEXT, Kind.JSON)], np.uint32
        )
        self._fresh = [
            kept for block in snapshot.fresh_blocks() if (kept := self._select(block, selection)) is not None
        ]

    def __getstate__(self) -> dict[str, Any]:
        """On the way to a worker."""
        return {**self.__dict__, "_names": CarriedNames(self._fresh, self._names)}

    @cached_property
    def windows(self) -> list[Window]:
        """That together hold all rows, in order of time."""
        return self._plan(self._window_rows)

    def _plan(self, window_rows: int | None, *, is_cut: bool = True) -> list[Window]:
        return plan(
            self.selection.start_us, self.selection.end_us, self.published, self.hot,
            self._fresh_by_day(), window_rows, is_cut=is_cut,
        )  # fmt: skip

    def _fresh_by_day(self) -> dict[int, int]:
        counts: dict[int, int] = {}
        for block in self._fresh:
            days, rows = np.unique(block.at_us // DAY_US, return_counts=True)
            for day, count in zip(days.tolist(), rows.tolist(), strict=True):
                counts[day] = counts.get(day, 0) + count
        return counts

    def _select(self, block: Block, selection: Selection) -> Block | None:
        """The block's rows in the selection; None when there is none."""
        mask = (block.at_us >= selection.start_us) & (block.at_us < selection.end_us)
        for ids, names in ((block.tag, selection.tags), (block.device, selection.devices)):
            if names is not None:
                mask &= np.isin(ids, np.array([number for _, number in names], np.uint32))
        if mask.all():
            return block if len(block) else None
        found = np.flatnonzero(mask)
        return take(block, found, self._texts) if len(found) else None

    def estimate(self) -> int:
        """About how many rows there are: exact in memory, in files as if times were even and every name wanted."""
        fresh = sum(len(block) for block in self._fresh)
        return fresh + sum(rows_in(file, self.selection) for file in self._files())

    def fresh_weight(self) -> int:
        """How many rows are in memory; long ones count for more."""
        return sum(max(len(block), len(block.text) // ROW_BYTES) for block in self._fresh)

    def _files(self) -> list[PublishedFile | HotSegment]:
        return [*self.published, *self.hot]

    def ends(self) -> tuple[int, int] | None:
        """The first and the last time that there may be rows of, both inclusive; None without any."""
        files = self._files()
        firsts = [file.first_us for file in files] + [int(block.at_us.min()) for block in self._fresh]
        lasts = [file.last_us for file in files] + [int(block.at_us.max()) for block in self._fresh]
        if not firsts:
            return None
        first, last = (
            max(min(firsts), self.selection.start_us),
            min(max(lasts), self.selection.end_us - 1),
        )
        return (first, last) if first <= last else None

    def table(self, window: Window) -> pa.Table:
        """All rows of a window, in no order: the fixed columns, and those of the others that occur."""
        part = replace(self.selection, start_us=window.start_us, end_us=window.end_us)
        tables = self.unpublished(window.hot, part)
        if window.published:
            tables += self._published(window.published, part)
        return pa.concat_tables(tables, promote_options="default") if tables else EMPTY

    def steps(self, *, descending: bool) -> Iterator[Step]:
        """All rows in the order of time, some at a time; those of a step in no order.

        Where few of a file's rows may be wanted, or not all, DuckDB finds them, window by window.
        """
        has_deleted = any(file.deleted for file in self.published)
        if self.selection.tags is not None or self.selection.devices is not None or has_deleted:
            for window in in_turn(self.windows, descending=descending):
                yield Step(WINDOW_ROWS, partial(self.table, window))
            return
        for window in in_turn(self._plan(None, is_cut=False), descending=descending):
            for stretch in in_turn(self._stretches(window), descending=descending):
                yield Step(stretch.rows, partial(self._stretch, stretch))

    def _stretches(self, window: Window) -> list[Stretch]:
        part = replace(self.selection, start_us=window.start_us, end_us=window.end_us)
        groups = [group for file in window.published for group in groups_of(file, part)]
        fresh = [kept for block in self._fresh if (kept := self._select(block, part)) is not None]
        places: list[Place] = [*groups, *window.hot, *fresh]
        return list(stretches([source_of(place) for place in places], part))

    def _stretch(self, stretch: Stretch) -> pa.Table:
        groups = [place for place in stretch.places if isinstance(place, RowGroup)]
        hot = [place for place in stretch.places if isinstance(place, HotSegment)]
        tables = read_groups(groups, self.columns, stretch.selection) + self.in_hot(hot, stretch.selection)
        for place in stretch.places:
            if isinstance(place, Block):
                tables += self._table_of(self._select(place, stretch.selection), self._names.of(None))
        return pa.concat_tables(tables, promote_options="default") if tables else EMPTY

    def _published(self, files: Sequence[PublishedFile], part: Selection) -> list[pa.Table]:
        if part.tags is None and part.devices is None and not any(file.deleted for file in files):
            return read_whole(files, self.columns, part)
        return [self.engine.scan(files, self.columns, part)]

    def unpublished_of(self, window: Window) -> list[pa.Table]:
        """A window's rows that are not in published files."""
        part = replace(self.selection, start_us=window.start_us, end_us=window.end_us)
        return self.unpublished(window.hot, part)

    def unpublished(self, hot: Sequence[HotSegment], selection: Selection) -> list[pa.Table]:
        """Rows of the selection that are not in published files."""
        return self.in_hot(hot, selection) + self.in_ring(selection)

    def in_hot(self, hot: Sequence[HotSegment], selection: Selection) -> list[pa.Table]:
        """Rows of the selection in these segments."""
        tables = []
        for segment in hot:
            names = self._names.of(segment.path)
            for block in read_blocks(segment):
                tables += self._table_of(self._select(block, selection), names)
        return tables

    def in_ring(self, selection: Selection) -> list[pa.Table]:
        """Rows of the selection that only the ring has."""
        tables = []
        for block in self._fresh:
            tables += self._table_of(self._select(block, selection), self._names.of(None))
        return tables

    def _table_of(self, block: Block | None, names: tuple[Name, Name]) -> list[pa.Table]:
        if block is None:
            return []
        present = set(distinct_ids(block.column).tolist())
        columns = [column for column in self.columns if column.id in present and self.selection.wants(column)]
        batch = to_record_batch(block, columns, *names)
        return [pa.Table.from_batches([batch])]


def rows_in(file: PublishedFile | HotSegment, selection: Selection) -> int:
    """About how many rows of the selection's range a file has, as if times were even."""
    return file.rows * _overlap_us(file, selection) // _length_us(file)


def weight_in(files: Iterable[PublishedFile | HotSegment], selection: Selection) -> int:
    """About how many rows of the range these files have; long rows count for more."""
    return sum(
        max(file.rows, file.bytes // ROW_BYTES) * _overlap_us(file, selection) // _length_us(file)
        for file in files
    )


def _length_us(file: PublishedFile | HotSegment) -> int:
    return file.last_us + 1 - file.first_us


def _overlap_us(file: PublishedFile | HotSegment, selection: Selection) -> int:
    return max(min(file.last_us + 1, selection.end_us) - max(file.first_us, selection.start_us), 0)


EMPTY: Final = pa.schema(FIXED_FIELDS).empty_table()


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece."""
    match column.num_chunks:
        case 1:
            return column.chunk(0)
        case 0:
            return pa.array([], column.type)
        case _:
            return pa.concat_arrays(column.chunks)


def raw(table: pa.Table, name: str) -> NDArray[np.int64]:
    """An int64 or timestamp column without nulls."""
    array = one_chunk(table.column(name))
    return np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array)]


def in_turn(these: Sequence[T], *, descending: bool) -> Sequence[T]:
    return these[::-1] if descending else these


def windowed(
    rows: ChannelRows,
    ahead: Executor,
    *,
    descending: bool,
    finish: Callable[[pa.Table], pa.Table] | None = None,
) -> Iterator[pa.Table]:
    """The rows' tables in the order of time. While one is used, the next ones are read by ``ahead``.

    Args:
        rows: all of these.
        ahead: does the reading.
        descending: newest first.
        finish: what else is to be done with a table there, where the processor's cache still has it.
    """
    coming: deque[tuple[int, Future[pa.Table]]] = deque()
    expected = 0
    for step in rows.steps(descending=descending):
        coming.append((step.rows, ahead.submit(_finished, step, finish)))
        expected += step.rows
        while len(coming) > STEPS_AHEAD_MIN and expected > AHEAD_ROWS:
            taken, table = coming.popleft()
            expected -= taken
            yield table.result()
    for _, table in coming:
        yield table.result()


def _finished(step: Step, finish: Callable[[pa.Table], pa.Table] | None) -> pa.Table:
    table = step.read()
    return table if finish is None else finish(table)
