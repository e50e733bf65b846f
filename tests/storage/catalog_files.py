"""Hot and published files that the catalog takes for real (the right names and numbers, no rows), and its use."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from storage.catalog import Catalog
from storage.catalog_change import Cursor, Published
from storage.cover import (
    DAY_US,
    TEMPORARY,
    TIME_MAX_US,
    TIME_MIN_US,
    Files,
    HotFile,
    HotSegment,
    PublishedFile,
    published_path,
)
from storage.hot import hot_path
from storage.schema import Column, Tag


class Stretch(NamedTuple):
    """What a hot file has of one channel and day; times are microseconds of that day."""

    channel: int
    day: int
    first: int = 0
    last: int = 0
    rows: int = 1


def hot_file(
    catalog: Catalog, stretches: Sequence[Stretch], first_seq: int, tags: dict[int, int] | None = None
) -> HotFile:
    """A hot file of these, on disk; it takes one seq per stretch."""
    next_seq = first_seq + len(stretches)
    path = hot_path(catalog.hot, first_seq, next_seq)
    segments = tuple(
        HotSegment(
            path=path,
            channel=stretch.channel,
            day=stretch.day,
            first_cell=10 * i,
            cells=10,
            rows=stretch.rows,
            first_us=stretch.day * DAY_US + min(stretch.first, stretch.last),
            last_us=stretch.day * DAY_US + max(stretch.first, stretch.last),
            first_seq=first_seq + i,
            next_seq=next_seq,
            bytes=100 * stretch.rows,
        )
        for i, stretch in enumerate(sorted(stretches))
    )
    path.write_bytes(b"hot")
    return HotFile(path, first_seq, next_seq, 1000, segments, tags or {})


def directory_of(channel: int) -> str:
    return f"user=U000001/channel={channel}"


def published_file(catalog: Catalog, segments: Sequence[HotSegment]) -> PublishedFile:
    """The file that holds these segments' rows; not on disk yet."""
    channel, day = segments[0].channel, segments[0].day
    first_seq = min(segment.first_seq for segment in segments)
    return PublishedFile(
        path=published_path(catalog.root, directory_of(channel), day, first_seq),
        channel=channel,
        day=day,
        rows=sum(segment.rows for segment in segments),
        bytes=7,
        first_us=min(segment.first_us for segment in segments),
        last_us=max(segment.last_us for segment in segments),
        first_seq=first_seq,
        next_seq=max(segment.next_seq for segment in segments),
        columns=3,
    )


def make_temporary(path: Path) -> Path:
    """What an interrupted publication of this file leaves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(TEMPORARY)
    temporary.write_bytes(b"published")
    return temporary


def make(path: Path) -> None:
    """The file, by way of its temporary name."""
    make_temporary(path).rename(path)


def standing(catalog: Catalog) -> set[Path]:
    """Every file below the catalog's two directories."""
    return {path for part in (catalog.hot, catalog.root) for path in part.rglob("*") if path.is_file()}


def paths(files: Iterable[HotSegment | PublishedFile]) -> set[Path]:
    return {file.path for file in files}


def again(catalog: Catalog) -> Catalog:
    """What the next start of the daemon finds."""
    catalog.close()
    return Catalog.open(catalog.hot.parent)


def seal(
    catalog: Catalog,
    *stretches: Stretch,
    columns: tuple[Column, ...] = (),
    tags: tuple[Tag, ...] = (),
    tag_last_us: dict[int, int] | None = None,
) -> HotFile:
    cursor = catalog.cursor
    file = hot_file(catalog, stretches, cursor.seq, tag_last_us)
    catalog.apply(catalog.commit_seal(Cursor(cursor.lsn + 1, file.next_seq), file, columns, tags))
    return file


def begin(catalog: Catalog, channel: int, day: int = 0) -> tuple[Published, PublishedFile]:
    """Everything of a publication but its commit."""
    segments = catalog.unpublished_segments(channel, day)
    file = published_file(catalog, segments)
    catalog.announce([file.path])
    make(file.path)
    return Published({channel: directory_of(channel)}, (file,), segments), file


def publish(catalog: Catalog, channel: int, day: int = 0) -> PublishedFile:
    outcome, file = begin(catalog, channel, day)
    catalog.apply(catalog.commit_publish(outcome))
    return file


def everything(catalog: Catalog, channel: int) -> Files:
    return catalog.files_for(channel, TIME_MIN_US, TIME_MAX_US)
