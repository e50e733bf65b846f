"""The User service of a running daemon (contract 3.5)."""

import json

import pytest

from tests.daemon import Daemon
from tests.live.test_rest import NEVER, call, refused


@pytest.fixture(scope="module")
def daemon(rest: Daemon) -> Daemon:
    return rest


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
    body = {
        "email2": "b@example.com",
        "organization": "Ex",
        "user_id": "U9",
        "api_token": NEVER,
        "storage": {},
    }
    assert call(daemon, "PUT", "/v2/user", body)[0] == 200
    user = call(daemon, "GET", "/v2/user")[1][0]
    assert (user["email2"], user["organization"], user["email1"]) == ("b@example.com", "Ex", "a@example.com")
    assert (user["user_id"], user["api_token"]) == (daemon.user["user_id"], daemon.user["api_token"])
    for wrong in (
        {"email1": 7},
        {"email1": "nobody"},
        {"email1": "a@example.com, b@example.com"},
        {"email2": "a@example.com\r\nBcc: b@example.com"},
        {"email2": "Me <a@example.com>"},
        {"organization": None},
        {"locale": "Mars/Base"},
        {"locale": "localtime"},
        {"locale": ""},
    ):
        assert refused(daemon, "PUT", "/v2/user", {"user_alias": "never", **wrong}) == (
            400,
            "BAD_JSON_FORMAT",
        )
    assert call(daemon, "GET", "/v2/user")[1][0]["user_alias"] != "never"
