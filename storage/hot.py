"""Hot files: what the ring has sealed, all channels in one Parquet file.

A file per channel and flush would cost 0.4-1 ms each; one file for all costs microseconds per channel. Rows are
ordered by (channel, at, seq) and every *cell* is one Parquet row, so streams of all channels and kinds fit into one
schema. What the ids mean stands in the metadata: the file can be read without us (docs/formats/hot.md).

A seal runs beside the traffic and costs as much CPU per reading as taking it in, so nothing here is done twice, and
compression is LZ4: the rows are written once more, and smaller, when their day is published.

A channel's rows are found by position: a segment (storage/cover.py) says which cell rows are its, and row groups are
small, so that reading one decodes little else. Row groups never split a row. A file has its temporary name until it
is complete and synced.

Pages carry checksums; the footer, which says where pages stand and what they hold, has its own at the end of the
file's name. One damaged byte there could lead to whole pages of other rows.
"""

import bisect
import errno
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.block import Block
from storage.cells import (
    FIELDS,
    READ_COLUMNS,
    Names,
    block_of,
    cell_batch,
    cell_rows,
    slice_rows,
    split_cells,
    text_bytes,
    without_deleted,
)
from storage.cover import DAY_US, TEMPORARY, HotFile, HotSegment
from storage.disk import Disk, DiskFullError
from storage.kinds import Kind
from storage.schema import Schema
from storage.wide import distinct, distinct_ids

FORMAT: Final = 1
METADATA_KEY: Final = "thingscale.hot"

# Cells of one row group. A small channel's segment costs decoding one group (0.6 ms); each group costs 0.3 ms to write.
GROUP_CELLS: Final = 32_768

# Of segments whose file has no name yet.
NO_PATH: Final = Path()

# What a row and a cell take in the ring, beside their text.
ROW_BYTES: Final = 48
CELL_BYTES: Final = 12


class DamagedFileError(Exception):
    """A Parquet file of ours that cannot be read back."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def hot_path(directory: Path, first_seq: int, next_seq: int, footer_crc: int = 0) -> Path:
    """The name of a hot file; the checksum is known when it is complete."""
    return directory / f"{first_seq:019d}-{next_seq:019d}-{footer_crc:08x}.parquet"


def footer_crc(path: Path) -> int:
    """CRC-32C (RFC 3720, B.4) of what follows the pages: footer, its length, magic. 0 where there is no footer."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little") + 8
        if length > size:
            return 0
        file.seek(size - length)
        return int(crc32c.crc32c(file.read()))


def write_hot(path: Path, blocks: Iterator[Block], schema: Schema, names: Names, disk: Disk) -> HotFile:
    """One hot file of these blocks, durable when this returns.

    Args:
        path: ``hot_path(...)`` of the rows, without checksum; nothing else may be writing it.
        blocks: together ordered by (channel, at, seq); at least one row.
        schema: only asked for columns and tags that occur.
        names: likewise for devices and channels.
        disk: syncs and renames.

    Raises:
        DiskFullError: nothing was kept.
    """
    temporary = path.with_suffix(TEMPORARY)
    try:
        with pq.ParquetWriter(
            temporary,
            pa.schema(FIELDS),
            compression="lz4",
            use_dictionary=False,
            column_encoding={"seq": "DELTA_BINARY_PACKED", "at": "DELTA_BINARY_PACKED"},
            write_statistics=["seq", "at", "channel_id"],
            write_page_checksum=True,
            store_schema=False,
        ) as writer:
            segments, meanings = Segments(), Meanings()
            kinds_by_column = schema.kinds()
            for block in blocks:
                meanings.add(block)
                for part in split_cells(block, GROUP_CELLS):
                    kinds = kinds_by_column[part.column]
                    writer.write_batch(cell_batch(part, kinds))
                    segments.add(part, kinds)
            writer.add_key_value_metadata({METADATA_KEY: meanings.describe(schema, names)})
        path = path.with_name(f"{path.stem[:-8]}{footer_crc(temporary):08x}{path.suffix}")
        size = finish_file(temporary, path, disk)
    except BaseException as error:
        for left in (temporary, path):
            left.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(error.errno, error.strerror, str(path)) from error
        raise
    return segments.finish(path, size)


