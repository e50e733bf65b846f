"""Publishing: one channel's UTC day out of hot files into the Parquet that people and engines read.

A published file is wide (storage/wide.py), complete, synced, and under its final name before the catalog knows it; it
never changes afterwards. What comes later for the same day becomes a further part. Its layout
(docs/formats/published.md) serves two sorts of readers: row groups follow each other newest first, so «the newest» is
at the front; inside a group rows are sorted by (device, at), so one device's rows lie together and compress well.

Memory is bounded by one row group and one decoded group of a hot file: hot segments are in order of time, so they
are read backwards, and a row group is written whenever enough rows have come together. A wall clock that was set back
makes neighbouring groups overlap in time; their statistics say so, and no reader relies on more.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.block import Block
from storage.catalog import Catalog, remove_files
from storage.catalog_change import Change, Published
from storage.cells import Names, slice_rows, without_deleted
from storage.cover import (
    DAY_US,
    TEMPORARY,
    TIME_MAX_US,
    TIME_MIN_US,
    HotSegment,
    PublishedFile,
    channel_directory,
    day_name,
    published_path,
)
from storage.disk import Disk, DiskFullError, full_disk_errors
from storage.hot import HotReader, finish_file
from storage.kinds import Kind
from storage.pivot import concatenate, take
from storage.schema import Schema
from storage.wide import PhysicalColumn, arrow_schema, batch_rows_max, physical_columns, to_record_batch

FORMAT: Final = 1
METADATA_KEY: Final = "thingscale"
COMPRESSION: Final = "zstd"
COMPRESSION_LEVEL: Final = 3

# A row group ends when its rows have about so much text: 65,536 rows of 64 KiB would not fit into an Arrow column.
GROUP_TEXT_BYTES: Final = 64 << 20


class Publisher:
    """Turns hot segments into published files. ``publish`` in a worker thread, one at a time; the rest in the main one.

    Args:
        catalog: what waits, and what is done.
        schema: columns and tags.
        names: devices and channels.
        disk: syncs and renames.
        part_rows_max: about so many rows go into one file; a hot segment is never split.
    """

    def __init__(
        self, catalog: Catalog, schema: Schema, names: Names, disk: Disk, *, part_rows_max: int
    ) -> None:
        self._catalog = catalog
        self._schema = schema
        self._names = names
        self._disk = disk
        self._part_rows_max = part_rows_max

    def due(self, now_us: int, grace_us: int) -> list[tuple[int, int]]:
        """(channel, day) to be published: the day has closed, or a file's worth has gathered."""
        return [
            (channel, day)
            for (channel, day), rows in sorted(self._catalog.unpublished().items())
            if (day + 1) * DAY_US + grace_us <= now_us or rows >= self._part_rows_max
        ]

    def waiting(self, channels: Sequence[int]) -> list[tuple[int, int]]:
        """Every (channel, day) of these channels that has sealed rows outside of published files."""
        asked = set(channels)
        return [key for key in sorted(self._catalog.unpublished()) if key[0] in asked]

    def publish(self, channel: int, day: int) -> Change:
        """Publish what waits of this channel and day; usually one file.

        Raises:
            DiskFullError: nothing has changed.
            DamagedFileError: a hot file cannot be read back.
        """
        segments = self._catalog.unpublished_segments(channel, day)
        if not segments:
            return Change()
        owner = self._names.channel_by_id(channel)
        directory = channel_directory(owner.user_id, owner.number)
        sealed = self._catalog.column_count
        columns = physical_columns(
            column for column in self._schema.columns_of(channel) if column.id < sealed
        )
        metadata = {METADATA_KEY: self._describe(owner.user_id, owner.number, day, columns)}
        parts = list(split_parts(segments, self._part_rows_max))
        paths = [
            published_path(self._catalog.root, directory, day, min(each.first_seq for each in part))
            for part in parts
        ]
        self._catalog.announce(paths)
        try:
            with full_disk_errors(paths[0]):
                written = [
                    self._write(path, part, columns, metadata)
                    for path, part in zip(paths, parts, strict=True)
                ]
        except BaseException:
            # The catalog does not know them, so nobody may.
            remove_files([*paths, *(path.with_suffix(TEMPORARY) for path in paths)], self._disk)
            raise
        files = tuple(file for file in written if file is not None)
        deleted = sum(segment.rows for segment in segments) - sum(file.rows for file in files)
        try:
            return self._catalog.commit_publish(Published({channel: directory}, files, segments, deleted))
        except DiskFullError:
            # Rolled back for sure. After any other error the commit may be on disk; Catalog.open will know.
            remove_files(paths, self._disk)
            raise

    @staticmethod
    def _describe(user: str, channel: int, day: int, columns: Sequence[PhysicalColumn]) -> str:
        """The file's metadata: whose it is, and what each stream column is (docs/formats/published.md)."""
        streams = [
            {"column": column.physical, "stream": column.name, "kind": column.kind.name.lower()}
            for column in columns
        ]
        description = {
            "format": FORMAT, "user": user, "channel": channel, "day": day_name(day), "columns": streams,
        }  # fmt: skip
        return json.dumps(description, ensure_ascii=False)

    def _write(
        self,
        path: Path,
        segments: Sequence[HotSegment],
        columns: tuple[PhysicalColumn, ...],
        metadata: dict[str, str],
    ) -> PublishedFile | None:
        """One file of these segments, durable under its name when this returns; None if all rows were deleted."""
        temporary = path.with_suffix(TEMPORARY)
        schema = arrow_schema(columns)
        make_directories(path.parent, self._catalog.root, self._disk)
        rows, next_seq, first_us, last_us = 0, 0, TIME_MAX_US, TIME_MIN_US
        with pq.ParquetWriter(
            temporary, schema, store_schema=False, **writer_options(schema.names)
        ) as writer:
            for block in self._groups(segments, columns):
                batch = to_record_batch(
                    block, columns, self._names.device_name, lambda tag: self._schema.tag(tag).name
                )
                writer.write_table(pa.Table.from_batches([batch]), row_group_size=len(block))
                rows += len(block)
                next_seq = max(next_seq, int(block.seq.max()) + 1)
                first_us = min(first_us, int(block.at_us.min()))
                last_us = max(last_us, int(block.at_us.max()))
            writer.add_key_value_metadata(metadata)
        if rows == 0:
            remove_files([temporary], self._disk)
            return None
        size = finish_file(temporary, path, self._disk)
        return PublishedFile(
            path=path,
            channel=segments[0].channel,
            day=segments[0].day,
            rows=rows,
            bytes=size,
            first_us=first_us,
            last_us=last_us,
            first_seq=min(segment.first_seq for segment in segments),
            next_seq=next_seq,
            columns=len(columns),
        )

    def _groups(self, segments: Sequence[HotSegment], columns: Sequence[PhysicalColumn]) -> Iterator[Block]:
        """The segments' rows as row groups: newest group first, each ordered by (device, at, seq)."""
        texts = np.array([each.id for each in columns if each.kind in (Kind.TEXT, Kind.JSON)], np.uint32)
        rows_max = batch_rows_max(len(columns))
        held: list[Block] = []
        count = text_bytes = 0
        for block in backwards(segments):
            if block.text:  # of all channels that share the hot file's row group; only this one's is kept
                block = take(block, np.arange(len(block)), texts)
            if held and text_bytes + len(block.text) > GROUP_TEXT_BYTES:
                yield _sorted(held, texts)
                held, count, text_bytes = [], 0, 0
            text_bytes += len(block.text)
            last = len(block)
            while last:
                first = max(0, last - (rows_max - count))
                held.append(slice_rows(block, first, last))
                count += last - first
                last = first
                if count == rows_max:
                    yield _sorted(held, texts)
                    held, count, text_bytes = [], 0, len(block.text)
        if held:
            yield _sorted(held, texts)


