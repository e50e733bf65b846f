"""Buckets, groups, gaps and every aggregate against a plain Python model, in every format.

The readings are those of test_aggregate_model, around the days on which clocks change: partly in published files, partly in
hot ones, partly in the ring.
"""

import datetime
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

from query import aggregate as aggregates
from query import percentiles, plan
from query.measures import NAMES
from storage.cover import DAY_US
from tests.query import bucket_model as model
from tests.query import filled_store, flat_readers
from tests.query.filled_store import EPOCH, FilledStore, Reading, moment
from tests.query.test_aggregate_model import DEVICES, fill, flat

ZONES = (
    "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana",
    "America/St_Johns", "UTC",
)  # fmt: skip
# Berlin, New York and Havana, Lord Howe: the days before the clocks change, twice a year.
BEFORE_US = [day * DAY_US for day in (19_812, 20_022, 19_790, 20_029, 19_818, 20_000)]
INTERVALS = ("15m", "30m", "1h", "2h", "6h", "8h", "1d", "2d", "1w", "1mo", "3mo", "1y", "86400s")
ALL = (*NAMES, "p0", "p50", "p95", "p99.9", "p100")
SEEDS = range(6)


@pytest.fixture(params=SEEDS)
def source(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"buckets {request.param}")


@pytest.fixture
def house(tmp_path: Path, source: random.Random, monkeypatch: pytest.MonkeyPatch) -> Iterator[FilledStore]:
    if source.random() < 0.6:
        monkeypatch.setattr(plan, "WINDOW_ROWS", 11)
        monkeypatch.setattr(plan, "FILES_MAX", 2)
        monkeypatch.setattr(aggregates, "FILES_MAX", 2)
        monkeypatch.setattr(filled_store, "EXACT_VALUES_MAX", source.choice([150, 800]))
    monkeypatch.setattr(
        percentiles, "NESTED_COST", 0.01
    )  # numbers inside objects are few here, but so are the others
    house = FilledStore(tmp_path / "data", DEVICES)
    yield house
    house.close()


