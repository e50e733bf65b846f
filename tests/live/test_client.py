"""thingscale.client against a running daemon, and against servers that refuse, break and answer half."""

import dataclasses
import datetime
import json
import typing
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.daemon import Daemon
from thingscale.client import (
    AuthError,
    BadRequestError,
    Client,
    InUseError,
    NotFoundError,
    QueryError,
    TooManyRequestsError,
    UnavailableError,
    shapes,
)
from thingscale.client.errors import error_of
from thingscale.client.live import Event, events
from thingscale.client.transport import TRIES, Transport


@pytest.fixture(scope="module")
def client(rest: Daemon) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{rest.port('http')}", rest.user["api_token"]) as found:
        found.channels.add(7, "Boiler room")
        found.devices.add("pump/7", mapped_ch=7, enabled=True)
        found.devices.add("pump-8", mapped_ch=7, enabled=True)
        for i in range(3):
            assert rest.post("pump/7", json.dumps({"temp": 20 + i, "door": "open"})) == (200, "OK")
        assert rest.post("pump-8", json.dumps({"temp": 30}), **{"X-TAGNAME": "north"}) == (200, "OK")
        yield found


def test_devices(client: Client) -> None:
    assert [each["device_id"] for each in client.devices.list()] == ["pump-8", "pump/7"]
    assert [each["device_id"] for each in client.devices.list(limit=1, enabled=True)] == ["pump-8", "pump/7"]
    assert client.devices.get("pump/7")["mapped_ch"] == 7
    made = client.devices.add("fan 1", description="ünder the roof")
    assert (made["enabled"], made["description"]) == (False, "ünder the roof")
    assert client.devices.update("fan 1", enabled=True)["enabled"] is True
    with pytest.raises(InUseError, match="DEVICE_INUSE"):
        client.devices.add("fan 1")
    client.devices.delete("fan 1")
    with pytest.raises(NotFoundError) as caught:
        client.devices.get("fan 1")
    assert (caught.value.token, caught.value.status) == ("NO_DEVICE", 404)


def test_channels_and_their_streams(client: Client) -> None:
    assert client.channels.get(7)["channel_name"] == "Boiler room"
    assert [each["tag"] for each in client.channels.list(with_tags=True)] == [None, "north"]
    assert client.channels.add(8)["channel_name"] == "NEW_CH8"
    assert client.channels.rename(8, "Attic")["channel_name"] == "Attic"
    assert client.channels.describe(8, "a/b", unit="°C")["unit"] == "°C"
    assert [each["stream"] for each in client.channels.streams(8)] == ["a/b"]
    client.channels.delete(8, keep_data=True)
    assert [(each["channel"], each["waiting_rows"]) for each in client.channels.archived()] == [(8, 0)]
    assert client.channels.restore(8)["channel_name"] == "Attic"
    assert client.channels.archived() == []
    client.channels.delete(8)
    with pytest.raises(NotFoundError, match="NO_CHANNEL"):
        client.channels.get(8)


def test_rows_come_one_by_one_with_their_times(client: Client) -> None:
    rows = list(client.stream(7))
    assert [row.value.get("temp") for row in rows] == [20, 21, 22, 30]
    assert rows[3].tag == "north"
    assert rows[0].device == "pump/7"
    assert rows[0].at.utcoffset() == datetime.timedelta(hours=9)
    assert [row.value["temp"] for row in client.stream(7, last=2, sort="desc")] == [30, 22]
    assert [row.value["temp"] for row in client.stream(7, device=["pump-8", "nobody"])] == [30]
    later = rows[-1].at + datetime.timedelta(seconds=5)
    assert list(client.stream(7, start=later)) == []
    assert len(list(client.stream(7, start=rows[0].at, end=later))) == 4
    assert [row.channel for row in client.stream([7], last=1)] == [7]


def test_tables_of_arrow_pandas_and_polars_have_the_same_rows(client: Client) -> None:
    asked = client.stream(7, streams="temp")
    assert asked.to_arrow()["temp"].to_pylist() == [20, 21, 22, 30]
    assert asked.to_pandas()["temp"].tolist() == [20, 21, 22, 30]
    assert asked.to_polars()["temp"].to_list() == [20, 21, 22, 30]