def writer_options(names: Sequence[str]) -> dict[str, Any]:
    """How pyarrow is to encode columns of these names (docs/formats/published.md)."""
    return {
        "compression": COMPRESSION,
        "compression_level": COMPRESSION_LEVEL,
        "use_dictionary": [name for name in names if name not in ("seq", "at")],
        "column_encoding": {"seq": "DELTA_BINARY_PACKED", "at": "DELTA_BINARY_PACKED"},
        "write_page_checksum": True,
    }


def _sorted(blocks: list[Block], texts: NDArray[np.uint32]) -> Block:
    """All rows of the blocks, ordered by (device, at, seq)."""
    one = concatenate(blocks[::-1], texts)
    return take(one, np.lexsort((one.seq, one.at_us, one.device)), texts)


def backwards(segments: Sequence[HotSegment]) -> Iterator[Block]:
    """The segments' rows but the deleted ones, later blocks first; inside a block in order of (at, seq)."""
    for segment in sorted(segments, key=lambda each: (each.first_us, each.first_seq), reverse=True):
        with HotReader(segment.path) as reader:
            for group in reversed(reader.groups(segment)):
                block = without_deleted(reader.block(segment, group), segment.deleted)
                if len(block):
                    yield block


def split_parts(segments: Sequence[HotSegment], rows_max: int) -> Iterator[tuple[HotSegment, ...]]:
    """Runs of segments of about so many rows, oldest first."""
    part: list[HotSegment] = []
    for segment in segments:
        if part and sum(each.rows for each in part) + segment.rows > rows_max:
            yield tuple(part)
            part = []
        part.append(segment)
    yield tuple(part)


def make_directories(directory: Path, root: Path, disk: Disk) -> None:
    """The directory below root, made durable level by level where it is new."""
    missing = [level for level in (directory, *directory.parents) if level.is_relative_to(root)]
    for level in reversed(missing):
        if not level.exists():
            level.mkdir()
            try:
                disk.sync_directory(level.parent)
            except BaseException:
                level.rmdir()  # the next attempt is to make and sync it again
                raise
