"""Rows as text: the contract's JSON, NDJSON, CSV. The inner loop is query/rowtext.pyx."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from query.formats.layout import Layout, Part, flat_columns, order_of, streams_shown
from query.newest_rows import NewestRows
from query.order import time_order
from query.rows import one_chunk, raw
from query.rowtext import ENTRIES, FIELDS, LINES, Cells, Names, RowEncoder, csv_field, json_string
from query.times import zone_offsets
from storage.block import Block
from storage.kinds import Kind
from storage.naming import FIXED
from storage.pivot import pivot
from storage.wide import TYPES, PhysicalColumn, column_buffers, distinct, distinct_ids

# Rows of one piece of a reply: a megabyte or two.
PIECE_ROWS: Final = 16_384
# json.dumps with such options makes an encoder at each call.
ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
LINE_END: Final = b"\r\n"  # RFC 4180 section 2


class TextRows:
    """Tables of rows as text, in the order that is asked for.

    Args:
        columns: (name in tables, stream, kind); None in tables for a column that this channel does not have.
        layout: zone and order.
        shape: of query/rowtext.
        channel: to be said in each row.
    """

    def __init__(
        self,
        columns: Sequence[tuple[str | None, str | None, Kind]],
        layout: Layout,
        shape: int,
        channel: int | None = None,
    ) -> None:
        self._columns = columns
        self._layout = layout
        self._shape = shape
        self._channel = channel
        self._is_first = True
        self._encoders: dict[tuple[bool, ...], RowEncoder] = {}

    def pieces(self, table: pa.Table) -> Iterator[bytes]:
        """The table's rows, a piece at a time."""
        rows = table.num_rows
        if rows == 0:
            return
        seq, at_us = raw(table, "seq"), raw(table, "at")
        order = order_of(table, self._layout.descending)
        quote, null = (csv_field, b"") if self._shape == FIELDS else (json_string, b"null")
        tag = names_of(table.column("tag"), quote, null)
        device = None if self._shape == ENTRIES else names_of(table.column("device"), quote, null)
        present = set(table.column_names)
        # Fields have their place, so what is not there is a column of nulls; elsewhere it need not be looked at.
        here = tuple(self._shape == FIELDS or name in present for name, _, _ in self._columns)
        cells = [
            cells_of(one_chunk(table.column(name)), kind)
            if name in present
            else cells_of(pa.nulls(rows, TYPES[kind]), kind)
            for is_here, (name, _, kind) in zip(here, self._columns, strict=True)
            if is_here
        ]
        starts, offsets = zone_offsets(self._layout.zone, int(at_us.min()), int(at_us.max()))
        encoder = self._encoder(here)
        for first in range(0, rows, PIECE_ROWS):
            part = order[first : first + PIECE_ROWS]
            yield encoder.encode(part, seq, at_us, device, tag, cells, starts, offsets, self._is_first)
            self._is_first = False

    def newest(self, rows: NewestRows) -> bytes:
        """All of a reply's entries."""
        assert self._shape == ENTRIES
        asked = self._layout.zone, self._layout.descending, len(self._columns)
        return rows.text(asked, lambda: self._text_of(rows))

    def _text_of(self, rows: NewestRows) -> bytes:
        block = rows.source
        if not isinstance(block, Block):
            return b"".join(self.pieces(block))
        ids = set(distinct_ids(block.column).tolist())
        found = {column.physical: column for column in rows.columns if column.id in ids}
        here = tuple(name in found for name, _, _ in self._columns)
        asked = [found[name] for name, _, _ in self._columns if name in found]
        pivoted = pivot(block, np.array([column.id for column in asked], np.uint32))
        cells = [
            cells_of_block(column.kind, block, *found) for column, found in zip(asked, pivoted, strict=True)
        ]
        order = time_order(block.at_us, block.seq, bool(self._layout.descending))
        tags, positions = distinct(block.tag)
        tag = Names(
            positions,
            [json_string(rows.tag_name(each).encode()) if each else b"null" for each in tags.tolist()],
        )
        starts, offsets = zone_offsets(self._layout.zone, int(block.at_us.min()), int(block.at_us.max()))
        return self._encoder(here).encode(
            order, block.seq, block.at_us, None, tag, cells, starts, offsets, self._is_first
        )

    def _encoder(self, here: tuple[bool, ...]) -> RowEncoder:
        if here not in self._encoders:
            columns = [
                (stream, kind)
                for is_here, (_, stream, kind) in zip(here, self._columns, strict=True)
                if is_here
            ]
            self._encoders[here] = RowEncoder(columns, self._shape, self._channel)
        return self._encoders[here]


