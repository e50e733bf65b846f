"""Rows as columns: Arrow's IPC stream, and Parquet written row group by row group.

Both writers are given a file that only collects what is written to it, and what was collected leaves as it came:
Arrow's buffers are not copied on their way to the socket. Stream columns are called as in published files and carry in
their field's metadata which stream they are and what is said of it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from query.formats.layout import FlatColumn, Layout, Part, Piece, flat_columns
from query.taking import in_time_order
from storage.publish import writer_options
from storage.wide import BATCH_ROWS_MAX, FIXED_FIELDS, TYPES

# A buffer below this is joined with its neighbours: a frame and a system call cost more than the copy.
JOIN_BYTES: Final = 16_384
# Rows of a row group: readers hold one of them.
GROUP_ROWS: Final = 131_072


class Collector:
    """A file for pyarrow's writers: keeps what is written until it is taken."""

    closed = False

    def __init__(self) -> None:
        self._written: list[Any] = []

    def write(self, data: Any) -> int:
        self._written.append(data)
        return len(data)

    def take(self) -> Iterator[Piece]:
        """What was written since the last time; small pieces joined."""
        written, self._written = self._written, []
        small: list[Any] = []
        for data in written:
            if len(data) < JOIN_BYTES:
                small.append(data)
                continue
            if small:
                yield b"".join(small)
                small = []
            yield memoryview(data)
        if small:
            yield b"".join(small)

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True


def arrow_pieces(parts: Sequence[Part], layout: Layout) -> Iterator[Piece]:
    """The IPC stream: schema, record batches, end."""
    columns = flat_columns(parts)
    schema = reply_schema(columns, layout)
    collector = Collector()
    options = pa.ipc.IpcWriteOptions(compression=layout.compression, use_threads=False)
    with pa.ipc.new_stream(pa.PythonFile(collector, "w"), schema, options=options) as writer:
        yield from collector.take()
        for table in flat_tables(parts, columns, schema, layout):
            for batch in table.to_batches(BATCH_ROWS_MAX):
                writer.write_batch(batch)
                yield from collector.take()
    yield from collector.take()


def parquet_pieces(parts: Sequence[Part], layout: Layout) -> Iterator[Piece]:
    """A Parquet file, encoded as published ones are."""
    columns = flat_columns(parts)
    schema = reply_schema(columns, layout)
    collector = Collector()
    sink = pa.PythonFile(collector, "w")
    with pq.ParquetWriter(sink, schema, **writer_options(schema.names)) as writer:
        for table in flat_tables(parts, columns, schema, layout):
            for first in range(0, table.num_rows, GROUP_ROWS):
                writer.write_table(table.slice(first, GROUP_ROWS), row_group_size=GROUP_ROWS)
                yield from collector.take()
    sink.flush()
    yield from collector.take()


def reply_schema(columns: Sequence[FlatColumn], layout: Layout) -> pa.Schema:
    """The fixed columns and the streams' with what is known of them."""
    channel = [pa.field("channel", pa.int64(), nullable=False)] * layout.has_channel
    streams = [pa.field(column.name, TYPES[column.kind], metadata=_described(column)) for column in columns]
    return pa.schema([*channel, *FIXED_FIELDS, *streams])


def _described(column: FlatColumn) -> Mapping[str, str]:
    said = column.described
    return {
        "stream": json.dumps(column.stream, ensure_ascii=False),
        "kind": column.kind.name.lower(),
        "label": said.label,
        "unit": said.unit,
        "description": said.description,
    }


def flat_tables(
    parts: Sequence[Part], columns: Sequence[FlatColumn], schema: pa.Schema, layout: Layout
) -> Iterator[pa.Table]:
    """Each table with all columns, in the order that is asked for."""
    for part in parts:
        for table in part.tables:
            if not table.num_rows:
                continue
            if layout.descending is not None:
                table = in_time_order(table, layout.descending)
            present = set(table.column_names)
            rows = table.num_rows
            arrays: list[Any] = [
                pa.chunked_array([np.full(rows, part.number, np.int64)])
            ] * layout.has_channel
            arrays += [table.column(field.name) for field in FIXED_FIELDS]
            for column in columns:
                name, kind = column.sources.get(part.number), TYPES[column.kind]
                # Nulls are memory to be written, too: a fifteenth of all time if they are made for every column.
                array = table.column(name) if name in present else pa.chunked_array([pa.nulls(rows, kind)])
                arrays.append(array if array.type == kind else array.cast(kind))
            yield pa.Table.from_arrays(arrays, schema=schema).combine_chunks()
