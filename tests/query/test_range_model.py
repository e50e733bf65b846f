"""What the Stream service answers against a plain Python model: ranges, tags, devices, order, and the newest.

Readings sit partly in published files, partly in hot files, partly in the ring; some only came after others were read.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from query import newest, plan
from query.formats import texts
from storage.cover import DAY_US
from storage.kinds import PayloadKind
from tests.query.filled_store import PAGE_ROWS_MAX, FilledStore, Reading, moment, plain

DEVICES = ("a", "b/2", "süd 3", "x'; --")
TAGS = (None, None, None, "north", "süd", 'q"', "x' OR 1=1")
STREAMS = ("temp", "TEMP", "temp__text", "hum", "", "a b", 'q"', "seq", "at", "tag", "device", "user", "ü")
MONDAY_US = 19_843 * DAY_US
SEEDS = range(3)


def scalar(source: random.Random) -> Any:
    makers: list[Callable[[], Any]] = [
        lambda: round(source.gauss(20, 5), source.randrange(4)),
        lambda: source.randrange(-50, 50),
        lambda: source.choice([0.1, -0.0, 1e300, 5e-324, 2**53, -(2**53), 1e16]),
        lambda: source.choice([2**53 + 1, -(2**60) - 3, 2**63 - 1, -(2**63)]),
        lambda: source.choice([10**25, -(2**63) - 1]),
        lambda: source.choice(["", "on", "ü€😀", 'q"\\', "\x00\n\u2028", "1", "null"]),
        lambda: source.random() < 0.5,
        lambda: None,
    ]
    return source.choice(makers)()


def nested(source: random.Random, depth: int = 2) -> Any:
    if depth == 0 or source.random() < 0.3:
        return scalar(source)
    if source.random() < 0.3:
        return [nested(source, depth - 1) for _ in range(source.randrange(3))]
    return {source.choice("xyz"): nested(source, depth - 1) for _ in range(source.randrange(3))}


def payload(source: random.Random) -> Any:
    """What a device may send."""
    choice = source.random()
    if choice < 0.15:
        return scalar(source)
    if choice < 0.2:
        return [nested(source) for _ in range(source.randrange(3))]
    if choice < 0.25:
        return {}
    names = source.sample(STREAMS, source.randrange(1, 5))
    return {name: nested(source) if source.random() < 0.15 else scalar(source) for name in names}


def times(source: random.Random) -> Iterator[int]:
    """Over several days: mostly forward, sometimes standing still, sometimes set back, sometimes on midnight."""
    at_us = MONDAY_US + source.randrange(DAY_US)
    while True:
        yield at_us
        step = source.random()
        if step < 0.1:
            at_us -= source.randrange(3_600_000_000)
        elif step < 0.13:
            at_us = (at_us // DAY_US + 1) * DAY_US + source.randrange(-1, 2)
        elif step < 0.15:
            at_us += source.randrange(3 * DAY_US)
        elif step > 0.3:
            at_us += source.randrange(2_000_000)


def fill(house: FilledStore, source: random.Random, rows: int, clock: Iterator[int]) -> None:
    """So many readings of channel 1, some of another one between them; sealed and published now and then."""
    for _ in range(rows):
        at_us, device, tag = next(clock), source.choice(DEVICES), source.choice(TAGS)
        choice = source.random()
        if choice < 0.1:
            house.append({"temp": 99.5, "other": 1}, at_us, device, tag, channel=2)
        elif choice < 0.13:
            house.append("00ff7f", at_us, device, tag, kind=PayloadKind.BINARY, payload=b"\x00\xff\x7f")
        elif choice < 0.16:
            form = {"value1": 5, "value2": "x y"}
            house.append(form, at_us, device, kind=PayloadKind.FORM, payload=b"v= 5.0&v2=x+y")
        else:
            house.append(payload(source), at_us, device, tag)
        action = source.random()
        if action < 0.2:
            house.commit()
        elif action < 0.22:
            house.seal()
        elif action < 0.23:
            house.seal()
            house.publish(at_us)
    house.commit()


@pytest.fixture
def source(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"ranges {getattr(request, 'param', 0)}")


@pytest.fixture
def _small_windows(source: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sometimes windows and pieces of a few rows, so that a range has many."""
    for module, name, small in (
        (plan, "WINDOW_ROWS", 11), (plan, "FILES_MAX", 2), (newest, "FILES_MAX", 2), (texts, "PIECE_ROWS", 7),
    ):  # fmt: skip
        if source.random() < 0.7:
            monkeypatch.setattr(module, name, small)


@pytest.fixture
def house(tmp_path: Path, source: random.Random) -> Iterator[FilledStore]:
    house = FilledStore(
        tmp_path / "data", DEVICES, source.choice([64, 256, 1024]), heavy_rows=source.choice([0, 1 << 62])
    )
    yield house
    house.close()


def shown(reply: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**entry, "value": plain(entry["value"])} for entry in reply["stream"]]


# ---- ranges


