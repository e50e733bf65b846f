"""Prometheus' API in detail: envelopes, errors by name, limits, and what is not supported."""

import base64
import contextlib
import json
import math
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trio

from query.app import make_app
from query.ports import PrometheusOptions
from query.prometheus import samples
from query.prometheus.errors import BadDataError, PrometheusError
from query.prometheus.language import MARKS_MAX, Matcher, Selector, parse
from storage.cover import DAY_US
from tests.query.filled_store import FilledStore

S = 1_000_000
MONDAY_S = 19_843 * 86_400


@pytest.fixture
def house(tmp_path: Path) -> FilledStore:
    """One reading a minute of one device: temp = 0 .. 9; a published one, sealed ones, fresh ones."""
    house = FilledStore(tmp_path / "data", ("a",))
    for minute in range(10):
        house.append({"temp": minute, "note": "x"}, (MONDAY_S + 60 * minute) * S, "a")
        if minute == 4:
            house.seal()
            house.publish(MONDAY_S * S + 2 * DAY_US)
    house.commit()
    return house


def get(house: FilledStore, path: str, query: dict[str, Any] | str = "", **headers: str) -> tuple[int, Any]:
    text = query if isinstance(query, str) else urlencode(query, doseq=True)
    status, _, content = house.fetch(f"/prometheus/api/v1/{path}", text, **headers)
    return status, json.loads(content)


def value_of(house: FilledStore, query: str, at_s: float = MONDAY_S + 540) -> list[str]:
    status, reply = get(house, "query", {"query": query, "time": at_s})
    assert status == 200, reply
    return [each["value"][1] for each in reply["data"]["result"]]


def with_options(house: FilledStore, **changes: int) -> None:
    options = replace(PrometheusOptions(300 * S, 1_000_000), **changes)
    house.app = make_app(replace(house.backend, prometheus=options))


def test_a_vector_and_a_matrix_are_worded_as_prometheus_does(house: FilledStore) -> None:
    labels = {"__name__": "temp", "channel": "1", "channel_name": "Room 1", "device": "a", "stream": "temp"}
    assert get(house, "query", {"query": "temp", "time": MONDAY_S + 61.5}) == (
        200,
        {
            "status": "success",
            "data": {"resultType": "vector", "result": [{"metric": labels, "value": [MONDAY_S + 61.5, "1"]}]},
        },
    )
    asked = {"query": "temp / 8", "start": MONDAY_S, "end": "2024-04-30T00:02:00Z", "step": "1m"}
    status, reply = get(house, "query_range", asked)
    assert status == 200
    del labels["__name__"]
    values = [[MONDAY_S + 60 * i, text] for i, text in enumerate(("0", "0.125", "0.25"))]
    assert reply["data"] == {"resultType": "matrix", "result": [{"metric": labels, "values": values}]}
    house.close()


def test_scalars_of_which_grafana_asks_whether_somebody_is_there(house: FilledStore) -> None:
    assert get(house, "query", "query=1%2B1&time=4")[1]["data"] == {
        "resultType": "scalar",
        "result": [4, "2"],
    }
    for text, shown in (("1/0", "+Inf"), ("-1/0", "-Inf"), ("0/0", "NaN"), ("2^0.5", repr(math.sqrt(2)))):
        assert get(house, "query", {"query": text, "time": 4})[1]["data"]["result"] == [4, shown]
    status, reply = get(house, "query_range", {"query": "3 > bool 2", "start": 0, "end": 2, "step": 1})
    assert (status, reply["data"]["result"]) == (
        200,
        [{"metric": {}, "values": [[0, "1"], [1, "1"], [2, "1"]]}],
    )
    assert get(house, "status/buildinfo")[1]["data"]["version"]
    house.close()


def test_a_form_in_the_body_is_as_good_as_the_url(house: FilledStore) -> None:
    async def post(body: bytes, kind: str) -> tuple[int, Any]:
        status, _, content = await house._fetch(
            "POST", "/prometheus/api/v1/query", "", {"content-type": kind}, body
        )
        return status, json.loads(content)

    body = urlencode({"query": "temp", "time": MONDAY_S}).encode()
    status, reply = trio.run(post, body, "application/x-www-form-urlencoded; charset=utf-8")
    assert (status, reply["data"]["result"][0]["value"]) == (200, [MONDAY_S, "0"])
    assert trio.run(post, body, "text/plain")[0] == 400
    status, reply = trio.run(post, b"query=%ff", "application/x-www-form-urlencoded")
    assert (status, reply["errorType"]) == (400, "bad_data")
    house.close()


