"""``thingscale user``: add, list and rotate, as text and as JSON."""

import json
from pathlib import Path

import pytest

from storage.registry import Registry, User
from tests.thingscale.commands import done, refused

FIELDS = ["user_id", "api_token", "device_token", "email1", "locale", "user_alias"]


def users_of(data: Path) -> list[User]:
    registry = Registry(data / "registry.sqlite3")
    try:
        return registry.users()
    finally:
        registry.close()


def as_json(user: User) -> dict[str, str]:
    return {name: getattr(user, name) for name in FIELDS}


# ---- user add


def test_an_added_user_is_in_the_registry_and_its_tokens_are_printed(data: Path) -> None:
    output = done("user", "add", "--data", data)
    (user,) = users_of(data)
    assert output.splitlines() == [
        f"user id       {user.user_id}",
        f"API token     {user.api_token}",
        f"device token  {user.device_token}",
    ]
    assert (user.user_id, user.locale, user.email1, user.user_alias) == ("U000001", "UTC", "", "")


def test_an_added_user_is_printed_as_json_with_what_was_given(data: Path) -> None:
    given = ("--email", "a@example.com", "--alias", "Ålice", "--locale", "Asia/Tokyo")
    printed = json.loads(done("user", "add", *given, "--data", data, "--json"))
    (user,) = users_of(data)
    assert printed == as_json(user)
    assert (user.email1, user.user_alias, user.locale) == ("a@example.com", "Ålice", "Asia/Tokyo")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../UTC", "/etc/localtime", "UTC\x00"])
def test_a_zone_that_does_not_exist_is_wrong_usage_and_adds_nobody(data: Path, zone: str) -> None:
    assert refused(2, "user", "add", "--locale", zone, "--data", data).startswith("locale: ")
    assert users_of(data) == []


def test_a_text_that_is_too_long_is_wrong_usage(data: Path) -> None:
    assert refused(2, "user", "add", "--alias", "å" * 513, "--data", data) == (
        "user_alias: longer than 1024 bytes"
    )


def test_the_data_directory_is_made_for_its_owner_alone(data: Path) -> None:
    done("user", "add", "--data", data / "below")
    assert (data / "below").stat().st_mode & 0o777 == 0o700
    assert (data / "below" / "registry.sqlite3").stat().st_mode & 0o777 == 0o600


def test_the_data_directory_may_come_from_the_environment(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THINGSCALE_SERVER_DATA", str(data))
    done("user", "add")
    assert len(users_of(data)) == 1


# ---- user list


def test_a_list_is_a_table_without_tokens(data: Path) -> None:
    done(
        "user", "add", "--alias", "one", "--email", "a@example.com", "--locale", "Asia/Tokyo", "--data", data
    )
    done("user", "add", "--data", data)
    output = done("user", "list", "--data", data)
    lines = [line.split() for line in output.splitlines()]
    assert lines == [
        ["user", "id", "alias", "email", "locale"],
        ["U000001", "one", "a@example.com", "Asia/Tokyo"],
        ["U000002", "UTC"],
    ]
    assert not any(
        token in output for user in users_of(data) for token in (user.api_token, user.device_token)
    )


def test_a_list_as_json_is_one_user_a_line_with_tokens(data: Path) -> None:
    for alias in ("one", "two"):
        done("user", "add", "--alias", alias, "--data", data)
    output = done("user", "list", "--data", data, "--json")
    assert [json.loads(line) for line in output.splitlines()] == [as_json(user) for user in users_of(data)]


def test_an_empty_list_as_json_is_nothing(data: Path) -> None:
    made = json.loads(done("user", "add", "--data", data, "--json"))
    done("user", "delete", made["user_id"], "--yes", "--data", data)
    assert done("user", "list", "--data", data, "--json") == ""


# ---- user rotate


@pytest.mark.parametrize(("flag", "rotated", "kept"), [
    ("--api", "api_token", "device_token"),
    ("--device", "device_token", "api_token"),
])  # fmt: skip
def test_rotate_replaces_the_one_token_and_prints_both(
    data: Path, flag: str, rotated: str, kept: str
) -> None:
    before = json.loads(done("user", "add", "--data", data, "--json"))
    after = json.loads(done("user", "rotate", "U000001", flag, "--data", data, "--json"))
    assert after == as_json(users_of(data)[0])
    assert after[rotated] != before[rotated]
    assert after[kept] == before[kept]
    assert len(done("user", "rotate", "U000001", flag, "--data", data).splitlines()) == 3


@pytest.mark.parametrize("flags", [(), ("--api", "--device")])
def test_rotate_needs_exactly_one_kind_of_token(data: Path, flags: tuple[str, ...]) -> None:
    done("user", "add", "--data", data)
    before = users_of(data)
    assert refused(2, "user", "rotate", "U000001", *flags, "--data", data) == "give one of --api and --device"
    assert users_of(data) == before


def test_rotating_for_nobody_fails(data: Path) -> None:
    done("user", "add", "--data", data)
    assert refused(1, "user", "rotate", "U000009", "--api", "--data", data) == "there is no user U000009"


def test_a_running_registry_notices_a_rotated_token(data: Path) -> None:
    done("user", "add", "--data", data)
    registry = Registry(data / "registry.sqlite3")
    try:
        token = registry.users()[0].device_token
        assert registry.user_by_device_token(token) is not None
        done("user", "rotate", "U000001", "--device", "--data", data)
        assert registry.poll()
        assert registry.user_by_device_token(token) is None
    finally:
        registry.close()
