"""Which files cover which channel and which time: the catalog's memory, asked by every query.

The files change in two steps. A worker thread writes them and commits the catalog; the main thread then applies the
change here, in the same breath in which it moves the ring's cursor. So a reader in the main thread always sees every
row exactly once: in the ring, in one hot segment or in one published file.

A fleet has many channels and a year many days, so files are numbers in arrays (about 80 bytes each) and become
records only when somebody asks. Published files are ordered by (day, first seq) and found by bisection; a hot file is
ordered by (channel, day).

A reader that goes on using paths after it left the main thread holds them: a file that nobody needs any more is
removed when the last reader who may have seen it is gone.
"""

import bisect
import datetime
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

DAY_US: Final = 86_400_000_000
EPOCH: Final = datetime.date(1970, 1, 1)

# The suffix of a file that is being written; never .parquet, because DuckDB's globs see dot files.
TEMPORARY: Final = ".tmp"

# Beyond every time that a datapoint can have (years 1 and 9999), and still days.
TIME_MIN_US: Final = -62_135_596_800_000_000
TIME_MAX_US: Final = 253_402_300_800_000_000


class DeletedTag(NamedTuple):
    """Rows of this tag of a channel with a smaller seq are deleted. ``id`` is the schema's, 0 if it has none."""

    name: str
    id: int
    below_seq: int


@dataclass(frozen=True, slots=True)
class HotSegment:
    """The rows of one channel and one UTC day in one hot file, in order of (at, seq).

    Attributes:
        channel: registry id.
        day: days since the epoch.
        first_cell: the segment's first cell row in the file.
        cells: its cell rows; a datapoint without cells counts as one.
        rows: its datapoints.
        first_us: time of the first row.
        last_us: time of the last row, inclusive.
        first_seq: the smallest seq.
        next_seq: one more than the largest seq; rows of other channels lie between.
        bytes: what its rows took in the ring.
        deleted: what is to be passed over in it.
    """

    path: Path
    channel: int
    day: int
    first_cell: int
    cells: int
    rows: int
    first_us: int
    last_us: int
    first_seq: int
    next_seq: int
    bytes: int
    deleted: tuple[DeletedTag, ...] = ()


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One immutable file of one channel and one UTC day. Times as in HotSegment; bytes is the file's size.

    Attributes:
        columns: how many stream columns it has: the channel's first ones, in order of registration.
        revision: how often it was written anew without deleted rows; ``first_seq`` stays what it was.
        deleted: what is to be passed over in it.
    """

    path: Path
    channel: int
    day: int
    rows: int
    bytes: int
    first_us: int
    last_us: int
    first_seq: int
    next_seq: int
    columns: int
    revision: int = 0
    deleted: tuple[DeletedTag, ...] = ()


@dataclass(frozen=True, slots=True)
class HotFile:
    """A finished hot file: rows [first_seq, next_seq) of all channels.

    Attributes:
        segments: ordered by (channel, day).
        tag_last_us: the newest time of each tag id in it.
    """

    path: Path
    first_seq: int
    next_seq: int
    bytes: int
    segments: tuple[HotSegment, ...]
    tag_last_us: dict[int, int]


@dataclass(frozen=True, slots=True)
class Files:
    """What stands in files of one channel and one time range. Oldest first, but times of neighbours may overlap."""

    published: tuple[PublishedFile, ...]
    hot: tuple[HotSegment, ...]


def day_of(at_us: int) -> int:
    """The UTC day of a time, in days since the epoch."""
    return at_us // DAY_US


def day_name(day: int) -> str:
    """``2026-05-02``."""
    return (EPOCH + datetime.timedelta(days=day)).isoformat()


def channel_directory(user_id: str, number: int) -> str:
    """Where a channel's days are, below the published files."""
    return f"user={user_id}/channel={number}"


def published_path(root: Path, directory: str, day: int, first_seq: int, revision: int = 0) -> Path:
    """The name of a published file; directory is the channel's (``user=U000001/channel=1``).

    No two files have a row in common but a file and its revisions, so these numbers name a file for ever.
    """
    name = f"part-{first_seq:019d}-{revision}" if revision else f"part-{first_seq:019d}"
    return root / directory / f"day={day_name(day)}" / f"{name}.parquet"


def waiting_path(root: Path, directory: str, day: int, first_seq: int, revision: int) -> Path:
    """Where a revision is until it takes its predecessor's place: beside the days, and not for people's readers."""
    return root / directory / f"day={day_name(day)}.part-{first_seq:019d}-{revision}{TEMPORARY}"


