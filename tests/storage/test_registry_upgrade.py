"""A registry of format 1, as the first daemons wrote it, becomes one of this format and loses nothing."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from storage.disk import DiskFullError
from storage.registry import (
    FORMAT,
    Device,
    Quotas,
    Registry,
    RegistryFormatError,
    RegistryOutdatedError,
    User,
)
from tests.storage.full_disk import full_disk

# Written by the daemon of format 1: two users, one with a rotated token; a device with a state, a deleted one, one that
# came by itself; three channels, one deleted; a tag with a name.
FORMAT_1 = Path(__file__).with_name("registry_format_1.sqlite3")
AT_US = 1_700_000_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.sqlite3"
    shutil.copy(FORMAT_1, path)
    return path


def format_of(path: Path) -> int:
    database = sqlite3.connect(path)
    found: int = database.execute("PRAGMA user_version").fetchone()[0]
    database.close()
    return found


def test_everything_of_format_1_is_there_after_the_upgrade(path: Path) -> None:
    assert format_of(path) == 1
    registry = Registry(path)
    one, two = registry.users()
    assert one == User(
        "U000001", "F12EB4AC89D7C66C541EB5C0513A7DA5", "1BF611906E834BEA9EA5C5CCC3B9DDF0", "a@example.com", "",
        "Example", "Asia/Tokyo", "Ålice", AT_US, AT_US, True, Quotas(),
    )  # fmt: skip
    assert (two.user_id, two.locale, two.created_at_us, two.updated_at_us) == (
        "U000002",
        "UTC",
        AT_US + 5,
        AT_US + 5,
    )
    assert registry.user_by_api_token(one.api_token) == one
    assert registry.user_by_device_token(two.device_token) == two
    assert [
        (channel.id, channel.number, channel.channel_name) for channel in registry.channels("U000001")
    ] == [(1, 1, "Boiler room")]
    assert [channel.channel_name for channel in registry.channels("U000002")] == ["Zero"]
    assert registry.deleted_channels() == [2]
    assert registry.channel_by_id(2).number == 2
    assert registry.tag_names(1) == {"north": "North side"}
    (pump,) = registry.devices("U000001")
    assert pump == Device(
        1, "U000001", "pump-7", "", True, 1, 1, "", "roof", "", AT_US + 10, b"load=5.5", AT_US + 20
    )
    assert registry.device_by_name("U000001", "gone") == 2
    assert [device.device_id for device in registry.devices("U000002")] == ["new"]
    assert registry.version == 11
    assert registry.audit() == []
    registry.close()


def test_an_upgraded_file_takes_what_is_new(path: Path) -> None:
    registry = Registry(path)
    with registry.by("cli", AT_US + 99):
        registry.update_user("U000001", enabled=False, devices=7)
        assert registry.add_event("U000001", channel=1, operator=">=").event_id == 1
        registry.describe_stream(1, "temp", unit="°C")
    old = registry.rotate("U000002", "api_token", ends_at_us=AT_US + 200)
    registry.close()
    registry = Registry(path)
    user = registry.user("U000001")
    assert user is not None
    assert (user.enabled, user.quotas.devices, user.updated_at_us) == (False, 7, AT_US + 99)
    assert [row.action for row in registry.audit()] == ["stream.update", "event.add", "user.update"]
    assert registry.user("U000002") == old
    assert len(registry.previous_tokens("U000002", "api_token")) == 1
    registry.close()


def test_an_upgraded_file_and_a_new_one_have_the_same_tables(path: Path) -> None:
    Registry(path).close()
    Registry(path.with_name("new.sqlite3")).close()
    schemas = []
    for each in (path, path.with_name("new.sqlite3")):
        database = sqlite3.connect(each)
        schemas.append(database.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall())
        database.close()
    assert schemas[0] == schemas[1]
    assert format_of(path) == FORMAT


def test_who_may_not_upgrade_is_told_so_and_the_file_stays_as_it_is(path: Path) -> None:
    with pytest.raises(RegistryOutdatedError, match="has format 1"):
        Registry(path, may_upgrade=False)
    assert format_of(path) == 1
    Registry(path).close()
    Registry(path, may_upgrade=False).close()


def test_a_full_disk_leaves_the_old_format(path: Path) -> None:
    small = path.with_name("small")
    small.write_bytes(bytes(32_768))  # SQLite's index of its log fits, the log does not
    with full_disk(small), pytest.raises(DiskFullError):
        Registry(path)
    assert format_of(path) == 1
    Registry(path).close()
    assert format_of(path) == FORMAT


def test_a_newer_format_is_refused_by_name_and_left_alone(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    database.close()
    with pytest.raises(RegistryFormatError, match=f"has format {FORMAT + 1}, this daemon reads {FORMAT}"):
        Registry(path)
    assert format_of(path) == FORMAT + 1
