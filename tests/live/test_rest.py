"""The REST services of a running daemon against the contract's tables (3.0, 3.1, 3.2, 3.5)."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import publish

from tests.daemon import Daemon

NEVER = "F" * 32
DEVICE_KEYS = (
    "device_id", "description", "enabled", "mapped_ch", "device_type", "location", "manufacturer", "activate_at",
)  # fmt: skip


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("rest") / "data", THINGSCALE_LIMITS_DEVICES_PER_USER_MAX="40") as daemon:
        daemon.add_user("--locale", "Asia/Tokyo", "--email", "a@example.com")
        yield daemon


Call = tuple[int, Any]


def call(daemon: Daemon, method: str, path: str, body: object = None, **headers: str) -> Call:
    """Status and JSON; headers as X_TAGNAME."""
    status, reply, found = daemon.request(
        method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
    )
    assert found["content-type"] == "application/json"
    return status, reply


def refused(daemon: Daemon, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    """Status and token of an error; it has words, too."""
    status, reply = call(daemon, method, path, body, **headers)
    assert list(reply) == ["error", "detail"], reply
    assert reply["detail"]
    return status, reply["error"]


# ---- common rules (3.0)

ROUTES = [
    ("GET", "/v2/device"), ("GET", "/v2/device/d"), ("POST", "/v2/device/d"), ("PUT", "/v2/device/d"),
    ("DELETE", "/v2/device/d"), ("GET", "/v2/channel"), ("GET", "/v2/channel/1"), ("POST", "/v2/channel/1"),
    ("PUT", "/v2/channel/1"), ("DELETE", "/v2/channel/1"), ("GET", "/v2/stream/1"), ("GET", "/v2/user"),
    ("PUT", "/v2/user"),
]  # fmt: skip


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_the_api_token_there_is_nothing_to_see(
    daemon: Daemon, method: str, path: str, slash: str
) -> None:
    for token in ("", NEVER, daemon.user["device_token"], daemon.user["api_token"].lower(), "ÿ"):
        assert refused(daemon, method, path + slash, X_APITOKEN=token) == (401, "AUTH_REQUIRED")


@pytest.mark.parametrize("path", ["/", "/v2", "/v2/", "/v2/devices", "/v2/user/x", "/v2/channel/1/x", "/v3/user", "/%F0%9F%98%80"])
def test_an_unknown_path_is_404(daemon: Daemon, path: str) -> None:
    assert refused(daemon, "GET", path) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/user", "GET, HEAD, PUT"),
        ("DELETE", "/v2/user/", "GET, HEAD, PUT"),
        ("PUT", "/v2/device", "GET, HEAD"),
        ("PATCH", "/v2/device/d", "DELETE, GET, HEAD, POST, PUT"),
        ("DELETE", "/v2/channel/", "GET, HEAD"),
        ("PUT", "/v2/stream/1", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
def test_a_wrong_verb_is_405(daemon: Daemon, method: str, path: str, allowed: str) -> None:
    assert refused(daemon, method, path) == (405, "METHOD_NOT_ALLOWED")
    assert daemon.request(method, path)[2]["allow"] == allowed


@pytest.mark.parametrize(
    "body", ["{", "", " ", "[]", "7", '"x"', "null", '{"a":NaN}', "{'a':1}", b"\xff\xfe", "[" * 100_000, "v=1&v2=2"]
)
@pytest.mark.parametrize("path", ["/v2/device/json", "/v2/channel/39", "/v2/user"])
def test_a_body_that_is_no_json_object_is_refused(daemon: Daemon, path: str, body: str | bytes) -> None:
    call(daemon, "POST", path)
    assert refused(daemon, "PUT", path, body) == (400, "BAD_JSON_FORMAT")


@pytest.mark.parametrize(
    "label", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "application/xml; charset=latin1"]
)
def test_a_body_is_json_whatever_its_label_says(daemon: Daemon, label: str) -> None:
    status, reply = call(daemon, "PUT", "/v2/user", '{"user_alias":"ä€😀"}'.encode(), Content_Type=label)
    assert (status, reply["user_alias"]) == (200, "ä€😀")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/device/half", r'{"description":"\ud800"}'),
        ("/v2/device/half", r'{"enabled":"\ud800"}'),
        ("/v2/device/half", r'{"mapped_ch":"\ud800"}'),
        ("/v2/channel/39", r'{"channel_name":"x\udfff"}'),
        ("/v2/user", r'{"organization":"\ud800x"}'),
        ("/v2/user", r'{"locale":"\ud800"}'),
    ],
)
def test_half_a_surrogate_pair_is_refused(daemon: Daemon, path: str, body: str) -> None:
    call(daemon, "POST", path)
    assert refused(daemon, "PUT", path, body) == (400, "BAD_JSON_FORMAT")


# ---- devices (3.1)


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
    assert (made["device_id"], made["enabled"], made["mapped_ch"], made["description"]) == ("pump-7", False, None, "")
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


@pytest.mark.parametrize("name", ["a%20b", "s%C3%BCd", "100000000000001", "a/b", "%F0%9F%98%80", "a%3Fb%23c", "x" * 256])
def test_a_device_id_is_what_the_client_chose(daemon: Daemon, name: str) -> None:
    assert call(daemon, "POST", f"/v2/device/{name}")[0] == 201
    assert device(daemon, name)["device_id"] not in ("", None)
    assert call(daemon, "DELETE", f"/v2/device/{name}/") == (200, {})


@pytest.mark.parametrize(
    ("name", "token"),
    [("0", "DEVICE_ID_ZERO"), ("0/", "DEVICE_ID_ZERO"), ("x" * 257, "DEVICE_ID_INVALID"), ("a%07b", "DEVICE_ID_INVALID")],
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


def test_a_token_sees_its_own_account_alone(daemon: Daemon, tmp_path: Path) -> None:
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


# ---- the user (3.5)


def test_the_user_is_shown_with_tokens_and_storage(daemon: Daemon) -> None:
    status, reply = call(daemon, "GET", "/v2/user/")
    assert status == 200
    (user,) = reply
    assert list(user) == [
        "user_id", "api_token", "device_token", "email1", "email2", "organization", "locale", "user_alias", "storage",
    ]  # fmt: skip
    assert {name: user[name] for name in ("user_id", "api_token", "device_token")} == {
        name: daemon.user[name] for name in ("user_id", "api_token", "device_token")
    }
    assert (user["email1"], user["locale"]) == ("a@example.com", "Asia/Tokyo")
    assert list(user["storage"]) == ["count", "usage_bytes", "maxSize", "avg_obj_size"]
    assert all(type(figure) is int and figure >= 0 for figure in user["storage"].values())


def test_storage_counts_what_is_stored(daemon: Daemon) -> None:
    before = call(daemon, "GET", "/v2/user")[1][0]["storage"]
    daemon.add_device("counted", 12)
    for i in range(5):
        assert daemon.post("counted", json.dumps({"i": i})) == (200, "OK")
    after = call(daemon, "GET", "/v2/user")[1][0]["storage"]
    assert after["count"] == before["count"] + 5
    assert after["maxSize"] > after["usage_bytes"] > before["usage_bytes"]
    assert after["avg_obj_size"] == after["usage_bytes"] // after["count"]


def test_the_users_texts_change_and_nothing_else(daemon: Daemon) -> None:
    body = {"email2": "b@example.com", "organization": "Ex", "user_id": "U9", "api_token": NEVER, "storage": {}}
    assert call(daemon, "PUT", "/v2/user", body)[0] == 200
    user = call(daemon, "GET", "/v2/user")[1][0]
    assert (user["email2"], user["organization"], user["email1"]) == ("b@example.com", "Ex", "a@example.com")
    assert (user["user_id"], user["api_token"]) == (daemon.user["user_id"], daemon.user["api_token"])
    for wrong in ({"email1": 7}, {"organization": None}, {"locale": "Mars/Base"}, {"locale": "localtime"}, {"locale": ""}):
        assert refused(daemon, "PUT", "/v2/user", {"user_alias": "never", **wrong}) == (400, "BAD_JSON_FORMAT")
    assert call(daemon, "GET", "/v2/user")[1][0]["user_alias"] != "never"


def test_the_locale_is_the_zone_of_every_time(daemon: Daemon) -> None:
    call(daemon, "POST", "/v2/device/zoned")
    try:
        assert call(daemon, "PUT", "/v2/user", {"locale": "America/St_Johns"})[0] == 200
        assert device(daemon, "zoned")["activate_at"][-6:] in ("-03:30", "-02:30")
    finally:
        assert call(daemon, "PUT", "/v2/user", {"locale": "Asia/Tokyo"})[0] == 200
    assert device(daemon, "zoned")["activate_at"].endswith("+09:00")
