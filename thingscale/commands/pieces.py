"""A file of readings in pieces that one request may have, each complete in itself, in bounded memory.

Texts are divided between their rows and otherwise left as they are, for the daemon to read; tables are sent as Arrow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

PIECE_ROWS: Final = 5_000
# Less than what limits.http_body_bytes_max allows where nothing else is said; a row may be longer.
PIECE_BYTES: Final = 4 << 20
ROW_BYTES_MAX: Final = 8 << 20
NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
ARROW: Final = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True, slots=True)
class Piece:
    """What one request has.

    Attributes:
        share: how much of the file has been read with it, 0 to 1.
    """

    media_type: str
    body: bytes
    share: float


def pieces_of(file: Path, shape: str) -> Iterator[Piece]:
    """The file, piece by piece.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not what its name or the option says (pyarrow's errors are such ones).
    """
    match shape:
        case "ndjson" | "csv":
            size = file.stat().st_size or 1
            with file.open("rb") as source:
                head = next(records(source), b"") if shape == "csv" else b""
                for body in packed(records(source) if shape == "csv" else lines(source)):
                    yield Piece(CSV if shape == "csv" else NDJSON, head + body, source.tell() / size)
        case "parquet":
            yield from parquet_pieces(file)
        case _:
            yield from arrow_pieces(file)


def lines(source: BinaryIO) -> Iterator[bytes]:
    while found := source.readline(ROW_BYTES_MAX):
        yield found


def records(source: BinaryIO) -> Iterator[bytes]:
    """Rows of CSV with their ends: a line is not complete within quotation marks."""
    row = b""
    for each in lines(source):
        row += each
        if row.count(b'"') % 2 == 0:
            yield row
            row = b""
        elif len(row) > ROW_BYTES_MAX:
            raise ValueError(
                f"a row of CSV is longer than {ROW_BYTES_MAX} bytes: is a quotation mark missing?"
            )
    if row:
        yield row


def packed(rows: Iterator[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for row in rows:
        if held and (len(held) == PIECE_ROWS or size + len(row) > PIECE_BYTES):
            yield b"".join(held)
            held, size = [], 0
        held.append(row)
        size += len(row)
    if held:
        yield b"".join(held)


def parquet_pieces(file: Path) -> Iterator[Piece]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as source:
        done = 0
        for batch in source.iter_batches(PIECE_ROWS):
            done += len(batch)
            if len(batch):
                yield Piece(ARROW, as_stream(pa, batch), done / source.metadata.num_rows)


def arrow_pieces(file: Path) -> Iterator[Piece]:
    import pyarrow as pa

    size = file.stat().st_size or 1
    with pa.OSFile(str(file)) as raw, pa.ipc.open_stream(raw) as stream:
        for batch in stream:
            share = raw.tell() / size
            for first in range(0, len(batch), PIECE_ROWS):
                yield Piece(ARROW, as_stream(pa, batch.slice(first, PIECE_ROWS)), share)


def as_stream(pa: Any, batch: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