class Question:
    """A random request for aggregates, and what is to come of it."""

    def __init__(self, source: random.Random, readings: list[Reading]) -> None:
        self.zone = ZoneInfo(source.choice(ZONES))
        self.names = source.sample(ALL, source.choice([1, 1, 2, 4, len(ALL)]))
        self.interval = source.choice(INTERVALS) if source.random() < 0.8 else None
        self.by = source.choice([[], [], ["device"], ["tag"], ["device", "tag"]])
        self.fill = (
            source.choice(["none", "null", "previous", "linear", "0", "-2.5"]) if self.interval else "none"
        )
        self.tags = source.choice([None, None, ["north"], ["north", "süd"], ["nobody"]])
        self.streams = source.choice([None, None, ["temp"], ["temp", "nested", "value"]])
        self.descending = source.random() < 0.2
        first, last = min(each.at_us for each in readings), max(each.at_us for each in readings)
        self.start, self.end = sorted(source.randrange(first - DAY_US, last + DAY_US) for _ in range(2))
        self.has_start = source.random() < 0.7
        if not self.has_start:
            self.start = -(2**50)
        self.found = [
            each
            for each in readings
            if self.start <= each.at_us <= self.end and (self.tags is None or each.tag in self.tags)
        ]
        self.last_us = last

    def query(self, **more: str) -> str:
        pairs = [("aggregate", ",".join(self.names)), ("zone", self.zone.key), ("end", moment(self.end))]
        pairs += [("start", moment(self.start))] * self.has_start
        pairs += [("interval", self.interval)] * (self.interval is not None)  # type: ignore[list-item]
        pairs += [("fill", self.fill)] * (self.fill != "none")
        pairs += [("by", ",".join(self.by))] * bool(self.by)
        pairs += [("tag", ",".join(self.tags or []))] * (self.tags is not None)
        pairs += [("streams", ",".join(self.streams or []))] * (self.streams is not None)
        pairs += [("sort", "desc")] * self.descending
        return urlencode([*pairs, *more.items()])

    def _has(self, path: model.Keys) -> bool:
        return self.streams is None or ("value" if path[0] is None else path[0]) in self.streams

    def rows(self) -> list[tuple[Any, tuple[Any, ...], dict[model.Keys, list[tuple[Any, float]]]]]:
        """(start, names, numbers of each stream with what they may be off) in order."""
        groups: dict[tuple[Any, ...], list[Reading]] = {}
        for reading in self.found:
            start = self.interval and model.bucket_start(reading.at_us, self.interval, self.zone)
            names = tuple({"device": reading.device, "tag": reading.tag}[name] for name in self.by)
            groups.setdefault((names, start), []).append(reading)
        made = {}
        for key, readings in groups.items():
            values = {path: values for path, values in model.by_path(readings).items() if self._has(path)}
            if values:
                made[key] = {
                    path: [model.expected(each, name) for name in self.names] for path, each in values.items()
                }
        rows = [(start, names, numbers) for (names, start), numbers in made.items()]
        if self.fill != "none" and rows:
            rows = self._filled(rows)
        rows.sort(key=lambda row: (row[0] or EPOCH, [(name is not None, name or "") for name in row[1]]))
        return rows[::-1] if self.descending else rows

    def _filled(self, rows: list[Any]) -> list[Any]:
        assert self.interval is not None
        first_us = self.start
        if not self.has_start:
            first_us = (min(row[0] for row in rows) - EPOCH) // datetime.timedelta(microseconds=1)
        last_us = max((max(row[0] for row in rows) - EPOCH) // datetime.timedelta(microseconds=1), first_us)
        starts = model.all_starts(first_us, min(last_us, self.end), self.interval, self.zone)
        made = []
        for names in dict.fromkeys(row[1] for row in rows):
            own = {row[0]: row[2] for row in rows if row[1] == names}
            columns = {}
            for path in dict.fromkeys(path for numbers in own.values() for path in numbers):
                slack = max(each[1] for numbers in own.values() for each in numbers.get(path, []))
                for i, name in enumerate(self.names):
                    known = [
                        own[start][path][i][0] if path in own.get(start, {}) else None for start in starts
                    ]
                    filled = model.fill_gaps(known, starts, "0" if name == "count" else self.fill)
                    largest = max(abs(each or 0) for each in filled)
                    columns[path, i] = [
                        (each, slack + 1e-12 * largest * (each not in known)) for each in filled
                    ]
            paths = dict.fromkeys(path for path, _ in columns)
            for at, start in enumerate(starts):
                made.append(
                    (
                        start,
                        names,
                        {path: [columns[path, i][at] for i in range(len(self.names))] for path in paths},
                    )
                )
        return made

    def check(self, reply: dict[str, Any]) -> None:
        """That a reply in JSON is the model's."""
        keys = ["channel", "channel_name", "last_update", "aggr_type", "approximate", "result"]
        estimated = reply.get("approximate", [])
        assert list(reply) == [key for key in keys if key != "approximate" or estimated]
        assert reply["aggr_type"] == ",".join(self.names)
        wanted = self.rows()
        at = ["at"] * (self.interval is not None)
        assert [list(row) for row in reply["result"]] == [["_id", *at, *self.by, "value"]] * len(wanted)
        assert [row.get("at") for row in reply["result"]] == [
            start and start.astimezone(self.zone).strftime("%Y-%m-%dT%H:%M:%S%z") for start, _, _ in wanted
        ]
        assert [tuple(row[name] for name in self.by) for row in reply["result"]] == [row[1] for row in wanted]
        has_literal = any((None,) in numbers for _, _, numbers in wanted)
        is_literal = has_literal and all(set(numbers) <= {(None,)} for _, _, numbers in wanted)
        for row, (_, _, numbers) in zip(reply["result"], wanted, strict=True):
            for i, name in enumerate(self.names):
                value = row["value"] if len(self.names) == 1 else chosen(row["value"], self.names, name)
                found = flat(value)
                if has_literal and not is_literal:
                    found = {
                        (None,) if path == ("value",) else path: number for path, number in found.items()
                    }
                assert set(found) == set(numbers)
                for path, pairs in numbers.items():
                    number, slack = pairs[i]
                    if name in estimated and number is not None:
                        continue  # test_percentiles has what they may be off
                    if number is None or found[path] is None:
                        assert found[path] is number, (name, path, found[path], number)
                    else:
                        assert abs(found[path] - number) <= slack, (name, path, found[path], number)


def chosen(value: Any, names: list[str], name: str) -> Any:
    """One of several aggregates, nested as a single one would be."""
    if isinstance(value, dict) and list(value) == names:
        return value[name]
    return {key: chosen(inner, names, name) for key, inner in value.items()}


def test_every_aggregate_of_every_bucket_is_the_models(house: FilledStore, source: random.Random) -> None:
    end_us = source.choice(BEFORE_US)
    for _ in range(3):
        end_us = fill(house, source, source.randrange(20, 120), end_us)
        for _ in range(10):
            question = Question(source, house.readings)
            status, headers, content = house.fetch("/v2/stream/1", question.query())
            assert status == 200, content
            reply = json.loads(content)
            question.check(reply)
            assert headers.get("x-approximate") == (",".join(reply.get("approximate", [])) or None)
        if source.random() < 0.5:
            house.reopen()


# ---- formats


def leaves(value: Any, names: list[str], prefix: str = "") -> dict[str, Any]:
    """A value's numbers by the name of their column."""
    if isinstance(value, dict) and not (len(names) > 1 and list(value) == names):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found |= leaves(inner, names, f"{prefix}.{key}" if prefix else key)
        return found
    if len(names) == 1:
        return {prefix or "value": value}
    return {f"{prefix or 'value'}_{name}": value[name] for name in names}


def test_flat_formats_have_a_column_for_each_stream_and_aggregate(
    house: FilledStore, source: random.Random
) -> None:
    for i in range(40):
        value = source.choice([{"temp": i / 4, "psi": i}, {"temp": -i}, {"n": {"x": i}}, {"psi": 2**60 + i}])
        house.append(
            value, BEFORE_US[0] + i * 3_600_000_000, source.choice(DEVICES), source.choice([None, "a"])
        )
        if i == 20:
            house.seal()
            house.publish(2**60)
    house.commit()
    for _ in range(6):
        question = Question(source, house.readings)
        question.streams = None
        names = question.names
        _, _, content = house.fetch("/v2/stream/1", question.query())
        elements = json.loads(content)["result"]
        columns = {name for element in elements for name in leaves(element["value"], names)}
        wanted = []
        for element in elements:
            row = {name: element[name] for name in ("at", *question.by) if name in element}
            if "at" in row:
                at = datetime.datetime.strptime(row["at"], "%Y-%m-%dT%H:%M:%S%z")
                row["at"] = at, at.strftime("%z")
            wanted.append(row | dict.fromkeys(columns) | leaves(element["value"], names))
        _, _, ndjson = house.fetch("/v2/stream/1", question.query(format="ndjson"))
        found = [json.loads(line) for line in ndjson.splitlines()]
        assert [with_time(row) for row in found] == wanted
        _, _, text = house.fetch("/v2/stream/1", question.query(), Accept="text/csv")
        header, lines = flat_readers.from_csv(text)
        assert header[: len(question.by) + (question.interval is not None)] == [
            *["at"] * (question.interval is not None), *question.by,
        ]  # fmt: skip
        assert [with_time(dict(zip(header, line, strict=True))) for line in lines] == [
            {name: cell if name == "at" else "" if cell is None else str(cell) for name, cell in row.items()}
            for row in wanted
        ]
        for shape, read in (("arrow", flat_readers.from_arrow), ("parquet", flat_readers.from_parquet)):
            _, _, binary = house.fetch("/v2/stream/1", question.query(format=shape))
            assert [
                {**row, "at": (row["at"], row["at"].astimezone(question.zone).strftime("%z"))}
                if "at" in row
                else row
                for row in read(binary).to_pylist()
            ] == [
                {name: float(cell) if isinstance(cell, int) else cell for name, cell in row.items()}
                for row in wanted
            ]


def with_time(row: dict[str, Any]) -> dict[str, Any]:
    if "at" not in row:
        return row
    at = datetime.datetime.fromisoformat(row["at"])
    return {**row, "at": (at, at.strftime("%z"))}
