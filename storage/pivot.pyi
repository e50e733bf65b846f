import numpy as np
from numpy.typing import NDArray

from storage.block import Block

def pivot(
    block: Block, column_ids: NDArray[np.uint32]
) -> list[tuple[NDArray[np.uint64], NDArray[np.uint8], int]]:
    """Cells to columns: per asked column (values (n,), validity bitmap, valid rows).

    A value is meaningless (0) where its bit is not set; bits are in Arrow's order (least significant first).
    Cells of columns that were not asked for are passed over. Needs 8 bytes per row and column. Releases the GIL.
    """

def gather_text(
    values: NDArray[np.uint64], validity: NDArray[np.uint8], text: bytes
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The texts that valid values point to, back to back, and where each begins (n + 1). Releases the GIL.

    Raises OverflowError beyond 2 GiB - 1 and IndexError for a value that points outside the text.
    """

def take(block: Block, rows: NDArray[np.int64], text_columns: NDArray[np.uint32]) -> Block:
    """Those rows, in that order, with their texts copied together. text_columns: ids whose cells are texts."""

def concatenate(blocks: list[Block], text_columns: NDArray[np.uint32]) -> Block:
    """The blocks' rows one after the other, in one block. text_columns: ids whose cells are texts."""
