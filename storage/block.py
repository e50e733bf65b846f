"""A block: a few rows and their cells, copied out of the ring or read back from a hot file.

Rows are datapoints; cells are their streams' values. The block is the one shape in which unpublished data moves
between ring, hot files, publishing and queries:

    row i has the cells  cell_start[i] .. cell_start[i + 1]
    cell j is of column[j] and holds value[j], 8 bytes, whose meaning is the column's kind:
        NUMBER   the bits of a float64        INTEGER  an int64        BOOLEAN  0 or 1
        TEXT, JSON   offset into text (low 40 bits), length in bytes (high 24 bits)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Block:
    """Rows and cells as arrays; see the module for how they hang together.

    Attributes:
        seq: int64 (n,), the datapoints' numbers.
        at_us: int64 (n,), receive time, microseconds since the epoch, UTC.
        channel, device, tag: uint32 (n,), registry ids and schema tag ids (0 is «no tag»).
        cell_start: int64 (n + 1,), first is 0, last is the number of cells.
        column: uint32 (m,), schema column ids.
        value: uint64 (m,).
        text: the bytes that TEXT and JSON cells point into.
    """

    seq: NDArray[np.int64]
    at_us: NDArray[np.int64]
    channel: NDArray[np.uint32]
    device: NDArray[np.uint32]
    tag: NDArray[np.uint32]
    cell_start: NDArray[np.int64]
    column: NDArray[np.uint32]
    value: NDArray[np.uint64]
    text: bytes

    def __len__(self) -> int:
        return len(self.seq)
