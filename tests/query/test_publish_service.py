"""The Publish service against contract 3.6."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.query.filled_store import FilledStore


@pytest.fixture
def house(tmp_path: Path) -> Iterator[FilledStore]:
    house = FilledStore(tmp_path / "data", ("pump-7", "a/b", "größe", "c+d"))
    yield house
    house.close()


def publish(house: FilledStore, body: bytes, device: str = "pump-7") -> tuple[int, Any]:
    """The body as it is."""
    return trio.run(house._send, "POST", f"/v2/publish/{device}", "", {}, body)


def published(house: FilledStore, device: str = "pump-7") -> list[tuple[bytes, int]]:
    """What went out to the device's topic, of this user, since the last time."""
    messages, house.clients.published = house.clients.published, []
    topic = f"{house.user.device_token}/{device}/subscribe".encode()
    assert {(user, where) for user, where, _, _ in messages} <= {(house.user.user_id, topic)}
    return [(payload, qos) for _, _, payload, qos in messages]


def test_a_message_that_fits_into_no_packet_is_refused(house: FilledStore) -> None:
    room = house.clients.message_bytes_max - len(f"{house.user.device_token}/pump-7/subscribe")
    longest = {"qos": 1, "payload": "x" * room}
    assert house.send("POST", "/v2/publish/pump-7", longest) == (200, {})
    assert published(house) == [(b"x" * room, 1)]
    status, reply = house.send("POST", "/v2/publish/pump-7", {"qos": 1, "payload": "x" * room + "y"})
    assert (status, reply["error"]) == (413, "PAYLOAD_TOO_LARGE")
    assert published(house) == []


@pytest.mark.parametrize(
    ("body", "payload", "qos"),
    [
        ('{"qos":1,"payload":"valve=open"}', b"valve=open", 1),
        ('{"qos":0,"payload":"led:on"}', b"led:on", 0),
        ('{"payload":"led:on"}', b"led:on", 0),
        ('{"payload":"led:on","qos":1.0,"retain":true}', b"led:on", 1),
        ('{"payload":""}', b"", 0),
        ('{"payload":" 1\\n"}', b" 1\n", 0),
        ('{"payload":"größe \\u0000"}', "größe \0".encode(), 0),
        ('{"payload":{"a": [1, 2.5, "ö"]}}', '{"a":[1,2.5,"ö"]}'.encode(), 0),
        ('{"payload":[]}', b"[]", 0),
        ('{"payload":12345678901234567890}', b"12345678901234567890", 0),
        ('{"payload":false}', b"false", 0),
    ],
)
def test_a_payload_goes_out_as_it_is(house: FilledStore, body: str, payload: bytes, qos: int) -> None:
    assert publish(house, body.encode()) == (200, {})
    assert published(house) == [(payload, qos)]


@pytest.mark.parametrize(
    "body",
    [
        "", "{", "[]", '"x"', "null", "{}", '{"qos":1}', '{"payload":null}', '{"payload":"x","qos":2}', '{"payload":"x","qos":-1}',
        '{"payload":"x","qos":0.5}', '{"payload":"x","qos":"1"}', '{"payload":"x","qos":true}', '{"payload":"x","qos":null}',
        '{"payload":"x","qos":[1]}', '{"payload":"\\ud800"}', '{"payload":["\\udfff"]}', '{"payload":1e999}', '{"payload":NaN}',
        '{"payload":' + "[" * 100_000 + "}",
    ],
)  # fmt: skip
def test_a_body_that_is_not_acceptable_publishes_nothing(house: FilledStore, body: str) -> None:
    status, reply = publish(house, body.encode())
    assert (status, reply["error"]) == (400, "BAD_JSON_FORMAT")
    assert published(house) == []


def test_only_a_registered_device_can_be_reached(house: FilledStore) -> None:
    for device in ("other", "pump", "pump-7/x"):
        status, reply = publish(house, b'{"payload":"x"}', device)
        assert (status, reply["error"]) == (404, "NO_DEVICE")
    assert published(house) == []


def test_a_device_that_is_disabled_and_not_mapped_is_reached_too(house: FilledStore) -> None:
    assert house.send("PUT", "/v2/device/pump-7", {"enabled": False, "mapped_ch": None})[0] == 200
    assert publish(house, b'{"payload":"x"}') == (200, {})
    assert published(house) == [(b"x", 0)]


@pytest.mark.parametrize("device", ["a/b", "größe"])
def test_device_ids_are_utf_8_and_may_have_slashes(house: FilledStore, device: str) -> None:
    assert publish(house, b'{"payload":"x"}', device) == (200, {})
    assert published(house, device) == [(b"x", 0)]


def test_a_device_whose_topic_would_have_a_wildcard_cannot_be_reached(house: FilledStore) -> None:
    status, reply = publish(house, b'{"payload":"x"}', "c+d")
    assert (status, reply["error"]) == (400, "DEVICE_ID_INVALID")
    assert published(house) == []


def test_without_room_the_message_is_refused_and_may_be_sent_again(house: FilledStore) -> None:
    house.clients.has_room = False
    status, reply = publish(house, b'{"payload":"x","qos":1}')
    assert (status, reply["error"]) == (503, "UNAVAILABLE")
    house.clients.has_room = True
    assert publish(house, b'{"payload":"x","qos":1}') == (200, {})
    assert published(house) == [(b"x", 1)]


def test_without_a_token_nothing_is_published(house: FilledStore) -> None:
    status, reply = house.send("POST", "/v2/publish/pump-7", {"payload": "x"}, X_APITOKEN="")
    assert (status, reply["error"]) == (401, "AUTH_REQUIRED")
    assert published(house) == []


def test_other_methods_are_not_allowed(house: FilledStore) -> None:
    assert house.send("GET", "/v2/publish/pump-7")[0] == 405
    assert house.send("DELETE", "/v2/publish/pump-7")[0] == 405