def finish_file(temporary: Path, path: Path, disk: Disk) -> int:
    """Make a complete file durable under its name; its size."""
    file = disk.open(temporary)
    try:
        file.sync()
        size = file.size()
    finally:
        file.close()
    disk.rename(temporary, path)
    disk.sync_directory(path.parent)
    return size


class Meanings:
    """Which ids a file's rows use, and what they mean: the file can be read without anything else."""

    def __init__(self) -> None:
        self._ids: dict[str, set[int]] = {name: set() for name in ("channel", "device", "tag", "column")}

    def add(self, block: Block) -> None:
        for name, known in self._ids.items():
            known.update(distinct_ids(getattr(block, name)).tolist())

    def describe(self, schema: Schema, names: Names) -> str:
        """JSON, see docs/formats/hot.md."""
        channels = {channel: names.channel_by_id(channel) for channel in sorted(self._ids["channel"])}
        columns = {column: schema.column(column) for column in sorted(self._ids["column"])}
        return json.dumps(
            {
                "format": FORMAT,
                "channels": {
                    channel: {"user": owner.user_id, "channel": owner.number}
                    for channel, owner in channels.items()
                },
                "devices": {device: names.device_name(device) for device in sorted(self._ids["device"])},
                "tags": {tag: schema.tag(tag).name for tag in sorted(self._ids["tag"]) if tag},
                "columns": {
                    column: {"stream": found.name, "kind": Kind(found.kind).name.lower()}
                    for column, found in columns.items()
                },
            }
        )


