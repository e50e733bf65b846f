"""The Admin service of a running daemon: accounts, quotas, disabling, deleting, and the audit log."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.live.test_broker import Device

QUOTAS = {
    "devices": None,
    "channels": None,
    "storage_bytes": None,
    "rest_per_s": None,
    "connector_per_s": None,
}


class Admin:
    """A daemon, and an admin's token for it."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.made = json.loads(daemon.run("admin", "token", "add", "--name", "ops", "--json"))
        self.token = self.made["token"]

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any, dict[str, str]]:
        return self.daemon.request(method, f"/v2/admin/{path}", body, {"X-APITOKEN": self.token})

    def refused(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        status, reply, _ = self.call(method, path, body)
        assert list(reply) == ["error", "detail"], reply
        return status, reply["error"]

    def add(self, **fields: object) -> dict[str, Any]:
        """A new account, which is the daemon's user from now on."""
        status, reply, _ = self.call("POST", "users", fields)
        assert status == 201, reply
        self.daemon.user = reply
        user: dict[str, Any] = reply
        return user

    def set(self, **fields: object) -> dict[str, Any]:
        status, reply, _ = self.call("PUT", f"users/{self.daemon.user['user_id']}", fields)
        assert status == 200, reply
        user: dict[str, Any] = reply
        return user

    def audit(self, query: str = "") -> list[dict[str, Any]]:
        status, reply, _ = self.call("GET", f"audit{query}")
        assert status == 200, reply
        rows: list[dict[str, Any]] = reply
        return rows


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory: Path = tmp_path_factory.mktemp("admin")
    with Daemon(directory / "data", THINGSCALE_LIMITS_DEVICES_PER_USER_MAX="3") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def admin(running: Daemon) -> Admin:
    return Admin(running)


# ---- who may


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "users"), ("POST", "users"), ("GET", "users/U000001"), ("PUT", "users/U000001"),
        ("DELETE", "users/U000001"), ("POST", "users/U000001/token"), ("GET", "audit"),
    ],
)  # fmt: skip
def test_only_an_admins_token_opens_the_admins_paths(admin: Admin, method: str, path: str) -> None:
    daemon, user = admin.daemon, admin.add()
    for token, wanted in (
        ("", (401, "AUTH_REQUIRED")),
        ("F" * 32, (401, "AUTH_REQUIRED")),
        (user["device_token"], (401, "AUTH_REQUIRED")),
        (user["api_token"], (403, "ADMIN_REQUIRED")),
    ):
        status, reply, _ = daemon.request(method, f"/v2/admin/{path}", {}, {"X-APITOKEN": token})
        assert (status, reply["error"]) == wanted
    status, reply, _ = daemon.request("GET", "/v2/user", headers={"X-APITOKEN": admin.token})
    assert (status, reply["error"]) == (401, "AUTH_REQUIRED")


def test_a_revoked_token_opens_nothing(admin: Admin) -> None:
    other = Admin(admin.daemon)
    assert other.call("GET", "audit")[0] == 200
    admin.daemon.run("admin", "token", "revoke", str(other.made["id"]))
    assert other.refused("GET", "audit") == (401, "AUTH_REQUIRED")
    assert admin.call("GET", "audit")[0] == 200


# ---- accounts


def test_a_made_account_works_at_once_and_is_shown_without_tokens(admin: Admin) -> None:
    user = admin.add(user_alias="Plant 7", locale="Asia/Tokyo", quotas={"devices": 2})
    assert admin.daemon.request("GET", "/v2/user")[0] == 200
    tokens = [user.pop("api_token"), user.pop("device_token")]
    status, (shown,), _ = admin.call("GET", f"users/{user['user_id']}")
    assert status == 200
    free = [each["storage"].pop("maxSize") for each in (shown, user)]  # changes with the disk
    assert all(bytes_free > 0 for bytes_free in free)
    assert shown == user
    assert not any(token in json.dumps(shown) for token in tokens)
    assert list(shown) == [
        "user_id", "email1", "email2", "organization", "locale", "user_alias", "enabled", "created_at", "updated_at",
        "quotas", "devices", "channels", "storage",
    ]  # fmt: skip
    assert (shown["enabled"], shown["quotas"]) == (True, {**QUOTAS, "devices": 2})


def test_accounts_are_listed_page_by_page_and_searched(admin: Admin) -> None:
    ids = [admin.add(organization="Paged Ltd")["user_id"] for _ in range(3)]
    admin.set(enabled=False)
    status, page, headers = admin.call("GET", "users?search=paged&limit=2")
    assert (status, [user["user_id"] for user in page]) == (200, ids[:2])
    assert headers["x-next-cursor"] == ids[1]
    path = headers["link"].removeprefix("</v2/admin/").partition(">")[0]
    status, page, headers = admin.call("GET", path)
    assert ([user["user_id"] for user in page], "link" in headers) == (ids[2:], False)
    assert [user["user_id"] for user in admin.call("GET", "users?search=paged&enabled=false")[1]] == ids[2:]
    for wrong in ("limit=0", "limit=1001", "limit=x", "enabled=yes", "enable=false"):
        assert admin.refused("GET", f"users?{wrong}") == (400, "BAD_PARAMETER")
    assert admin.refused("GET", "audit?users=U000001") == (400, "BAD_PARAMETER")
    assert admin.refused("DELETE", f"users/{ids[0]}?dat=delete") == (400, "BAD_PARAMETER")
    assert admin.call("GET", f"users/{ids[0]}")[0] == 200


