"""The registry's accounts as an admin sees them: quotas, enabled or not, tokens old and new, the end."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.disk import DiskFullError
from storage.registry import (
    QUOTAS,
    ChannelLimitError,
    DeviceLimitError,
    FieldError,
    LimitError,
    Quotas,
    Registry,
    RegistryLimits,
    UnknownError,
    User,
)
from storage.registry import tokens as module
from tests.storage.full_disk import full_disk

AT_US = 1_700_000_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite3"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    registry = Registry(path, RegistryLimits(devices_per_user_max=2, channels_per_user_max=2))
    yield registry
    registry.close()


@pytest.fixture
def user(registry: Registry) -> User:
    return registry.add_user(AT_US, user_alias="Ops")


# ---- pages and searches


def test_users_are_found_page_by_page_in_the_order_in_which_they_were_made(registry: Registry) -> None:
    ids = [registry.add_user(AT_US).user_id for _ in range(5)]
    registry._database.execute("UPDATE user SET user_id = 'U1000000' WHERE user_id = 'U000005'")
    ids[4] = "U1000000"
    first = registry.find_users(limit=2)
    second = registry.find_users(first[-1].user_id, 2)
    third = registry.find_users(second[-1].user_id, 2)
    assert [user.user_id for user in first + second + third] == ids
    assert registry.find_users(ids[-1]) == []
    assert [user.user_id for user in registry.users()] == ids


def test_a_search_looks_at_every_text_and_a_filter_at_enabled(registry: Registry) -> None:
    one = registry.add_user(AT_US, user_alias="Pump Room", email1="a@example.com")
    two = registry.add_user(AT_US, organization="ROOMS Ltd", email2="b%@example.com", enabled=False)
    assert registry.find_users(search="room") == [one, two]
    assert registry.find_users(search="%") == [two]
    assert registry.find_users(search="U000001") == [one]
    assert registry.find_users(search="a@example.comb") == []
    assert registry.find_users(enabled=False) == [two]
    assert registry.find_users(search="room", enabled=True) == [one]
    assert registry.find_users(search="a\ud800") == registry.find_users("a\ud800") == []


# ---- quotas


def test_quotas_are_none_until_they_are_set_and_can_be_taken_back(registry: Registry, user: User) -> None:
    assert user.quotas == Quotas()
    wanted: dict[str, Any] = {
        "devices": 0, "channels": 5, "storage_bytes": 10**12, "rest_per_s": 0.5, "connector_per_s": 3,
    }  # fmt: skip
    changed = registry.update_user(user.user_id, **wanted)
    assert changed.quotas == Quotas(**wanted)
    assert registry.update_user(user.user_id, **dict.fromkeys(QUOTAS)).quotas == Quotas()
    assert registry.add_user(AT_US, devices=3).quotas == Quotas(devices=3)


@pytest.mark.parametrize("name", QUOTAS)
@pytest.mark.parametrize("value", [-1, True, "5", float("nan"), float("inf"), 2**63, 1e300, [1]])
def test_what_is_no_amount_is_no_quota(registry: Registry, user: User, name: str, value: Any) -> None:
    with pytest.raises(FieldError, match=name):
        registry.update_user(user.user_id, user_alias="new", **{name: value})
    assert registry.users() == [user]


def test_a_users_own_quota_overrules_the_setting_in_both_directions(registry: Registry, user: User) -> None:
    other = registry.add_user(AT_US)
    registry.update_user(user.user_id, devices=3, channels=1)
    for name in "abc":
        registry.provision_device(user.user_id, name, AT_US)
    with pytest.raises(DeviceLimitError, match="3 devices"):
        registry.provision_device(user.user_id, "d", AT_US)
    registry.add_channel(user.user_id, 1)
    with pytest.raises(ChannelLimitError, match="1 channels"):
        registry.add_channel(user.user_id, 2)
    for name in "ab":
        registry.provision_device(other.user_id, name, AT_US)
    with pytest.raises(DeviceLimitError, match="2 devices"):
        registry.provision_device(other.user_id, "c", AT_US)
    # Less than there are already: they stay, and no new one comes.
    registry.update_user(user.user_id, devices=1)
    assert len(registry.devices(user.user_id)) == 3
    with pytest.raises(DeviceLimitError):
        registry.provision_device(user.user_id, "d", AT_US)
    registry.update_user(user.user_id, devices=None, channels=None)
    registry.add_channel(user.user_id, 2)


def test_a_deleted_channel_makes_room_for_another_one(registry: Registry, user: User) -> None:
    channels = [registry.add_channel(user.user_id, number).id for number in (1, 2)]
    with pytest.raises(ChannelLimitError):
        registry.add_channel(user.user_id, 3)
    registry.delete_channel(channels[0], AT_US)
    registry.add_channel(user.user_id, 3)
    with pytest.raises(ChannelLimitError):
        registry.add_channel(user.user_id, 1)


def test_somebody_elses_rate_and_storage_are_told(registry: Registry, user: User) -> None:
    assert not registry.has_connector_rates()
    assert registry.storage_quotas() == {}
    registry.update_user(user.user_id, connector_per_s=0.5, storage_bytes=10)
    assert registry.has_connector_rates()
    assert registry.storage_quotas() == {user.user_id: 10}
    registry.update_user(user.user_id, connector_per_s=0)
    assert not registry.has_connector_rates()


def test_users_have_a_version_of_their_own(registry: Registry, user: User, path: Path) -> None:
    other = Registry(path)
    version = registry.users_version
    registry.add_channel(user.user_id, 1)
    registry.add_device(user.user_id, "a", AT_US, enabled=True)
    assert registry.users_version == version
    for change in ({"enabled": False}, {"rest_per_s": 1.0}):
        registry.update_user(user.user_id, **change)  # type: ignore[arg-type]
        assert registry.users_version > version
        version = registry.users_version
    registry.rotate(user.user_id, "device_token")
    assert registry.users_version > version
    assert other.poll()
    assert other.users_version == registry.users_version
    other.close()


def test_updated_at_is_when_somebody_changed_it(registry: Registry, user: User) -> None:
    assert (user.created_at_us, user.updated_at_us) == (AT_US, AT_US)
    with registry.by("admin:ops", AT_US + 7):
        changed = registry.update_user(user.user_id, organization="x")
    assert (changed.created_at_us, changed.updated_at_us) == (AT_US, AT_US + 7)


# ---- old tokens


@pytest.mark.parametrize("which", ["api_token", "device_token"])
def test_an_old_token_works_beside_the_new_one_until_its_time_is_over(
    registry: Registry, user: User, which: str
) -> None:
    find = registry.user_by_api_token if which == "api_token" else registry.user_by_device_token
    wrong = registry.user_by_device_token if which == "api_token" else registry.user_by_api_token
    registry.end_tokens(AT_US)
    rotated = registry.rotate(user.user_id, which, AT_US + 10)
    old, new = getattr(user, which), getattr(rotated, which)
    assert old != new
    for _ in range(2):  # the second time from memory
        assert find(old) == find(new) == rotated
    assert wrong(old) is None
    assert [each.token for each in registry.previous_tokens(user.user_id, which)] == [old]
    version = registry.version
    assert not registry.end_tokens(AT_US + 9)
    assert find(old) == rotated
    assert registry.version == version
    assert registry.end_tokens(AT_US + 10)
    assert find(old) is None
    assert find(new) == rotated
    assert registry.version > version
    assert registry.previous_tokens(user.user_id, which) == []


def test_without_an_overlap_the_older_ones_end_too(registry: Registry, user: User) -> None:
    registry.rotate(user.user_id, "api_token", AT_US + 10)
    other = registry.rotate(user.user_id, "device_token", AT_US + 10)
    registry.rotate(user.user_id, "api_token")
    assert registry.user_by_api_token(user.api_token) is None
    assert registry.user_by_api_token(other.api_token) is None
    assert registry.user_by_device_token(user.device_token) is not None


def test_only_so_many_old_tokens_are_kept(
    registry: Registry, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PREVIOUS_MAX", 2)
    tokens = [user.api_token]
    tokens += [
        registry.rotate(user.user_id, "api_token", AT_US + 10 - number).api_token for number in range(3)
    ]
    assert [registry.user_by_api_token(token) is not None for token in tokens] == [True, True, False, True]


def test_an_old_tokens_time_is_over_also_when_nothing_can_be_written(
    registry: Registry, user: User, path: Path
) -> None:
    rotated = registry.rotate(user.user_id, "api_token", AT_US + 10)
    assert registry.user_by_api_token(user.api_token) is not None
    with full_disk(path.with_name("registry.sqlite3-wal")), pytest.raises(DiskFullError):
        registry.end_tokens(AT_US + 10)
    assert registry.user_by_api_token(user.api_token) is None
    assert registry.user_by_api_token(rotated.api_token) == rotated
    assert registry.end_tokens(AT_US + 10)


# ---- admins' tokens


def test_an_admins_token_is_known_by_its_hash_alone_and_can_be_revoked(
    registry: Registry, path: Path
) -> None:
    one, token = registry.add_admin_token(AT_US, "ops")
    two, second = registry.add_admin_token(AT_US + 1, "ops")
    assert token != second
    assert registry.admin_by_token(token) == one
    assert registry.admin_by_token(second) == two
    for wrong in ("", token.lower(), token[:-1], "a\ud800"):
        assert registry.admin_by_token(wrong) is None
    assert registry.admin_tokens() == [one, two]
    database = sqlite3.connect(path)
    assert token not in repr(database.execute("SELECT * FROM admin_token").fetchall())
    database.close()
    assert registry.revoke_admin_token(one.id) == one
    assert registry.admin_by_token(token) is None
    assert registry.admin_by_token(second) == two
    with pytest.raises(UnknownError, match=str(one.id)):
        registry.revoke_admin_token(one.id)
    assert registry.add_admin_token(AT_US, "new")[0].id > two.id


@pytest.mark.parametrize("name", ["", "a\n", "x" * 1025])
def test_an_admins_token_has_a_name_to_read(registry: Registry, name: str) -> None:
    with pytest.raises(FieldError, match="name"):
        registry.add_admin_token(AT_US, name)


def test_there_are_only_so_many_admin_tokens(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ADMIN_TOKENS_MAX", 1)
    registry.add_admin_token(AT_US, "a")
    with pytest.raises(LimitError, match="1 admin tokens"):
        registry.add_admin_token(AT_US, "b")


# ---- the end of an account


@pytest.mark.parametrize("keeps_data", [True, False])
def test_a_deleted_user_is_gone_with_everything_and_the_id_never_comes_back(
    registry: Registry, user: User, keeps_data: bool
) -> None:
    other = registry.add_user(AT_US)
    channel = registry.add_channel(user.user_id, 1, "Room").id
    device = registry.add_device(user.user_id, "a", AT_US, enabled=True, channel=channel)
    registry.add_event(user.user_id, channel=channel, enabled=True)
    rotated = registry.rotate(user.user_id, "device_token", AT_US + 10**12)
    assert registry.user_by_api_token(user.api_token) is not None
    version, users = registry.version, registry.users_version
    registry.delete_user(user.user_id, AT_US + 5, keeps_data=keeps_data)
    assert registry.version > version
    assert registry.users_version > users
    assert registry.user(user.user_id) is None
    assert registry.users() == registry.find_users() == [other]
    assert registry.user_ids() == {other.user_id}
    for token in (user.api_token, user.device_token, rotated.device_token, f"api of {user.user_id}"):
        assert registry.user_by_api_token(token) is None
        assert registry.user_by_device_token(token) is None
    assert registry.user_by_device_token(f"device of {user.user_id}") is None
    assert registry.device(user.user_id, "a") is None
    assert registry.events_on(channel) == []
    assert registry.deleted_channels() == ([] if keeps_data else [channel])
    # Their numbers still have names, for files.
    assert registry.channel_by_id(channel).number == 1
    assert registry.device_name(device.id) == "a"
    for change in (
        lambda: registry.delete_user(user.user_id, AT_US, keeps_data=True),
        lambda: registry.update_user(user.user_id, user_alias="x"),
        lambda: registry.rotate(user.user_id, "api_token"),
        lambda: registry.add_channel(user.user_id, 2),
        lambda: registry.provision_device(user.user_id, "b", AT_US),
        lambda: registry.add_event(user.user_id),
    ):
        with pytest.raises(UnknownError):
            change()
    assert registry.add_user(AT_US).user_id == "U000003"