def test_aggregates(client: Client) -> None:
    assert client.aggregate(7, "avg", start="2020-01-01") == [{"_id": None, "value": {"temp": 23.25}}]
    assert client.aggregate(7, "max", start="2020-01-01", tag="south") == []


def test_sql(client: Client) -> None:
    asked = client.sql("SELECT temp FROM channel_7 WHERE temp > ? ORDER BY temp", [21])
    assert list(asked) == [{"temp": 22}, {"temp": 30}]
    assert asked.to_pandas()["temp"].tolist() == [22, 30]
    assert list(client.sql("SELECT $a AS a", {"a": "x"})) == [{"a": "x"}]
    with pytest.raises(QueryError, match="BAD_SQL"):
        list(client.sql("SELECT nothing FROM channel_7"))


def test_what_was_written_is_read_and_heard_once(client: Client) -> None:
    client.channels.add(9)
    at = datetime.datetime(2024, 5, 2, 1, 0, 0, 250_000, datetime.UTC)
    rows = [
        {"value": {"temp": 61.5}, "at": at},
        {"value": {"temp": 62}, "at": at, "tag": "nörd", "device": "pump-8"},
    ]
    assert client.write(9, rows, key="import-1", device="pump/7", tag="south") == 2
    assert client.write(9, rows, key="import-1", device="pump/7", tag="south") == 2
    read = list(client.stream(9))
    assert [(row.at, row.device, row.tag, row.value) for row in read] == [
        (at, "pump/7", "south", {"temp": 61.5}),
        (at, "pump-8", "nörd", {"temp": 62}),
    ]
    with pytest.raises(BadRequestError, match="BAD_TIME_FORMAT"):
        client.write(9, [{"value": 1, "at": "soon"}])
    heard = client.live(9, since=0)
    assert [next(heard), next(heard)] == [dataclasses.replace(row, channel=9) for row in read]
    heard.close()
    client.channels.delete(9)


def test_events_sessions_messages(client: Client) -> None:
    made = client.events.add(mapped_ch=7, source="temp", operator=">", threshold=75)
    assert (made["event_id"], made["threshold"]) == (1, "75")
    assert client.events.update(1, enabled=True)["enabled"] is True
    assert client.events.list() == [client.events.get(1)]
    client.events.delete(1)
    assert client.sessions.list() == []
    with pytest.raises(NotFoundError, match="NO_SESSION"):
        client.sessions.disconnect("nobody")
    client.publish("pump/7", {"valve": "open"}, qos=1)
    with pytest.raises(BadRequestError, match="BAD_JSON_FORMAT"):
        client.publish("pump/7", "x", qos=2)


def test_the_account_and_what_was_changed(client: Client) -> None:
    assert client.user.update(organization="Plant 7")["organization"] == "Plant 7"
    assert client.user.get()["locale"] == "Asia/Tokyo"
    assert client.user.rotate("device_token", overlap_s=3600)["which"] == "device_token"
    rows = list(client.user.audit(limit=2))
    assert len(rows) > 4
    assert rows[0]["action"]


def test_admins(rest: Daemon, client: Client) -> None:
    made = json.loads(rest.run("admin", "token", "add", "--name", "client", "--json"))
    with Client(f"http://127.0.0.1:{rest.port('http')}", made["token"]) as admin:
        user = admin.admin.add(user_alias="new", quotas={"devices": 1})
        assert user["api_token"]
        assert admin.admin.update(user["user_id"], enabled=False)["enabled"] is False
        assert admin.admin.get(user["user_id"])["quotas"]["devices"] == 1
        assert user["user_id"] in [each["user_id"] for each in admin.admin.users(enabled=False, limit=1)]
        admin.admin.delete(user["user_id"], with_data=True)
        assert next(admin.admin.audit(user["user_id"]))["action"] == "user.delete"
    with pytest.raises(AuthError, match="ADMIN_REQUIRED"):
        client.admin.get("U000001")
    with Client(f"http://127.0.0.1:{rest.port('http')}", "wrong") as stranger, pytest.raises(AuthError):
        stranger.user.get()


