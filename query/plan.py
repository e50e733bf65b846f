"""The plan of a range query: the range cut into windows of time, each of a bounded number of rows.

One ORDER BY over everything would hold everything; windows follow each other in time, and each is read, put in order
and written before the next one. Small days are put together as long as they have no more than FILES_MAX files (each
costs 0.08 ms to open); a day of more rows or files is cut into equal pieces of time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from storage.cover import DAY_US, HotSegment, PublishedFile
from storage.naming import stream_name
from storage.wide import PhysicalColumn

# What a window holds at most if rows are spread evenly: 40 bytes and more of memory each.
WINDOW_ROWS: Final = 524_288
UNCUT: Final = 1 << 62
# Rows with long texts count as many: a window is to fit into memory.
ROW_BYTES: Final = 256
# A published row costs 80 ns to scan: a day's worth is found by one scan, whatever part of it is asked for.
FILES_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked of a channel.

    Attributes:
        start_us, end_us: ``start_us <= at < end_us``.
        tags: only these tags: their names and ids; None for all rows.
        devices: only these devices: their names and registry ids; None for all.
        streams: only these of each row (a literal payload is called ``value``); None for all.
    """

    start_us: int
    end_us: int
    tags: tuple[tuple[str, int], ...] | None = None
    devices: tuple[tuple[str, int], ...] | None = None
    streams: tuple[str, ...] | None = None

    def wants(self, column: PhysicalColumn) -> bool:
        """Whether the column is one of the streams."""
        return self.streams is None or stream_name(column.name) in self.streams


@dataclass(frozen=True, slots=True)
class Window:
    """Rows with ``start_us <= at < end_us`` are in these files, and perhaps in the ring."""

    start_us: int
    end_us: int
    published: tuple[PublishedFile, ...]
    hot: tuple[HotSegment, ...]


@dataclass(slots=True)
class _Day:
    day: int
    rows: int
    files: int


def plan(
    start_us: int,
    end_us: int,
    published: Sequence[PublishedFile],
    hot: Sequence[HotSegment],
    fresh: dict[int, int],
    window_rows: int | None = None,
    *,
    is_cut: bool = True,
) -> list[Window]:
    """Windows in order of time that together hold every row of the range.

    Args:
        start_us, end_us: the range, end exclusive.
        published, hot: the files that may have rows in it.
        fresh: rows in the ring, by UTC day.
        window_rows: WINDOW_ROWS, or fewer if few rows are wanted.
        is_cut: False where whoever reads the windows bounds the memory: then a window is a day or more.
    """
    windows = []
    rows_max = min(WINDOW_ROWS, window_rows or WINDOW_ROWS) if is_cut else UNCUT
    for first, last in _spans(start_us, end_us, _days(published, hot, fresh), rows_max):
        windows.append(
            Window(
                first,
                last,
                tuple(file for file in published if file.first_us < last and file.last_us >= first),
                tuple(segment for segment in hot if segment.first_us < last and segment.last_us >= first),
            )
        )
    return windows


def _days(published: Iterable[PublishedFile], hot: Iterable[HotSegment], fresh: dict[int, int]) -> list[_Day]:
    days: dict[int, _Day] = {}
    for number, rows, size in [
        *((file.day, file.rows, file.bytes) for file in published),
        *((each.day, each.rows, each.bytes) for each in hot),
    ]:
        day = days.setdefault(number, _Day(number, 0, 0))
        day.rows += max(rows, size // ROW_BYTES)
        day.files += 1
    for number, rows in fresh.items():
        days.setdefault(number, _Day(number, 0, 0)).rows += rows
    return [days[number] for number in sorted(days)]


def _spans(start_us: int, end_us: int, days: Sequence[_Day], rows_max: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each window."""
    run: list[_Day] = []
    for day in days:
        if run and (
            sum(each.rows for each in run) + day.rows > rows_max
            or sum(each.files for each in run) + day.files > FILES_MAX
        ):
            yield from _cut(start_us, end_us, run, rows_max)
            run = []
        run.append(day)
    if run:
        yield from _cut(start_us, end_us, run, rows_max)


def _cut(start_us: int, end_us: int, run: Sequence[_Day], rows_max: int) -> Iterator[tuple[int, int]]:
    first = max(start_us, run[0].day * DAY_US)
    last = min(end_us, (run[-1].day + 1) * DAY_US)
    if first >= last:
        return
    rows = sum(each.rows for each in run)
    whole = (run[-1].day - run[0].day + 1) * DAY_US
    files = sum(each.files for each in run)
    pieces = max(1, -(-rows * (last - first) // whole // rows_max), -(-files // FILES_MAX))
    pieces = min(pieces, last - first)
    for i in range(pieces):
        yield first + (last - first) * i // pieces, first + (last - first) * (i + 1) // pieces
