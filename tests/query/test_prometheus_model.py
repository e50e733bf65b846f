"""PromQL against a plain Python evaluation: random readings in files and ring, random expressions, one step at a time.

An expression is made together with a function that says what it is at a time, so nothing of the parser is in the model.
"""

import itertools
import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from storage.cover import DAY_US
from tests.query.filled_store import FilledStore, Reading

Key = frozenset[tuple[str, str]]
Vector = dict[Key, float]
At = Callable[[int], Any]  # what an expression is at a time: a Vector, or a number
Made = tuple[str, At]

MONDAY_US = 19_843 * DAY_US
S = 1_000_000
LOOKBACK_US = 300 * S
DEVICES = ("a", "b/2", "süd 3")
TAGS = (None, None, "north", "süd")
STREAMS = ("temp", "a.b", "9lives", "ü")
NAMES = {"temp": "temp", "a.b": "a_b", "9lives": "_9lives", "ü": "_", "value": "value"}
ROOMS = {"1": "Room 1", "2": "Room 2"}


class Twice(Exception):
    """The same labels twice: the query is to be refused."""


class Model:
    """Series of readings, as Prometheus would see them."""

    def __init__(self, house: FilledStore) -> None:
        self.series: dict[Key, list[tuple[int, float]]] = {}
        for number, readings in (("1", house.readings), ("2", house.others)):
            for reading in sorted(readings, key=lambda each: each.order):
                self._add(number, reading)

    def _add(self, number: str, reading: Reading) -> None:
        value = reading.value if isinstance(reading.value, dict) else {"value": reading.value}
        for stream, cell in value.items():
            if isinstance(cell, bool) or not isinstance(cell, int | float):
                continue
            labels = {
                "__name__": NAMES[stream], "channel": number, "channel_name": ROOMS[number],
                "device": reading.device, "stream": stream, "tag": reading.tag or "",
                "unit": "°C" if (number, stream) == ("1", "temp") else "",
            }  # fmt: skip
            samples = self.series.setdefault(frozenset(each for each in labels.items() if each[1]), [])
            if samples and samples[-1][0] == reading.at_us:
                samples.pop()
            samples.append((reading.at_us, float(cell)))

    def last(self, accepts: Callable[[dict[str, str]], bool], t: int) -> Vector:
        found = {}
        for key, samples in self.series.items():
            inside = [value for at, value in samples if t - LOOKBACK_US < at <= t]
            if inside and accepts(dict(key)):
                found[key] = inside[-1]
        return found

    def window(self, function: str, accepts: Callable[[dict[str, str]], bool], t: int, length: int) -> Vector:
        found: Vector = {}
        for key, samples in self.series.items():
            inside = [(at, value) for at, value in samples if t - length < at <= t]
            value = over(function, inside, t, length) if inside and accepts(dict(key)) else None
            if value is not None:
                put(found, key if function == "last_over_time" else nameless(key), value)
        return found


def put(found: Vector, key: Key, value: float) -> None:
    if key in found:
        raise Twice
    found[key] = value


def nameless(key: Key) -> Key:
    return frozenset(each for each in key if each[0] != "__name__")


def over(function: str, inside: list[tuple[int, float]], t: int, length: int) -> float | None:
    values = [value for _, value in inside]
    simple: dict[str, Callable[[], float]] = {
        "avg_over_time": lambda: sum(values) / len(values), "sum_over_time": lambda: sum(values),
        "min_over_time": lambda: min(values), "max_over_time": lambda: max(values),
        "count_over_time": lambda: float(len(values)), "last_over_time": lambda: values[-1],
    }  # fmt: skip
    if function in simple:
        return simple[function]()
    if len(values) < 2:
        return None
    change, first, last = values[-1] - values[0], inside[0][0], inside[-1][0]
    if function != "delta":
        change += sum(a for a, b in itertools.pairwise(values) if b < a)
    sampled, apart = (last - first) / S, (last - first) / S / (len(values) - 1)
    start, end = (first - (t - length)) / S, (t - last) / S
    start = apart / 2 if start >= 1.1 * apart else start
    end = apart / 2 if end >= 1.1 * apart else end
    if function != "delta" and change > 0 and values[0] >= 0:
        start = min(start, sampled * values[0] / change)
    grown = change * (sampled + start + end) / sampled
    return grown / (length / S) if function == "rate" else grown


