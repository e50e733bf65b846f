"""Buckets of time as people's clocks have them: which bucket a time is in, in a zone whose clocks may change.

Intervals of seconds to hours begin whenever the local clock shows a multiple of them since midnight, so they must
divide a day. An hour that the clocks repeat gives two buckets of an hour; one of six hours has seven then. Where the
clocks skip such a multiple, the bucket begins with the jump. Days, weeks (from Monday), months and years begin with
the first moment of their local date: a day has 23 or 25 hours twice a year.

Bounds of buckets are hardly ever irregular: a calendar cuts time into runs of equal width, so that a bucket is found
by a division, here in numpy as well as in SQL.
"""

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from query.times import zone_offsets
from storage.cover import DAY_US, TIME_MAX_US, TIME_MIN_US

SECOND_US: Final = 1_000_000
# Further than any offset, and than a bucket of a day, may reach.
MARGIN_US: Final = 2 * DAY_US
# Offsets are looked up day by day: times further apart are looked at on their own.
SPAN_US: Final = 1_500 * DAY_US
COUNT_MAX: Final = 9_999
YEARS_MAX: Final = 1_000
MONDAY: Final = 4  # 1970-01-05, in days since the epoch

INTERVAL: Final = re.compile(r"([1-9][0-9]{0,4})(s|mo|m|h|d|w|y)", re.ASCII)


class Unit(Enum):
    """What an interval counts; the value is how it is written."""

    SECOND = "s"
    MINUTE = "m"
    HOUR = "h"
    DAY = "d"
    WEEK = "w"
    MONTH = "mo"
    YEAR = "y"


SECONDS: Final = {Unit.SECOND: 1, Unit.MINUTE: 60, Unit.HOUR: 3_600}


@dataclass(frozen=True, slots=True)
class Interval:
    """The length of buckets: ``15m`` is Interval(15, Unit.MINUTE)."""

    count: int
    unit: Unit

    @property
    def width_us(self) -> int | None:
        """Of seconds, minutes and hours; None for what follows the dates."""
        seconds = SECONDS.get(self.unit)
        return None if seconds is None else self.count * seconds * SECOND_US


def parse_interval(text: str) -> Interval:
    """Raises ValueError, with words for who wrote it."""
    match = INTERVAL.fullmatch(text.strip())
    if match is None or (int(match[1]) > COUNT_MAX and match[2] != "s"):
        raise ValueError(f"{text!r} is not a number (up to {COUNT_MAX}) with one of s, m, h, d, w, mo, y")
    interval = Interval(int(match[1]), Unit(match[2]))
    if interval.unit is Unit.YEAR and interval.count > YEARS_MAX:
        raise ValueError(f"{text!r} is more than {YEARS_MAX} years")
    if interval.width_us is not None and DAY_US % interval.width_us:
        raise ValueError(f"{text!r} does not divide a day; longer ones are counted in d, w, mo, y")
    return interval


@dataclass(frozen=True, slots=True)
class Run:
    """Buckets of one width in a row, up to the next run's start."""

    start_us: int
    width_us: int


