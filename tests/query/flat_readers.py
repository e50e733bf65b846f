"""Every format of the Stream service read back by somebody else: json, csv, pyarrow."""

import csv
import datetime
import io
import json
import zlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from storage.naming import FIXED
from tests.query.filled_store import EPOCH, plain

Row = dict[str, Any]


def uncoded(headers: dict[str, str], content: bytes) -> bytes:
    """What a client that sent Accept-Encoding sees."""
    match headers.get("content-encoding"):
        case None:
            return content
        case "gzip":
            return zlib.decompress(content, 31)
        case "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(content)
        case other:
            raise AssertionError(other)


def from_ndjson(content: bytes) -> list[Row]:
    """Rows as the model shows them; at in microseconds."""
    assert content == b"" or content.endswith(b"\n")
    rows = [json.loads(line) for line in content.split(b"\n")[:-1]]
    for row in rows:
        moment = datetime.datetime.fromisoformat(row["at"])
        row["at"] = to_us(moment), moment.strftime("%z")
        row["value"] = plain(row["value"])
    return rows


def to_us(moment: datetime.datetime) -> int:
    return (moment - EPOCH) // datetime.timedelta(microseconds=1)


def from_arrow(content: bytes) -> pa.Table:
    with pa.ipc.open_stream(content) as reader:
        table = reader.read_all()
    table.validate(full=True)
    return table


def from_parquet(content: bytes) -> pa.Table:
    return pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True).read()


def rows_of(table: pa.Table) -> list[Row]:
    """Values by stream, found by what the fields say of themselves; at in microseconds."""
    fixed = [name for name in table.column_names if name in (*FIXED, "channel")]
    streams = [field for field in table.schema if field.name not in fixed]
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    rows = []
    for i in range(table.num_rows):
        row = {name: columns[name][i] for name in fixed}
        row["at"] = to_us(row["at"])
        value: dict[str, Any] = {}
        literal = None
        for field in streams:
            cell = columns[field.name][i]
            if cell is None:
                continue
            stream = json.loads(field.metadata[b"stream"])
            if field.metadata[b"kind"] == b"json":
                cell = json.loads(cell)
            if stream is None:
                literal = (cell,)
            else:
                value[stream] = cell
        row["value"] = plain(value if literal is None else literal[0])
        rows.append(row)
    return rows


def from_csv(content: bytes) -> tuple[list[str], list[list[str]]]:
    """The line of names, and the others; every line ends as RFC 4180 wants."""
    assert content.endswith(b"\r\n")
    lines = list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))
    assert all(len(line) == len(lines[0]) for line in lines)
    return lines[0], lines[1:]
