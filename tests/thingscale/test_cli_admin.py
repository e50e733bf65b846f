"""``thingscale admin token``: shown once, listed without itself, revoked."""

import json
from pathlib import Path

import pytest

from storage.registry import Registry
from tests.thingscale.commands import done, refused


def test_a_token_is_shown_once_and_known_by_its_hash(data: Path) -> None:
    made = json.loads(done("admin", "token", "add", "--name", "ops", "--data", data, "--json"))
    assert list(made) == ["id", "name", "created_at", "token"]
    registry = Registry(data / "registry.sqlite3")
    found = registry.admin_by_token(made["token"])
    assert found is not None
    assert (found.id, found.name) == (made["id"], "ops")
    assert [(row.actor, row.action, row.after) for row in registry.audit()] == [
        ("cli", "admin_token.add", {"name": "ops"})
    ]
    registry.close()
    lines = done("admin", "token", "add", "--name", "second", "--data", data).splitlines()
    assert [line.split()[0] for line in lines] == ["id", "name", "token"]
    listed = done("admin", "token", "list", "--data", data, "--json")
    assert [json.loads(line)["name"] for line in listed.splitlines()] == ["ops", "second"]
    assert made["token"] not in listed
    table = done("admin", "token", "list", "--data", data)
    assert [line.split()[1] for line in table.splitlines()] == ["name", "ops", "second"]


def test_a_revoked_token_is_worth_nothing_and_cannot_be_revoked_again(data: Path) -> None:
    made = json.loads(done("admin", "token", "add", "--name", "ops", "--data", data, "--json"))
    told = done("admin", "token", "revoke", made["id"], "--data", data, "--json")
    assert json.loads(told) == {"id": made["id"], "revoked": True}
    registry = Registry(data / "registry.sqlite3")
    assert registry.admin_by_token(made["token"]) is None
    assert registry.audit()[0].action == "admin_token.revoke"
    registry.close()
    assert refused(1, "admin", "token", "revoke", made["id"], "--data", data) == "there is no admin token 1"
    assert done("admin", "token", "list", "--data", data, "--json") == ""


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 1025])
def test_a_name_that_cannot_be_read_is_wrong_usage(data: Path, name: str) -> None:
    assert refused(2, "admin", "token", "add", "--name", name, "--data", data).startswith("name: ")


def test_what_the_command_line_does_to_accounts_is_in_the_audit_log(data: Path) -> None:
    done("user", "add", "--alias", "x", "--data", data)
    done("user", "rotate", "U000001", "--device", "--overlap", 60, "--data", data)
    registry = Registry(data / "registry.sqlite3")
    rows = registry.audit()
    assert [(row.actor, row.action, row.subject) for row in rows] == [
        ("cli", "user.rotate", "device_token"),
        ("cli", "user.add", "U000001"),
    ]
    assert len(registry.previous_tokens("U000001", "device_token")) == 1
    registry.close()
