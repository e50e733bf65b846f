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

class Names(NamedTuple):
    """A device or a tag for each row.

    Attributes:
        positions: in ``texts``, int32, shape (n,).
        texts: as they are to stand in the row: JSON, or a field of CSV.
    """

    positions: NDArray[np.int32]
    texts: Sequence[bytes]

# The shapes of rows.
ENTRIES: int  # the contract's stream entries (3.3), each but the first after a comma
LINES: int  # NDJSON: _id, at to the microsecond, device, tag, value
FIELDS: int  # CSV: seq, at, device, tag, then every column; CR LF behind each row

class RowEncoder:
    """Rows as text, one after the other.

    Args:
        columns: (stream, Kind) of each column, the stream None for a literal payload. Of several columns of one
            stream a row has a value in one.
        shape: one of the three above.
        channel: its number, if each line is to begin with it; not for entries.

    One thread at a time.
    """

    def __init__(
        self, columns: Sequence[tuple[str | None, int]], shape: int = ..., channel: int | None = None
    ) -> None: ...
    def encode(
        self,
        order: NDArray[np.int64],
        seq: NDArray[np.int64],
        at_us: NDArray[np.int64],
        device: Names | None,
        tag: Names,
        cells: Sequence[Cells],
        zone_start_us: NDArray[np.int64],
        zone_offset_s: NDArray[np.int64],
        is_first: bool,
    ) -> bytes:
        """The rows' text. Releases the GIL.

        Args:
            order: positions of the rows to write, in the order to write them.
            seq, at_us: shape (n,).
            device: not needed for entries.
            cells: of each column.
            zone_start_us, zone_offset_s: offset of local time from UTC, each from its start on; the first start
                is not after any row.
        """

def json_string(text: bytes) -> bytes:
    """UTF-8 text as a JSON string, quotes included."""

def csv_field(text: bytes) -> bytes:
    """UTF-8 text as a field of CSV (RFC 4180), in quotes where it needs them, and where it is empty."""
