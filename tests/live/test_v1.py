"""What is left of v1 (contract 3.8), of a running daemon."""

import json
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.live.test_rest import call, refused

ALWAYS = {"X_STARTTIME": "2000-01-01 00:00:00", "X_ENDTIME": "2999-01-01 00:00:00"}


@pytest.fixture(scope="module")
def daemon(rest: Daemon) -> Daemon:
    """Channel 21 has v1 posts, a literal, an object with other streams, and texts."""
    rest.add_device("old", 21)
    for path, payload in (
        ("/post_v1/", "v=1.5&v2=2&v3=-3&v4=4"),
        ("/post/", "v= 5.0"),
        ("/post_v2/", "7"),
        ("/post_v2/", '{"value2": 8, "temp": 9}'),
        ("/post_v1/", "v=text&v2=10"),
        ("/post_v2/", '{"temp": true}'),
    ):
        assert rest.post("old", payload, path) == (200, "OK")
    rest.add_device("summed", 22)
    for payload in ("v=1&v2=2", "v=2&v2=3", "v=3&v2=10", "v=4&v2=5", "v=5&v2=5"):
        assert rest.post("summed", payload, "/post_v1/") == (200, "OK")
    return rest


ROWS: list[dict[str, Any]] = [
    {"value": 1.5, "value2": 2, "value3": -3, "value4": 4},
    {"value": 5},
    {"value": 7},
    {"value2": 8},
    {"value2": 10},
    {},
]


def numbers(reply: Any) -> list[dict[str, Any]]:
    return [{name: row[name] for name in row if name.startswith("value")} for row in reply["stream"]]


def test_v1_stream_range_has_all_entries_ascending(daemon: Daemon) -> None:
    status, reply = call(daemon, "GET", "/v1/stream/21", **ALWAYS)
    assert status == 200
    assert list(reply) == ["channel", "channel_name", "last_update", "stream"]
    assert numbers(reply) == ROWS
    assert all(list(row)[:2] == ["_id", "at"] for row in reply["stream"])
    v2 = call(daemon, "GET", "/v2/stream/21", **ALWAYS)[1]
    assert [(row["_id"], row["at"]) for row in reply["stream"]] == [
        (row["_id"], row["at"]) for row in v2["stream"]
    ]


def test_v1_stream_last_is_the_newest_first(daemon: Daemon) -> None:
    assert numbers(call(daemon, "GET", "/v1/stream/21/", X_ENDTIME="last")[1]) == ROWS[-1:]
    newest = call(daemon, "GET", "/v1/stream/21", X_ENDTIME="last", X_PAGELIMIT="3")[1]
    assert numbers(newest) == ROWS[:-4:-1]
    ascending = call(daemon, "GET", "/v1/stream/21", X_ENDTIME="last", X_PAGELIMIT="3", X_PAGESORT="asc")[1]
    assert numbers(ascending) == ROWS[-3:]


def test_v1_has_one_aggregate_at_a_time(daemon: Daemon) -> None:
    assert refused(daemon, "GET", "/v1/stream/22", X_AGGREGATE="avg,max", **ALWAYS) == (400, "BAD_AGGREGATE")
    assert refused(daemon, "GET", "/v1/stream/22?aggregate=avg,max", **ALWAYS) == (400, "BAD_AGGREGATE")
    assert refused(daemon, "GET", "/v1/stream/22?aggregate=avg,max", X_APITOKEN="x") == (401, "AUTH_REQUIRED")


@pytest.mark.parametrize(("aggregate", "value"), [("avg", 5), ("sum", 25), ("min", 2), ("max", 10)])
def test_v1_stream_aggregates_are_plain_numbers(daemon: Daemon, aggregate: str, value: float) -> None:
    rows = call(daemon, "GET", "/v1/stream/22", X_AGGREGATE=aggregate, **ALWAYS)[1]
    assert list(rows) == ["channel", "channel_name", "last_update", "aggr_type", "result"]
    (result,) = rows["result"]
    assert list(result) == ["_id", "value", "value2"]
    assert (rows["aggr_type"], result["_id"], result["value2"]) == (aggregate, None, value)


def test_v1_leaves_out_the_list_when_there_is_no_data(daemon: Daemon) -> None:
    call(daemon, "POST", "/v2/channel/23")
    for headers in (ALWAYS, {"X_ENDTIME": "last"}):
        reply = call(daemon, "GET", "/v1/stream/23", **headers)[1]
        assert reply == {"channel": 23, "channel_name": "NEW_CH23", "last_update": None}
    reply = call(daemon, "GET", "/v1/stream/23", X_AGGREGATE="avg", **ALWAYS)[1]
    assert reply == {"channel": 23, "channel_name": "NEW_CH23", "last_update": None, "aggr_type": "avg"}