class Question:
    """A random selection: what to ask, and which readings it is about."""

    def __init__(self, source: random.Random, readings: list[Reading]) -> None:
        self.headers: dict[str, str] = {}
        self.tag = self.device = None
        if source.random() < 0.4:
            self.tag = source.choice([tag for tag in TAGS if tag] + ["nobody"])
            self.headers["X_TAGNAME"] = self.tag
        if source.random() < 0.4:
            self.device = source.choice([*DEVICES, "nobody"])
            self.headers["X_DEVICEID"] = self.device
        self.descending = source.random() < 0.4
        if self.descending or source.random() < 0.2:
            self.headers["X_PAGESORT"] = source.choice(["desc", "DESC"]) if self.descending else "asc"
        self.found = [
            reading
            for reading in readings
            if self.tag in (None, reading.tag) and self.device in (None, reading.device)
        ]

    def entries(self, readings: list[Reading]) -> list[dict[str, Any]]:
        ordered = sorted(readings, key=lambda reading: reading.order, reverse=self.descending)
        return [reading.entry for reading in ordered]


def bounds(source: random.Random, readings: list[Reading]) -> tuple[int | None, int]:
    """Often exactly a reading's time, or one microsecond beside it."""
    if source.random() < 0.3:
        ats = sorted(reading.at_us for reading in readings)
        return ats[0] + source.randrange(-1, 2), ats[-1] + source.randrange(-1, 2)
    near = [source.choice(readings).at_us + source.choice([0, 0, -1, 1, -DAY_US, 10**9]) for _ in range(2)]
    start, end = sorted(near)
    if source.random() < 0.1:
        start, end = end, start
    return (None if source.random() < 0.2 else start), end


def check_ranges(house: FilledStore, source: random.Random, count: int) -> None:
    everything = Question(random.Random(0), house.readings)
    everything.headers, everything.descending = {}, False
    assert shown(house.stream(X_ENDTIME="2999-01-01")) == everything.entries(house.readings)
    for _ in range(count):
        question = Question(source, house.readings)
        start, end = bounds(source, house.readings)
        if start is not None:
            question.headers["X_STARTTIME"] = moment(start)
        wanted = [
            each for each in question.found if (start is None or start <= each.at_us) and each.at_us <= end
        ]
        found = shown(house.stream(X_ENDTIME=moment(end), **question.headers))
        assert found == question.entries(wanted), (question.headers, start, end)


@pytest.mark.parametrize("source", SEEDS, indirect=True)
@pytest.mark.usefixtures("_small_windows")
def test_ranges_have_every_reading_once_and_in_order(house: FilledStore, source: random.Random) -> None:
    clock = times(source)
    for _ in range(3):
        fill(house, source, source.randrange(1, 120), clock)
        check_ranges(house, source, 8)
    house.reopen()
    check_ranges(house, source, 8)
    house.seal()
    check_ranges(house, source, 4)
    house.publish(2**60)
    check_ranges(house, source, 10)
    fill(house, source, 40, clock)
    check_ranges(house, source, 6)


# ---- the newest


def check_newest(house: FilledStore, source: random.Random, count: int) -> None:
    for _ in range(count):
        question = Question(source, house.readings)
        limit = source.choice([1, 1, 2, 3, 10, 100, PAGE_ROWS_MAX])
        if limit > 1 or source.random() < 0.5:
            question.headers["X_PAGELIMIT"] = str(limit)
        question.headers[source.choice(["X_ENDTIME", "X_STARTTIME"])] = source.choice(["last", "LAST"])
        wanted = question.entries(question.found[-limit:])
        for _ in range(source.choice([1, 2])):
            assert shown(house.stream(**question.headers)) == wanted, question.headers


@pytest.mark.parametrize("source", SEEDS, indirect=True)
@pytest.mark.usefixtures("_small_windows")
def test_the_newest_are_those_that_came_last(house: FilledStore, source: random.Random) -> None:
    clock = times(source)
    for _ in range(4):
        fill(house, source, source.randrange(1, 120), clock)
        check_newest(house, source, 12)
    house.reopen()
    check_newest(house, source, 12)
    for _ in range(3):
        fill(house, source, source.randrange(1, 20), clock)
        check_newest(house, source, 8)
    house.seal()
    house.publish(2**60)
    house.reopen()
    check_newest(house, source, 12)


def test_the_newest_of_a_seal_with_two_days_are_of_both(house: FilledStore) -> None:
    for i in range(20):
        house.append(i, MONDAY_US + i % 2 * DAY_US + i, "a")
    for change in (house.seal, house.reopen, lambda: house.publish(2**60), house.reopen):
        change()
        for limit in (1, 2, 3, 10):
            wanted = sorted(house.readings[-limit:], key=lambda reading: reading.order)
            found = house.stream(X_ENDTIME="last", X_PAGELIMIT=str(limit))
            assert shown(found) == [reading.entry for reading in wanted]


# ---- what surrounds the rows


def test_the_head_names_the_channel_and_its_last_update(house: FilledStore, source: random.Random) -> None:
    empty = {"channel": 1, "channel_name": "Room 1", "last_update": None, "stream": []}
    assert house.stream(X_ENDTIME="last") == house.stream(X_ENDTIME="2999-01-01") == empty
    house.append(1, MONDAY_US, "a")
    house.commit()
    fill(house, source, 30, iter(range(MONDAY_US, MONDAY_US + 10**9, 10**6)))
    for prepare in (lambda: None, house.reopen, house.seal, lambda: house.publish(2**60), house.reopen):
        prepare()
        newest = house.readings[-1].entry["at"]
        for headers in (
            {"X_ENDTIME": "last"},
            {"X_ENDTIME": "2000-01-01"},
            {"X_ENDTIME": "last", "X_TAGNAME": "?"},
        ):
            reply = house.stream(**headers)
            assert list(reply) == ["channel", "channel_name", "last_update", "stream"]
            assert (reply["channel"], reply["channel_name"], reply["last_update"]) == (1, "Room 1", newest)
