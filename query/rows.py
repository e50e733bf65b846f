"""Rows of a channel in a range, window by window, as Arrow tables: out of published files, hot files and the ring.

The snapshot is let go of early: what only the ring has is copied first, so that a client who reads slowly never keeps
the ring from being overwritten. Files stay held until the query ends; they cost disk space only.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from query.engine import Engine
from query.plan import Selection, Window, plan
from query.whole_files import read_whole
from storage.block import Block
from storage.cover import DAY_US, HotSegment, PublishedFile
from storage.hot import read_blocks
from storage.kinds import Kind
from storage.pivot import take
from storage.snapshot import Snapshot
from storage.wide import FIXED_FIELDS, to_record_batch


class ChannelRows:
    """What a query reads of one channel: a snapshot's files, and the ring's rows in memory. One thread at a time.

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
        self._snapshot = snapshot
        self._engine = engine
        self._texts = np.array(
            [each.id for each in self.columns if each.kind in (Kind.TEXT, Kind.JSON)], np.uint32
        )
        self._fresh = [
            kept for block in snapshot.fresh_blocks() if (kept := self._select(block, selection)) is not None
        ]
        self.windows = plan(
            selection.start_us, selection.end_us, snapshot.published, snapshot.hot, self._fresh_by_day(),
            window_rows,
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
        files: list[PublishedFile | HotSegment] = [*self._snapshot.published, *self._snapshot.hot]
        rows = sum(len(block) for block in self._fresh)
        for file in files:
            first, last = (
                max(file.first_us, self.selection.start_us),
                min(file.last_us + 1, self.selection.end_us),
            )
            rows += file.rows * max(last - first, 0) // (file.last_us + 1 - file.first_us)
        return rows

    def ends(self) -> tuple[int, int] | None:
        """The first and the last time that there may be rows of, both inclusive; None without any."""
        files: list[PublishedFile | HotSegment] = [*self._snapshot.published, *self._snapshot.hot]
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

    def _published(self, files: Sequence[PublishedFile], part: Selection) -> list[pa.Table]:
        if part.tags is None and part.devices is None and not any(file.deleted for file in files):
            return read_whole(files, self.columns, part)
        return [self._engine.scan(files, self.columns, part)]

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
            for block in read_blocks(segment):
                tables += self._table_of(self._select(block, selection))
        return tables

    def in_ring(self, selection: Selection) -> list[pa.Table]:
        """Rows of the selection that only the ring has."""
        tables = []
        for block in self._fresh:
            tables += self._table_of(self._select(block, selection))
        return tables

    def _table_of(self, block: Block | None) -> list[pa.Table]:
        if block is None:
            return []
        present = set(np.unique(block.column).tolist())
        columns = [column for column in self.columns if column.id in present and self.selection.wants(column)]
        batch = to_record_batch(block, columns, self._snapshot.device_name, self._snapshot.tag_name)
        return [pa.Table.from_batches([batch])]


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


def windowed(
    rows: ChannelRows, ahead: Executor, *, descending: bool, windows_ahead: int = 1
) -> Iterator[pa.Table]:
    """The rows' tables, window by window in the order of time.

    While one is used, the next ones are read by ``ahead``.
    """
    windows = rows.windows[::-1] if descending else rows.windows
    coming: deque[Future[pa.Table]] = deque()
    for window in windows:
        coming.append(ahead.submit(rows.table, window))
        if len(coming) > windows_ahead:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()