def test_the_look_back_and_its_edges(house: FilledStore) -> None:
    assert value_of(house, "temp", MONDAY_S + 540 + 299.999) == ["9"]
    assert value_of(house, "temp", MONDAY_S + 540 + 300) == []
    assert value_of(house, "count_over_time(temp[2m])") == ["2"]
    assert value_of(house, "temp offset 5m") == ["4"]
    with_options(house, lookback_us=3_600 * S)
    assert value_of(house, "temp", MONDAY_S + 540 + 3_599) == ["9"]
    house.close()


def test_a_rate_is_extrapolated_to_the_range(house: FilledStore) -> None:
    # Readings 5 .. 9 are in it: 4 in 240 s, as far as the range's beginning 300 s long.
    assert value_of(house, "increase(temp[5m])") == ["5"]
    assert [float(text) for text in value_of(house, "rate(temp[5m])")] == pytest.approx([1 / 60])
    assert value_of(house, "rate(temp[1m])") == []
    house.close()


@pytest.mark.parametrize("given", [{}, {"x-apitoken": "wrong"}, {"authorization": "Bearer no"}])
def test_without_a_token_there_is_nothing(house: FilledStore, given: dict[str, str]) -> None:
    status, fields, content = house.fetch("/prometheus/api/v1/labels", "", **{"x-apitoken": "", **given})
    reply = json.loads(content)
    assert (status, reply["status"], reply["errorType"]) == (401, "error", "auth_required")
    assert "www-authenticate" in fields
    house.close()


def test_tokens_as_grafana_sends_them(house: FilledStore) -> None:
    token = house.user.api_token
    basic = base64.b64encode(f"grafana:{token}".encode()).decode()
    for value in (f"Bearer {token}", f"Basic {basic}"):
        assert get(house, "labels", **{"x-apitoken": "", "authorization": value})[0] == 200
    house.close()


def test_nobody_sees_the_series_of_others(house: FilledStore) -> None:
    other = house.store.registry.add_user(0)
    house.store.registry.add_channel(other.user_id, 1, "Other")
    asked = {"match[]": '{channel=~".+"}'}
    assert len(get(house, "series", asked)[1]["data"]) == 1
    assert get(house, "series", asked, **{"x-apitoken": other.api_token})[1]["data"] == []
    house.close()