# ---- expressions


def matchers(source: random.Random) -> tuple[str, Callable[[dict[str, str]], bool]]:
    label = source.choice(("device", "tag", "channel", "channel_name", "stream", "unit", "none"))
    value = source.choice(("", "a", "b/2", "north", "süd", "1", "2", "Room 1", "temp", "°C"))
    operator = source.choice(("=", "!="))
    if source.random() < 0.3:
        pattern, accepted = source.choice(
            [("a|süd.*", lambda text: text == "a" or text.startswith("süd")), (".+", bool), ("n", lambda text: text == "n")]
        )  # fmt: skip
        yes = source.random() < 0.5
        return (
            f'{label}{"=~" if yes else "!~"}"{pattern}"',
            lambda labels: accepted(labels.get(label, "")) == yes,
        )
    return f'{label}{operator}"{value}"', lambda labels: (labels.get(label, "") == value) == (operator == "=")


def selector(source: random.Random) -> tuple[str, Callable[[dict[str, str]], bool]]:
    name = source.choice(("temp", "temp", "a_b", "_9lives", "_", "value"))
    chosen = [matchers(source) for _ in range(source.choice((0, 0, 1, 2)))]
    accepts = lambda labels: labels["__name__"] == name and all(each(labels) for _, each in chosen)  # noqa: E731
    texts = [text for text, _ in chosen]
    if source.random() < 0.3:
        return "{" + ",".join([f'__name__="{name}"', *texts]) + "}", accepts
    return name + ("{" + ",".join(texts) + "}" if texts else ""), accepts


def vector(source: random.Random, model: Model, depth: int) -> Made:
    choice = source.random()
    offset = source.choice((0, 0, 0, 60, 3_600, -120))
    behind = f" offset {offset}s" if offset > 0 else f" offset -{-offset}s" if offset else ""
    text, accepts = selector(source)
    if depth == 0 or choice < 0.2:
        return text + behind, lambda t: model.last(accepts, t - offset * S)
    if choice < 0.5:
        function = source.choice(
            ("rate", "increase", "delta", "avg_over_time", "min_over_time", "max_over_time", "sum_over_time",
             "count_over_time", "last_over_time")
        )  # fmt: skip
        length = source.choice((30, 600, 7_200))
        return (
            f"{function}({text}[{length}s]{behind})",
            lambda t: model.window(function, accepts, t - offset * S, length * S),
        )
    if choice < 0.75:
        return aggregation(source, vector(source, model, depth - 1))
    if choice < 0.8:
        inner, at = vector(source, model, depth - 1)
        return f"-({inner})", lambda t: unique((nameless(key), -value) for key, value in at(t).items())
    return binary(source, model, depth)


def unique(pairs: Iterator[tuple[Key, float]]) -> Vector:
    found: Vector = {}
    for key, value in pairs:
        put(found, key, value)
    return found


def aggregation(source: random.Random, inner: Made) -> Made:
    operator = source.choice(("sum", "avg", "min", "max", "count"))
    how = source.choice(("", "by", "without"))
    chosen = source.sample(("device", "tag", "channel", "__name__", "stream", "other"), source.randrange(4))

    def of(key: Key) -> Key:
        if how == "without":
            return frozenset(each for each in key if each[0] not in (*chosen, "__name__"))
        return frozenset(each for each in key if how == "by" and each[0] in chosen)

    def at(t: int) -> Vector:
        groups: dict[Key, list[float]] = {}
        for key, value in inner[1](t).items():
            groups.setdefault(of(key), []).append(value)
        folds: dict[str, Callable[[list[float]], float]] = {
            "sum": sum, "avg": lambda each: sum(each) / len(each), "min": least, "max": greatest,
            "count": lambda each: float(len(each)),
        }  # fmt: skip
        return {key: folds[operator](values) for key, values in groups.items()}

    clause = f" {how} ({', '.join(chosen)}) " if how else ""
    if source.random() < 0.5:
        return f"{operator}{clause}({inner[0]})", at
    return f"{operator}({inner[0]}){clause}", at