def meanings_in(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """What the ids of devices and of tags in a finished hot file mean."""
    described = json.loads(pq.read_metadata(path).metadata[METADATA_KEY.encode()])
    devices, tags = (
        {int(number): name for number, name in described[key].items()} for key in ("devices", "tags")
    )
    return devices, tags


def segment_edges(block: Block) -> list[int]:
    """Where channel or day change, with both ends."""
    changes = np.diff(block.channel) != 0
    if block.at_us.min() // DAY_US != block.at_us.max() // DAY_US:
        changes |= np.diff(block.at_us // DAY_US) != 0
    return [0, *(np.flatnonzero(changes) + 1).tolist(), len(block)]


class Segments:
    """The segments of a file that is being written."""

    def __init__(self) -> None:
        self._found: list[HotSegment] = []
        self._tag_last_us: dict[int, int] = {}
        self._cells = 0

    def add(self, block: Block, kinds: NDArray[np.uint8]) -> None:
        """The next rows of the file, with each cell's Kind."""
        is_empty = block.cell_start[1:] == block.cell_start[:-1]
        has_empty = bool(is_empty.any())
        text = text_bytes(block, kinds)
        for first, last in itertools.pairwise(segment_edges(block)):
            begin, end = block.cell_start[[first, last]].tolist()
            cells = end - begin + (int(np.count_nonzero(is_empty[first:last])) if has_empty else 0)
            size = CELL_BYTES * (end - begin) + ROW_BYTES * (last - first)
            segment = HotSegment(
                path=NO_PATH,
                channel=int(block.channel[first]),
                day=int(block.at_us[first]) // DAY_US,
                first_cell=self._cells,
                cells=cells,
                rows=last - first,
                first_us=int(block.at_us[first]),
                last_us=int(block.at_us[last - 1]),
                first_seq=int(block.seq[first:last].min()),
                next_seq=int(block.seq[first:last].max()) + 1,
                bytes=size + (0 if text is None else int(text[begin:end].sum())),
            )
            self._cells += cells
            previous = self._found[-1] if self._found else None
            if previous and (previous.channel, previous.day) == (segment.channel, segment.day):
                self._found[-1] = _joined(previous, segment)
            else:
                self._found.append(segment)
        if not block.tag.any():
            return
        tags, index = distinct(block.tag)
        newest = np.full(len(tags), np.iinfo(np.int64).min)
        np.maximum.at(newest, index, block.at_us)
        for tag, at_us in zip(tags.tolist(), newest.tolist(), strict=True):
            if tag:
                self._tag_last_us[tag] = max(at_us, self._tag_last_us.get(tag, at_us))

    def finish(self, path: Path, size: int) -> HotFile:
        """The finished file."""
        assert self._found, "a hot file has at least one row"
        found = tuple(replace(segment, path=path) for segment in self._found)
        first_seq = min(segment.first_seq for segment in self._found)
        next_seq = max(segment.next_seq for segment in self._found)
        return HotFile(path, first_seq, next_seq, size, found, self._tag_last_us)


def _joined(one: HotSegment, two: HotSegment) -> HotSegment:
    """Two neighbours of the same channel and day."""
    return replace(
        one,
        cells=one.cells + two.cells,
        rows=one.rows + two.rows,
        last_us=two.last_us,
        first_seq=min(one.first_seq, two.first_seq),
        next_seq=max(one.next_seq, two.next_seq),
        bytes=one.bytes + two.bytes,
    )


class HotReader:
    """An open hot file. One thread; keeps the row group it decoded last, because small neighbours share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.stem.endswith(f"-{footer_crc(path):08x}"):
            raise DamagedFileError(path, "the footer's checksum is not the one in the file's name")
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno:  # the system's; Arrow's own have no number
                raise
            raise DamagedFileError(path, str(error)) from error
        types = {field.name: field.type for field in self._file.schema_arrow}
        for field in FIELDS:
            if types.get(field.name) != field.type:
                self.close()
                raise DamagedFileError(path, f"there is no column {field.name} of {field.type}")
        metadata = self._file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._starts: list[int] = list(itertools.accumulate(sizes, initial=0))
        self._group = -1
        self._block: Block
        self._first_cells: NDArray[np.int64]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def groups(self, segment: HotSegment) -> range:
        """The row groups that hold the segment's rows.

        Raises:
            DamagedFileError: the file ends before them.
        """
        if segment.first_cell + segment.cells > self._starts[-1]:
            raise DamagedFileError(self.path, f"{self._starts[-1]} cells, fewer than the catalog says")
        first = bisect.bisect_right(self._starts, segment.first_cell) - 1
        return range(first, bisect.bisect_left(self._starts, segment.first_cell + segment.cells))

    def block(self, segment: HotSegment, group: int) -> Block:
        """The segment's rows in that row group.

        Raises:
            DamagedFileError: the pages do not decode, or hold other rows than the catalog says.
        """
        if group != self._group:
            self._group = -1
            try:
                table = self._file.read_row_group(group, READ_COLUMNS, use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise DamagedFileError(self.path, f"row group {group}: {error}") from error
            self._block, first_cells = block_of(table, segment.channel)
            self._first_cells = first_cells + self._starts[group]
            self._group = group
        begin = max(segment.first_cell, self._starts[group])
        end = min(segment.first_cell + segment.cells, self._starts[group + 1])
        first, last = np.searchsorted(self._first_cells, (begin, end)).tolist()
        piece = slice_rows(self._block, first, last)
        if not _is_of(segment, piece, end - begin):
            raise DamagedFileError(self.path, f"row group {group}: other rows than the catalog says")
        return replace(piece, channel=np.full(last - first, segment.channel, np.uint32))

    def blocks(self, segment: HotSegment) -> Iterator[Block]:
        """The segment's rows in order, in pieces of at most one row group."""
        for group in self.groups(segment):
            yield self.block(segment, group)


def _is_of(segment: HotSegment, piece: Block, cells: int) -> bool:
    """Whether these can be the rows that the catalog means."""
    return bool(
        cell_rows(piece).sum() == cells > 0
        and piece.seq.min() >= segment.first_seq
        and piece.seq.max() < segment.next_seq
        and piece.at_us[0] >= segment.first_us
        and piece.at_us[-1] <= segment.last_us
    )


def read_blocks(segment: HotSegment) -> Iterator[Block]:
    """The segment's rows in order of (at, seq), in pieces of at most one row group (about GROUP_CELLS cells).

    Deleted ones (``segment.deleted``) are passed over.

    Raises:
        DamagedFileError: as HotReader.block.
    """
    with HotReader(segment.path) as reader:
        for block in reader.blocks(segment):
            left = without_deleted(block, segment.deleted)
            if len(left):
                yield left
