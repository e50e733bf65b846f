"""Times on the wire (contract 4): what is read, what is refused, and what is written."""

import datetime
import random
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from query.times import DAY_US, TimeFormatError, format_time, parse_time, to_us, zone_of, zone_offsets

UTC = ZoneInfo("UTC")
TOKYO = ZoneInfo("Asia/Tokyo")
BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
SEED = 20_240_502
ZONES = (
    "UTC", "Asia/Tokyo", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu",
    "America/St_Johns", "Pacific/Apia", "Pacific/Kiritimati", "Africa/Casablanca", "Africa/Monrovia", "Antarctica/Troll",
    "America/Caracas", "Asia/Pyongyang", "Europe/Dublin", "Etc/GMT+12",
)  # fmt: skip


def utc(text: str) -> int:
    return to_us(datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC))


# ---- reading


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2024-05-02", "2024-05-01T15:00:00"),
        ("2024-05-02 10:30", "2024-05-02T01:30:00"),
        ("2024-05-02T10:30", "2024-05-02T01:30:00"),
        ("2024-05-02 10:30:15", "2024-05-02T01:30:15"),
        ("2024-05-02T10:30:15", "2024-05-02T01:30:15"),
        ("  2024-05-02 10:30:15\t", "2024-05-02T01:30:15"),
        ("2024-05-02 10:30:15.5", "2024-05-02T01:30:15.500000"),
        ("2024-05-02 10:30:15.123456", "2024-05-02T01:30:15.123456"),
        ("2024-05-02 10:30:15.123456789", "2024-05-02T01:30:15.123456"),
        ("2024-05-02T10:30:15Z", "2024-05-02T10:30:15"),
        ("2024-05-02T10:30Z", "2024-05-02T10:30:00"),
        ("2024-05-02T10:30:15+0900", "2024-05-02T01:30:15"),
        ("2024-05-02T10:30:15+09:00", "2024-05-02T01:30:15"),
        ("2024-05-02 10:30-0330", "2024-05-02T14:00:00"),
        ("2024-05-02 10:30:15.25-03:30", "2024-05-02T14:00:15.250000"),
        ("2024-05-02T10:30:15+14:00", "2024-05-01T20:30:15"),
        ("1969-12-31 23:59:59+0000", "1969-12-31T23:59:59"),
        ("1970-01-01 09:00", "1970-01-01T00:00:00"),
        ("2024-02-29", "2024-02-28T15:00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999"),
    ],
)
def test_a_time_is_read_in_the_users_zone_unless_it_names_an_offset(text: str, wanted: str) -> None:
    assert parse_time(text, TOKYO) == utc(wanted)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "last", "now", "0", "2024", "2024-05", "2024-5-2", "24-05-02", "02-05-2024", "2024/05/02",
        "2024-05-02 10", "2024-05-02 1:30", "2024-05-02  10:30", "2024-05-02_10:30", "2024-05-02T", "2024-05-02 10:30:",
        "2024-05-02 10:30:15.", "2024-05-02 10:30:15,5", "2024-05-02 10:30 pm", "2024-05-02Z", "2024-05-02+0900",
        "2024-05-02 10:30 +0900", "2024-05-02 10:30+09", "2024-05-02 10:30+9:00", "2024-05-02 10:30+0900Z",
        "2024-13-01", "2024-00-10", "2024-05-00", "2024-04-31", "2023-02-29", "2024-05-02 24:00", "2024-05-02 10:60",
        "2024-05-02 10:30:60", "2024-05-02 10:30+24:00", "2024-05-02 10:30+99:99", "2024-05-02 10:30+0975",
        "2024-05-02 10:30-08:60", "0000-01-01", "10000-01-01", "-2024-05-02", "+2024-05-02", "１９９９-05-02",
        "2024-05-02 10:30\x00", "2024-05-02 10:30\ud800", "1714600000", "2024-05-02 10:30; DROP TABLE",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(TimeFormatError, match="is not a time"):
        parse_time(text, TOKYO)


@pytest.mark.parametrize(
    ("text", "zone", "wanted"),
    [
        # Skipped: read with the offset before the change.
        ("2024-03-31 02:30", BERLIN, "2024-03-31T01:30:00"),
        ("2024-03-10 02:00", NEW_YORK, "2024-03-10T07:00:00"),
        # Repeated: the earlier one.
        ("2024-10-27 02:30", BERLIN, "2024-10-27T00:30:00"),
        ("2024-11-03 01:59:59", NEW_YORK, "2024-11-03T05:59:59"),
        # On both sides of it.
        ("2024-03-31 01:59:59", BERLIN, "2024-03-31T00:59:59"),
        ("2024-03-31 03:00", BERLIN, "2024-03-31T01:00:00"),
        ("2024-10-27 01:59:59", BERLIN, "2024-10-26T23:59:59"),
        ("2024-10-27 03:00", BERLIN, "2024-10-27T02:00:00"),
        # A whole day that never was.
        ("2011-12-30 12:00", ZoneInfo("Pacific/Apia"), "2011-12-30T22:00:00"),
    ],
)
def test_a_local_time_that_is_skipped_or_repeated_is_read_as_pep_495_says(
    text: str, zone: ZoneInfo, wanted: str
) -> None:
    assert parse_time(text, zone) == utc(wanted)


