"""Aggregates on the way out: the contract's JSON, and flat formats with a column for each stream and aggregate.

They are in memory, and not many (``query.buckets_max``), so they are written in one go, by the plain libraries.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from query.buckets import Path, Row, nested
from query.formats.layout import Layout, Piece
from query.stream_request import Format
from query.times import format_precise, format_time
from storage.cover import DAY_US, TIME_MIN_US
from storage.kinds import Kind
from storage.naming import physical_names, stream_name
from storage.publish import writer_options
from storage.registry import StreamDescription
from storage.wide import FIXED_FIELDS, NAMES_TYPE

LITERAL: Final[Path] = (None,)


@dataclass(frozen=True, slots=True)
class Result:
    """The aggregates of one channel.

    Attributes:
        number: the channel's.
        head: what the contract says before ``result``.
        rows: groups in order.
        paths: all streams that occur, in order.
        described: what people say of the streams.
    """

    number: int
    head: Mapping[str, Any]
    rows: Sequence[Row]
    paths: Sequence[Path]
    described: Mapping[str, StreamDescription]


@dataclass(frozen=True, slots=True)
class Shape:
    """What all results of a reply have in common.

    Attributes:
        aggregates: their names, in order.
        has_buckets: rows have a start.
        by: device, tag or both.
    """

    aggregates: tuple[str, ...]
    has_buckets: bool
    by: tuple[str, ...]


def result_pieces(
    form: Format, results: Sequence[Result], shape: Shape, layout: Layout, *, is_list: bool
) -> Iterator[Piece]:
    """All of a reply in this format."""
    if form is Format.JSON:
        envelopes = [_envelope(result, shape, layout) for result in results]
        yield _to_json(envelopes if is_list else envelopes[0])
        return
    columns = _columns(results, shape)
    match form:
        case Format.NDJSON:
            names = [*_fixed(shape, layout), *(column.name for column in columns)]
            for cells in _cells(results, columns, shape, layout):
                yield _to_json(dict(zip(names, cells, strict=True))) + b"\n"
        case Format.CSV:
            yield _csv(results, columns, shape, layout)
        case Format.ARROW:
            table = _table(results, columns, shape, layout)
            sink = pa.BufferOutputStream()
            options = pa.ipc.IpcWriteOptions(compression=layout.compression, use_threads=False)
            with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
                writer.write_table(table)
            yield memoryview(sink.getvalue())
        case Format.PARQUET:
            table = _table(results, columns, shape, layout)
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, **writer_options(table.column_names))
            yield memoryview(sink.getvalue())


def _to_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _envelope(result: Result, shape: Shape, layout: Layout) -> dict[str, Any]:
    is_literal = list(result.paths) == [LITERAL]
    return {
        **result.head,
        "result": [_element(row, shape, layout, is_literal=is_literal) for row in result.rows],
    }


def _element(row: Row, shape: Shape, layout: Layout, *, is_literal: bool) -> dict[str, Any]:
    """The contract's keys, with ``at`` and names where they were asked for."""
    element: dict[str, Any] = {"_id": None}
    if row.start_us is not None:
        element["at"] = format_time(_datable(row.start_us), layout.zone)
    element |= zip(shape.by, row.names, strict=True)
    numbers: dict[Path, Any] = {}
    for path, found in row.numbers.items():
        numbers[path] = (
            found[0] if len(shape.aggregates) == 1 else dict(zip(shape.aggregates, found, strict=True))
        )
    element["value"] = nested(numbers, is_literal=is_literal)
    return element


def _datable(start_us: int) -> int:
    """A bucket of many years may begin before the first date that there is."""
    return max(start_us, TIME_MIN_US + 2 * DAY_US)


# ---- flat


@dataclass(frozen=True, slots=True)
class _Column:
    """A stream's aggregate."""

    name: str
    path: Path
    aggregate: int
    is_count: bool
    described: StreamDescription


def _columns(results: Sequence[Result], shape: Shape) -> list[_Column]:
    """A column for each stream of all channels and aggregate; called after both if there are several."""
    found: dict[tuple[Path, int], StreamDescription] = {}
    for result in results:
        for path in result.paths:
            for i in range(len(shape.aggregates)):
                found.setdefault((path, i), result.described.get(stream_name(path[0]), StreamDescription()))
    wanted = []
    for path, i in found:
        name = ".".join(map(stream_name, path))
        wanted.append(name if len(shape.aggregates) == 1 else f"{name}_{shape.aggregates[i]}")
    names = physical_names((name, Kind.NUMBER) for name in wanted)
    return [
        _Column(name, path, i, shape.aggregates[i] == "count", said)
        for name, ((path, i), said) in zip(names, found.items(), strict=True)
    ]


def _fixed(shape: Shape, layout: Layout) -> list[str]:
    return ["channel"] * layout.has_channel + ["at"] * shape.has_buckets + list(shape.by)


def _cells(
    results: Sequence[Result], columns: Sequence[_Column], shape: Shape, layout: Layout
) -> Iterator[list[Any]]:
    """Each row's cells, times as text."""
    for result in results:
        for row in result.rows:
            cells: list[Any] = [result.number] * layout.has_channel
            if row.start_us is not None:
                cells.append(format_precise(_datable(row.start_us), layout.zone))
            cells += row.names
            for column in columns:
                numbers = row.numbers.get(column.path)
                cells.append(None if numbers is None else numbers[column.aggregate])
            yield cells


def _csv(results: Sequence[Result], columns: Sequence[_Column], shape: Shape, layout: Layout) -> bytes:
    """RFC 4180; nothing between two commas is null, an empty name stands in quotes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    fixed = _fixed(shape, layout)
    writer.writerow([*fixed, *(column.name for column in columns)])
    if layout.with_meta:
        writer.writerow([""] * len(fixed) + [column.described.unit for column in columns])
    writer.writerows(_cells(results, columns, shape, layout))
    return text.getvalue().encode()


def _table(results: Sequence[Result], columns: Sequence[_Column], shape: Shape, layout: Layout) -> pa.Table:
    rows = [(result.number, row) for result in results for row in result.rows]
    fields: list[pa.Field] = []
    arrays: list[pa.Array] = []
    if layout.has_channel:
        fields.append(pa.field("channel", pa.int64(), nullable=False))
        arrays.append(pa.array([number for number, _ in rows], pa.int64()))
    if shape.has_buckets:
        fields.append(FIXED_FIELDS[1])
        arrays.append(pa.array([row.start_us for _, row in rows], pa.int64()).view(FIXED_FIELDS[1].type))
    for i, name in enumerate(shape.by):
        fields.append(pa.field(name, NAMES_TYPE))
        arrays.append(pa.array([row.names[i] for _, row in rows], pa.string()).dictionary_encode())
    for column in columns:
        type_ = pa.int64() if column.is_count else pa.float64()
        fields.append(pa.field(column.name, type_, metadata=_metadata(column, shape)))
        found = (row.numbers.get(column.path) for _, row in rows)
        cells = (None if numbers is None else numbers[column.aggregate] for numbers in found)
        convert = int if column.is_count else float
        arrays.append(pa.array([None if cell is None else convert(cell) for cell in cells], type_))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _metadata(column: _Column, shape: Shape) -> Mapping[str, str]:
    said = column.described
    path = column.path[0] if len(column.path) == 1 else list(column.path)
    return {
        "stream": json.dumps(path, ensure_ascii=False),
        "aggregate": shape.aggregates[column.aggregate],
        "label": said.label,
        "unit": said.unit,
        "description": said.description,
    }
