"""The result of a query in the format that was asked for, batch by batch.

JSON is ``{"columns": [{"name", "type"}], "rows": [[…], …], "row_count": n, "is_cut": false}``: arrays, because two
columns may have one name. Times are ISO 8601 with the offset of the user's zone, blobs hexadecimal, decimals numbers.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any, Final, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

FORMATS: Final = ("json", "ndjson", "csv", "arrow", "parquet")
# Rows of a Parquet row group, and what the compression sees at once.
GROUP_ROWS: Final = 65_536

_json: Final = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


class Writer(Protocol):
    """A format. ``media_type`` is its label."""

    media_type: str

    def begin(self) -> bytes: ...
    def rows(self, batch: pa.RecordBatch) -> bytes: ...
    def end(self, rows: int, is_cut: bool) -> bytes: ...


def writer_of(name: str, schema: pa.Schema, types: list[str]) -> Writer:
    """The writer of one of FORMATS.

    Raises:
        pa.ArrowNotImplementedError: Parquet has no such type.
    """
    match name:
        case "json":
            return JsonWriter(schema, types)
        case "ndjson":
            return NdjsonWriter(schema)
        case "csv":
            return CsvWriter(schema)
        case "arrow":
            return ArrowWriter(schema)
        case _:
            return ParquetWriter(schema)


def values_of(column: pa.Array) -> list[Any]:
    """A column's values as JSON and CSV write them."""
    values: list[Any] = column.to_pylist()
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [None if value is None else value.hex() for value in values]
    return values


def rows_of(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    return zip(*(values_of(column) for column in batch.columns), strict=True)


class JsonWriter:
    """One object."""

    media_type = "application/json"

    def __init__(self, schema: pa.Schema, types: list[str]) -> None:
        columns = [{"name": name, "type": kind} for name, kind in zip(schema.names, types, strict=True)]
        self._head = b'{"columns":' + _json.encode(columns) + b',"rows":['
        self._comma = b""

    def begin(self) -> bytes:
        return self._head

    def rows(self, batch: pa.RecordBatch) -> bytes:
        if not batch.num_rows:
            return b""
        comma, self._comma = self._comma, b","
        return comma + _json.encode(list(rows_of(batch)))[1:-1]

    def end(self, rows: int, is_cut: bool) -> bytes:
        return b'],"row_count":%d,"is_cut":%s}' % (rows, b"true" if is_cut else b"false")


class NdjsonWriter:
    """An object a line."""

    media_type = "application/x-ndjson"

    def __init__(self, schema: pa.Schema) -> None:
        self._names = schema.names

    def begin(self) -> bytes:
        return b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        return _json.encode_lines([dict(zip(self._names, row, strict=True)) for row in rows_of(batch)])

    def end(self, rows: int, is_cut: bool) -> bytes:
        return b""


class CsvWriter:
    """RFC 4180, with a line of names; null is empty, what is nested is JSON."""

    media_type = "text/csv; charset=utf-8"

    def __init__(self, schema: pa.Schema) -> None:
        self._names = schema.names

    def begin(self) -> bytes:
        return self._lines([self._names])

    def rows(self, batch: pa.RecordBatch) -> bytes:
        return self._lines([[_cell(value) for value in row] for row in rows_of(batch)])

    @staticmethod
    def _lines(rows: list[list[Any]]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        return text.getvalue().encode()

    def end(self, rows: int, is_cut: bool) -> bytes:
        return b""


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    text = _json.encode(value).decode()
    return text[1:-1] if text.startswith('"') else text


class Sink:
    """A file that gives away what was written to it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.closed = False
        self._size = 0

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._size += len(data)
        return len(data)

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken

    def tell(self) -> int:
        return self._size

    def flush(self) -> None: ...
    def close(self) -> None: ...
    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


class ArrowWriter:
    """The IPC streaming format."""

    media_type = "application/vnd.apache.arrow.stream"

    def __init__(self, schema: pa.Schema) -> None:
        self._sink = Sink()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, "w"), schema)

    def begin(self) -> bytes:
        return self._sink.take()

    def rows(self, batch: pa.RecordBatch) -> bytes:
        self._writer.write_batch(batch)
        return self._sink.take()

    def end(self, rows: int, is_cut: bool) -> bytes:
        self._writer.close()
        return self._sink.take()


class ParquetWriter:
    """One file, in row groups of GROUP_ROWS."""

    media_type = "application/vnd.apache.parquet"

    def __init__(self, schema: pa.Schema) -> None:
        self._sink = Sink()
        self._schema = schema
        self._writer = pq.ParquetWriter(pa.PythonFile(self._sink, "w"), schema, compression="zstd")
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def begin(self) -> bytes:
        return self._sink.take()

    def rows(self, batch: pa.RecordBatch) -> bytes:
        self._waiting.append(batch)
        self._rows += batch.num_rows
        if self._rows >= GROUP_ROWS:
            self._flush()
        return self._sink.take()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
        self._waiting, self._rows = [], 0

    def end(self, rows: int, is_cut: bool) -> bytes:
        self._flush()
        self._writer.close()
        return self._sink.take()
