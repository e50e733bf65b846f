"""Times on the wire: local to the user's zone, to the second (contract 4). Stored and computed: microseconds UTC.

A local time that a clock change skips or repeats is read as Python does (PEP 495, fold 0): the earlier of two, and
the offset before the change for one that never was.
"""

import datetime
import functools
import re
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

UTC: Final = datetime.UTC
EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=UTC)
DAY_US: Final = 86_400_000_000
SECOND_US: Final = 1_000_000
# Two days within the years 1 and 9999: everywhere on earth there is a date then.
SECOND_MIN: Final = -62_135_596_800 + 2 * 86_400
SECOND_MAX: Final = 253_402_300_800 - 2 * 86_400

TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6})\d*)?)?(Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?)?",
    re.ASCII,
)


class TimeFormatError(ValueError):
    """A time on the wire that cannot be read."""


@functools.lru_cache(256)
def zone_of(name: str) -> ZoneInfo:
    """A zone that the registry has checked before."""
    return ZoneInfo(name)


def to_us(moment: datetime.datetime) -> int:
    """Microseconds since the epoch."""
    return (moment - EPOCH) // datetime.timedelta(microseconds=1)


def parse_time(text: str, zone: ZoneInfo) -> int:
    """``YYYY-MM-DD[ hh:mm[:ss[.ffffff]]][offset]`` as microseconds UTC; without an offset in this zone.

    Raises:
        TimeFormatError: anything else.
    """
    match = TIME.fullmatch(text.strip())
    if match is None:
        raise TimeFormatError(f"{text!r} is not a time: expected YYYY-MM-DD hh:mm[:ss]")
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        local = datetime.datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0),
            int((fraction or "").ljust(6, "0")),
        )  # fmt: skip
        return to_us(local.replace(tzinfo=_offset(offset) if offset else zone))
    except (ValueError, OverflowError) as error:
        raise TimeFormatError(f"{text!r} is not a time: {error}") from None


def parse_end(text: str, zone: ZoneInfo) -> int:
    """The last microsecond that an end includes: replies show whole seconds, so one without a fraction means all of it.

    Raises:
        TimeFormatError: as parse_time.
    """
    return parse_time(text, zone) + (0 if "." in text else SECOND_US - 1)


def _offset(text: str) -> datetime.tzinfo:
    if text == "Z":
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return datetime.timezone(datetime.timedelta(minutes=-minutes if text[0] == "-" else minutes))


def format_time(at_us: int, zone: ZoneInfo, *, colon: bool = False) -> str:
    """Whole seconds with the zone's offset: ``+0900``, or ``+09:00`` with a colon (contract 4, row 3)."""
    return _format_second(at_us // SECOND_US, zone, colon)


@functools.lru_cache(4_096)
def _format_second(second: int, zone: ZoneInfo, colon: bool) -> str:
    """The same times are shown again and again: a channel's last update, a device's first day."""
    moment = EPOCH + datetime.timedelta(seconds=second)
    text = moment.astimezone(zone).isoformat(timespec="seconds")[:25]  # old offsets have seconds too: cut off
    return text if colon else text[:22] + text[23:]


def format_precise(at_us: int, zone: ZoneInfo) -> str:
    """To the microsecond, with the zone's offset: ``2024-05-02T10:00:00.250000+09:00``."""
    moment = EPOCH + datetime.timedelta(microseconds=at_us)
    text = moment.astimezone(zone).isoformat(timespec="microseconds")
    return text[:32]


def zone_offsets(zone: ZoneInfo, first_us: int, last_us: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """When which offset from UTC is in force between two times: starts (µs) and offsets (s), both (n,).

    The first start is the beginning of the first time's UTC day. Two changes within one day do not happen.
    """
    starts: list[int] = []
    offsets: list[int] = []
    for day in range(first_us // DAY_US, last_us // DAY_US + 1):
        for start_us, offset in _offsets_of_day(zone, day):
            if not offsets or offset != offsets[-1]:
                starts.append(start_us)
                offsets.append(offset)
    return np.array(starts, np.int64), np.array(offsets, np.int64)


@functools.lru_cache(65_536)
def _offsets_of_day(zone: ZoneInfo, day: int) -> tuple[tuple[int, int], ...]:
    low, high = day * 86_400, (day + 1) * 86_400
    first, last = _offset_at(zone, low), _offset_at(zone, high)
    if first == last:
        return ((low * SECOND_US, first),)
    since = low
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_at(zone, middle) == first:
            low = middle
        else:
            high = middle
    return ((since * SECOND_US, first), (high * SECOND_US, last))


def _offset_at(zone: ZoneInfo, second: int) -> int:
    second = min(max(second, SECOND_MIN), SECOND_MAX)
    moment = (EPOCH + datetime.timedelta(seconds=second)).astimezone(zone)
    offset = moment.utcoffset()
    assert offset is not None
    return int(offset.total_seconds())
