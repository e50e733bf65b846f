"""Rows as columns: an Arrow IPC stream, or a Parquet file.

Columns ``at``, ``device`` and ``tag`` are what they are called, the others are streams; a null is no value. Streams may
be numbers, texts, truth values, and lists and structs of them. A body is read batch by batch, and the rows' limits
hold while it is: a small file can hold very many rows.
"""

import math
import struct
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from query.times import to_us
from query.writing.ipc_sizes import decompressed_bytes
from query.writing.rows import BadBodyError, Rows
from query.writing.texts import FIXED, stream_columns

BATCH_ROWS: Final = 4_096
# What an Arrow body, or a Parquet body's row groups, may be when decompressed, for each byte that the values may have.
EXPANSION_MAX: Final = 4


def parse_arrow(body: bytes, rows: Rows) -> None:
    """An Arrow IPC stream. Raises BadBodyError."""
    try:
        size, most = decompressed_bytes(body), EXPANSION_MAX * rows.reading.bytes_max
        if size > most:
            raise BadBodyError("BODY_TOO_LARGE", f"{size} bytes when it is decompressed: at most {most}")
        with pa.ipc.open_stream(pa.BufferReader(body)) as reader:
            _take(reader.schema, iter(reader), rows)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        raise BadBodyError("BAD_BODY_FORMAT", f"the body is not an Arrow IPC stream: {error}") from None


def parse_parquet(body: bytes, rows: Rows) -> None:
    """A Parquet file. Raises BadBodyError."""
    try:
        metadata = pq.read_metadata(pa.BufferReader(body))
        # As dictionaries texts take no more than their pages, however often rows name them.
        texts = [
            metadata.schema.column(i).path
            for i in range(metadata.num_columns)
            if metadata.schema.column(i).physical_type == "BYTE_ARRAY"
            and metadata.schema.column(i).logical_type.type != "DECIMAL"
        ]
        with pq.ParquetFile(pa.BufferReader(body), metadata=metadata, read_dictionary=texts) as file:
            size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
            most = EXPANSION_MAX * rows.reading.bytes_max
            if metadata.num_rows > rows.reading.rows_max or size > most:
                words = f"{metadata.num_rows} rows, {size} bytes: at most {rows.reading.rows_max} and {most}"
                raise BadBodyError("BODY_TOO_LARGE", words)
            _take(file.schema_arrow, file.iter_batches(BATCH_ROWS, use_threads=False), rows)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadBodyError("BAD_BODY_FORMAT", f"the body is not a Parquet file: {error}") from None


def _take(schema: pa.Schema, batches: Iterator[pa.RecordBatch], rows: Rows) -> None:
    streams = stream_columns(list(schema.names))
    for name, _ in streams:
        if not _is_value(schema.field(name).type):
            words = f"column {name!r}: a stream cannot hold {schema.field(name).type}"
            raise BadBodyError("BAD_BODY_FORMAT", words)
    is_literal = streams[0][1] is None
    for batch in batches:
        batch.validate(full=True)
        if len(rows) + batch.num_rows > rows.reading.rows_max:
            words = f"more than {rows.reading.rows_max} rows ([limits] write_rows_max)"
            raise BadBodyError("BODY_TOO_LARGE", words)
        first = len(rows) + 1
        fixed = {name: _fixed(batch, name, rows) for name in FIXED if name in schema.names}
        nobody: list[Any] = [None] * batch.num_rows
        at, device, tag = (fixed.get(name, nobody) for name in FIXED)
        _check_texts(batch, rows)
        columns = [_values(batch.column(name), name, first, rows) for name, _ in streams]
        for i in range(batch.num_rows):
            members = {
                name: column[i]
                for (name, _), column in zip(streams, columns, strict=True)
                if column[i] is not None
            }
            value: Any = next(iter(members.values()), {}) if is_literal else members
            rows.add(msgspec.json.encode(value), at[i], tag[i], device[i], first + i)


def _check_texts(batch: pa.RecordBatch, rows: Rows) -> None:
    """Refuse lists and structs whose texts would take too much when they are written out. Raises BadBodyError."""
    most = EXPANSION_MAX * rows.reading.bytes_max
    size = sum(_text_bytes(column) for column in batch.columns if pa.types.is_nested(column.type))
    if size > most:
        raise BadBodyError("BODY_TOO_LARGE", f"{size} bytes of text in {batch.num_rows} rows: at most {most}")


def _text_bytes(column: pa.Array) -> int:
    """What texts in dictionaries take when they are written out."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            return 0
        lengths = pc.binary_length(column.dictionary).cast(pa.int64())
        return pc.sum(lengths.take(column.indices)).as_py() or 0
    if pa.types.is_struct(kind):
        return sum(_text_bytes(each) for each in column.flatten())
    if pa.types.is_nested(kind):
        return _text_bytes(column.flatten())
    return 0


def _is_value(kind: pa.DataType) -> bool:
    """Whether JSON has such values."""
    if pa.types.is_dictionary(kind):
        return _is_value(kind.value_type)
    if pa.types.is_struct(kind):
        return all(_is_value(field.type) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_value(kind.value_type)
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind) or _is_text(kind) or pa.types.is_null(kind)
    )  # fmt: skip


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _values(column: pa.Array, name: str, first: int, rows: Rows) -> list[Any]:
    """As JSON will have them; what is not a number is none."""
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_dictionary(column.type):
        # Each text once: a few bytes of indices may name a long one very often.
        texts = _values(column.dictionary, name, first, rows)
        return [None if i is None else texts[i] for i in column.indices.to_pylist()]
    found: list[Any] = column.to_pylist()
    if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type) or _is_text(column.type):
        return found
    return [_finite(value, name, first + i, rows) for i, value in enumerate(found)]


def _finite(value: Any, name: str, number: int, rows: Rows) -> Any:
    match value:
        case float() if math.isnan(value):
            return None
        case float() if math.isinf(value):
            raise rows.bad(number, "NUMBER_OUT_OF_RANGE", f"{name}: infinite")
        case list():
            return [_finite(each, name, number, rows) for each in value]
        case dict():
            return {key: _finite(each, name, number, rows) for key, each in value.items()}
    return value


def _fixed(batch: pa.RecordBatch, name: str, rows: Rows) -> list[Any]:
    """Times as text or microseconds UTC; names as text."""
    column = batch.column(name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if _is_text(kind) or pa.types.is_null(kind):
        if pa.types.is_dictionary(column.type):
            texts = [each or None for each in column.dictionary.to_pylist()]
            return [None if i is None else texts[i] for i in column.indices.to_pylist()]
        return [each or None for each in column.to_pylist()]
    if name == "at" and pa.types.is_timestamp(kind):
        whole = column.cast(pa.timestamp("us", kind.tz), safe=False)
        if kind.tz is None:
            zone = rows.reading.zone
            return [None if each is None else to_us(each.replace(tzinfo=zone)) for each in whole.to_pylist()]
        found: list[Any] = pc.cast(whole, pa.int64()).to_pylist()
        return found
    raise BadBodyError("BAD_BODY_FORMAT", f"column {name!r}: {column.type} is not what it may be")
