"""The Session service against contract 3.7."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from query.ports import LiveSession
from tests.query.filled_store import FilledStore

# 2024-05-02 03:00:00 in Berlin
PUMP = LiveSession("pump-7_a1b2", "203.0.113.9", True, 4, 60, 1_714_611_600_000_000)
SHOWN = {
    "client_id": "pump-7_a1b2",
    "ipaddress": "203.0.113.9",
    "clean_sess": True,
    "proto_ver": 4,
    "keepalive": 60,
    "connected_at": "2024-05-02T03:00:00+0200",
}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[FilledStore]:
    house = FilledStore(tmp_path / "data", ("a",))
    yield house
    house.close()


def test_nobody_connected_is_an_empty_array(house: FilledStore) -> None:
    assert house.get("/v2/session") == (200, [])
    assert house.get("/v2/session/") == (200, [])


def test_a_session_has_the_keys_of_the_contract_in_its_order(house: FilledStore) -> None:
    house.clients.connected[house.user.user_id] = [PUMP]
    status, reply = house.get("/v2/session")
    assert (status, reply) == (200, [SHOWN])
    assert list(reply[0]) == list(SHOWN)


def test_the_longest_connected_comes_first(house: FilledStore) -> None:
    later = replace(
        PUMP, client_id="b", connected_at_us=PUMP.connected_at_us + 1, proto_ver=5, clean_sess=False
    )
    house.clients.connected[house.user.user_id] = [
        later,
        replace(PUMP, client_id="d"),
        replace(PUMP, client_id="c"),
    ]
    assert [row["client_id"] for row in house.get("/v2/session")[1]] == ["c", "d", "b"]
    assert house.get("/v2/session")[1][2] == {**SHOWN, "client_id": "b", "proto_ver": 5, "clean_sess": False}


def test_other_accounts_are_neither_seen_nor_disconnected(house: FilledStore) -> None:
    house.clients.connected["U999999"] = [PUMP]
    assert house.get("/v2/session") == (200, [])
    assert house.send("DELETE", "/v2/session/pump-7_a1b2")[0] == 404
    assert house.clients.connected["U999999"] == [PUMP]


@pytest.mark.parametrize("client_id", ["pump-7_a1b2", "a/b", "größe", "a b"])
def test_a_client_is_disconnected_once(house: FilledStore, client_id: str) -> None:
    house.clients.connected[house.user.user_id] = [replace(PUMP, client_id=client_id)]
    assert house.send("DELETE", f"/v2/session/{client_id}") == (200, {})
    status, reply = house.send("DELETE", f"/v2/session/{client_id}")
    assert (status, reply["error"]) == (404, "NO_SESSION")
    assert house.get("/v2/session") == (200, [])


def test_without_a_token_nothing_is_told_or_done(house: FilledStore) -> None:
    house.clients.connected[house.user.user_id] = [PUMP]
    for method, path in (("GET", "/v2/session"), ("DELETE", "/v2/session/pump-7_a1b2")):
        status, reply = house.send(method, path, X_APITOKEN="nobody's")
        assert (status, reply["error"]) == (401, "AUTH_REQUIRED")
    assert house.clients.connected[house.user.user_id] == [PUMP]


def test_other_methods_are_not_allowed(house: FilledStore) -> None:
    for method, path in (("POST", "/v2/session"), ("GET", "/v2/session/c"), ("PUT", "/v2/session/c")):
        assert house.send(method, path)[0] == 405
