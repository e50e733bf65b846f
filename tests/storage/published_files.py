"""Published files of random rows, made without log and registry, and what a reader without us makes of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from storage.block import Block
from storage.catalog import Catalog
from storage.catalog_change import Change, Cursor
from storage.cover import PublishedFile
from storage.disk import Disk, RealDisk
from storage.hot import hot_path, write_hot
from storage.kinds import Kind
from storage.publish import Publisher
from tests.storage.rows import Filled, PlainNames, Row, Sent

NAMES = PlainNames()
PYTHON = {"number": float, "integer": int, "text": str, "boolean": bool, "json": str}

Record = Mapping[str, Any]


class House:
    """A data directory whose messages are sealed and published by hand."""

    def __init__(self, data: Path, *, part_rows_max: int = 1_000_000, disk: Disk | None = None) -> None:
        self.disk = disk or RealDisk()
        self.catalog = Catalog.open(data, self.disk)
        self.filled = Filled([])
        self.publisher = Publisher(
            self.catalog, self.filled.schema, NAMES, self.disk, part_rows_max=part_rows_max
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.catalog.close()

    def seal(self, messages: Sequence[Sent]) -> None:
        """These messages as one hot file."""
        first = self.catalog.cursor.seq
        self.filled.append(messages)
        rows = sorted(self.filled.rows[first:], key=lambda each: each.order)
        self.seal_blocks([self.filled.block(rows)], len(rows))
        self.filled.ring.mark_sealed(self.catalog.cursor.seq)

    def seal_blocks(self, blocks: Iterable[Block], rows: int) -> None:
        """These rows, which come next, as one hot file."""
        first = self.catalog.cursor.seq
        path = hot_path(self.catalog.hot, first, first + rows)
        schema = self.filled.schema
        file = write_hot(path, iter(blocks), schema, NAMES, self.disk)
        columns = schema.columns_from(self.catalog.column_count)
        tags = schema.tags_from(self.catalog.tag_count + 1)
        cursor = Cursor(self.catalog.cursor.lsn + 1, file.next_seq)
        self.apply(self.catalog.commit_seal(cursor, file, columns, tags))

    def publish(self) -> list[PublishedFile]:
        """Everything that waits; the new files."""
        files: list[PublishedFile] = []
        for channel, day in sorted(self.catalog.unpublished()):
            change = self.publisher.publish(channel, day)
            self.apply(change)
            files += change.published
        return files

    def apply(self, change: Change) -> None:
        self.catalog.apply(change)
        for path in self.catalog.take_removable():
            path.unlink()


def description(path: Path) -> dict[str, Any]:
    """What the file says of itself."""
    found: dict[str, Any] = json.loads(pq.read_metadata(path).metadata[b"thingscale"])
    return found


def columns_of(paths: Iterable[Path]) -> dict[str, tuple[str | None, str]]:
    """Physical name -> (stream, kind), which no two of these files may tell differently."""
    found: dict[str, tuple[str | None, str]] = {}
    for path in paths:
        for column in description(path)["columns"]:
            meaning = column["stream"], column["kind"]
            assert found.setdefault(column["column"], meaning) == meaning
    return found


def told(records: Iterable[Record], paths: Sequence[Path], channel: int = 1) -> list[Row]:
    """The records as rows, in order of seq; each value has the Python type of its kind, or this fails."""
    meanings = columns_of(paths)
    rows = []
    for record in records:
        cells: dict[tuple[str | None, Kind], object] = {}
        for name, (stream, kind) in meanings.items():
            value = record[name]
            if value is not None:
                assert type(value) is PYTHON[kind], (name, value)
                cells[stream, Kind[kind.upper()]] = value
        assert set(record) == {"seq", "at", "device", "tag", *meanings}
        device = int(record["device"].removeprefix("device-"))
        rows.append(Row(record["seq"], record["at"], channel, device, record["tag"], cells))
    return sorted(rows, key=lambda row: row.seq)


def records_of(table: pa.Table) -> list[dict[str, Any]]:
    """An Arrow table's rows, times as microseconds since the epoch."""
    at = table.column("at").cast("int64")
    records: list[dict[str, Any]] = table.set_column(table.schema.get_field_index("at"), "at", at).to_pylist()
    return records


def read(file: PublishedFile) -> list[Row]:
    """One file's rows in order of seq, by plain pyarrow."""
    table = pq.ParquetFile(file.path, page_checksum_verification=True).read()
    return told(records_of(table), [file.path], file.channel)


def types_of(path: Path) -> dict[str, str]:
    """Column -> physical and logical type, as the file spells them."""
    columns = pq.ParquetFile(path).schema
    return {
        columns.column(i).name: f"{columns.column(i).physical_type} {columns.column(i).logical_type}"
        for i in range(len(columns.names))
    }
