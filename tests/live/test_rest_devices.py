"""The Device service of a running daemon (contract 3.1)."""

import time
from typing import Any

import pytest
from paho.mqtt import publish

from tests.daemon import Daemon
from tests.live.test_rest import call, refused

DEVICE_KEYS = (
    "device_id", "description", "enabled", "mapped_ch", "device_type", "location", "manufacturer", "activate_at",
)  # fmt: skip


@pytest.fixture(scope="module")
def daemon(rest: Daemon) -> Daemon:
    return rest


def device(daemon: Daemon, name: str) -> dict[str, Any]:
    status, reply = call(daemon, "GET", f"/v2/device/{name}")
    assert status == 200
    (found,) = reply
    assert isinstance(found, dict)
    return found


def test_a_device_is_made_shown_changed_and_deleted(daemon: Daemon) -> None:
    assert refused(daemon, "GET", "/v2/device/pump-7") == (404, "NO_DEVICE")
    status, made = call(daemon, "POST", "/v2/device/pump-7/")
    assert status == 201
    assert tuple(made) == DEVICE_KEYS
    assert (made["device_id"], made["enabled"], made["mapped_ch"], made["description"]) == (
        "pump-7",
        False,
        None,
        "",
    )
    assert time.strptime(made["activate_at"], "%Y-%m-%dT%H:%M:%S+09:00")
    assert device(daemon, "pump-7") == made
    assert made in call(daemon, "GET", "/v2/device")[1]
    assert refused(daemon, "POST", "/v2/device/pump-7") == (403, "DEVICE_INUSE")

    texts = {name: f"{name} ü" for name in ("description", "device_type", "location", "manufacturer")}
    assert call(daemon, "PUT", "/v2/device/pump-7", texts) == (200, {**made, **texts})
    assert call(daemon, "PUT", "/v2/device/pump-7", {"location": "roof"}) == (
        200, {**made, **texts, "location": "roof"},
    )  # fmt: skip
    unknown = {"device_id": "x", "activate_at": "x", "state": {}, "nonsense": 1}
    assert call(daemon, "PUT", "/v2/device/pump-7", unknown)[1] == device(daemon, "pump-7")

    assert call(daemon, "DELETE", "/v2/device/pump-7") == (200, {})
    for method, body in (("GET", None), ("PUT", {}), ("DELETE", None)):
        assert refused(daemon, method, "/v2/device/pump-7", body) == (404, "NO_DEVICE")


def test_a_device_may_be_made_with_its_fields(daemon: Daemon) -> None:
    call(daemon, "POST", "/v2/channel/7")
    body = {"enabled": True, "mapped_ch": 7, "location": "roof"}
    status, made = call(daemon, "POST", "/v2/device/with-fields", body)
    assert (status, {name: made[name] for name in body}) == (201, body)
    assert refused(daemon, "POST", "/v2/device/never", {"mapped_ch": 999}) == (404, "NO_CHANNEL")
    assert refused(daemon, "GET", "/v2/device/never") == (404, "NO_DEVICE")


def test_mapped_ch_may_be_a_number_a_word_or_null(daemon: Daemon) -> None:
    call(daemon, "POST", "/v2/device/mapped")
    for number in (0, 8):
        call(daemon, "POST", f"/v2/channel/{number}")
    for given, shown in ((8, 8), (None, None), (0, 0), ("8", 8), (8.0, 8)):
        status, reply = call(daemon, "PUT", "/v2/device/mapped", {"mapped_ch": given})
        assert (status, reply["mapped_ch"]) == (200, shown)
    for wrong in (True, "x", "", -1, 1.5, 2**31, 10**30, [], {}, 1e300):
        assert refused(daemon, "PUT", "/v2/device/mapped", {"mapped_ch": wrong}) == (400, "BAD_JSON_FORMAT")
    assert refused(daemon, "PUT", "/v2/device/mapped", {"mapped_ch": 9_999}) == (404, "NO_CHANNEL")
    assert refused(daemon, "PUT", "/v2/device/nobody", {"mapped_ch": 9_999}) == (404, "NO_DEVICE")
    assert device(daemon, "mapped")["mapped_ch"] == 8


@pytest.mark.parametrize("key", ["enabled", "enable"])
def test_enabled_has_an_old_name_and_may_be_a_word(daemon: Daemon, key: str) -> None:
    call(daemon, "POST", "/v2/device/switch")
    for given, shown in ((True, True), ("false", False), ("TRUE", True), (False, False), ("true", True)):
        assert call(daemon, "PUT", "/v2/device/switch", {key: given})[1]["enabled"] is shown
    for wrong in (1, 0, None, "", "maybe", [], {}):
        assert refused(daemon, "PUT", "/v2/device/switch", {key: wrong}) == (400, "BAD_JSON_FORMAT")
    assert device(daemon, "switch")["enabled"] is True


