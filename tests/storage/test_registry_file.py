"""The registry's file: who may read it, what a failure undoes, and what a second connection sees."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.disk import DiskFullError
from storage.registry import InUseError, Registry, RegistryFormatError, User
from tests.storage.full_disk import full_disk

AT_US = 1_700_000_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite3"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    registry = Registry(path)
    yield registry
    registry.close()


@pytest.fixture
def other(registry: Registry, path: Path) -> Iterator[Registry]:
    """The command line's connection."""
    other = Registry(path)
    yield other
    other.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_the_file_and_what_sqlite_puts_beside_it(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        registry = Registry(path)
        registry.add_user(AT_US)
        files = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        registry.close()
    finally:
        os.umask(before)
    assert set(files) >= {"registry.sqlite3", "registry.sqlite3-wal"}
    assert set(files.values()) == {0o600}


def test_everything_is_there_after_opening_again(path: Path) -> None:
    registry = Registry(path)
    user = registry.add_user(AT_US, organization="Example")
    channel = registry.add_channel(user.user_id, 1, "Room")
    device = registry.add_device(user.user_id, "a", AT_US, enabled=True, channel=channel.id)
    version = registry.version
    registry.close()
    registry = Registry(path)
    assert registry.users() == [user]
    assert registry.channels(user.user_id) == [channel]
    assert registry.devices(user.user_id) == [device]
    assert registry.version == version
    registry.close()


def test_a_file_of_another_version_is_refused(path: Path) -> None:
    Registry(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(RegistryFormatError, match="99"):
        Registry(path)


def test_a_transaction_that_fails_changes_nothing(registry: Registry) -> None:
    user = registry.add_user(AT_US)

    def add_twice() -> None:
        with registry.transaction():
            registry.add_channel(user.user_id, 1)
            registry.add_channel(user.user_id, 1)

    version = registry.version
    with pytest.raises(InUseError):
        add_twice()
    assert registry.channels(user.user_id) == []
    assert registry.version == version
    assert registry.add_channel(user.user_id, 1).number == 1
    assert registry.version > version


def test_a_token_that_was_undone_is_worth_nothing(registry: Registry) -> None:
    user = registry.add_user(AT_US)
    tokens = []

    def rotate() -> None:
        with registry.transaction():
            tokens.append(registry.rotate(user.user_id, "api_token").api_token)
            assert registry.user_by_api_token(tokens[0]) is not None
            raise LookupError

    with pytest.raises(LookupError):
        rotate()
    assert registry.user_by_api_token(tokens[0]) is None
    assert registry.user_by_api_token(user.api_token) == user


@pytest.mark.parametrize("count", [1, 20_000])  # too many for SQLite's cache: fails before the commit
def test_a_change_that_the_disk_refuses_is_none(registry: Registry, path: Path, count: int) -> None:
    user = registry.add_user(AT_US)
    channel = registry.add_channel(user.user_id, 1).id

    def name_tags_and_rotate() -> User:
        with registry.transaction():
            rotated = registry.rotate(user.user_id, "api_token")
            for i in range(count):
                registry.put_tag_name(channel, f"tag{i}", "x" * 200)
        return rotated

    version = registry.version
    for _ in range(2):
        with full_disk(path.with_name("registry.sqlite3-wal")), pytest.raises(DiskFullError):
            name_tags_and_rotate()
        assert registry.version == version
        assert registry.tag_names(channel) == {}
        assert registry.user_by_api_token(user.api_token) == user
    rotated = name_tags_and_rotate()
    assert registry.version > version
    assert registry.user_by_api_token(rotated.api_token) == rotated
    assert len(registry.tag_names(channel)) == count


# ---- a second connection


def test_poll_says_when_somebody_else_changed_a_route_or_a_token(registry: Registry, other: Registry) -> None:
    assert not registry.poll()
    user = other.add_user(AT_US)
    assert registry.poll()
    assert not registry.poll()
    assert registry.version == other.version
    assert registry.user_by_device_token(user.device_token) == user
    changed = other.rotate(user.user_id, "device_token")
    assert registry.poll()
    assert registry.user_by_device_token(user.device_token) is None
    assert registry.user_by_device_token(changed.device_token) == changed


def test_a_new_user_is_found_even_before_the_poll(registry: Registry, other: Registry) -> None:
    assert registry.user_by_api_token("F" * 32) is None
    user = other.add_user(AT_US)
    assert registry.user_by_api_token(user.api_token) == user


def test_poll_passes_over_changes_that_alter_no_route(registry: Registry, other: Registry) -> None:
    user = other.add_user(AT_US).user_id
    channel = other.add_channel(user, 1)
    assert registry.poll()
    other.rename_channel(channel.id, "Room")
    other.provision_device(user, "new", AT_US)
    assert not registry.poll()


def test_poll_passes_over_its_own_changes(registry: Registry, other: Registry) -> None:
    registry.add_user(AT_US)
    assert not registry.poll()
    assert other.poll()


def test_both_connections_may_write_in_turn(registry: Registry, other: Registry) -> None:
    users = [(registry, other)[i % 2].add_user(AT_US).user_id for i in range(6)]
    assert users == [f"U{i:06d}" for i in range(1, 7)]
