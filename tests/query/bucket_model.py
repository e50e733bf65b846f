"""Buckets, aggregates and gaps in plain Python: slow, and as the words of docs/api.md have it.

Clocks are walked by quarters of an hour (all that happens to the clocks of today's zones, and all intervals of the tests,
begin at one), sums are fractions, percentiles are sorted lists.
"""

import datetime
import functools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

from tests.query.filled_store import EPOCH, Reading

QUARTER: Final = datetime.timedelta(minutes=15)
UNITS: Final = {"s": 1, "m": 60, "h": 3_600}
MONDAY: Final = datetime.date(1970, 1, 5)

Keys = tuple[str | None, ...]


# ---- clocks


def local(moment: datetime.datetime, zone: ZoneInfo) -> datetime.datetime:
    """What the clock shows, as a naive time."""
    return moment.astimezone(zone).replace(tzinfo=None)


def all_starts(first_us: int, last_us: int, interval: str, zone: ZoneInfo) -> list[datetime.datetime]:
    """Every bucket from one time's to another's."""
    first, last = (EPOCH + datetime.timedelta(microseconds=at_us) for at_us in (first_us, last_us))
    count, unit = int(interval.rstrip("smhdwoy")), interval.lstrip("0123456789")
    if unit in UNITS:
        found = _by_clock(first, last, count * UNITS[unit], zone)
    else:
        days = range(
            (local(first, zone).date() - EPOCH.date()).days,
            (local(last, zone).date() - EPOCH.date()).days + 1,
        )
        dates = {_first_date(EPOCH.date() + datetime.timedelta(days=day), count, unit) for day in days}
        found = [_first_moment(date, zone) for date in sorted(dates)]
    return found


def bucket_start(at_us: int, interval: str, zone: ZoneInfo) -> datetime.datetime:
    """The first moment of the bucket that a time is in."""
    return all_starts(at_us, at_us, interval, zone)[-1]


def _by_clock(
    first: datetime.datetime, last: datetime.datetime, width_s: int, zone: ZoneInfo
) -> list[datetime.datetime]:
    quarter = int((first - EPOCH).total_seconds() // 900)
    while not _begins(quarter, width_s, zone):
        quarter -= 1
    until = int((last - EPOCH).total_seconds() // 900)
    return [EPOCH + each * QUARTER for each in range(quarter, until + 1) if _begins(each, width_s, zone)]


@functools.lru_cache(1 << 20)
def _begins(quarter: int, width_s: int, zone: ZoneInfo) -> bool:
    """Whether a bucket begins with a quarter of an hour."""
    shown, before = local(EPOCH + quarter * QUARTER, zone), local(EPOCH + (quarter - 1) * QUARTER, zone)
    midnight = shown.replace(hour=0, minute=0)
    multiples = (shown - midnight).total_seconds() / width_s
    skipped = (before - midnight).total_seconds() / width_s
    jumped = shown - before > QUARTER and math.floor(multiples) > math.floor(skipped)
    return multiples.is_integer() or jumped


def _first_date(date: datetime.date, count: int, unit: str) -> datetime.date:
    match unit:
        case "d":
            return date - datetime.timedelta(days=(date - EPOCH.date()).days % count)
        case "w":
            return date - datetime.timedelta(days=(date - MONDAY).days % (7 * count))
        case "mo":
            months = (date.year * 12 + date.month - 1) // count * count
            return datetime.date(months // 12, months % 12 + 1, 1)
        case _:
            return datetime.date(date.year // count * count, 1, 1)


@functools.lru_cache(1 << 12)
def _first_moment(date: datetime.date, zone: ZoneInfo) -> datetime.datetime:
    moment = datetime.datetime.combine(date, datetime.time(), datetime.UTC) - datetime.timedelta(hours=16)
    while local(moment, zone).date() < date:
        moment += QUARTER
    return moment


# ---- numbers


def numbers(value: Any, path: Keys) -> Iterator[tuple[Keys, float | int]]:
    """Each number of a value that is reached through objects alone."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def by_path(readings: Sequence[Reading]) -> dict[Keys, list[float | int]]:
    """The numbers of each stream, in the order of time, then of arrival."""
    found: dict[Keys, list[float | int]] = {}
    for reading in sorted(readings, key=lambda each: each.order):
        is_object = isinstance(reading.value, dict)
        for path, number in numbers(reading.value, () if is_object else (None,)):
            found.setdefault(path, []).append(number)
    return found


def expected(values: Sequence[float | int], aggregate: str) -> tuple[float | int | None, float]:
    """The aggregate, and how far the answer may be from it."""
    size = max(abs(value) for value in values)
    total = sum(map(Fraction, values))
    match aggregate:
        case "count":
            return len(values), 0
        case "avg":
            return float(total / len(values)), 1e-13 * float(sum(abs(value) for value in values))
        case "sum":
            return float(total), 1e-13 * float(sum(abs(value) for value in values))
        case "min":
            return min(values), 0
        case "max":
            return max(values), 0
        case "first":
            return values[0], 0
        case "last":
            return values[-1], 0
        case "stddev":
            if len(values) < 2:
                return None, 0
            mean = total / len(values)
            deviations = sum((Fraction(value) - mean) ** 2 for value in values)
            return math.sqrt(deviations / (len(values) - 1)), 1e-9 * size
        case _:
            ordered = sorted(float(value) for value in values)
            place = (len(ordered) - 1) * float(aggregate[1:]) / 100
            low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
            return low + (high - low) * (place - math.floor(place)), 1e-9 * size


# ---- gaps


def fill_gaps(
    known: Sequence[float | None], starts: Sequence[datetime.datetime], fill: str
) -> list[float | None]:
    """One aggregate of one stream over all buckets."""
    made: list[float | None] = []
    for i, number in enumerate(known):
        before = next((j for j in range(i, -1, -1) if known[j] is not None), None)
        after = next((j for j in range(i, len(known)) if known[j] is not None), None)
        match fill:
            case _ if number is not None:
                made.append(number)
            case "null":
                made.append(None)
            case "previous":
                made.append(None if before is None else known[before])
            case "linear" if before is None or after is None:
                made.append(None)
            case "linear":
                share = (starts[i] - starts[before]) / (starts[after] - starts[before])
                made.append(known[before] * (1 - share) + known[after] * share)  # type: ignore[operator]
            case _:
                made.append(float(fill))
    return made