class Rows:
    """Records of a fixed number of int64, in one array."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._numbers = array("q")

    def __len__(self) -> int:
        return len(self._numbers) // self._width

    def __getitem__(self, row: int) -> Sequence[int]:
        return self._numbers[row * self._width : (row + 1) * self._width]

    def at(self, row: int, field: int) -> int:
        return self._numbers[row * self._width + field]

    def insert(self, row: int, record: Sequence[int]) -> None:
        assert len(record) == self._width
        self._numbers[row * self._width : row * self._width] = array("q", record)

    def remove(self, row: int) -> None:
        del self._numbers[row * self._width : (row + 1) * self._width]


class HotCover:
    """One hot file's segments, and which of them are not in published files yet."""

    def __init__(self, file: HotFile) -> None:
        self.path = file.path
        self.bytes = file.bytes
        self.first_us = min((segment.first_us for segment in file.segments), default=0)
        self.last_us = max((segment.last_us for segment in file.segments), default=-1)
        self._rows = Rows(10)
        for i, segment in enumerate(file.segments):
            self._rows.insert(i, astuple(segment)[1:-1])
        self._open = bytearray(b"\x01" * len(file.segments))

    def find(self, channel: int, day: int) -> int:
        """The first segment that is not before this channel and day."""
        rows = self._rows
        return bisect.bisect_left(
            range(len(rows)), (channel, day), key=lambda row: (rows.at(row, 0), rows.at(row, 1))
        )

    def segment(self, row: int) -> HotSegment:
        numbers: Any = self._rows[row]
        return HotSegment(self.path, *numbers)

    def of_channel(self, channel: int, start_us: int, end_us: int) -> Iterator[HotSegment]:
        rows = self._rows
        for row in range(self.find(channel, day_of(start_us)), len(rows)):
            if rows.at(row, 0) != channel or rows.at(row, 5) >= end_us:
                return
            if self._open[row] and rows.at(row, 6) >= start_us:
                yield self.segment(row)

    def unpublished(self) -> Iterator[tuple[int, int, int]]:
        """(channel, day, rows) of each segment that waits."""
        for row in range(len(self._rows)):
            if self._open[row]:
                channel, day, _, _, rows = self._rows[row][:5]
                yield channel, day, rows

    def close(self, channel: int, day: int) -> None:
        """These rows are elsewhere now."""
        row = self.find(channel, day)
        assert (self._rows.at(row, 0), self._rows.at(row, 1)) == (channel, day)
        self._open[row] = 0

    def close_channel(self, channel: int) -> None:
        for row in range(len(self._rows)):
            if self._rows.at(row, 0) == channel:
                self._open[row] = 0


class PublishedCover:
    """One channel's published files."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._rows = Rows(9)
        self._waiting: set[tuple[int, int]] = set()  # files that are not where people look yet

    def add(self, file: PublishedFile, *, is_waiting: bool = False) -> None:
        record = astuple(file)[2:-1]
        self._rows.insert(self._find(file.day, file.first_seq), record)
        if is_waiting:
            self._waiting.add((file.day, file.first_seq))

    def place(self, day: int, first_seq: int) -> None:
        """A file that waited has its name now."""
        self._waiting.remove((day, first_seq))

    def remove(self, file: PublishedFile) -> None:
        """It is gone."""
        row = self._find(file.day, file.first_seq)
        assert (self._rows.at(row, 0), self._rows.at(row, 5)) == (file.day, file.first_seq)
        self._rows.remove(row)
        self._waiting.discard((file.day, file.first_seq))

    def has(self, file: PublishedFile) -> bool:
        """Whether this revision of it is here."""
        row = self._find(file.day, file.first_seq)
        return row < len(self._rows) and (
            self._rows.at(row, 0), self._rows.at(row, 5), self._rows.at(row, 8),
        ) == (file.day, file.first_seq, file.revision)  # fmt: skip

    def path(self, root: Path, day: int, first_seq: int, revision: int) -> Path:
        """Where that file is."""
        where = waiting_path if (day, first_seq) in self._waiting else published_path
        return where(root, self.directory, day, first_seq, revision)

    def _find(self, day: int, first_seq: int) -> int:
        rows = self._rows
        return bisect.bisect_left(
            range(len(rows)), (day, first_seq), key=lambda row: (rows.at(row, 0), rows.at(row, 5))
        )

    def between(self, root: Path, channel: int, start_us: int, end_us: int) -> Iterator[PublishedFile]:
        rows = self._rows
        for row in range(self._find(day_of(start_us), 0), len(rows)):
            day = rows.at(row, 0)
            if day * DAY_US >= end_us:
                return
            if rows.at(row, 3) < end_us and rows.at(row, 4) >= start_us:
                path = self.path(root, day, rows.at(row, 5), rows.at(row, 8))
                numbers: Any = rows[row]
                yield PublishedFile(path, channel, *numbers)


class Holds:
    """Readers that may still open files, and files that wait for them."""

    def __init__(self) -> None:
        self._next = 1
        self._held: set[int] = set()
        self._waiting: list[tuple[int, Path]] = []

    def hold(self) -> int:
        self._held.add(self._next)
        self._next += 1
        return self._next - 1

    def release(self, hold: int) -> None:
        self._held.remove(hold)

    def mark(self) -> int:
        """For ``is_past``: who comes from now on sees something else."""
        return self._next

    def is_past(self, mark: int) -> bool:
        """Whether everybody who came before the mark is gone."""
        return mark <= min(self._held, default=self._next)

    def dismiss(self, paths: Sequence[Path]) -> None:
        """Nobody who comes from now on sees these files."""
        self._waiting += [(self._next, path) for path in paths]

    def take_removable(self) -> list[Path]:
        """The dismissed files that no reader can still open; each is given out once."""
        oldest = min(self._held, default=self._next)
        free = [path for limit, path in self._waiting if limit <= oldest]
        self._waiting = [(limit, path) for limit, path in self._waiting if limit > oldest]
        return free
