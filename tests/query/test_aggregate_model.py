"""X-AGGREGATE against a plain Python model: avg, sum, min and max of every number, nested as it was sent."""

import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from query import aggregate as aggregates
from query import plan
from storage.cover import DAY_US
from tests.query.filled_store import FilledStore, Reading, moment

DEVICES = ("a", "b")
TAGS = (None, None, "north", "süd")
MONDAY_US = 19_843 * DAY_US
SEEDS = range(4)

Keys = tuple[str | None, ...]


@pytest.fixture(params=[0, 1 << 62], ids=["in a worker", "in a thread"])
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[FilledStore]:
    house = FilledStore(tmp_path / "data", DEVICES, heavy_rows=request.param)
    yield house
    house.close()


# ---- the model


def numbers(value: Any, path: Keys) -> Iterator[tuple[Keys, float | int]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def model(readings: list[Reading], aggregate: str) -> dict[Keys, tuple[float, float]]:
    """The result of each path, and how far the answer may be from it."""
    found: dict[Keys, list[float | int]] = {}
    for reading in readings:
        is_object = isinstance(reading.value, dict)
        for path, number in numbers(reading.value, () if is_object else (None,)):
            found.setdefault(path, []).append(number)
    results = {}
    for path, values in found.items():
        total = sum(map(Fraction, values))
        exact = {
            "avg": total / len(values), "sum": total, "min": Fraction(min(values)), "max": Fraction(max(values)),
        }[aggregate]  # fmt: skip
        slack = 0.0 if aggregate in ("min", "max") else 1e-13 * sum(abs(value) for value in values)
        results[path] = float(exact), slack
    return results


def flat(value: Any, path: Keys = ()) -> dict[Keys, float]:
    if not isinstance(value, dict):
        return {path or (None,): value}
    return {
        each: number for key, inner in value.items() for each, number in flat(inner, (*path, key)).items()
    }


def check(house: FilledStore, readings: list[Reading], aggregate: str, **headers: str) -> None:
    reply = house.stream(X_AGGREGATE=aggregate, **headers)
    assert list(reply) == ["channel", "channel_name", "last_update", "aggr_type", "result"]
    assert reply["aggr_type"] == aggregate
    wanted = model(readings, aggregate)
    if not wanted:
        assert reply["result"] == []
        return
    (row,) = reply["result"]
    assert list(row) == ["_id", "value"]
    assert row["_id"] is None
    found = flat(row["value"])
    if len(wanted) > 1:  # literal payloads beside objects
        found = {(None,) if path == ("value",) else path: number for path, number in found.items()}
    assert set(found) == set(wanted)
    for path, (number, slack) in wanted.items():
        assert abs(found[path] - number) <= slack, (path, found[path], number)


# ---- random readings


def payload(source: random.Random) -> Any:
    def number() -> Any:
        return source.choice(
            [
                round(source.gauss(20, 5), 2), source.randrange(-9, 9), 2**53 + source.randrange(99), -(2**62), 0.1,
                -0.0, 10**25, 1e15,
            ]
        )  # fmt: skip

    def word() -> Any:
        return source.choice(["on", "12", True, False, None, [1, 2], ["x"], {}])

    choice = source.random()
    if choice < 0.15:
        return number()
    if choice < 0.25:
        return word()
    made: dict[str, Any] = {}
    for name in source.sample(["temp", "hum", "", "a b", 'q"', "seq", "at"], source.randrange(4)):
        made[name] = number() if source.random() < 0.7 else word()
    if source.random() < 0.3:
        made["nested"] = {"x": number(), "y": {"z": number(), "w": word()}, "": number()}
    return made


def fill(house: FilledStore, source: random.Random, rows: int, at_us: int) -> int:
    for _ in range(rows):
        house.append(payload(source), at_us, source.choice(DEVICES), source.choice(TAGS))
        at_us += source.choice([0, 1, 10**6, 10**9, 10**10, -(10**7)])
        action = source.random()
        if action < 0.03:
            house.seal()
        elif action < 0.06:
            house.seal()
            house.publish(at_us)
    house.commit()
    return at_us


@pytest.mark.parametrize("seed", SEEDS)
def test_every_number_of_the_selection_counts_once(
    house: FilledStore, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:
        monkeypatch.setattr(plan, "WINDOW_ROWS", 11)
        monkeypatch.setattr(plan, "FILES_MAX", 2)
        monkeypatch.setattr(aggregates, "FILES_MAX", 2)
    source = random.Random(f"aggregates {seed}")
    end_us = MONDAY_US
    for _ in range(3):
        end_us = fill(house, source, source.randrange(120), end_us)
        for _ in range(8):
            headers: dict[str, str] = {}
            tag = device = None
            if source.random() < 0.4:
                tag = headers["X_TAGNAME"] = source.choice(["north", "süd", "nobody"])
            if source.random() < 0.4:
                device = headers["X_DEVICEID"] = source.choice([*DEVICES, "nobody"])
            first, last = sorted(source.randrange(MONDAY_US - 1, end_us + 1) for _ in range(2))
            if source.random() < 0.3:
                first = -(2**50)
            else:
                headers["X_STARTTIME"] = moment(first)
            found = [
                reading
                for reading in house.readings
                if tag in (None, reading.tag)
                and device in (None, reading.device)
                and first <= reading.at_us <= last
            ]
            check(
                house, found, source.choice(["avg", "sum", "min", "max"]), X_ENDTIME=moment(last), **headers
            )
        if source.random() < 0.5:
            house.reopen()


# ---- by hand


def aggregate(house: FilledStore, *values: Any, which: str = "sum") -> Any:
    """The aggregate's value of these payloads alone; part of them published, the others not."""
    day = MONDAY_US + len(house.readings) * 10 * DAY_US
    for i, value in enumerate(values):
        house.append(value, day + i, "a")
        if i == len(values) // 2:
            house.seal()
            house.publish(day + 2 * DAY_US)
    house.commit()
    headers = {"X_STARTTIME": moment(day), "X_ENDTIME": moment(day + DAY_US)}
    result = house.stream(X_AGGREGATE=which, **headers)["result"]
    return [row["value"] for row in result]


def test_literal_payloads_give_a_number_and_objects_an_object(house: FilledStore) -> None:
    assert aggregate(house, 1, 2.5, "x", None, which="avg") == [1.75]
    assert aggregate(house, {"temp": 1, "s": "x"}, {"temp": 2, "in": {"a": 1}}) == [
        {"temp": 3, "in": {"a": 1}}
    ]
    assert aggregate(house, {"temp": 60.5, "psi": 12}, {"temp": 61.5, "psi": 11}, which="avg") == [
        {"temp": 61, "psi": 11.5}
    ]
    assert aggregate(house, "x", None, {}, [1, 2], {"a": "b", "c": [3]}) == []
    assert aggregate(house, True, {"a": False}) == []


def test_a_stream_without_a_name_keeps_its_name(house: FilledStore) -> None:
    assert aggregate(house, {"": 5, "x": 1}, {"": 6}) == [{"": 11, "x": 1}]
    assert aggregate(house, {"o": {"": 5}}, {"o": {"": {"": 1}}}) == [{"o": {"": 5}}]


def test_integers_are_added_exactly(house: FilledStore) -> None:
    assert aggregate(house, {"n": 2**53 + 1}, {"n": 2**53 + 2}, {"n": 2**62 + 1}, {"n": 2**62}) == [
        {"n": 2**54 + 3 + 2**63 + 1}
    ]
    assert aggregate(house, 2**63 - 1, 2**63 - 3, which="max") == [2**63 - 1]
    assert aggregate(house, 2**63 - 1, 2**63 - 3, which="min") == [2**63 - 3]


def test_a_stream_that_was_a_number_and_an_object_shows_the_number(house: FilledStore) -> None:
    assert aggregate(house, {"a": 1}, {"a": {"b": 5}}, {"a": 2}) == [{"a": 3}]


@pytest.mark.parametrize("which", ["avg", "sum", "min", "max"])
@pytest.mark.parametrize("zeros", [400, 5_000, 20_000])
def test_an_integer_that_no_double_holds_is_left_out(house: FilledStore, which: str, zeros: int) -> None:
    for form in (b"%s", b'{"n":%s}', b'{"o":{"n":-%s}}'):
        house.append(None, MONDAY_US, "a", payload=form % (b"1" + b"0" * zeros))
    house.append({"n": 1.5}, MONDAY_US, "a")
    house.commit()
    reply = house.stream(X_AGGREGATE=which, X_ENDTIME="2999-01-01")
    assert reply["result"] == [{"_id": None, "value": {"n": 1.5}}]


@pytest.mark.parametrize("which", ["avg", "sum", "min", "max"])
def test_large_integers_and_doubles_mix(house: FilledStore, which: str) -> None:
    text = b'{"n":9%s}' % (b"0" * 307)
    for _ in range(3):
        house.append(None, MONDAY_US, "a", payload=text)
    house.append({"n": 1.5}, MONDAY_US, "a")
    house.commit()
    ((value,),) = (
        [row["value"] for row in house.stream(X_AGGREGATE=which, X_ENDTIME="2999-01-01")["result"]],
    )
    assert value == {"n": {"avg": None, "sum": None, "min": 1.5, "max": 9e307}[which]}


@pytest.mark.parametrize("inner", [False, True])
def test_a_sum_beyond_every_double_is_null_and_still_json(house: FilledStore, inner: bool) -> None:
    values = [{"o": {"n": sign * 1.7e308}} if inner else {"n": sign * 1.7e308} for sign in (1, 1, 1)]
    shown = [{"o": {"n": None}}] if inner else [{"n": None}]
    assert aggregate(house, *values) == shown
    found = aggregate(house, *values, which="max")
    assert found == ([{"o": {"n": 1.7e308}}] if inner else [{"n": 1.7e308}])


def test_readings_that_cancel_out_beyond_every_double_are_no_error(house: FilledStore) -> None:
    (value,) = aggregate(house, *[sign * 1.7e308 for sign in (1, 1, -1, -1, 1, 1, -1, -1)])
    assert value is None or value == 0
