"""What the registry refuses by name, whatever JSON or a command line may come up with."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.registry import DEVICE_TEXTS, FieldError, Registry, RegistryBusyError, UnknownError, User
from storage.registry import file as module

AT_US = 1_700_000_000_000_000
HALF = "a\ud800"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite3"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    registry = Registry(path)
    yield registry
    registry.close()


@pytest.fixture
def user(registry: Registry) -> User:
    return registry.add_user(AT_US)


def test_half_a_surrogate_pair_is_refused_where_it_would_be_stored(registry: Registry, user: User) -> None:
    channel = registry.add_channel(user.user_id, 1).id
    registry.add_device(user.user_id, "d", AT_US)
    with pytest.raises(FieldError, match="channel_name"):
        registry.add_channel(user.user_id, 2, HALF)
    with pytest.raises(FieldError, match="channel_name"):
        registry.rename_channel(channel, HALF)
    with pytest.raises(FieldError, match="tag"):
        registry.put_tag_name(channel, HALF, "x")
    with pytest.raises(FieldError, match="device_id"):
        registry.add_device(user.user_id, HALF, AT_US)
    with pytest.raises(FieldError, match="device_id"):
        registry.provision_device(user.user_id, HALF, AT_US)
    for name in DEVICE_TEXTS:
        with pytest.raises(FieldError, match=name):
            registry.update_device(user.user_id, "d", **{name: HALF})
    with pytest.raises(FieldError, match="locale"):
        registry.update_user(user.user_id, locale=HALF)
    assert [each.number for each in registry.channels(user.user_id)] == [1]
    assert [each.device_id for each in registry.devices(user.user_id)] == ["d"]
    assert registry.tag_names(channel) == {}


def test_nobody_and_nothing_is_called_half_a_surrogate_pair(registry: Registry, user: User) -> None:
    channel = registry.add_channel(user.user_id, 1).id
    assert registry.user(HALF) is None
    assert registry.user_by_api_token(HALF) is None
    assert registry.user_by_device_token(HALF) is None
    assert registry.device(user.user_id, HALF) is None
    assert registry.device_by_name(user.user_id, HALF) is None
    registry.delete_tag_name(channel, HALF)
    for change in (registry.update_device, registry.delete_device):
        with pytest.raises(UnknownError):
            change(user.user_id, HALF, *([AT_US] if change == registry.delete_device else []))
    with pytest.raises(UnknownError):
        registry.rotate(HALF, "api_token")
    with pytest.raises(UnknownError):
        registry.update_user(HALF, user_alias="x")


@pytest.mark.parametrize("channel", [99, 0, -1, 2**70, "x", True, 1.5, "deleted", "foreign"])
def test_a_device_is_mapped_to_a_channel_of_its_user_alone(
    registry: Registry, user: User, channel: Any
) -> None:
    one, two = (registry.add_channel(user.user_id, number).id for number in (1, 2))
    registry.delete_channel(two, AT_US)
    foreign = registry.add_channel(registry.add_user(AT_US).user_id, 1).id
    registry.add_device(user.user_id, "d", AT_US, channel=one)
    wrong = {"deleted": two, "foreign": foreign}.get(channel, channel)
    with pytest.raises(FieldError, match="channel"):
        registry.update_device(user.user_id, "d", description="x", channel=wrong)
    with pytest.raises(FieldError, match="channel"):
        registry.add_device(user.user_id, "e", AT_US, channel=wrong)
    (device,) = registry.devices(user.user_id)
    assert (device.device_id, device.channel, device.description) == ("d", one, "")


@pytest.mark.parametrize(
    "zone",
    [
        "localtime",
        "posixrules",
        "posix/Asia/Tokyo",
        "right/Asia/Tokyo",
        "posix",
        "right",
        "America",
        "zone.tab",
    ],
)
def test_what_only_lies_beside_the_zones_is_no_zone(registry: Registry, user: User, zone: str) -> None:
    with pytest.raises(FieldError, match="locale"):
        registry.update_user(user.user_id, locale=zone)
    assert (
        registry.update_user(user.user_id, locale="America/Port_of_Spain").locale == "America/Port_of_Spain"
    )


@pytest.mark.parametrize("number", [True, False, 1.0, "1", None])
def test_a_channel_number_is_an_integer(registry: Registry, user: User, number: Any) -> None:
    with pytest.raises(FieldError, match="channel"):
        registry.add_channel(user.user_id, number)
    assert registry.channels(user.user_id) == []


def test_a_file_that_stays_locked_is_said_to_be(
    registry: Registry, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = registry.add_user(AT_US)
    monkeypatch.setattr(module, "BUSY_MS", 20)
    busy = Registry(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RegistryBusyError, match=r"registry.sqlite3 has been locked .* 0\.02 s"):
        busy.add_user(AT_US)
    assert busy.user(user.user_id) == user
    other.execute("ROLLBACK")
    assert busy.add_user(AT_US).user_id == "U000002"
    other.close()
    busy.close()
