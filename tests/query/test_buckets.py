"""Aggregates beyond the contract's, by hand: shapes, gaps, limits, refusals."""

import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from query import percentiles, plan
from query.app import make_app
from storage.cover import DAY_US
from tests.query import filled_store
from tests.query.filled_store import FilledStore

START_US = 19_843 * DAY_US  # 2024-04-30, 02:00 in Berlin
HOUR_US = 3_600_000_000


@pytest.fixture
def house(tmp_path: Path) -> Iterator[FilledStore]:
    house = FilledStore(tmp_path / "data", ("a", "b"))
    yield house
    house.close()


def ask(house: FilledStore, query: str, path: str = "/v2/stream/1") -> Any:
    status, _, content = house.fetch(path, query if "end=" in query else f"end=2999-01-01&{query}")
    assert status == 200, content
    return json.loads(content)


def refused(house: FilledStore, query: str) -> tuple[str, str]:
    status, _, content = house.fetch("/v2/stream/1", query if "end=" in query else f"end=2999-01-01&{query}")
    reply = json.loads(content)
    assert status == 400, reply
    return reply["error"], reply["detail"]


def test_shapes(house: FilledStore) -> None:
    house.append({"temp": 1, "in": {"x": 5}}, START_US, "a", "north")
    house.append({"temp": 2.5}, START_US + HOUR_US, "b")
    house.seal()
    house.publish(START_US + 3 * DAY_US)
    house.append({"temp": 4}, START_US + HOUR_US + 1, "b")
    house.commit()
    one = ask(house, "aggregate=count")
    assert one["aggr_type"] == "count"
    assert one["result"] == [{"_id": None, "value": {"temp": 3, "in": {"x": 1}}}]
    assert ask(house, "aggregate=max,%20FIRST,max")["result"] == [
        {"_id": None, "value": {"temp": {"max": 4, "first": 1}, "in": {"x": {"max": 5, "first": 5}}}}
    ]
    assert ask(house, "aggregate=avg&interval=1h")["result"] == [
        {"_id": None, "at": "2024-04-30T02:00:00+0200", "value": {"temp": 1, "in": {"x": 5}}},
        {"_id": None, "at": "2024-04-30T03:00:00+0200", "value": {"temp": 3.25}},
    ]
    assert ask(house, "aggregate=avg&interval=1d&zone=Asia/Tokyo&by=tag,device&streams=temp")["result"] == [
        {"_id": None, "at": "2024-04-30T00:00:00+0900", "device": "a", "tag": "north", "value": {"temp": 1}},
        {"_id": None, "at": "2024-04-30T00:00:00+0900", "device": "b", "tag": None, "value": {"temp": 3.25}},
    ]
    both = ask(house, "aggregate=last&channel=1,2", "/v2/stream")
    assert [(each["channel"], each["result"]) for each in both] == [
        (1, [{"_id": None, "value": {"temp": 4, "in": {"x": 5}}}]), (2, []),
    ]  # fmt: skip


def test_a_literal_payload_is_a_number_with_and_without_buckets(house: FilledStore) -> None:
    house.append(1, START_US, "a")
    house.append(5, START_US + 2 * HOUR_US, "a")
    house.commit()
    assert [row["value"] for row in ask(house, "aggregate=max&interval=1h&fill=null")["result"]] == [
        1,
        None,
        5,
    ]
    assert ask(house, "aggregate=min,max")["result"][0]["value"] == {"min": 1, "max": 5}
    _, _, content = house.fetch("/v2/stream/1", "end=2999-01-01&aggregate=max&interval=1h&format=csv")
    assert content.decode().splitlines() == [
        "at,value", "2024-04-30T02:00:00.000000+02:00,1", "2024-04-30T04:00:00.000000+02:00,5",
    ]  # fmt: skip


def test_first_and_last_go_by_time_then_by_arrival(house: FilledStore) -> None:
    for value, at_us in ((1, 5), (2, 0), (3, 0), (4, 5), (5, 3)):
        house.append({"n": value, "o": {"x": value}}, START_US + at_us, "a")
        if value == 3:
            house.seal()
            house.publish(START_US + 3 * DAY_US)
    house.commit()
    assert ask(house, "aggregate=first,last")["result"][0]["value"] == {
        "n": {"first": 2, "last": 4}, "o": {"x": {"first": 2, "last": 4}},
    }  # fmt: skip


