"""Columns in another order: what pyarrow's take does, in half its time for what sensors send.

Numbers, times and names without gaps are most of what there is; everything else goes pyarrow's way.
"""

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from query.order import gather, gather_bits, is_time_order, time_order
from query.rows import one_chunk, raw

WIDTHS: Final = (32, 64)


def in_time_order(table: pa.Table, descending: bool) -> pa.Table:
    """The rows by (at, seq), or the other way round; the table itself if they are so already, as one device's are."""
    at_us, seq = raw(table, "at"), raw(table, "seq")
    if is_time_order(at_us, seq, descending):
        return table
    order = time_order(at_us, seq, descending).astype(np.int32)
    arrays = [taken(one_chunk(column), order) for column in table.columns]
    return pa.Table.from_arrays(arrays, schema=table.schema)


def taken(array: pa.Array, order: NDArray[np.int32]) -> pa.Array:
    """The rows in this order; ``array.take(order)``.

    Args:
        array: its memory may be part of the result.
        order: every row once.
    """
    kind = array.type
    if array.null_count == len(array):
        return array
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(taken(array.indices, order), array.dictionary, safe=False)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind)):
        return array.take(pa.array(order))
    width = kind.bit_width // 8
    if kind.bit_width not in WIDTHS:
        return array.take(pa.array(order))
    rows = len(array)
    validity, values = array.buffers()
    bitmap = None
    if array.null_count:
        bitmap = pa.allocate_buffer(-(-rows // 8))
        gather_bits(np.frombuffer(validity, np.uint8), array.offset, order, np.frombuffer(bitmap, np.uint8))
    made = pa.allocate_buffer(rows * width)
    source = np.frombuffer(values, np.uint8)[array.offset * width : (array.offset + rows) * width]
    gather(source, order, width, np.frombuffer(made, np.uint8))
    return pa.Array.from_buffers(kind, rows, [bitmap, made], null_count=array.null_count)
