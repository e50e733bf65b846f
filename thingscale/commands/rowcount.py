"""How many rows of an answer have come in, from its bytes as they pass: what a percentage is made of.

Nothing is decoded but the frames of Arrow's messages (https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format).
A Parquet file says how many rows it has at its end only.
"""

import struct
from pathlib import Path
from typing import Final, Protocol

NO_MORE: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
RECORD_BATCH: Final = 3
# The fields of the flatbuffer tables Message and RecordBatch.
HEADER_TYPE, HEADER, BODY_LENGTH = 1, 2, 3
LENGTH = 0


def rows_of_parquet(path: Path) -> int:
    """Of a file that is complete."""
    import pyarrow.parquet as pq  # when it is needed: it takes as long as the rest of a command

    rows: int = pq.read_metadata(path).num_rows
    return rows


class RowCounter(Protocol):
    """Counts the rows of one answer."""

    def count(self, piece: bytes) -> int:
        """Rows in this piece and all before it."""


def counter_of(form: str) -> RowCounter | None:
    """For a format of answers; None where rows cannot be told as they come."""
    match form:
        case "csv":
            return Lines(b'"', head=1)
        case "ndjson":
            return Lines()
        case "json":
            return Entries()
        case "arrow":
            return Batches()
        case _:
            return None


class Lines:
    """Line ends, but for those between quotation marks.

    Args:
        quote: such a mark.
        head: lines at the beginning that are no rows.
    """

    def __init__(self, quote: bytes = b"", head: int = 0) -> None:
        self._quote = quote
        self._is_quoted = False
        self._rows = -head

    def count(self, piece: bytes) -> int:
        parts = piece.split(self._quote) if self._quote else [piece]
        self._rows += sum(part.count(b"\n") for part in parts[self._is_quoted :: 2])
        self._is_quoted ^= len(parts) % 2 == 0
        return max(self._rows, 0)


class Entries:
    """The contract's entries: each has an ``_id``. One that two pieces share is passed over."""

    def __init__(self) -> None:
        self._rows = 0

    def count(self, piece: bytes) -> int:
        self._rows += piece.count(b'"_id":')
        return self._rows


class Batches:
    """Record batches of an Arrow IPC stream."""

    def __init__(self) -> None:
        self._held = b""
        self._skip = 0  # bytes of a body that are still to come
        self._rows = 0

    def count(self, piece: bytes) -> int:
        passed = min(self._skip, len(piece))
        self._skip -= passed
        self._held += piece[passed:]
        while len(self._held) >= 8 and self._held[:8] != NO_MORE:
            (size,) = struct.unpack_from("<i", self._held, 4)
            if len(self._held) < 8 + size:
                break
            self._rows += self._begin(self._held[8 : 8 + size])
            rest = self._held[8 + size :]
            passed = min(self._skip, len(rest))
            self._skip -= passed
            self._held = rest[passed:]
        return self._rows

    def _begin(self, metadata: bytes) -> int:
        """Rows of the message whose body follows."""
        (message,) = struct.unpack_from("<I", metadata)
        at = field(metadata, message, BODY_LENGTH)
        self._skip = struct.unpack_from("<q", metadata, at)[0] if at else 0
        at = field(metadata, message, HEADER_TYPE)
        if not at or metadata[at] != RECORD_BATCH:
            return 0
        at = field(metadata, message, HEADER)
        (offset,) = struct.unpack_from("<I", metadata, at)
        at = field(metadata, at + offset, LENGTH)
        return int(struct.unpack_from("<q", metadata, at)[0]) if at else 0


def field(buffer: bytes, table: int, number: int) -> int:
    """Where a flatbuffer table has a field; 0 where it has none, which is its default."""
    (back,) = struct.unpack_from("<i", buffer, table)
    size, _ = struct.unpack_from("<HH", buffer, table - back)
    entry = 4 + 2 * number
    if entry >= size:
        return 0
    (offset,) = struct.unpack_from("<H", buffer, table - back + entry)
    return table + int(offset) if offset else 0