def least(values: list[float]) -> float:
    return min((value for value in values if not math.isnan(value)), default=math.nan)


def greatest(values: list[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def calculated(operator: str, a: float, b: float) -> float:
    match operator:
        case "/":
            if b == 0:
                return (
                    math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
                )
            return a / b
        case "%":
            return math.nan if b == 0 or math.isinf(a) else math.fmod(a, b)
        case _:
            return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b}[operator]()


def compared(operator: str, a: float, b: float) -> bool:
    return {"==": a == b, "!=": a != b, ">": a > b, "<": a < b, ">=": a >= b, "<=": a <= b}[operator]


def binary(source: random.Random, model: Model, depth: int) -> Made:  # noqa: C901
    left, at = vector(source, model, depth - 1)
    compares = source.random() < 0.4
    operator = source.choice(("==", "!=", ">", "<", ">=", "<=") if compares else ("+", "-", "*", "/", "%"))
    as_bool = compares and source.random() < 0.3
    word = f"{operator} bool" if as_bool else operator

    def apply(key: Key, kept: float, a: float, b: float) -> Iterator[tuple[Key, float]]:
        if not compares:
            yield nameless(key), calculated(operator, a, b)
        elif as_bool:
            yield nameless(key), float(compared(operator, a, b))
        elif compared(operator, a, b):
            yield key, kept

    if source.random() < 0.6:
        number = source.choice((0.0, 2.0, 20.5, 3.0))
        if source.random() < 0.5:
            return (
                f"({left}) {word} {number}",
                lambda t: unique(
                    each for key, value in at(t).items() for each in apply(key, value, value, number)
                ),
            )
        return (
            f"{number} {word} ({left})",
            lambda t: unique(
                each for key, value in at(t).items() for each in apply(key, value, number, value)
            ),
        )
    right, at_right = vector(source, model, depth - 1)
    how, labels = source.choice(
        (("", []), ("on", ["device", "tag", "channel"]), ("ignoring", ["stream", "unit"]))
    )
    clause = f" {how}({', '.join(labels)})" if how else ""

    def of(key: Key) -> Key:
        if how == "on":
            return frozenset(each for each in key if each[0] in labels)
        return frozenset(each for each in key if each[0] not in (*labels, "__name__"))

    def both(t: int) -> Vector:
        a, b = ({}, {})
        for side, vector_at in ((a, at(t)), (b, at_right(t))):
            for key, value in vector_at.items():
                if of(key) in side:
                    raise Twice
                side[of(key)] = (key, value)
        found: Vector = {}
        for matched in a:
            if matched in b:
                (key, first), (_, second) = a[matched], b[matched]
                name = {each for each in key if each[0] == "__name__" and how != "on"}
                for made, value in apply(matched | name, first, first, second):
                    put(found, made, value)
        return found

    return f"({left}) {word}{clause} ({right})", both


# ---- the house


def great(stream: str) -> int:
    """An integer that has its own column; of one stream only, for sums of it are rough."""
    return 2**60 + 1 if stream == "9lives" else 7


def filled(path: Path, source: random.Random) -> FilledStore:
    """Readings of two channels over some hours around midnight, in published files, hot files and the ring."""
    house = FilledStore(path, DEVICES, heavy_rows=source.choice([0, 1 << 62]))
    registry = house.store.registry
    registry.describe_stream(house.channels[0].id, "temp", unit="°C", description="of the air")
    at_us = MONDAY_US + DAY_US - 2 * 3_600 * S
    for number in range(900):
        at_us += source.choice(
            (0, 1, source.randrange(40 * S), source.randrange(40 * S), -source.randrange(30 * S))
        )
        value: Any = {
            stream: source.choice(
                (number, round(source.gauss(20, 5), 2), source.randrange(50), great(stream), "x", None)
            )
            for stream in source.sample(STREAMS, source.randrange(1, 4))
        }
        if source.random() < 0.1:
            value = source.choice((number / 4, "text", [1]))
        house.append(
            value, at_us, source.choice(DEVICES), source.choice(TAGS), channel=source.choice((1, 1, 1, 2))
        )
        if source.random() < 0.006:
            house.seal()
        if number == 500:
            house.seal()
            house.publish(MONDAY_US + DAY_US + 1)
    house.commit()
    return house


def prometheus(house: FilledStore, path: str, **parameters: Any) -> tuple[int, Any]:
    status, _, content = house.fetch(f"/prometheus/api/v1/{path}", urlencode(parameters, doseq=True))
    return status, json.loads(content)


def is_close(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_expressions_are_what_plain_python_makes_of_them(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    house = filled(tmp_path / "data", source)
    model = Model(house)
    assert len(model.series) > 40
    last_us = max(samples[-1][0] for samples in model.series.values())
    answered = points = 0
    for _ in range(120):
        text, at = vector(source, model, source.randrange(4))
        start, step = last_us // S * S - source.randrange(7_200) * S, source.choice((7, 60, 900)) * S
        steps = range(start, start + source.randrange(1, 20) * step, step)
        status, reply = prometheus(
            house, "query_range", query=text, start=steps[0] / S, end=steps[-1] / S, step=step / S
        )
        try:
            wanted = {t: at(t) for t in steps}
        except Twice:
            assert status == 422, (text, reply)
            continue
        if status == 422:  # Labels that are there twice, but at different steps, are refused too.
            assert "labels" in reply["error"], (text, reply)
            continue
        assert status == 200, (text, reply)
        answered += 1
        found: dict[int, Vector] = {t: {} for t in steps}
        for each in reply["data"]["result"]:
            for t, value in each["values"]:
                found[round(t * S)][frozenset(each["metric"].items())] = float(value)
        for t in steps:
            assert found[t].keys() == wanted[t].keys(), (text, t)
            for key, value in wanted[t].items():
                assert is_close(found[t][key], value), (text, t, key, found[t][key], value)
                points += 1
        one_status, one = prometheus(house, "query", query=text, time=steps[-1] / S)
        if one_status == 200:
            single = {
                frozenset(each["metric"].items()): float(each["value"][1]) for each in one["data"]["result"]
            }
            assert single.keys() == wanted[steps[-1]].keys(), text
            assert all(is_close(single[key], value) for key, value in wanted[steps[-1]].items()), text
    assert answered > 60, answered
    assert points > 1_000, points
    house.close()


@pytest.mark.parametrize("seed", range(2))
def test_series_and_labels_are_what_the_readings_have(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    house = filled(tmp_path / "data", source)
    model = Model(house)
    for _ in range(25):
        text, accepts = selector(source)
        start = MONDAY_US + DAY_US + source.randrange(-7_200, 3_600) * S
        end = start + source.choice((60, 7_200)) * S
        wanted = {
            key for key, samples in model.series.items()
            if accepts(dict(key)) and any(start <= at <= end for at, _ in samples)
        }  # fmt: skip
        span = {"match[]": [text], "start": start / S, "end": end / S}
        status, reply = prometheus(house, "series", **span)
        assert status == 200
        assert {frozenset(each.items()) for each in reply["data"]} == wanted, text
        assert len(reply["data"]) == len(wanted)
        for label in ("device", "tag"):
            _, values = prometheus(house, f"label/{label}/values", **span)
            assert values["data"] == sorted({dict(key)[label] for key in wanted if label in dict(key)})
    everything = [dict(key) for key in model.series]
    for label in ("__name__", "channel", "channel_name", "device", "stream", "tag", "unit", "other"):
        _, values = prometheus(house, f"label/{label}/values")
        assert values["data"] == sorted({each[label] for each in everything if label in each}), label
    _, names = prometheus(house, "labels")
    assert names["data"] == sorted({label for each in everything for label in each})
    _, names = prometheus(house, "labels", **{"match[]": ['{device="a",tag="",channel="2"}']})
    assert names["data"] == ["__name__", "channel", "channel_name", "device", "stream"]
    _, metadata = prometheus(house, "metadata")
    assert set(metadata["data"]) == {each["__name__"] for each in everything}
    assert {"type": "gauge", "help": "of the air", "unit": "°C"} in metadata["data"]["temp"]
    house.close()