@pytest.mark.parametrize(
    ("shape", "schema"),
    [
        (shapes.Device, "DeviceShown"), (shapes.Channel, "ChannelShown"), (shapes.Stream, "StreamShown"),
        (shapes.Event, "EventShown"), (shapes.Session, "SessionShown"), (shapes.Storage, "Storage"),
        (shapes.User, "UserShown"), (shapes.Rotated, "Rotated"), (shapes.AuditRow, "AuditShown"),
        (shapes.Listed, "AccountListed"), (shapes.Account, "AccountMade"),
    ],
)  # fmt: skip
def test_shapes_have_the_keys_that_the_server_describes(
    client: Client, rest: Daemon, shape: Any, schema: str
) -> None:
    document = httpx.get(f"http://127.0.0.1:{rest.port('http')}/openapi.json").json()
    assert (
        typing.get_type_hints(shape).keys() == document["components"]["schemas"][schema]["properties"].keys()
    )


# ---- servers that are not as they should be


def transport(answer: Callable[[httpx.Request], httpx.Response]) -> tuple[Transport, list[float]]:
    """A transport to a made-up server, and the seconds that it waited."""
    waited: list[float] = []
    now = [0.0]

    def wait(seconds: float) -> None:
        waited.append(seconds)
        now[0] += seconds

    made = Transport("http://h", "t", 1.0, wait, lambda: now[0])
    made._http = httpx.Client(base_url="http://h", transport=httpx.MockTransport(answer))
    return made, waited


def refusal(status: int, token: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"error": token, "detail": "words"}, headers=named)


def test_the_rate_limit_is_waited_for() -> None:
    answers = [refusal(429, "TOO_MANY_REQUESTS", Retry_After="2"), httpx.Response(200, json=[1])]
    made, waited = transport(lambda _request: answers.pop(0))
    assert made.json("POST", "/v2/event") == [1]
    assert waited == [2.0]


def test_a_limit_that_does_not_give_way_is_told() -> None:
    made, waited = transport(lambda _request: refusal(429, "TOO_MANY_REQUESTS", Retry_After="1"))
    with pytest.raises(TooManyRequestsError):
        made.json("GET", "/v2/event")
    assert waited == [1.0] * (TRIES - 1)


def test_with_nothing_left_the_next_request_waits_first() -> None:
    headers = {"RateLimit-Limit": "20", "RateLimit-Remaining": "0", "RateLimit-Reset": "4"}
    made, waited = transport(lambda _request: httpx.Response(200, json={}, headers=headers))
    made.json("GET", "/v2/user")
    assert waited == []
    made.json("GET", "/v2/user")
    assert waited == [pytest.approx(0.2)]


@pytest.mark.parametrize(("method", "tries"), [("GET", TRIES), ("POST", 1)])
def test_a_broken_connection_is_tried_again_if_nothing_can_happen_twice(method: str, tries: int) -> None:
    seen = []

    def broken(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        raise httpx.ReadError("gone")

    made, _ = transport(broken)
    with pytest.raises(httpx.ReadError):
        made.json(method, "/v2/event")
    assert len(seen) == tries


def test_what_is_not_ours_is_an_error_all_the_same() -> None:
    made, _ = transport(lambda _request: httpx.Response(502, text="<html>bad gateway"))
    with pytest.raises(UnavailableError, match="HTTP_502: <html>bad gateway"):
        made.json("GET", "/v2/event")
    assert isinstance(error_of("CHANNEL_INUSE", 403, ""), InUseError)


def test_events_of_a_live_stream() -> None:
    lines = ["event: datapoint", "id: 4", 'data: {"a":', "data: 1}", "", ": silence", "", "id:5", "data: {}"]
    assert list(events(lines)) == [Event("datapoint", "4", {"a": 1})]