# ---- writing


@pytest.mark.parametrize(
    ("moment", "zone", "wanted"),
    [
        ("2024-05-02T01:30:15.999999", TOKYO, "2024-05-02T10:30:15+0900"),
        ("2024-05-02T01:30:15", UTC, "2024-05-02T01:30:15+0000"),
        ("2024-01-02T01:30:15", NEW_YORK, "2024-01-01T20:30:15-0500"),
        ("2024-07-02T01:30:15", ZoneInfo("America/St_Johns"), "2024-07-01T23:00:15-0230"),
        ("2024-03-31T00:59:59.999999", BERLIN, "2024-03-31T01:59:59+0100"),
        ("2024-03-31T01:00:00", BERLIN, "2024-03-31T03:00:00+0200"),
        ("1969-12-31T23:59:59.000001", UTC, "1969-12-31T23:59:59+0000"),
        ("1969-12-31T23:59:59.999999", UTC, "1969-12-31T23:59:59+0000"),
        ("0987-06-05T04:03:02", UTC, "0987-06-05T04:03:02+0000"),
        ("0987-06-05T04:03:02", TOKYO, "0987-06-05T13:22:01+0918"),  # local mean time, +09:18:59
        ("1900-01-01T00:00:00", TOKYO, "1900-01-01T09:00:00+0900"),
    ],
)
def test_a_time_is_written_to_the_second_with_the_zones_offset(
    moment: str, zone: ZoneInfo, wanted: str
) -> None:
    assert format_time(utc(moment), zone) == wanted
    assert format_time(utc(moment), zone, colon=True) == f"{wanted[:-2]}:{wanted[-2:]}"


@pytest.mark.parametrize("colon", [False, True])
@pytest.mark.parametrize("name", ZONES)
def test_what_is_written_reads_back_as_the_same_second(name: str, colon: bool) -> None:
    source = random.Random(SEED)
    for _ in range(300):
        at_us = source.randrange(0, 4_000_000_000) * 1_000_000 + source.randrange(1_000_000)
        text = format_time(at_us, zone_of(name), colon=colon)
        assert len(text) == 24 + colon
        if name != "Africa/Monrovia":  # whose offset had seconds until 1972, which nobody writes
            assert parse_time(text, TOKYO) == at_us // 1_000_000 * 1_000_000


# ---- offsets of many rows


def offset_at(zone: ZoneInfo, at_us: int) -> int:
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=at_us)
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


@pytest.mark.parametrize("name", ZONES)
def test_the_offsets_of_a_range_are_those_of_the_zone(name: str) -> None:
    source = random.Random(f"{SEED} {name}")
    zone = zone_of(name)
    for days in (0, 1, 30, 700):
        for _ in range(4):
            first_us = source.randrange(-3_000 * DAY_US, 24_000 * DAY_US)
            last_us = first_us + source.randrange(days * DAY_US + 1)
            starts, offsets = zone_offsets(zone, first_us, last_us)
            assert starts.dtype == offsets.dtype == np.int64
            assert starts[0] <= first_us
            assert (np.diff(starts) > 0).all()
            assert (np.diff(offsets) != 0).all()
            moments = [source.randint(first_us, last_us) for _ in range(200)]
            for start in starts[1:].tolist():
                moments += [start - 1, start, start + 1]
            for moment in moments:
                index = int(np.searchsorted(starts, moment, "right")) - 1
                assert offsets[index] == offset_at(zone, moment), moment


def test_a_change_is_found_to_the_second() -> None:
    starts, offsets = zone_offsets(BERLIN, utc("2024-03-31T00:00:00"), utc("2024-03-31T23:59:59"))
    assert starts.tolist() == [utc("2024-03-31T00:00:00"), utc("2024-03-31T01:00:00")]
    assert offsets.tolist() == [3_600, 7_200]


def test_a_day_without_a_change_has_one_offset() -> None:
    starts, offsets = zone_offsets(TOKYO, utc("2024-05-02T10:00:00"), utc("2024-05-02T10:00:00"))
    assert starts.tolist() == [utc("2024-05-02T00:00:00")]
    assert offsets.tolist() == [32_400]
