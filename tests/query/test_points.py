"""points= of the Stream service: each stream's points are those of query/downsample, wherever the readings lie."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from query import plan
from query.stream_request import FORMATS
from storage.cover import DAY_US
from tests.query import filled_store, flat_readers
from tests.query.filled_store import FilledStore, Reading, moment
from tests.query.test_downsample import extremes, points_of, reference

DEVICES = ("a", "b")
START_US = 19_843 * DAY_US


@pytest.fixture(params=[0, 1 << 62], ids=["in a worker", "in a thread"])
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[FilledStore]:
    house = FilledStore(tmp_path / "data", DEVICES, heavy_rows=request.param)
    yield house
    house.close()


def filled(house: FilledStore, source: random.Random, rows: int = 240) -> None:
    """Published, hot and fresh."""
    at_us = START_US
    for i in range(rows):
        value: Any = {"temp": source.randrange(-99, 99)}
        if source.random() < 0.4:
            value["psi"] = source.choice(
                [source.randrange(9), 2**53 + 2 * source.randrange(99), "off", {"x": 1}]
            )
        house.append(value, at_us, source.choice(DEVICES), source.choice([None, "north"]))
        at_us += source.choice([0, 1_000_000, 600_000_000, 3_600_000_000])
        if i in (rows // 3, rows // 2):
            house.seal()
            house.publish(at_us)
    house.commit()


def wanted(readings: list[Reading], count: int, method: str, by: list[str], ends: tuple[int, int]) -> Any:
    """{seq: {stream: number}} of what is kept."""
    series: dict[Any, list[tuple[Reading, Any]]] = {}
    for reading in sorted(readings, key=lambda each: each.order):
        for stream, number in reading.value.items():
            if isinstance(number, int):
                key = stream, *({"device": reading.device, "tag": reading.tag}[name] for name in by)
                series.setdefault(key, []).append((reading, number))
    kept: dict[int, dict[str, Any]] = {}
    for key, own in series.items():
        pairs = [(reading.at_us, float(number)) for reading, number in own]
        if method == "lttb":
            places = reference([(x - pairs[0][0], y) for x, y in pairs], count)
        else:
            places = extremes(*ends, count, points_of(pairs), [])
        for place in places:
            reading, number = own[place]
            kept.setdefault(reading.seq, {})[key[0]] = number
    return kept


@pytest.mark.parametrize("seed", range(6))
def test_each_stream_keeps_the_points_of_its_method(
    house: FilledStore, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = random.Random(f"points {seed}")
    if seed % 2:
        monkeypatch.setattr(plan, "WINDOW_ROWS", 11)
        monkeypatch.setattr(plan, "FILES_MAX", 2)
    filled(house, source)
    for _ in range(12):
        count, method = source.choice([3, 5, 20, 100, 1_000]), source.choice(["lttb", "minmax"])
        by = source.choice([[], [], ["device"], ["tag"], ["device", "tag"]])
        first, last = sorted(source.choice(house.readings).at_us for _ in range(2))
        found = [each for each in house.readings if first <= each.at_us <= last]
        pairs = {"start": moment(first), "end": moment(last), "points": str(count), "method": method}
        if by:
            pairs["by"] = ",".join(by)
        if source.random() < 0.3:
            pairs["streams"] = "psi"
            found = [
                Reading(each.seq, each.at_us, each.device, each.tag,
                        {name: number for name, number in each.value.items() if name == "psi"})
                for each in found
            ]  # fmt: skip
        kept = wanted(found, count, method, by, (first, last))
        shape = source.choice(list(FORMATS))
        status, _, content = house.fetch("/v2/stream/1", urlencode(pairs | {"format": shape}))
        assert status == 200, content
        order = [each.seq for each in sorted(found, key=lambda each: each.order) if each.seq in kept]
        if shape == "json":
            rows = json.loads(content)["stream"]
            assert [(int(row["_id"][8:], 16), row["value"]) for row in rows] == [
                (seq, kept[seq]) for seq in order
            ]
        elif shape == "ndjson":
            rows = flat_readers.from_ndjson(content)
            assert [(int(row["_id"][8:], 16), row["value"]) for row in rows] == [
                (seq, kept[seq]) for seq in order
            ]
        elif shape == "csv":
            names, lines = flat_readers.from_csv(content)
            assert [int(line[names.index("seq")]) for line in lines] == order
        else:
            table = (flat_readers.from_arrow if shape == "arrow" else flat_readers.from_parquet)(content)
            assert [(row["seq"], row["value"]) for row in flat_readers.rows_of(table)] == [
                (seq, kept[seq]) for seq in order
            ]


def refused(house: FilledStore, query: str) -> str:
    status, _, content = house.fetch("/v2/stream/1", query)
    reply = json.loads(content)
    assert (status, reply["error"]) == (400, "BAD_PARAMETER"), reply
    return str(reply["detail"])


def test_what_cannot_be_drawn_is_refused(house: FilledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    end = "end=2999-01-01"
    for query in (
        "points=2",
        "points=x",
        "points=0",
        f"points={filled_store.PAGE_ROWS_MAX + 1}",
        "points=-5",
    ):
        assert "points: expected 3 .. 1000" in refused(house, f"{end}&{query}")
    assert "lttb or minmax" in refused(house, f"{end}&points=5&method=mean")
    assert "points=" in refused(house, f"{end}&method=lttb")
    assert "points=" in refused(house, f"{end}&by=device")
    assert "by: expected" in refused(house, f"{end}&points=5&by=channel")
    assert "one or the other" in refused(house, f"{end}&points=5&aggregate=avg")
    for query in ("end=last", f"{end}&limit=5", f"{end}&cursor=abc"):
        assert "whole range" in refused(house, f"{query}&points=5")


def test_many_series_with_many_points_are_refused(
    house: FilledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(30):
        house.append({f"s{i}": 1}, START_US + i, "a")
    house.commit()
    query = "end=2999-01-01&points=1000"
    assert "buckets_max" in refused(house, query)
    assert house.fetch("/v2/stream/1", query + "&streams=s1,s2")[0] == 200


def test_nothing_found_is_nothing(house: FilledStore) -> None:
    house.append({"on": True}, START_US, "a")
    house.commit()
    for query in ("end=2999-01-01&points=5", "end=1999-01-01&points=5", "end=2999-01-01&points=5&tag=nobody"):
        _, _, content = house.fetch("/v2/stream/1", query)
        assert json.loads(content)["stream"] == []
