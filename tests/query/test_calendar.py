"""Buckets of time: what the days on which clocks change come to, and a walk along the clock for everything else."""

import datetime
import random
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from query.calendar import Calendar, Interval, TooManyBucketsError, Unit, bucket_sql, parse_interval
from storage.cover import DAY_US, TIME_MAX_US, TIME_MIN_US
from tests.query import bucket_model as model
from tests.query.filled_store import EPOCH

ZONES = (
    "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana",
    "America/Sao_Paulo", "Pacific/Apia", "Asia/Beirut", "Africa/Casablanca", "UTC",
)  # fmt: skip
INTERVALS = (
    "15m",
    "30m",
    "45m",
    "1h",
    "2h",
    "3h",
    "6h",
    "12h",
    "24h",
    "1d",
    "3d",
    "1w",
    "2w",
    "1mo",
    "5mo",
    "1y",
    "4y",
)


def starts(interval: str, zone: str, first: str, last: str) -> list[str]:
    """The buckets between two local times, as the clock shows their starts."""
    place = ZoneInfo(zone)
    ends = (
        round(datetime.datetime.fromisoformat(text).replace(tzinfo=place).timestamp() * 1e6)
        for text in (first, last)
    )
    found = Calendar(parse_interval(interval), place).starts(*ends, 1_000)
    return [shown(at_us, place) for at_us in found]


def shown(at_us: int, zone: ZoneInfo) -> str:
    return (EPOCH + datetime.timedelta(microseconds=at_us)).astimezone(zone).strftime("%m-%d %H:%M%z")


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2024-03-31", 23), ("Europe/Berlin", "2024-10-27", 25), ("Europe/Berlin", "2024-05-01", 24),
        ("America/New_York", "2024-03-10", 23), ("America/New_York", "2024-11-03", 25), ("Asia/Tokyo", "2024-03-31", 24),
        # Half an hour: one bucket of an hour ends early, or late.
        ("Australia/Lord_Howe", "2024-10-06", 24), ("Australia/Lord_Howe", "2024-04-07", 24),
        ("America/Havana", "2024-11-03", 25), ("America/Havana", "2024-03-10", 23), ("Asia/Kathmandu", "2024-03-31", 24),
    ],
)  # fmt: skip
def test_a_day_has_the_hours_that_its_clock_shows(zone: str, day: str, hours: int) -> None:
    assert len(starts("1h", zone, f"{day} 00:00", f"{day} 23:59")) == hours
    assert len(starts("1d", zone, f"{day} 00:00", f"{day} 23:59")) == 1


def test_hours_that_are_repeated_or_skipped() -> None:
    assert starts("1h", "Europe/Berlin", "2024-10-27 01:00", "2024-10-27 03:00") == [
        "10-27 01:00+0200", "10-27 02:00+0200", "10-27 02:00+0100", "10-27 03:00+0100",
    ]  # fmt: skip
    assert starts("6h", "Europe/Berlin", "2024-10-27 00:00", "2024-10-27 23:00") == [
        "10-27 00:00+0200", "10-27 06:00+0100", "10-27 12:00+0100", "10-27 18:00+0100",
    ]  # fmt: skip
    assert starts("2h", "Europe/Berlin", "2024-03-31 00:00", "2024-03-31 04:00") == [
        "03-31 00:00+0100", "03-31 03:00+0200", "03-31 04:00+0200",
    ]  # fmt: skip
    assert starts("1h", "Australia/Lord_Howe", "2024-10-06 01:00", "2024-10-06 03:00") == [
        "10-06 01:00+1030", "10-06 02:30+1100", "10-06 03:00+1100",
    ]  # fmt: skip


