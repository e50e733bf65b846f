from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

class Cells(NamedTuple):
    """One column's buffers, as Arrow lays them out. ``offset`` counts rows into each of them.

    Attributes:
        validity: bitmap, or None when every row has a value.
        values: 8 bytes a row; a bitmap for booleans; None for texts.
        offsets: int32, where each text begins in ``data``; None for others.
        data: the texts, UTF-8.
    """

    offset: int
    validity: Any
    values: Any
    offsets: Any
    data: Any

class RowEncoder:
    """Rows as the contract's stream entries (3.3), one after the other, each but the first after a comma.

    Args:
        columns: (stream, Kind) of each column, the stream None for a literal payload. Of several columns of one
            stream a row has a value in one.

    One thread at a time.
    """

    def __init__(self, columns: Sequence[tuple[str | None, int]]) -> None: ...
    def encode(
        self,
        order: NDArray[np.int64],
        seq: NDArray[np.int64],
        at_us: NDArray[np.int64],
        tag: NDArray[np.int32],
        tags: Sequence[bytes],
        cells: Sequence[Cells],
        zone_start_us: NDArray[np.int64],
        zone_offset_s: NDArray[np.int64],
        is_first: bool,
    ) -> bytes:
        """The rows' text. Releases the GIL.

        Args:
            order: positions of the rows to write, in the order to write them.
            seq, at_us: shape (n,).
            tag: index into tags, shape (n,).
            tags: JSON texts.
            cells: of each column.
            zone_start_us, zone_offset_s: offset of local time from UTC, each from its start on; the first start
                is not after any row.
        """

def json_string(text: bytes) -> bytes:
    """UTF-8 text as a JSON string, quotes included."""
