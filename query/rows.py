"""Rows of a channel in a range, window by window, as the contract's JSON text.

The snapshot is let go of early: what only the ring has is copied first, so that a client who reads slowly never keeps
the ring from being overwritten. Files stay held until the query ends; they cost disk space only.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from query.engine import Engine
from query.jsonrows import Cells, RowEncoder, json_string
from query.order import time_order
from query.plan import Selection, Window, plan
from query.times import zone_offsets
from storage.block import Block
from storage.cover import DAY_US, HotSegment
from storage.hot import read_blocks
from storage.kinds import Kind
from storage.pivot import take
from storage.snapshot import Snapshot
from storage.wide import TYPES, PhysicalColumn, to_record_batch

# Rows of one piece of a reply: a megabyte or two.
PIECE_ROWS: Final = 16_384


class ChannelRows:
    """What a query reads of one channel: a snapshot's files, and the ring's rows in memory. One thread at a time.

    Args:
        snapshot: its rows in the ring are copied now; the caller closes it when the files have been read.
        selection: what is asked.
        engine: reads published files.
    """

    def __init__(self, snapshot: Snapshot, selection: Selection, engine: Engine) -> None:
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
            selection.start_us, selection.end_us, snapshot.published, snapshot.hot, self._fresh_by_day()
        )

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
        if selection.tag is not None:
            mask &= block.tag == selection.tag[1]
        if selection.device is not None:
            mask &= block.device == selection.device[1]
        if mask.all():
            return block if len(block) else None
        found = np.flatnonzero(mask)
        return take(block, found, self._texts) if len(found) else None

    def table(self, window: Window) -> pa.Table:
        """All rows of a window, in no order: seq, at, tag, and the columns that occur."""
        part = replace(self.selection, start_us=window.start_us, end_us=window.end_us)
        tables = self.unpublished(window.hot, part)
        if window.published:
            tables.append(self._engine.scan(window.published, self.columns, part))
        return pa.concat_tables(tables, promote_options="default") if tables else EMPTY

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
        columns = [column for column in self.columns if column.id in present]
        batch = to_record_batch(block, columns, self._snapshot.device_name, self._snapshot.tag_name)
        names = ["seq", "at", "tag", *(column.physical for column in columns)]
        table = pa.Table.from_batches([batch]).select(names)
        return [table.set_column(2, "tag", table.column(2).cast(pa.string()))]


EMPTY: Final = pa.table(
    {"seq": pa.array([], pa.int64()), "at": pa.array([], pa.timestamp("us", "UTC")), "tag": pa.array([], pa.string())}
)  # fmt: skip


class JsonRows:
    """Tables of rows as JSON text, in the order of time."""

    def __init__(self, columns: Sequence[PhysicalColumn], zone: ZoneInfo, *, descending: bool) -> None:
        self._columns = {column.physical: column for column in columns}
        self._zone = zone
        self._descending = descending
        self._is_first = True
        self._encoders: dict[tuple[str, ...], RowEncoder] = {}

    def pieces(self, table: pa.Table) -> Iterator[bytes]:
        """The table's rows, a piece at a time."""
        rows = table.num_rows
        if rows == 0:
            return
        seq, at_us = raw(table, "seq"), raw(table, "at")
        order = time_order(at_us, seq, self._descending)
        tag, tags = tag_index(table.column("tag"))
        names = tuple(table.column_names[3:])
        cells = [cells_of(one_chunk(table.column(name)), self._columns[name].kind) for name in names]
        starts, offsets = zone_offsets(self._zone, int(at_us.min()), int(at_us.max()))
        encoder = self._encoder(names)
        for first in range(0, rows, PIECE_ROWS):
            part = order[first : first + PIECE_ROWS]
            yield encoder.encode(part, seq, at_us, tag, tags, cells, starts, offsets, self._is_first)
            self._is_first = False

    def _encoder(self, names: tuple[str, ...]) -> RowEncoder:
        if names not in self._encoders:
            columns = [self._columns[name] for name in names]
            self._encoders[names] = RowEncoder([(column.name, column.kind) for column in columns])
        return self._encoders[names]


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


def tag_index(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[bytes]]:
    """Each row's position in a list of JSON texts."""
    if column.null_count == len(column):
        return np.zeros(len(column), np.int32), [b"null"]
    coded = one_chunk(column).dictionary_encode()
    tags = [b"null", *(json_string(name.encode()) for name in coded.dictionary.to_pylist())]
    index = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32) + np.int32(1)
    return index, tags


def cells_of(array: pa.Array, kind: Kind) -> Cells:
    """A column's buffers for the encoder."""
    if array.type != TYPES[kind]:
        array = array.cast(TYPES[kind])
    buffers = [None if buffer is None else np.frombuffer(buffer, np.uint8) for buffer in array.buffers()]
    validity = buffers[0] if array.null_count else None
    if len(buffers) == 3:
        return Cells(array.offset, validity, None, np.frombuffer(array.buffers()[1], np.uint8), buffers[2])
    return Cells(array.offset, validity, buffers[1], None, None)


def stream_rows(rows: ChannelRows, zone: ZoneInfo, ahead: Executor, *, descending: bool) -> Iterator[bytes]:
    """The text of all rows, in the order of time, in pieces of a megabyte or two.

    While one window is written, the next one is read by ``ahead``.
    """
    encoder = JsonRows(rows.columns, zone, descending=descending)
    windows = rows.windows[::-1] if descending else rows.windows
    if not windows:
        return
    table = rows.table(windows[0])
    for window in windows[1:]:
        following = ahead.submit(rows.table, window)
        yield from encoder.pieces(table)
        table = following.result()
    yield from encoder.pieces(table)
