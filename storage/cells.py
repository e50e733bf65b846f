"""Cells as Parquet rows: how a block stands in a hot file, and how it comes back.

One cell is one row; what belongs to the datapoint (who, when, where) is repeated, and delta or run-length encoding
makes that nearly free. The value stands in the column of its kind: numbers as doubles, integers and booleans in
``integer``, texts and JSON in ``text``. A datapoint without cells is one row whose column_id is null. Ids are all there
is; what they mean stands once in the file's metadata. (With names beside the ids in every row a seal took twice the
time.)
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.block import Block
from storage.cover import DeletedTag
from storage.kinds import Kind
from storage.pivot import gather_text, spread

FIELDS: Final = (
    pa.field("channel_id", pa.uint32(), nullable=False),
    pa.field("seq", pa.int64(), nullable=False),
    pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("device_id", pa.uint32(), nullable=False),
    pa.field("tag_id", pa.uint32(), nullable=False),
    pa.field("column_id", pa.uint32()),
    pa.field("number", pa.float64()),
    pa.field("integer", pa.int64()),
    pa.field("text", pa.string()),
)
READ_COLUMNS: Final = ["seq", "at", "device_id", "tag_id", "column_id", "number", "integer", "text"]


class ChannelName(Protocol):
    """Whose channel an id is, and its number there."""

    @property
    def user_id(self) -> str: ...
    @property
    def number(self) -> int: ...


class Names(Protocol):
    """What registry ids mean, deleted ones too (storage/registry.py). Called from the sealing thread."""

    def channel_by_id(self, channel: int, /) -> ChannelName: ...
    def device_name(self, device: int, /) -> str: ...


def slice_rows(block: Block, first: int, last: int) -> Block:
    """The rows [first, last), sharing the block's memory."""
    start = block.cell_start[first : last + 1]
    cells = slice(int(start[0]), int(start[-1]))
    rows = slice(first, last)
    return Block(
        block.seq[rows],
        block.at_us[rows],
        block.channel[rows],
        block.device[rows],
        block.tag[rows],
        start - start[0],
        block.column[cells],
        block.value[cells],
        block.text,
    )


def split_cells(block: Block, cells_max: int) -> Iterator[Block]:
    """The block in pieces of about so many cells; a row is never split."""
    first, rows = 0, len(block)
    # A row without cells takes one, too.
    weight = block.cell_start + np.arange(rows + 1)
    while first < rows:
        last = int(np.searchsorted(weight, weight[first] + 2 * cells_max, "right")) - 1
        by_cells = int(np.searchsorted(block.cell_start, block.cell_start[first] + cells_max, "right")) - 1
        last = min(max(first + 1, min(last, by_cells)), rows)
        yield block if (first, last) == (0, rows) else slice_rows(block, first, last)
        first = last


def cell_rows(block: Block) -> NDArray[np.int64]:
    """How many cell rows each datapoint takes: its cells, at least one."""
    return np.maximum(np.diff(block.cell_start), 1)


def text_bytes(block: Block, kinds: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """The length of each cell's text, 0 where it has none; None when no cell has any."""
    is_text = (kinds == Kind.TEXT) | (kinds == Kind.JSON)
    if not is_text.any():
        return None
    return np.where(is_text, (block.value >> np.uint64(40)).astype(np.int64), 0)


def cell_batch(block: Block, kinds: NDArray[np.uint8]) -> pa.RecordBatch:
    """The block as rows of FIELDS; kinds is each cell's Kind."""
    (channel, seq, at_us, device, tag, column, value), bitmaps, counts = spread(block, kinds)
    rows = len(seq)
    whole = [
        None if count == rows else pa.py_buffer(bits) for bits, count in zip(bitmaps, counts, strict=True)
    ]
    text = pa.nulls(rows, pa.string())
    if counts[2]:
        offsets, data = gather_text(value, bitmaps[2], block.text)
        buffers = [whole[2], pa.py_buffer(offsets), pa.py_buffer(data)]
        text = pa.Array.from_buffers(pa.string(), rows, buffers)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(channel),
            pa.array(seq),
            pa.array(at_us).view(pa.timestamp("us", tz="UTC")),
            pa.array(device),
            pa.array(tag),
            pa.Array.from_buffers(pa.uint32(), rows, [whole[3], pa.py_buffer(column)]),
            _numbers(pa.float64(), value, whole[0], counts[0]),
            _numbers(pa.int64(), value, whole[1], counts[1]),
            text,
        ],
        schema=pa.schema(FIELDS),
    )