class Calendar:
    """The buckets of an interval in a zone. Any thread."""

    def __init__(self, interval: Interval, zone: ZoneInfo) -> None:
        self._interval = interval
        self._zone = zone

    def runs(self, first_us: int, last_us: int) -> list[Run]:
        """What holds the times from the first to the last; at least one run.

        The first one starts at or before the first time; the last bucket of the last one reaches beyond the last time.
        """
        width = self._interval.width_us
        low, high = max(first_us - MARGIN_US, TIME_MIN_US), min(last_us + MARGIN_US, TIME_MAX_US - 1)
        if width is None:
            found = _date_runs(self._interval, self._zone, low, high)
        else:
            starts, offsets = zone_offsets(self._zone, low, high)
            segments = list(zip(starts.tolist(), (offsets * SECOND_US).tolist(), strict=True))
            found = list(_clock_runs(segments, high, width))
        first = max(bisect.bisect_right([run.start_us for run in found], first_us) - 1, 0)
        last = bisect.bisect_right([run.start_us for run in found], last_us)
        kept = found[first:last]
        # As far as the first time: a literal in SQL, and fewer buckets to count.
        head = kept[0]
        kept[0] = Run(
            head.start_us + (first_us - head.start_us) // head.width_us * head.width_us, head.width_us
        )
        return kept

    def floor(self, at_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """The start of the bucket of each time."""
        starts = np.empty_like(at_us)
        days = np.unique(at_us // DAY_US)
        for first, last in _clusters(days.tolist()):
            part = np.flatnonzero((at_us >= first * DAY_US) & (at_us < (last + 1) * DAY_US))
            times = at_us[part]
            runs = self.runs(int(times.min()), int(times.max()))
            begins = np.array([run.start_us for run in runs], np.int64)
            widths = np.array([run.width_us for run in runs], np.int64)
            index = np.searchsorted(begins, times, "right") - 1
            begin, width = begins[index], widths[index]
            starts[part] = begin + (times - begin) // width * width
        return starts

    def starts(self, first_us: int, last_us: int, count_max: int) -> list[int]:
        """Every bucket from the one of the first time to the one of the last.

        Raises:
            TooManyBucketsError: if there are more than count_max.
        """
        found: list[int] = []
        while first_us <= last_us:
            until = min(last_us, first_us + SPAN_US)
            runs = self.runs(first_us, until)
            for i, run in enumerate(runs):
                end = runs[i + 1].start_us if i + 1 < len(runs) else until + 1
                if len(found) + -(-(end - run.start_us) // run.width_us) > count_max + 1:
                    raise TooManyBucketsError
                found += range(run.start_us, end, run.width_us)
            first_us = until + 1
        starts = sorted(set(found))
        if len(starts) > count_max:
            raise TooManyBucketsError
        return starts


class TooManyBucketsError(Exception):
    """More buckets than may be."""


def bucket_sql(runs: Sequence[Run], at_us: str) -> str:
    """The start of a time's bucket, in SQL; decided by halves, because there may be some dozens of runs."""
    if len(runs) == 1:
        start, width = runs[0].start_us, runs[0].width_us
        return f"({start} + ({at_us} - {start}) // {width} * {width})"
    middle = len(runs) // 2
    before, after = bucket_sql(runs[:middle], at_us), bucket_sql(runs[middle:], at_us)
    return f"CASE WHEN {at_us} < {runs[middle].start_us} THEN {before} ELSE {after} END"


def _clusters(days: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Days as (first, last), none of them longer than SPAN_US."""
    first = days[0]
    for before, day in zip(days, [*days[1:], None], strict=True):
        if day is None or (day - first) * DAY_US > SPAN_US:
            yield first, before
            if day is not None:
                first = day


def _clock_runs(segments: Sequence[tuple[int, int]], end_us: int, width: int) -> Iterator[Run]:
    """Buckets by the clock: segments are (start, offset) in force from then on."""
    pending: Run | None = None
    last_edge = 0
    for i, (start, offset) in enumerate(segments):
        end = segments[i + 1][0] if i + 1 < len(segments) else end_us
        first = start + -(start + offset) % width  # the first moment that shows a multiple
        if i == 0:
            first -= width
        elif first != start and (start + offset) // width > (start - 1 + segments[i - 1][1]) // width:
            # The clocks skip a multiple: a bucket begins here, and ends early.
            if pending is not None:
                yield from _ended(pending, last_edge, start)
            pending, last_edge = Run(start, width), start
        if first >= end:
            continue
        if pending is not None:
            yield from _ended(pending, last_edge, first)
        pending, last_edge = Run(first, width), first + (end - 1 - first) // width * width
    assert pending is not None
    yield pending


def _ended(run: Run, last_edge: int, next_edge: int) -> Iterator[Run]:
    """The run up to its last bucket, whose end may not be where the width says."""
    if last_edge > run.start_us:
        yield run
    if last_edge == run.start_us or next_edge - last_edge != run.width_us:
        yield Run(last_edge, next_edge - last_edge)


def _date_runs(interval: Interval, zone: ZoneInfo, low: int, high: int) -> list[Run]:
    """Buckets by the date, compressed."""
    first_day, last_day = low // DAY_US, high // DAY_US
    count = interval.count
    match interval.unit:
        case Unit.DAY:
            days = _multiples(first_day, last_day, count, 0)
        case Unit.WEEK:
            days = _multiples(first_day, last_day, 7 * count, MONDAY)
        case _:
            unit, epoch = ("M", 1970 * 12) if interval.unit is Unit.MONTH else ("Y", 1970)
            first, last = (
                int(np.datetime64(day, "D").astype(f"datetime64[{unit}]").astype(np.int64)) + epoch
                for day in (first_day, last_day)
            )
            numbers = np.arange(first // count, last // count + 2) * count - epoch
            days = numbers.astype(f"datetime64[{unit}]").astype("datetime64[D]").astype(np.int64)
    edges = np.unique([_first_moment(zone, day) for day in days.tolist()])
    widths = np.diff(edges)
    heads = np.flatnonzero(np.diff(widths, prepend=-1))
    return [Run(int(edges[i]), int(widths[i])) for i in heads]


def _multiples(first: int, last: int, step: int, origin: int) -> NDArray[np.int64]:
    """Every step from the one before the first to the one behind the last."""
    return np.arange((first - origin) // step, (last - origin) // step + 2) * step + origin


def _first_moment(zone: ZoneInfo, day: int) -> int:
    """When the local date first is this day, or a later one if that is skipped."""
    midnight_us = day * DAY_US
    near_us = min(max(midnight_us, TIME_MIN_US + MARGIN_US), TIME_MAX_US - MARGIN_US)
    starts, offsets = zone_offsets(zone, near_us - DAY_US, near_us + DAY_US)
    for i, offset in enumerate(offsets.tolist()):
        moment = midnight_us - offset * SECOND_US
        if i + 1 == len(starts) or moment < starts[i + 1]:
            return max(moment, int(starts[i])) if i else int(moment)
    raise AssertionError