def names_of(column: pa.ChunkedArray, quote: Callable[[bytes], bytes], null: bytes) -> Names:
    """Each row's position in a list of texts."""
    if column.null_count == len(column):
        return Names(np.zeros(len(column), np.int32), [null])
    coded = one_chunk(column)
    texts = [null, *(quote(name.encode()) for name in coded.dictionary.to_pylist())]
    index = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32) + np.int32(1)
    return Names(index, texts)


def cells_of(array: pa.Array, kind: Kind) -> Cells:
    """A column's buffers for the encoder."""
    if array.type != TYPES[kind]:
        array = array.cast(TYPES[kind])
    buffers = [None if buffer is None else np.frombuffer(buffer, np.uint8) for buffer in array.buffers()]
    validity = buffers[0] if array.null_count else None
    if len(buffers) == 3:
        return Cells(array.offset, validity, None, np.frombuffer(array.buffers()[1], np.uint8), buffers[2])
    return Cells(array.offset, validity, buffers[1], None, None)


def cells_of_block(
    kind: Kind, block: Block, values: NDArray[np.uint64], validity: NDArray[np.uint8], valid: int
) -> Cells:
    """A pivoted column of a block for the encoder."""
    bitmap = None if valid == len(block) else validity
    buffers = column_buffers(kind, values, validity, block.text)
    if len(buffers) == 2:
        return Cells(0, bitmap, None, buffers[0].view(np.uint8), buffers[1])
    return Cells(0, bitmap, buffers[0].view(np.uint8), None, None)


def _own(columns: Sequence[PhysicalColumn]) -> list[tuple[str | None, str | None, Kind]]:
    return [(column.physical, column.name, column.kind) for column in columns]


def to_json(value: Any) -> bytes:
    return ENCODER.encode(value).encode()


def json_pieces(parts: Sequence[Part], layout: Layout, *, is_list: bool) -> Iterator[bytes]:
    """The contract's envelope (3.3), or a list of one for each channel. The cursor stands in the last one."""
    if is_list:
        yield b"["
    for i, part in enumerate(parts):
        head = dict(part.head)
        if layout.with_meta or part.described:
            head["streams"] = streams_shown([part])
        yield (b"," if i else b"") + to_json(head)[:-1] + b',"stream":['
        texts = TextRows(_own(part.columns), layout, ENTRIES)
        if part.newest is not None:
            yield texts.newest(part.newest)
        for table in part.tables:
            yield from texts.pieces(table)
        cursor = layout.cursor if i + 1 == len(parts) else None
        yield b"]}" if cursor is None else b'],"next_cursor":' + to_json(cursor) + b"}"
    if is_list:
        yield b"]"


def ndjson_pieces(parts: Sequence[Part], layout: Layout) -> Iterator[bytes]:
    """A row a line; before them, if asked for, a line that describes the streams of each channel."""
    if layout.with_meta:
        for part in parts:
            channel = {"channel": part.number} if layout.has_channel else {}
            yield to_json({**channel, "streams": streams_shown([part])}) + b"\n"
    for part in parts:
        texts = TextRows(_own(part.columns), layout, LINES, part.number if layout.has_channel else None)
        for table in part.tables:
            yield from texts.pieces(table)


def csv_pieces(parts: Sequence[Part], layout: Layout) -> Iterator[bytes]:
    """RFC 4180 with a line of names; a second one of units, if asked for."""
    columns = flat_columns(parts)
    fixed = ["channel"] * layout.has_channel + list(FIXED)
    lines = [[*fixed, *(column.name for column in columns)]]
    if layout.with_meta:
        lines.append([""] * len(fixed) + [column.described.unit for column in columns])
    for line in lines:
        yield b",".join(csv_field(text.encode()) if text else b"" for text in line) + LINE_END
    for part in parts:
        own = [(column.sources.get(part.number), column.stream, column.kind) for column in columns]
        texts = TextRows(own, layout, FIELDS, part.number if layout.has_channel else None)
        for table in part.tables:
            yield from texts.pieces(table)
