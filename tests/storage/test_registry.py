"""The registry: users and their tokens, channels and the names of tags."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.registry import (
    CHANNEL_NUMBER_MAX,
    TEXT_BYTES_MAX,
    FieldError,
    InUseError,
    Registry,
    UnknownError,
)

AT_US = 1_700_000_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite3"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    registry = Registry(path)
    yield registry
    registry.close()


# ---- users


def test_user_ids_count_up_and_grow_beyond_six_digits(registry: Registry) -> None:
    assert [registry.add_user(AT_US).user_id for _ in range(3)] == ["U000001", "U000002", "U000003"]
    registry._database.execute("UPDATE user SET user_id = 'U999999' WHERE user_id = 'U000003'")
    assert [registry.add_user(AT_US).user_id for _ in range(2)] == ["U1000000", "U1000001"]


def test_a_new_user_has_two_tokens_of_32_hexadecimal_characters_and_the_contracts_defaults(
    registry: Registry,
) -> None:
    users = [registry.add_user(AT_US) for _ in range(3)]
    tokens = [token for user in users for token in (user.api_token, user.device_token)]
    assert len(set(tokens)) == 6
    assert all(len(token) == 32 and set(token) <= set("0123456789ABCDEF") for token in tokens)
    one = users[0]
    assert (one.locale, one.email1, one.user_alias, one.created_at_us) == ("UTC", "", "", AT_US)


def test_each_token_opens_one_door(registry: Registry) -> None:
    user = registry.add_user(AT_US)
    for _ in range(2):  # the second time from memory
        assert registry.user_by_api_token(user.api_token) == user
        assert registry.user_by_device_token(user.device_token) == user
        assert registry.user_by_api_token(user.device_token) is None
        assert registry.user_by_device_token(user.api_token) is None
        assert registry.user_by_device_token("") is None
        assert registry.user_by_device_token(user.device_token.lower()) is None


@pytest.mark.parametrize("which", ["api_token", "device_token"])
def test_a_rotated_token_is_worth_nothing_and_the_other_one_stays(registry: Registry, which: str) -> None:
    user = registry.add_user(AT_US)
    find = {"api_token": registry.user_by_api_token, "device_token": registry.user_by_device_token}
    for name, by_token in find.items():
        assert by_token(getattr(user, name)) == user
    version = registry.version
    rotated = registry.rotate(user.user_id, which)
    assert registry.version > version
    assert find[which](getattr(user, which)) is None
    assert getattr(rotated, which) != getattr(user, which)
    for name, by_token in find.items():
        assert by_token(getattr(rotated, name)) == rotated
        assert name == which or getattr(rotated, name) == getattr(user, name)


def test_descriptive_fields_change_and_tokens_do_not(registry: Registry) -> None:
    user = registry.add_user(AT_US)
    assert registry.user_by_api_token(user.api_token) == user
    changed = registry.update_user(user.user_id, organization="Ex", locale="Asia/Tokyo")
    assert (changed.organization, changed.locale, changed.api_token) == ("Ex", "Asia/Tokyo", user.api_token)
    assert registry.user_by_api_token(user.api_token) == changed
    assert registry.user(user.user_id) == changed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("locale", "Moon/Base"),
        ("locale", "../../etc/passwd"),
        ("locale", ""),
        ("email1", 7),
        ("organization", "x" * (TEXT_BYTES_MAX + 1)),
        ("organization", "ä" * (TEXT_BYTES_MAX // 2) + "x"),
        ("organization", "half a pair: \ud83d"),
        ("api_token", "F" * 32),
        ("user_id", "U000009"),
    ],
)
def test_a_field_of_a_user_that_cannot_be_set_is_named_and_nothing_changes(
    registry: Registry, field: str, value: str
) -> None:
    user = registry.add_user(AT_US)
    with pytest.raises(FieldError, match=field):
        registry.update_user(user.user_id, **{"user_alias": "new", field: value})
    with pytest.raises(FieldError, match=field):
        registry.add_user(AT_US, **{field: value})
    assert registry.users() == [user]


def test_a_user_that_there_is_not(registry: Registry) -> None:
    assert registry.user("U000009") is None
    with pytest.raises(UnknownError):
        registry.update_user("U000009", organization="x")
    with pytest.raises(UnknownError):
        registry.rotate("U000009", "api_token")


# ---- channels


def test_channels_are_listed_by_number_and_belong_to_one_user(registry: Registry) -> None:
    one, two = registry.add_user(AT_US).user_id, registry.add_user(AT_US).user_id
    for number in (10, 2, 0, CHANNEL_NUMBER_MAX):
        registry.add_channel(one, number)
    registry.add_channel(two, 2, "Two's")
    assert [channel.number for channel in registry.channels(one)] == [0, 2, 10, CHANNEL_NUMBER_MAX]
    assert [channel.channel_name for channel in registry.channels(two)] == ["Two's"]
    assert registry.channel(two, 10) is None
    found = registry.channel(one, 2)
    assert found is not None
    assert found.channel_name == "NEW_CH2"
    assert registry.channel_by_id(found.id) == found


@pytest.mark.parametrize("number", [-1, CHANNEL_NUMBER_MAX + 1])
def test_a_channel_number_that_does_not_fit_is_refused(registry: Registry, number: int) -> None:
    user = registry.add_user(AT_US).user_id
    with pytest.raises(FieldError, match="channel"):
        registry.add_channel(user, number)
    assert registry.channels(user) == []


def test_a_channel_number_is_taken_once_and_can_be_renamed(registry: Registry) -> None:
    user = registry.add_user(AT_US).user_id
    channel = registry.add_channel(user, 1)
    with pytest.raises(InUseError, match="channel 1"):
        registry.add_channel(user, 1, "again")
    registry.rename_channel(channel.id, "Room")
    assert registry.channel_by_id(channel.id).channel_name == "Room"
    with pytest.raises(FieldError, match="channel_name"):
        registry.rename_channel(channel.id, "x" * (TEXT_BYTES_MAX + 1))


def test_a_deleted_channel_lets_go_of_its_devices_and_its_number_comes_back_with_a_new_id(
    registry: Registry,
) -> None:
    user = registry.add_user(AT_US).user_id
    old = registry.add_channel(user, 1, "Room")
    registry.add_device(user, "a", AT_US, enabled=True, channel=old.id)
    version = registry.version
    registry.delete_channel(old.id, AT_US)
    assert registry.version > version
    device = registry.device(user, "a")
    assert device is not None
    assert (device.channel, device.mapped_ch, device.enabled) == (None, None, True)
    assert registry.channels(user) == []
    assert registry.channel_by_id(old.id) == old  # its id still stands in files
    assert registry.deleted_channels() == [old.id]
    new = registry.add_channel(user, 1)
    assert new.id > old.id
    assert registry.deleted_channels() == [old.id]


def test_ids_that_nobody_has_have_no_name(registry: Registry) -> None:
    with pytest.raises(UnknownError):
        registry.channel_by_id(1)
    with pytest.raises(UnknownError):
        registry.device_name(1)


def test_tags_can_be_given_a_name(registry: Registry) -> None:
    user = registry.add_user(AT_US).user_id
    channel = registry.add_channel(user, 1).id
    registry.put_tag_name(channel, "north", "North side")
    registry.put_tag_name(channel, "süd", "South side")
    registry.put_tag_name(channel, "north", "Nordseite")
    assert registry.tag_names(channel) == {"north": "Nordseite", "süd": "South side"}
    registry.delete_tag_name(channel, "north")
    assert registry.tag_names(channel) == {"süd": "South side"}
    with pytest.raises(FieldError, match="channel_name"):
        registry.put_tag_name(channel, "x", "y" * (TEXT_BYTES_MAX + 1))
