import numpy as np
from numpy.typing import NDArray

def time_order(at_us: NDArray[np.int64], seq: NDArray[np.int64], descending: bool) -> NDArray[np.int64]:
    """The positions of the rows, ordered by (at, seq), or the other way round. Releases the GIL."""

def is_time_order(at_us: NDArray[np.int64], seq: NDArray[np.int64], descending: bool) -> bool:
    """Whether the rows stand in that order. Ends at the first one that does not; releases the GIL."""

def gather(values: NDArray[np.uint8], order: NDArray[np.int32], width: int, out: NDArray[np.uint8]) -> None:
    """``out[i] = values[order[i]]`` for values of 4 or 8 bytes, aligned. Releases the GIL.

    Args:
        values: the bytes of as many values as there are.
        order: positions among them.
        width: bytes of a value.
        out: at least ``width * len(order)`` bytes.

    Raises:
        IndexError: a position is not there.
    """

def gather_bits(
    bits: NDArray[np.uint8], offset: int, order: NDArray[np.int32], out: NDArray[np.uint8]
) -> None:
    """The same for bits, the lowest of a byte first. Releases the GIL.

    Args:
        offset: the bit that is row 0.
        out: at least a bit for each; what is left of it becomes 0.

    Raises:
        IndexError: a position is not there.
    """