@pytest.mark.parametrize("value", [None, 7, True, [], {}, "x" * 1_025, "ü" * 513])
def test_a_text_of_a_device_is_a_text(daemon: Daemon, value: object) -> None:
    call(daemon, "POST", "/v2/device/texts")
    for name in ("description", "device_type", "location", "manufacturer"):
        body = {"enabled": True, name: value}
        assert refused(daemon, "PUT", "/v2/device/texts", body) == (400, "BAD_JSON_FORMAT")
    assert device(daemon, "texts")["enabled"] is False


@pytest.mark.parametrize(
    "name", ["a%20b", "s%C3%BCd", "100000000000001", "a/b", "%F0%9F%98%80", "a%3Fb%23c", "x" * 256]
)
def test_a_device_id_is_what_the_client_chose(daemon: Daemon, name: str) -> None:
    assert call(daemon, "POST", f"/v2/device/{name}")[0] == 201
    assert device(daemon, name)["device_id"] not in ("", None)
    assert call(daemon, "DELETE", f"/v2/device/{name}/") == (200, {})


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("0", "DEVICE_ID_ZERO"),
        ("0/", "DEVICE_ID_ZERO"),
        ("x" * 257, "DEVICE_ID_INVALID"),
        ("a%07b", "DEVICE_ID_INVALID"),
    ],
)
def test_some_device_ids_are_none(daemon: Daemon, name: str, token: str) -> None:
    assert refused(daemon, "POST", f"/v2/device/{name}") == (400, token)
    assert refused(daemon, "GET", f"/v2/device/{name}") == (404, "NO_DEVICE")


def test_state_stands_with_the_device(daemon: Daemon) -> None:
    daemon.add_device("stateful", 10)
    assert "state" not in device(daemon, "stateful")
    topic = f"{daemon.user['device_token']}/state/stateful"
    publish.single(
        topic, "health=OK&load=5.5&pod_run_current=3\n&uptime=12", 1, port=daemon.port("mqtt"),
        auth={"username": daemon.user["user_id"], "password": daemon.user["device_token"]},
    )  # fmt: skip
    daemon.wait_until(lambda: "state" in device(daemon, "stateful"))
    shown = device(daemon, "stateful")
    assert tuple(shown) == (*DEVICE_KEYS, "state")
    at = shown["state"].pop("last_update")
    assert time.strptime(at, "%Y-%m-%dT%H:%M:%S+09:00")
    assert shown["state"] == {"health": "OK", "load": 5.5, "pod_run_current": 3, "uptime": 12}
    assert call(daemon, "PUT", "/v2/device/stateful", {"location": "roof"})[1]["state"]["health"] == "OK"


def test_a_token_sees_its_own_account_alone(daemon: Daemon) -> None:
    first = dict(daemon.user)
    daemon.add_device("mine", 11)
    try:
        daemon.add_user()
        daemon.wait_until(lambda: daemon.request("GET", "/v2/user")[0] == 200)
        assert call(daemon, "GET", "/v2/device") == call(daemon, "GET", "/v2/channel") == (200, [])
        assert refused(daemon, "GET", "/v2/device/mine") == (404, "NO_DEVICE")
        for method in ("GET", "DELETE"):
            assert refused(daemon, method, "/v2/channel/11") == (404, "NO_CHANNEL")
        assert refused(daemon, "GET", "/v2/stream/11", X_ENDTIME="last") == (404, "NO_CHANNEL")
        for i in range(40):
            assert call(daemon, "POST", f"/v2/device/{i + 1}")[0] == 201
        assert refused(daemon, "POST", "/v2/device/one-more") == (403, "MAX_DEVICE_REACH")
        assert call(daemon, "DELETE", "/v2/device/1") == (200, {})
        assert call(daemon, "POST", "/v2/device/one-more")[0] == 201
    finally:
        daemon.user = first
    assert device(daemon, "mine")["mapped_ch"] == 11


def test_the_locale_is_the_zone_of_every_time(daemon: Daemon) -> None:
    call(daemon, "POST", "/v2/device/zoned")
    try:
        assert call(daemon, "PUT", "/v2/user", {"locale": "America/St_Johns"})[0] == 200
        assert device(daemon, "zoned")["activate_at"][-6:] in ("-03:30", "-02:30")
    finally:
        assert call(daemon, "PUT", "/v2/user", {"locale": "Asia/Tokyo"})[0] == 200
    assert device(daemon, "zoned")["activate_at"].endswith("+09:00")