def test_an_account_is_changed_and_what_is_wrong_changes_nothing(admin: Admin) -> None:
    user = admin.add()
    changed = admin.set(organization="Ex", quotas={"rest_per_s": 2.5, "channels": 7})
    assert (changed["organization"], changed["quotas"]) == (
        "Ex",
        {**QUOTAS, "rest_per_s": 2.5, "channels": 7},
    )
    assert admin.set(quotas={"rest_per_s": None})["quotas"] == {**QUOTAS, "channels": 7}
    for wrong in (
        {"locale": "Moon/Base"}, {"enabled": "perhaps"}, {"quotas": 7}, {"quotas": {"devices": -1}},
        {"quotas": {"devices": 1.5}}, {"quotas": {"cars": 1}}, {"email1": None}, [], "{",
    ):  # fmt: skip
        body = {"user_alias": "never", **wrong} if isinstance(wrong, dict) else wrong
        assert admin.refused("PUT", f"users/{user['user_id']}", body) == (400, "BAD_JSON_FORMAT")
        assert admin.refused("POST", "users", body) == (400, "BAD_JSON_FORMAT")
    assert admin.call("GET", "users?search=never")[1] == []


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/token")])
def test_an_account_that_there_is_not_is_404(admin: Admin, method: str, path: str) -> None:
    assert admin.refused(method, f"users/U999999{path}", {"which": "api_token"}) == (404, "NO_USER")


# ---- quotas


def test_a_quota_of_devices_counts_for_rest_and_for_unknown_devices(admin: Admin) -> None:
    admin.add(quotas={"devices": 1})
    daemon = admin.daemon
    daemon.add_device("a", 1)
    assert daemon.request("POST", "/v2/device/b")[:2][1]["error"] == "MAX_DEVICE_REACH"
    assert daemon.post("b", "1") == (403, "MAX_DEVICE_REACH")
    assert daemon.post("a", "1") == (200, "OK")
    admin.set(quotas={"devices": 2})
    assert daemon.post("b", "1") == (201, "NEW_DEVICE_FOUND")
    admin.set(quotas={"devices": None})
    assert daemon.post("c", "1") == (201, "NEW_DEVICE_FOUND")
    assert daemon.post("d", "1") == (403, "MAX_DEVICE_REACH")


def test_a_quota_of_channels_is_403(admin: Admin) -> None:
    admin.add(quotas={"channels": 1})
    assert admin.daemon.request("POST", "/v2/channel/1")[0] == 201
    status, reply, _ = admin.daemon.request("POST", "/v2/channel/2")
    assert (status, reply["error"]) == (403, "MAX_CHANNEL_REACH")
    admin.set(quotas={"channels": 2})
    assert admin.daemon.request("POST", "/v2/channel/2")[0] == 201


def test_a_rate_of_its_own_limits_the_devices_of_one_account(admin: Admin) -> None:
    admin.add()
    daemon = admin.daemon
    daemon.add_device("a", 1)
    assert [daemon.post("a", "1")[0] for _ in range(4)] == [200] * 4  # the daemon's limit is off
    admin.set(quotas={"connector_per_s": 0.001})
    assert [daemon.post("a", "1") for _ in range(2)] == [(200, "OK"), (429, "TOO_MANY_REQUESTS")]
    assert admin.daemon.post("a", "1")[0] == 429
    admin.set(quotas={"connector_per_s": None})
    assert daemon.post("a", "1")[0] == 200


# ---- enabled or not


def test_a_disabled_account_is_shut_everywhere_and_comes_back_whole(admin: Admin) -> None:
    admin.add()
    daemon = admin.daemon
    daemon.add_device("pump", 1)
    with Device(daemon, "live", version=5) as live:
        ended: list[int] = []
        live.client.on_disconnect = lambda _, __, ___, reason, ____: ended.append(reason.value)
        assert daemon.post("pump", "1") == (200, "OK")
        admin.set(enabled=False)
        daemon.wait_until(lambda: ended)
        assert ended[0] == 0x87
        status, reply, _ = daemon.request("GET", "/v2/user")
        assert (status, reply["error"]) == (403, "USER_DISABLED")
        assert daemon.post("pump", "2") == (401, "AUTH_REQUIRED")
        assert daemon.request("GET", "/v2/session")[0] == 403
    admin.set(enabled=True)
    assert daemon.post("pump", "3") == (200, "OK")
    assert [entry["value"] for entry in daemon.stream()] == [1, 3]
    with Device(daemon, "live") as live:
        live.publish(f"{live.token}/json/pump", "4")
    assert [entry["value"] for entry in daemon.stream()] == [1, 3, 4]


