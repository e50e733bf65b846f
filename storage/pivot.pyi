from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.block import Block

def present(ids: NDArray[np.uint32], low: int, span: int) -> NDArray[np.uint32]:
    """The distinct ids in ascending order; span entries of memory. Raises and releases as ``rank`` does."""

def rank(ids: NDArray[np.uint32], low: int, span: int) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """The distinct ids in ascending order, and each id's position among them; span entries of memory.

    Raises IndexError for an id outside of low .. low + span - 1. Releases the GIL.
    """

def spread(block: Block, kinds: NDArray[np.uint8]) -> tuple[list[NDArray[Any]], NDArray[np.uint8], list[int]]:
    """One row per cell, and one per datapoint that has none.

    Args:
        kinds: each cell's Kind.

    Returns:
        channel, seq, at_us, device, tag, column and value (8 bytes) of each row; bitmaps, shape (4, bytes), of the
        rows whose value is a number, an integer or boolean, a text or JSON, anything; how many bits each has (a
        bitmap means nothing when that is none or all of the rows). Releases the GIL.
    """

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