def test_dates_begin_with_their_first_moment() -> None:
    # Midnight is skipped, a whole day is skipped, midnight comes twice.
    assert starts("1d", "America/Sao_Paulo", "2018-11-03 12:00", "2018-11-05 12:00") == [
        "11-03 00:00-0300", "11-04 01:00-0200", "11-05 00:00-0200",
    ]  # fmt: skip
    assert starts("1d", "Pacific/Apia", "2011-12-29 12:00", "2012-01-01 12:00") == [
        "12-29 00:00-1000", "12-31 00:00+1400", "01-01 00:00+1400",
    ]  # fmt: skip
    assert starts("1d", "America/Havana", "2024-11-02 12:00", "2024-11-04 12:00") == [
        "11-02 00:00-0400", "11-03 00:00-0400", "11-04 00:00-0500",
    ]  # fmt: skip
    assert starts("3mo", "Europe/Berlin", "2024-02-10 12:00", "2024-12-04 12:00") == [
        "01-01 00:00+0100", "04-01 00:00+0200", "07-01 00:00+0200", "10-01 00:00+0200",
    ]  # fmt: skip
    assert starts("1w", "America/New_York", "2024-03-07 12:00", "2024-03-12 12:00") == [
        "03-04 00:00-0500", "03-11 00:00-0400",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_buckets_are_what_a_walk_along_the_clock_finds(seed: int) -> None:
    source = random.Random(f"calendar {seed}")
    zone, interval = ZoneInfo(source.choice(ZONES)), source.choice(INTERVALS)
    if interval == "45m" and zone.key == "Australia/Lord_Howe":
        interval = "15m"
    calendar = Calendar(parse_interval(interval), zone)
    # Around the days on which clocks change most, and once the day that Samoa never saw.
    first = source.choice([source.randrange(18_000, 20_400), 15_330]) * DAY_US + source.randrange(DAY_US)
    last = first + source.choice([1, 3, 40, 400]) * source.randrange(DAY_US)
    times = np.array(sorted(source.randrange(first, last + 1) for _ in range(60)), np.int64)
    floors = calendar.floor(times)
    for at_us, start in zip(times.tolist(), floors.tolist(), strict=True):
        assert shown(start, zone) == model.bucket_start(at_us, interval, zone).astimezone(zone).strftime(
            "%m-%d %H:%M%z"
        ), shown(at_us, zone)
    runs = calendar.runs(int(times[0]), int(times[-1]))
    for at_us, start in zip(times.tolist(), floors.tolist(), strict=True):
        (found,) = {
            run.start_us + (at_us - run.start_us) // run.width_us * run.width_us
            for run, following in zip(runs, [*runs[1:], None], strict=True)
            if run.start_us <= at_us and (following is None or at_us < following.start_us)
        }
        assert found == start
    whole = calendar.starts(int(times[0]), int(times[-1]), 100_000)
    assert set(floors.tolist()) <= set(whole)
    assert [EPOCH + datetime.timedelta(microseconds=each) for each in whole] == model.all_starts(
        int(times[0]), int(times[-1]), interval, zone
    )
    with pytest.raises(TooManyBucketsError):
        calendar.starts(int(times[0]), int(times[-1]), len(whole) - 1)


@pytest.mark.parametrize("interval", ["1s", "1h", "1d", "1w", "1mo", "7y", "1000y", "9999d"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Apia", "America/New_York"])
def test_every_time_that_a_datapoint_may_have_is_in_a_bucket(interval: str, zone: str) -> None:
    calendar = Calendar(parse_interval(interval), ZoneInfo(zone))
    times = np.array([TIME_MIN_US, TIME_MIN_US + DAY_US, -1, 0, TIME_MAX_US - 1], np.int64)
    floors = calendar.floor(times)
    assert (floors <= times).all()


def test_a_bucket_in_sql_is_decided_by_halves() -> None:
    runs = Calendar(Interval(1, Unit.MONTH), ZoneInfo("UTC")).runs(0, 400 * DAY_US)
    sql = bucket_sql(runs, "t")
    depth = max(sql[:i].count("CASE") - sql[:i].count("END") for i in range(len(sql)))
    assert depth <= len(runs).bit_length() + 1


@pytest.mark.parametrize(
    "text",
    ["", "h", "0h", "-1h", "1.5h", "7m", "36h", "1001y", "1q", "1 h", "99999d", "100000s", "１h", "1H"],
)
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a number|divide|years"):
        parse_interval(text)