# ---- the end


@pytest.mark.parametrize("data", ["keep", "delete"])
def test_a_deleted_account_is_gone_with_sessions_and_retained_messages(tmp_path: Path, data: str) -> None:
    with Daemon(tmp_path / "data", THINGSCALE_STORAGE_SEAL_INTERVAL_S="0.05") as daemon:
        admin = Admin(daemon)
        user = admin.add()
        daemon.add_device("pump", 1)
        assert daemon.post("pump", '{"temp":1.5}') == (200, "OK")
        daemon.run("publish", "--now")
        files = list((tmp_path / "data" / "data").rglob("*.parquet"))
        assert len(files) == 1
        with Device(daemon, "kept", keep=True) as kept:
            kept.subscribe(f"{kept.token}/#")
            kept.publish(f"{kept.token}/pump/subscribe", "on", retain=True)
            ended: list[object] = []
            kept.client.on_disconnect = lambda *_: ended.append(1)
            assert daemon.metric("thingscale_mqtt_retained") == 1
            assert admin.call("DELETE", f"users/{user['user_id']}?data={data}")[:2] == (200, {})
            daemon.wait_until(lambda: ended)
        assert daemon.post("pump", "2") == (401, "AUTH_REQUIRED")
        assert daemon.request("GET", "/v2/user")[0] == 401
        assert admin.refused("GET", f"users/{user['user_id']}") == (404, "NO_USER")
        assert admin.refused("DELETE", f"users/{user['user_id']}") == (404, "NO_USER")
        for name in ("thingscale_mqtt_retained", 'thingscale_mqtt_sessions{kind="all"}'):
            assert daemon.metric(name) == 0
        daemon.restart()
        for name in ("thingscale_mqtt_retained", 'thingscale_mqtt_sessions{kind="all"}'):
            assert daemon.metric(name) == 0
        if data == "keep":
            assert all(file.exists() for file in files)
        else:
            daemon.wait_until(lambda: not any(file.exists() for file in files))
        assert admin.refused("DELETE", "users/U000001?data=perhaps") == (400, "BAD_PARAMETER")


# ---- tokens and the audit log


def test_an_admin_replaces_an_accounts_token(admin: Admin) -> None:
    user = admin.add()
    status, reply, _ = admin.call(
        "POST", f"users/{user['user_id']}/token", {"which": "api_token", "overlap_s": 0}
    )
    assert (status, list(reply)) == (201, ["user_id", "which", "token", "previous_ends_at"])
    assert admin.daemon.request("GET", "/v2/user")[0] == 401
    admin.daemon.user["api_token"] = reply["token"]
    assert admin.daemon.request("GET", "/v2/user")[0] == 200


def test_every_change_is_in_the_audit_log_by_whoever_made_it(admin: Admin) -> None:
    user = admin.add(user_alias="x")
    daemon, user_id = admin.daemon, user["user_id"]
    daemon.add_device("pump", 1)
    daemon.request("PUT", "/v2/device/pump", {"location": "roof"})
    daemon.request("PUT", "/v2/channel/1", {"channel_name": "Room"})
    daemon.request("PUT", "/v2/user", {"organization": "Ex"})
    daemon.post("unknown", "1")  # nobody's change
    admin.set(enabled=False)
    daemon.run("user", "rotate", user_id, "--api")
    rows = admin.audit(f"?user={user_id}")[::-1]
    assert [(row["actor"], row["action"], row["subject"]) for row in rows] == [
        ("admin:ops", "user.add", user_id),
        (user_id, "channel.add", "1"),
        (user_id, "device.add", "pump"),
        (user_id, "device.update", "pump"),
        (user_id, "channel.update", "1"),
        (user_id, "user.update", user_id),
        ("admin:ops", "user.update", user_id),
        ("cli", "user.rotate", "api_token"),
    ]
    assert (rows[3]["before"], rows[3]["after"]) == ({"location": ""}, {"location": "roof"})
    assert not any(
        token in json.dumps(rows) for token in (user["api_token"], user["device_token"], admin.token)
    )
    newest = admin.call("GET", f"audit?user={user_id}&limit=3")
    assert newest[1] == rows[:4:-1]
    path = newest[2]["link"].removeprefix("</v2/admin/").partition(">")[0]
    assert admin.call("GET", path)[1] == rows[4:1:-1]


def test_an_account_sees_its_own_rows(admin: Admin) -> None:
    admin.add(locale="Asia/Tokyo")
    other_rows = admin.daemon.request("GET", "/v2/user/audit")[1]
    assert [row["action"] for row in other_rows] == ["user.add"]
    assert other_rows[0]["at"].endswith("+09:00")
    admin.add()
    admin.daemon.request("POST", "/v2/channel/5")
    assert [row["action"] for row in admin.daemon.request("GET", "/v2/user/audit?limit=1")[1]] == [
        "channel.add"
    ]