def test_v1_channel_has_labels_and_units_of_four_streams(daemon: Daemon) -> None:
    call(daemon, "PUT", "/v2/channel/21", {"channel_name": "TEMPERATURE"})
    call(daemon, "PUT", "/v2/channel/21/stream/value1", {"label": "Boiler", "unit": "°C"})
    call(daemon, "PUT", "/v2/channel/21/stream/value2", {"label": "Pressure"})
    (channel,) = call(daemon, "GET", "/v1/channel/21")[1]
    assert type(channel.pop("last_update")) is str
    assert channel == {
        "channel": 21, "channel_name": "TEMPERATURE", "value1_name": "Boiler", "value1_unit": "°C",
        "value2_name": "Pressure", "value2_unit": "", "value3_name": "", "value3_unit": "", "value4_name": "",
        "value4_unit": "",
    }  # fmt: skip
    assert [row["channel"] for row in call(daemon, "GET", "/v1/channel")[1]] == [
        row["channel"] for row in call(daemon, "GET", "/v2/channel")[1]
    ]


def test_descriptions_and_younger_parameters_leave_the_shape_of_v1_as_it_was(daemon: Daemon) -> None:
    call(daemon, "PUT", "/v2/channel/22/stream/value1", {"label": "Boiler", "unit": "°C"})
    assert "streams" in call(daemon, "GET", "/v2/stream/22", **ALWAYS)[1]
    plain = call(daemon, "GET", "/v1/stream/22", **ALWAYS)
    assert list(plain[1]) == ["channel", "channel_name", "last_update", "stream"]
    assert (
        call(daemon, "GET", "/v1/stream/22?meta=true&format=csv&streams=value2&points=3", **ALWAYS) == plain
    )
    assert (
        call(daemon, "GET", "/v1/stream/22?start=2000-01-01&end=2999-01-01&limit=2")[1]["stream"]
        == (plain[1]["stream"][:2])
    )
    aggregate = call(daemon, "GET", "/v1/stream/22", X_AGGREGATE="avg", **ALWAYS)[1]
    assert list(aggregate) == ["channel", "channel_name", "last_update", "aggr_type", "result"]


def test_a_long_range_of_v1_is_whole(daemon: Daemon) -> None:
    daemon.add_device("long", 24)
    for _ in range(300):
        assert daemon.post("long", json.dumps({"value1": 1, "text": "x" * 8_000})) == (200, "OK")
    status, reply = call(daemon, "GET", "/v1/stream/24", **ALWAYS)
    assert (status, numbers(reply)) == (200, [{"value": 1}] * 300)


def test_errors_of_v1_are_those_of_v2(daemon: Daemon) -> None:
    assert refused(daemon, "GET", "/v1/stream/99", X_ENDTIME="last") == (404, "NO_CHANNEL")
    assert refused(daemon, "GET", "/v1/stream/21") == (400, "BAD_TIME_FORMAT")
    assert refused(daemon, "GET", "/v1/channel/99") == (404, "NO_CHANNEL")
    assert refused(daemon, "GET", "/v1/stream/21", X_APITOKEN="x", X_ENDTIME="last") == (401, "AUTH_REQUIRED")
    assert refused(daemon, "GET", "/v1/nothing") == (404, "NOT_FOUND")
    assert call(daemon, "GET", "/v1/nothing")[1]["detail"] == "there is nothing at /v1/nothing"
    assert refused(daemon, "PUT", "/v1/session") == (405, "METHOD_NOT_ALLOWED")


def test_other_paths_of_v1_are_v2s(daemon: Daemon) -> None:
    assert call(daemon, "GET", "/v1/device") == call(daemon, "GET", "/v2/device")
    assert call(daemon, "GET", "/v1/device/old/") == call(daemon, "GET", "/v2/device/old")
    assert call(daemon, "PUT", "/v1/device/old", {"location": "räum"})[1]["location"] == "räum"
    assert call(daemon, "POST", "/v1/publish/old", {"payload": "x"}) == (200, {})
    assert call(daemon, "GET", "/v1/user")[1][0]["user_id"] == daemon.user["user_id"]
    assert call(daemon, "POST", "/v1/channel/25", {"channel_name": "by v1"})[0] == 201
    event = call(daemon, "POST", "/v1/event/")[1]
    assert call(daemon, "GET", f"/v1/event/{event['event_id']}") == (200, [event])
