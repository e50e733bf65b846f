"""Tokens that are replaced (POST /v2/user/token), and the ways in which a token may come."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.live.test_broker import Device


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory: Path = tmp_path_factory.mktemp("tokens")
    with Daemon(directory / "data") as daemon:
        yield daemon


@pytest.fixture
def daemon(running: Daemon) -> Daemon:
    running.add_user("--locale", "Asia/Tokyo")
    running.add_device("pump", 1)
    return running


def rotate(daemon: Daemon, **body: Any) -> str:
    status, reply, _ = daemon.request("POST", "/v2/user/token", body)
    assert status == 201, reply
    assert (reply["user_id"], reply["which"]) == (daemon.user["user_id"], body["which"])
    assert len(reply["token"]) == 32
    assert (reply["previous_ends_at"] is None) == (body.get("overlap_s") == 0)
    token: str = reply["token"]
    return token


def status_of(daemon: Daemon, token: str) -> int:
    return daemon.request("GET", "/v2/user", headers={"X-APITOKEN": token})[0]


def post_with(daemon: Daemon, token: str) -> tuple[int, str]:
    mine = daemon.user
    daemon.user = {**mine, "device_token": token}
    answer = daemon.post("pump", "1")
    daemon.user = mine
    return answer


# ---- what opens


def test_a_token_may_come_as_bearer_or_as_the_password_of_basic(daemon: Daemon) -> None:
    token = daemon.user["api_token"]

    def status(authorization: str, api_token: str = "") -> int:
        headers = {"X-APITOKEN": api_token, "Authorization": authorization}
        return daemon.request("GET", "/v2/user", headers=headers)[0]

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    for right in (f"Bearer {token}", f"bearer {token}", basic(f"grafana:{token}"), basic(f":{token}")):
        assert status(right) == 200
    for wrong in (
        "", token, f"Digest {token}", "Bearer", f"Bearer {token[:-1]}", basic(token), basic(f"{token}:"), "Basic !!!",
        "Basic /w==", f"Bearer {daemon.user['device_token']}",
    ):  # fmt: skip
        assert status(wrong) == 401
    assert status("Bearer wrong", token) == 200  # X-APITOKEN counts


# ---- rotation


def test_without_an_overlap_the_old_api_token_is_worth_nothing_at_once(daemon: Daemon) -> None:
    old = daemon.user["api_token"]
    new = rotate(daemon, which="api_token", overlap_s=0)
    assert (status_of(daemon, old), status_of(daemon, new)) == (401, 200)


def test_an_overlap_is_a_day_if_nothing_is_said(daemon: Daemon) -> None:
    status, reply, _ = daemon.request("POST", "/v2/user/token", {"which": "api_token"})
    assert status == 201
    ends = time.strptime(reply["previous_ends_at"], "%Y-%m-%dT%H:%M:%S+0900")
    assert 86_390 < time.mktime(ends) - time.mktime(time.gmtime(time.time() + 9 * 3600)) <= 86_401
    assert status_of(daemon, daemon.user["api_token"]) == 200


@pytest.mark.parametrize(
    "body",
    [
        {}, {"which": "password"}, {"which": None}, {"which": "api_token", "overlap_s": -1}, [],
        {"which": "api_token", "overlap_s": 7_776_001}, {"which": "api_token", "overlap_s": 1.5},
        {"which": "api_token", "overlap_s": True}, {"which": "device_token", "overlap_s": "60"}, "{", None,
    ],
)  # fmt: skip
def test_what_is_no_rotation_is_400_and_replaces_nothing(daemon: Daemon, body: Any) -> None:
    status, reply, _ = daemon.request("POST", "/v2/user/token", body)
    assert (status, reply["error"]) == (400, "BAD_JSON_FORMAT")
    (user,) = daemon.request("GET", "/v2/user")[1]
    assert {name: user[name] for name in ("api_token", "device_token")} == {
        name: daemon.user[name] for name in ("api_token", "device_token")
    }


def test_an_old_api_token_works_until_its_time_is_over(daemon: Daemon) -> None:
    old = daemon.user["api_token"]
    new = rotate(daemon, which="api_token", overlap_s=2)
    assert (status_of(daemon, old), status_of(daemon, new)) == (200, 200)
    daemon.wait_until(lambda: status_of(daemon, old) == 401)
    assert status_of(daemon, new) == 200


def test_devices_with_the_old_token_go_on_during_the_overlap_and_stop_at_its_end(daemon: Daemon) -> None:
    old = daemon.user["device_token"]
    with Device(daemon, "pump") as pump:
        pump.subscribe(f"{old}/pump/subscribe")
        new = rotate(daemon, which="device_token", overlap_s=4)
        ended: list[object] = []
        pump.client.on_disconnect = lambda *_: ended.append(1)
        # The old one, over both connectors; a command reaches the topic that the device knows.
        assert post_with(daemon, old) == post_with(daemon, new) == (200, "OK")
        pump.publish(f"{old}/json/pump", "2")
        assert daemon.request("POST", "/v2/publish/pump", {"payload": "valve=open", "qos": 1})[0] == 200
        assert pump.next() == (f"{old}/pump/subscribe", b"valve=open", 1, False)
        # A client that comes with the old token, and one with the new one, which hears of the old one's readings.
        with Device(daemon, "late") as late:
            late.publish(f"{old}/json/pump", "3")
            daemon.user["device_token"] = new
            with Device(daemon, "app") as app:
                app.subscribe(f"{new}/#")
                pump.publish(f"{old}/json/pump", "4")
                assert app.next() == (f"{new}/json/pump", b"4", 1, False)
                app.publish(f"{new}/json/pump", "5")
                assert app.next()[:2] == (f"{new}/json/pump", b"5")
                assert app.has_nothing()
                daemon.wait_until(lambda: ended)
                assert post_with(daemon, old) == (401, "AUTH_REQUIRED")
                assert post_with(daemon, new) == (200, "OK")
                app.publish(f"{new}/json/pump", "6")
                sessions = daemon.request("GET", "/v2/session")[1]
                assert "app" in [session["client_id"] for session in sessions]
                app.publish(f"{old}/json/pump", "7")  # acknowledged, and dropped
    assert [entry["value"] for entry in daemon.stream()] == [1, 1, 2, 3, 4, 5, 1, 6]


def test_a_client_whose_token_is_replaced_without_an_overlap_is_sent_away(daemon: Daemon) -> None:
    with Device(daemon, "pump", version=5) as pump:
        ended: list[int] = []
        pump.client.on_disconnect = lambda _, __, ___, reason, ____: ended.append(reason.value)
        rotate(daemon, which="device_token", overlap_s=0)
        daemon.wait_until(lambda: ended)
        assert ended[0] == 0x87


def test_the_command_replaces_with_an_overlap_too(daemon: Daemon) -> None:
    old = daemon.user["api_token"]
    daemon.run("user", "rotate", daemon.user["user_id"], "--api", "--overlap", "3600")
    assert status_of(daemon, old) == 200
    daemon.run("user", "rotate", daemon.user["user_id"], "--api")
    daemon.wait_until(lambda: status_of(daemon, old) == 401)


def test_an_overlap_outlives_a_restart(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        daemon.add_user()
        daemon.add_device("pump", 1)
        old = daemon.user["device_token"]
        new = rotate(daemon, which="device_token", overlap_s=3600)
        daemon.restart()
        assert post_with(daemon, old) == post_with(daemon, new) == (200, "OK")
        with Device(daemon, "pump") as pump:
            pump.publish(f"{old}/json/pump", "2")
        assert [entry["value"] for entry in daemon.stream()] == [1, 1, 2]
