"""``thingscale user``: show, disable, enable, quota and delete, in the registry and as an admin over REST."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.thingscale.commands import done, refused

Where = tuple[object, ...]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("cli") / "data") as daemon:
        yield daemon


@pytest.fixture(params=["registry", "rest"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    """The options that say where accounts are."""
    if request.param == "registry":
        return "--data", tmp_path / "data"
    daemon: Daemon = request.getfixturevalue("daemon")
    admin = json.loads(daemon.run("admin", "token", "add", "--name", "ops", "--json"))
    return "--url", f"http://127.0.0.1:{daemon.port('http')}", "--token", admin["token"]


@pytest.fixture
def command(where: Where) -> Callable[..., dict[str, Any]]:
    def run(*arguments: object) -> dict[str, Any]:
        (line,) = done("user", *arguments, *where, "--json").splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    return run


def test_an_account_is_made_disabled_enabled_limited_and_deleted(
    command: Callable[..., dict[str, Any]], where: Where
) -> None:
    made = command("add", "--alias", "Plant 7", "--locale", "Asia/Tokyo")
    user = made["user_id"]
    shown = command("show", user)
    assert (shown["user_alias"], shown["locale"], shown["enabled"]) == ("Plant 7", "Asia/Tokyo", True)
    assert "api_token" not in shown
    assert command("disable", user)["enabled"] is False
    assert command("show", user)["enabled"] is False
    assert command("enable", user)["enabled"] is True
    limits = ("--devices", 500, "--channels", 7, "--storage-bytes", 10**9, "--rest-per-s", 2.5)
    assert command("quota", user, *limits)["quotas"] == {
        "devices": 500, "channels": 7, "storage_bytes": 10**9, "rest_per_s": 2.5, "connector_per_s": None,
    }  # fmt: skip
    after = command("quota", user, "--devices", "default", "--connector-per-s", 0)["quotas"]
    assert (after["devices"], after["channels"], after["connector_per_s"]) == (None, 7, 0)
    rotated = command("rotate", user, "--api")
    assert made["api_token"] not in json.dumps(rotated)
    listed = [json.loads(line) for line in done("user", "list", *where, "--json").splitlines()]
    assert user in [each["user_id"] for each in listed]
    assert "Plant 7" in done("user", "list", *where)
    told = done("user", "delete", user, "--yes", "--json", *where)
    assert json.loads(told) == {"user_id": user, "deleted": True}
    assert user in refused(1, "user", "show", user, *where)
    assert user in refused(1, "user", "delete", user, "--yes", *where)


def test_deleting_an_account_needs_a_yes(command: Callable[..., dict[str, Any]], where: Where) -> None:
    user = command("add")["user_id"]
    assert refused(2, "user", "delete", user, *where) == f"Delete user {user}? Say --yes."
    words = refused(2, "user", "delete", user, "--delete-data", *where)
    assert words == f"Delete user {user} with all readings? Say --yes."
    assert command("show", user)["user_id"] == user


def test_what_cannot_be_a_quota_is_refused(command: Callable[..., dict[str, Any]], where: Where) -> None:
    user = command("add")["user_id"]
    assert refused(2, "user", "quota", user, "--devices", "many", *where) == (
        "--devices: expected a number or default, not 'many'"
    )
    assert refused(2, "user", "quota", user, *where) == "nothing to change: say which quota"


def test_changes_in_the_registry_are_the_command_lines_in_the_audit_log(daemon: Daemon) -> None:
    user = json.loads(daemon.run("user", "add", "--json"))["user_id"]
    daemon.run("user", "disable", user)
    admin = json.loads(daemon.run("admin", "token", "add", "--name", "auditor", "--json"))
    headers = {"X-APITOKEN": admin["token"]}
    _, rows, _ = daemon.request("GET", f"/v2/admin/audit?user={user}", headers=headers)
    assert [(row["actor"], row["action"]) for row in rows] == [("cli", "user.update"), ("cli", "user.add")]


def test_an_account_may_be_addressed_by_the_environment(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    admin = json.loads(daemon.run("admin", "token", "add", "--name", "env", "--json"))
    monkeypatch.setenv("THINGSCALE_URL", f"http://127.0.0.1:{daemon.port('http')}")
    monkeypatch.setenv("THINGSCALE_ADMIN_TOKEN", admin["token"])
    made = json.loads(done("user", "add", "--json"))
    assert made["user_id"] in daemon.run("user", "list")
    assert "no data directory" in refused(2, "user", "list", "--data", tmp_path / "another")
    assert not (tmp_path / "another").exists()


def test_an_address_without_an_admins_token_is_wrong_usage(tmp_path: Path) -> None:
    words = refused(2, "user", "list", "--url", "http://127.0.0.1:1")
    assert words == "no admin's token: give --token or THINGSCALE_ADMIN_TOKEN"
    assert refused(2, "user", "list", "--data", tmp_path, "--token", "x") == (
        "--data is instead of --url and --token"
    )