def _numbers(kind: pa.DataType, values: NDArray[Any], bitmap: pa.Buffer | None, count: int) -> pa.Array:
    if not count:
        return pa.nulls(len(values), kind)
    return pa.Array.from_buffers(kind, len(values), [bitmap, pa.py_buffer(values)])


def block_of(table: pa.Table, channel: int) -> tuple[Block, NDArray[np.int64]]:
    """READ_COLUMNS of whole datapoints back into a block, and each datapoint's first cell row.

    The block says ``channel`` throughout; the caller takes that channel's rows out of it.
    """
    columns = {name: _one(table.column(name)) for name in READ_COLUMNS}
    seq = _raw(columns["seq"], np.int64)
    edges = np.concatenate([[True], seq[1:] != seq[:-1]]) if len(seq) else np.zeros(0, np.bool_)
    first = np.flatnonzero(edges)
    number, text = columns["number"], columns["text"]
    value = _raw(number, np.uint64)
    if number.null_count or text.null_count < len(text):
        value = np.where(_valid(number), value, _raw(columns["integer"], np.uint64))
    data = b""
    if text.null_count < len(text):
        _, offset_buffer, data_buffer = text.buffers()
        offsets = np.frombuffer(offset_buffer, np.int32)[text.offset : text.offset + len(text) + 1]
        data = b"" if data_buffer is None else data_buffer.slice(0, int(offsets[-1])).to_pybytes()
        lengths = np.diff(offsets).astype(np.uint64)
        np.copyto(value, lengths << np.uint64(40) | offsets[:-1].astype(np.uint64), where=_valid(text))
    column, starts = _raw(columns["column_id"], np.uint32), np.append(first, len(seq))
    if columns["column_id"].null_count:  # of datapoints without cells
        present = _valid(columns["column_id"])
        starts = np.concatenate([[0], np.cumsum(present)])[starts]
        column, value = column[present], value[present]
    block = Block(
        seq[first],
        _raw(columns["at"], np.int64)[first],
        np.full(len(first), channel, np.uint32),
        _raw(columns["device_id"], np.uint32)[first],
        _raw(columns["tag_id"], np.uint32)[first],
        starts,
        column,
        value,
        data,
    )
    return block, first


def without_deleted(block: Block, deleted: Sequence[DeletedTag]) -> Block:
    """The block without rows that are deleted; its texts stay where they are."""
    gone = np.zeros(len(block), np.bool_)
    for _, tag, below_seq in deleted:
        gone |= (block.tag == tag) & (block.seq < below_seq)
    if not gone.any():
        return block
    counts = np.diff(block.cell_start)
    cells = np.repeat(~gone, counts)
    return Block(
        block.seq[~gone],
        block.at_us[~gone],
        block.channel[~gone],
        block.device[~gone],
        block.tag[~gone],
        np.concatenate([[0], np.cumsum(counts[~gone])]),
        block.column[cells],
        block.value[cells],
        block.text,
    )


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _raw(array: pa.Array, dtype: Any) -> NDArray[Any]:
    """The values' memory, nulls included."""
    buffer = array.buffers()[1]
    if buffer is None:
        return np.zeros(len(array), dtype)
    return np.frombuffer(buffer, dtype)[array.offset : array.offset + len(array)]


def _valid(array: pa.Array) -> NDArray[np.bool_]:
    valid: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return valid