UNSUPPORTED = [
    ("topk(3, temp)", "topk"), ("abs(temp)", "abs"), ("temp and temp", "and"), ("temp unless temp", "unless"),
    ("rate(temp[5m:1m])", "rate"), ("temp[5m:1m]", "subquery"), ("temp @ 5", "@"), ('"text"', "string"),
    ("temp * on(device) group_left temp", "group_left"), ('{a="b" or c="d"}', "or"), ("temp[5m]", "range selector"),
    ("temp atan2 temp", "atan2"), ("time()", "time"), ("stddev(temp)", "stddev"), ("rate(temp[5m] @ 5)", "@"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "named"), UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(BadDataError, match=named.replace("(", r"\(")):
        parse(text)


BAD = [
    ("query", {}, "query"), ("query", {"query": "temp{"}, "PromQL"), ("query", {"query": "temp", "time": "x"}, "time"),
    ("query", {"query": "temp", "time": "nan"}, "time"), ("query", {"query": "temp", "time": "1e30"}, "time"),
    ("query", {"query": 'temp{a=~"("}'}, "regex"), ("query", {"query": "temp", "timeout": "-1"}, "timeout"),
    ("query", {"query": "temp offset 999999999y"}, "duration|PromQL"),
    ("query_range", {"query": "temp", "start": 0, "end": 1}, "step"),
    ("query_range", {"query": "temp", "start": 0, "end": 1, "step": 0}, "step"),
    ("query_range", {"query": "temp", "start": 0, "end": 1, "step": "x"}, "step"),
    ("query_range", {"query": "temp", "start": 2, "end": 1, "step": 1}, "end"),
    ("query_range", {"query": "temp", "start": 0, "end": 11_001, "step": 1}, "11000"),
    ("series", {}, "match"), ("series", {"match[]": "rate(temp[5m])"}, "match"), ("series", {"match[]": "1"}, "match"),
    ("series", {"match[]": "temp", "limit": "x"}, "limit"), ("labels", {"start": "yesterday"}, "start"),
    ("label/device/values", {"end": "2024-01-01T00:00:00"}, "zone"),
]  # fmt: skip


def test_what_is_wrong_is_bad_data_and_says_where(house: FilledStore) -> None:
    for path, asked, named in BAD:
        status, reply = get(house, path, asked)
        assert (status, reply["status"], reply["errorType"]) == (400, "error", "bad_data"), (
            path,
            asked,
            reply,
        )
        assert any(each in reply["error"] for each in named.split("|")), (path, asked, reply)
    assert get(house, "query_range", {"query": "temp", "start": 0, "end": 11_000, "step": 1})[0] == 200
    house.close()


def test_memory_and_time_are_bounded(house: FilledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with_options(house, samples_max=5)
    asked = {"query": "sum_over_time(temp[1h])", "time": MONDAY_S + 540}
    status, reply = get(house, "query", asked)
    assert (status, reply["errorType"]) == (422, "execution")
    assert "query.prometheus_samples_max" in reply["error"]
    # An instant selector keeps one sample for each step, however many there are.
    assert value_of(house, "temp") == ["9"]
    asked = {"query": "temp", "start": MONDAY_S, "end": MONDAY_S + 6, "step": 1}
    assert get(house, "query_range", asked)[0] == 422
    clock = iter(range(1_000))
    monkeypatch.setattr(samples, "monotonic", lambda: float(next(clock)))
    status, reply = get(house, "query", {"query": "temp", "time": MONDAY_S, "timeout": "0.5"})
    assert (status, reply["errorType"]) == (503, "timeout")
    house.close()


def test_great_integers_and_names_that_are_no_names(tmp_path: Path) -> None:
    house = FilledStore(tmp_path / "data", ("a",))
    house.append({"x.y": 2**60, "x y": 1.5, "x-y": True, "": 7}, MONDAY_S * S, "a", "north")
    house.commit()
    assert sorted(value_of(house, "x_y", MONDAY_S)) == ["1.152921504606847e+18", "1.5"]
    assert value_of(house, '{stream="x.y"}', MONDAY_S) == ["1.152921504606847e+18"]
    assert value_of(house, '_{tag="north"}', MONDAY_S) == ["7"]
    house.close()


@pytest.mark.parametrize(
    "text", ["(", "-(", "sum(", "1+", "x^", "x[5m:]", "x and ", "x or\n", "{", "x{a='b'}=="]
)
def test_what_nests_deeply_is_refused_before_it_is_parsed(text: str) -> None:
    began = time.monotonic()
    for count in (MARKS_MAX, MARKS_MAX // 2, 16_000 // len(text), 100_000):
        with contextlib.suppress(BadDataError):
            parse(text * count + "1" + ")" * (count * text.count("(")))
    assert time.monotonic() - began < 20  # the parser alone takes minutes for 16,000


def test_the_parser_does_not_crash_on_noise() -> None:
    source = random.Random(1)
    pieces = [
        "temp",
        "{",
        "}",
        "(",
        ")",
        "[5m]",
        "offset",
        "1",
        "-",
        "rate",
        "sum by",
        "=~",
        '"a"',
        ",",
        "bool",
        "@",
        ":",
        "#",
        "é",
    ]
    for _ in range(3_000):
        with contextlib.suppress(PrometheusError):
            parse(" ".join(source.choices(pieces, k=source.randrange(1, 12))))


def test_matchers_and_durations_are_read() -> None:
    wanted = (Matcher("__name__", "=", "temp"), Matcher("a", "!~", "b|c"), Matcher("d", "!=", ""))
    assert parse('temp{a!~"b|c",d!=""} offset -1m') == Selector(wanted, -60 * S)
    assert parse('(({__name__="temp"}))') == parse("temp")