def test_gaps_end_with_the_present(house: FilledStore) -> None:
    house.append({"n": 7}, START_US, "a")
    house.commit()
    now_us = START_US + 3 * HOUR_US
    house.app = make_app(dataclasses.replace(house.backend, now=lambda: (0.0, now_us)))
    assert [row["value"] for row in ask(house, "aggregate=count,last&interval=1h&fill=previous")["result"]] == [
        {"n": {"count": 1, "last": 7}}, *[{"n": {"count": 0, "last": 7}}] * 3,
    ]  # fmt: skip
    # A start is the first bucket, even before all data; an end before the present is the last.
    query = "aggregate=last&interval=1h&fill=null&start=2024-04-29T23:30:00Z&end=2024-04-30T01:00:00Z"
    assert [row["value"]["n"] for row in ask(house, query)["result"]] == [None, 7, None]
    assert ask(house, "aggregate=last&interval=1h&fill=null&streams=x")["result"] == []


def test_what_is_described_is_said(house: FilledStore) -> None:
    house.append({"n": 7}, START_US, "a")
    house.commit()
    assert list(ask(house, "aggregate=avg&meta=true")) == [
        "channel", "channel_name", "last_update", "streams", "aggr_type", "result",
    ]  # fmt: skip


def test_refusals(house: FilledStore) -> None:
    for text in ("mean", "avg,", "p101", "p-1", "p1e1", "p", "p5.", ",".join(f"p{i}" for i in range(40))):
        assert refused(house, f"aggregate={text}")[0] == "BAD_AGGREGATE"
    for query, word in (
        ("aggregate=avg&interval=7m", "divide a day"), ("aggregate=avg&interval=x", "interval"),
        ("aggregate=avg&fill=null", "interval="), ("aggregate=avg&interval=1h&fill=zero", "fill: expected"),
        ("aggregate=avg&interval=1h&fill=1e999", "fill: expected"), ("aggregate=avg&interval=1h&fill=number", "fill"),
        ("interval=1h", "aggregate="), ("fill=null", "aggregate="), ("aggregate=avg&by=stream", "by: expected"),
        ("aggregate=avg&method=lttb", "points="),
    ):  # fmt: skip
        token, words = refused(house, query)
        assert token == "BAD_PARAMETER"
        assert word in words
    assert refused(house, "aggregate=avg&end=last")[0] == "BAD_TIME_FORMAT"


def test_too_many_buckets_are_refused_before_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filled_store, "BUCKETS_MAX", 10)
    house = FilledStore(tmp_path / "data", ("a", "b"))
    for i in range(12):
        house.append({"n": i}, START_US + i * HOUR_US, "a")
        if i == 6:
            house.seal()
            house.publish(START_US + 3 * DAY_US)
    house.commit()
    assert len(ask(house, "aggregate=avg&interval=2h")["result"]) == 6
    for query in (
        "aggregate=avg&interval=1h",
        "aggregate=p50&interval=1h",
        "aggregate=avg&interval=1s&fill=0",
    ):
        token, words = refused(house, query)
        assert token == "BAD_PARAMETER"
        assert "more than 10 buckets x groups x streams ([query] buckets_max)" in words
    # A second, over a thousand years: the gaps are counted, not made.
    house.append({"n": 1}, START_US + 300_000 * DAY_US, "a")
    house.commit()
    assert refused(house, "aggregate=avg&interval=1s&fill=0&streams=n")[0] == "BAD_PARAMETER"
    house.close()


def test_percentiles_of_many_values_are_estimated_and_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filled_store, "EXACT_VALUES_MAX", 1_000)
    monkeypatch.setattr(plan, "WINDOW_ROWS", 1_000)
    house = FilledStore(tmp_path / "data", ("a", "b"), ring_rows=4_096)
    source = random.Random("percentiles")
    values = [source.gauss(0, 1) for _ in range(3_000)]
    for i, value in enumerate(values):
        house.append({"n": value}, START_US + i * 1_000_000, "a")
        if i == 2_000:
            house.seal()
            house.publish(START_US + 3 * DAY_US)
    house.commit()
    reply = ask(house, "aggregate=p50,avg,p90")
    assert reply["approximate"] == ["p50", "p90"]
    for name, share in (("p50", 0.5), ("p90", 0.9)):
        found = reply["result"][0]["value"]["n"][name]
        assert abs(np.mean(np.array(values) < found) - share) < 0.02
    # Ten minutes have fewer.
    exact = ask(house, "aggregate=p90&interval=10m")
    assert "approximate" not in exact
    assert exact["result"][0]["value"]["n"] == pytest.approx(np.percentile(values[:600], 90), rel=1e-12)
    monkeypatch.setattr(percentiles, "NESTED_COST", 500)
    for i in range(5):
        house.append({"o": {"x": i}}, START_US + i, "a")
    house.commit()
    assert "exact_values_max" in refused(house, "aggregate=p50&interval=10m")[1]
    house.close()
