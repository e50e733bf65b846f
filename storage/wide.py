"""Wide rows: one Arrow record batch per block, one column per (stream, kind).

This is the shape that people and engines read. The first four columns are the same everywhere (FIXED_FIELDS), then
come the channel's streams under their physical names. Published files hold exactly this; queries make it on the fly
from blocks of the ring and of hot files, so both unite without a cast.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.block import Block
from storage.kinds import Kind
from storage.naming import physical_names
from storage.pivot import gather_text, pivot, present, rank
from storage.schema import Column

NAMES_TYPE: Final = pa.dictionary(pa.int32(), pa.string())
FIXED_FIELDS: Final = (
    pa.field("seq", pa.int64(), nullable=False),
    pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("device", NAMES_TYPE, nullable=False),
    pa.field("tag", NAMES_TYPE),
)
TYPES: Final = {
    Kind.NUMBER: pa.float64(),
    Kind.INTEGER: pa.int64(),
    Kind.TEXT: pa.string(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.JSON: pa.string(),
}

# A batch of n rows needs 8 n bytes per column, however few cells there are. 64 k rows of up to 64 streams is what a
# row group holds; a channel with a thousand streams gets smaller batches instead of half a gigabyte.
BATCH_ROWS_MAX: Final = 65_536
BATCH_VALUES_MAX: Final = 1 << 22
BATCH_ROWS_MIN: Final = 1_024


@dataclass(frozen=True, slots=True)
class PhysicalColumn:
    """One (stream, kind) of a channel and its name in Parquet; ``name`` is None for the literal payload."""

    id: int
    name: str | None
    kind: Kind
    physical: str


def physical_columns(columns: Iterable[Column]) -> tuple[PhysicalColumn, ...]:
    """A channel's columns with their physical names.

    Args:
        columns: *all* of one channel, in order of registration (``Schema.columns_of``): names depend on what came
            before.
    """
    listed = list(columns)
    names = physical_names((column.name, Kind(column.kind)) for column in listed)
    return tuple(
        PhysicalColumn(column.id, column.name, Kind(column.kind), name)
        for column, name in zip(listed, names, strict=True)
    )


def arrow_schema(columns: Sequence[PhysicalColumn], metadata: dict[bytes, bytes] | None = None) -> pa.Schema:
    """The fixed columns, then these."""
    streams = (pa.field(column.physical, TYPES[column.kind]) for column in columns)
    return pa.schema([*FIXED_FIELDS, *streams], metadata)


def batch_rows_max(columns: int) -> int:
    """How many rows of so many stream columns one batch should have at most."""
    return max(BATCH_ROWS_MIN, min(BATCH_ROWS_MAX, BATCH_VALUES_MAX // max(columns, 1)))


def to_record_batch(
    block: Block,
    columns: Sequence[PhysicalColumn],
    device_names: Callable[[int], str],
    tag_names: Callable[[int], str],
) -> pa.RecordBatch:
    """The block's rows, in its order, as ``arrow_schema(columns)``.

    Args:
        block: rows of one channel; split it by ``batch_rows_max`` first.
        columns: those that are wanted; cells of others are passed over. A row may end up without any.
        device_names: the device_id of a registry id; asked once per distinct id of the block.
        tag_names: likewise; never asked for tag 0, which is null.
    """
    rows = len(block)
    arrays: list[pa.Array] = [
        pa.array(block.seq),
        pa.array(block.at_us).view(FIXED_FIELDS[1].type),
        names_array(block.device, device_names),
        names_array(block.tag, tag_names, null_id=0),
    ]
    present = set(distinct_ids(block.column).tolist())
    asked = [column for column in columns if column.id in present]
    pivoted = pivot(block, np.array([column.id for column in asked], np.uint32))
    found = {column.id: cells for column, cells in zip(asked, pivoted, strict=True)}
    for column in columns:
        if column.id in found:
            arrays.append(_column_array(column.kind, rows, *found[column.id], block.text))
        else:
            arrays.append(pa.nulls(rows, TYPES[column.kind]))
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(columns))


def names_array(
    ids: NDArray[np.uint32],
    name: Callable[[int], str],
    null_id: int | None = None,
    repeats: NDArray[np.int64] | None = None,
) -> pa.DictionaryArray:
    """Ids as a dictionary of their names; null_id becomes null; repeats as in numpy.repeat."""
    known, index = distinct(ids)
    if repeats is not None:
        index = np.repeat(index, repeats)
    words = [None if number == null_id else name(number) for number in known.tolist()]
    mask = None
    if None in words:
        mask = index == words.index(None)
        words = ["" if word is None else word for word in words]
    indices = pa.array(index, mask=mask)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string()))


def distinct_ids(ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The distinct ids in ascending order."""
    if len(ids) == 0:
        return ids
    low, high = ids.min(), ids.max()
    if low == high:
        return ids[:1]
    if int(high) - int(low) > 1 << 20:
        return np.unique(ids)
    return present(ids, int(low), int(high) - int(low) + 1)


def distinct(ids: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """The distinct ids in ascending order, and each one's position among them (numpy.unique, without sorting)."""
    if len(ids) == 0:
        return ids, np.zeros(0, np.int32)
    low, high = ids.min(), ids.max()
    if int(high) - int(low) > 1 << 20:
        known, index = np.unique(ids, return_inverse=True)
        return known, index.astype(np.int32)
    return rank(ids, int(low), int(high) - int(low) + 1)


def _column_array(
    kind: Kind, rows: int, values: NDArray[np.uint64], validity: NDArray[np.uint8], valid: int, text: bytes
) -> pa.Array:
    bitmap = None if valid == rows else pa.py_buffer(validity)
    buffers = [pa.py_buffer(buffer) for buffer in column_buffers(kind, values, validity, text)]
    return pa.Array.from_buffers(TYPES[kind], rows, [bitmap, *buffers], null_count=rows - valid)


def column_buffers(
    kind: Kind, values: NDArray[np.uint64], validity: NDArray[np.uint8], text: bytes
) -> Sequence[NDArray[Any]]:
    """A pivoted column's buffers behind the bitmap, as Arrow lays them out: values, or offsets and texts."""
    match kind:
        case Kind.TEXT | Kind.JSON:
            return gather_text(values, validity, text)
        case Kind.BOOLEAN:
            return (np.packbits(values.view(np.bool_)[::8], bitorder="little"),)
        case _:
            return (values,)
