"""The audit log: what is changed in somebody's name leaves a row, in the same transaction, without tokens."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.journal import State
from storage.registry import AuditRow, InUseError, Registry
from storage.registry import audit as module

AT_US = 1_700_000_000_000_000


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path / "registry.sqlite3")
    yield registry
    registry.close()


@pytest.fixture
def user(registry: Registry) -> str:
    return registry.add_user(AT_US).user_id


def told(row: AuditRow) -> tuple[str, str, Any, Any]:
    return row.action, row.subject, row.before, row.after


def test_what_nobody_does_leaves_no_row(registry: Registry, user: str) -> None:
    channel = registry.add_channel(user, 1).id
    device = registry.provision_device(user, "a", AT_US)
    registry.put_states([State(1, device.id, b"load=1")])
    registry.update_device(user, "a", channel=channel)
    assert registry.audit() == []


def test_each_change_leaves_one_row_with_the_keys_that_changed(registry: Registry, user: str) -> None:
    with registry.by(user, AT_US + 1):
        channel = registry.add_channel(user, 3, "Room").id
        registry.rename_channel(channel, "Hall")
        registry.put_tag_name(channel, "n", "North")
        registry.put_tag_name(channel, "n", "Nord")
        registry.delete_tag_name(channel, "n")
        registry.describe_stream(channel, "temp", unit="°C")
        registry.forget_stream_description(channel, "temp")
        registry.add_device(user, "a", AT_US, enabled=True)
        registry.update_device(user, "a", channel=channel, location="")
        registry.update_device(user, "a", location="")  # changes nothing
        registry.add_event(user)
        registry.update_event(user, 1, source="temp")
        registry.delete_event(user, 1)
        registry.delete_device(user, "a", AT_US)
        registry.delete_channel(channel, AT_US)
    rows = registry.audit()[::-1]
    assert {(row.at_us, row.actor, row.user_id) for row in rows} == {(AT_US + 1, user, user)}
    texts = {"device_type": "", "location": "", "manufacturer": "", "description": ""}
    empty = {"label": "", "unit": "", "description": ""}
    event = {
        "mapped_ch": None, "enabled": False, "notify_type": "email", "operator": "=", "description": "", "post_url": "",
        "source": "", "threshold": "",
    }  # fmt: skip
    assert [told(row) for row in rows] == [
        ("channel.add", "3", None, {"channel_name": "Room"}),
        ("channel.update", "3", {"channel_name": "Room"}, {"channel_name": "Hall"}),
        ("tag.add", "3/n", None, {"channel_name": "North"}),
        ("tag.update", "3/n", {"channel_name": "North"}, {"channel_name": "Nord"}),
        ("tag.delete", "3/n", {"channel_name": "Nord"}, None),
        ("stream.update", "3/temp", {"unit": ""}, {"unit": "°C"}),
        ("stream.delete", "3/temp", {**empty, "unit": "°C"}, None),
        ("device.add", "a", None, {**texts, "enabled": True, "mapped_ch": None}),
        ("device.update", "a", {"mapped_ch": None}, {"mapped_ch": 3}),
        ("event.add", "1", None, event),
        ("event.update", "1", {"source": ""}, {"source": "temp"}),
        ("event.delete", "1", {**event, "source": "temp"}, None),
        ("device.delete", "a", {**texts, "enabled": True, "mapped_ch": 3}, None),
        ("channel.delete", "3", {"channel_name": "Hall"}, None),
    ]


def test_tokens_stand_in_no_row(registry: Registry) -> None:
    with registry.by("admin:ops", AT_US):
        user = registry.add_user(AT_US, user_alias="x")
        registry.update_user(user.user_id, rest_per_s=2.5)
        rotated = registry.rotate(user.user_id, "api_token", AT_US + 5)
        number, token = registry.add_admin_token(AT_US, "second")
        registry.revoke_admin_token(number.id)
        registry.delete_user(user.user_id, AT_US, keeps_data=True)
    rows = registry.audit()
    assert [row.action for row in rows[::-1]] == [
        "user.add", "user.update", "user.rotate", "admin_token.add", "admin_token.revoke", "user.delete",
    ]  # fmt: skip
    assert {row.actor for row in rows} == {"admin:ops"}
    text = repr(rows)
    secrets = (user.api_token, user.device_token, rotated.api_token, rotated.device_token, token)
    assert not any(secret in text for secret in secrets)


def test_a_change_that_is_undone_leaves_no_row(registry: Registry, user: str) -> None:
    def twice() -> None:
        with registry.by(user, AT_US):
            registry.add_channel(user, 1)
            registry.add_channel(user, 1)

    with pytest.raises(InUseError):
        twice()
    assert registry.audit() == []
    registry.add_channel(user, 1)  # the author is forgotten
    assert registry.audit() == []


def test_pages_go_from_the_newest_to_the_oldest_and_show_one_account(registry: Registry, user: str) -> None:
    other = registry.add_user(AT_US).user_id
    for number in range(5):
        with registry.by("cli", AT_US + number):
            registry.add_channel(user if number % 2 == 0 else other, number)
    first = registry.audit(limit=2)
    second = registry.audit(before=first[-1].id, limit=2)
    assert [row.subject for row in first + second] == ["4", "3", "2", "1"]
    assert [row.subject for row in registry.audit(other)] == ["3", "1"]


def test_old_rows_are_forgotten_a_bounded_number_at_a_time(
    registry: Registry, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORGET_ROWS_MAX", 2)
    for number in range(5):
        with registry.by("cli", AT_US + number):
            registry.add_channel(user, number)
    assert registry.forget_audit(AT_US) == 0
    assert registry.forget_audit(AT_US + 3) == 2
    assert registry.forget_audit(AT_US + 3) == 1
    assert registry.forget_audit(AT_US + 3) == 0
    assert [row.subject for row in registry.audit()] == ["4", "3"]
