"""The registry's events and what people say of streams: ids, defaults, mapping, limits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.registry import (
    TEXT_BYTES_MAX,
    Event,
    EventLimitError,
    FieldError,
    LimitError,
    Registry,
    RegistryLimits,
    StreamDescription,
    UnknownError,
)

AT_US = 1_700_000_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite3"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    registry = Registry(path, RegistryLimits(events_per_user_max=3, streams_per_channel_max=3))
    yield registry
    registry.close()


@pytest.fixture
def user(registry: Registry) -> str:
    return registry.add_user(AT_US).user_id


# ---- events


def test_a_blank_event_has_the_contracts_defaults(registry: Registry, user: str) -> None:
    event = registry.add_event(user)
    assert event == Event(user, 1, None, None, "", "email", "", False, "", "=", "")
    assert registry.event(user, 1) == event


def test_ids_count_from_one_in_each_account_and_are_never_used_again(
    registry: Registry, user: str, path: Path
) -> None:
    other = registry.add_user(AT_US).user_id
    assert [registry.add_event(user).event_id for _ in range(3)] == [1, 2, 3]
    assert registry.add_event(other).event_id == 1
    registry.delete_event(user, 3)
    assert registry.add_event(user).event_id == 4
    assert [event.event_id for event in registry.events(user)] == [1, 2, 4]
    registry.delete_event(user, 4)
    again = Registry(path)
    assert again.add_event(user).event_id == 5
    again.close()


def test_an_event_watches_a_channel_until_it_is_deleted(registry: Registry, user: str) -> None:
    channel = registry.add_channel(user, 7).id
    one = registry.add_event(
        user, channel=channel, enabled=True, source="temp", operator=">=", threshold="75"
    )
    registry.add_event(user, channel=channel)  # not enabled
    assert (one.channel, one.mapped_ch) == (channel, 7)
    assert registry.events_on(channel) == [one]
    version = registry.events_version
    registry.delete_channel(channel, AT_US)
    assert registry.events_version > version
    assert registry.events_on(channel) == []
    found = registry.event(user, 1)
    assert found is not None
    assert (found.channel, found.mapped_ch, found.enabled) == (None, None, True)


def test_every_change_of_an_event_changes_its_version_and_no_other(
    registry: Registry, user: str, path: Path
) -> None:
    other = Registry(path)
    versions = registry.version, registry.users_version
    seen = [registry.events_version]
    registry.add_event(user)
    seen.append(registry.events_version)
    registry.update_event(user, 1, post_url="https://ops.example/hook", notify_type="http")
    seen.append(registry.events_version)
    registry.delete_event(user, 1)
    seen.append(registry.events_version)
    assert seen == sorted(set(seen))
    assert (registry.version, registry.users_version) == versions
    assert not other.poll()  # no route has changed
    assert other.events_version == registry.events_version
    other.close()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("operator", "=="), ("operator", None), ("notify_type", "sms"), ("enabled", "true"), ("threshold", 75),
        ("source", "x" * (TEXT_BYTES_MAX + 1)), ("post_url", "half a pair: \ud83d"), ("event_id", 9), ("user_id", "U9"),
        ("mapped_ch", 1), ("channel", 99), ("channel", True), ("channel", "1"), ("channel", 2**70),
    ],
)  # fmt: skip
def test_a_field_of_an_event_that_cannot_be_set_is_named_and_nothing_changes(
    registry: Registry, user: str, field: str, value: Any
) -> None:
    event = registry.add_event(user)
    with pytest.raises(FieldError, match=field):
        registry.update_event(user, 1, **{"description": "new", field: value})
    with pytest.raises(FieldError, match=field):
        registry.add_event(user, **{field: value})
    assert registry.events(user) == [event]
    assert registry.add_event(user).event_id == 2


def test_beyond_the_limit_no_event_is_added(registry: Registry, user: str) -> None:
    for _ in range(3):
        registry.add_event(user)
    with pytest.raises(EventLimitError, match="3"):
        registry.add_event(user)
    registry.delete_event(user, 2)
    registry.add_event(user)


@pytest.mark.parametrize("event_id", [0, -1, 2, 2**63, 2**70])
def test_an_event_that_there_is_not(registry: Registry, user: str, event_id: int) -> None:
    registry.add_event(user)
    assert registry.event(user, event_id) is None
    assert registry.event("U9", 1) is None
    with pytest.raises(UnknownError):
        registry.update_event(user, event_id, source="x")
    with pytest.raises(UnknownError):
        registry.delete_event(user, event_id)
    with pytest.raises(UnknownError):
        registry.add_event("U9")


# ---- what people say of streams


def test_a_stream_is_described_field_by_field(registry: Registry, user: str) -> None:
    channel = registry.add_channel(user, 1).id
    assert registry.stream_descriptions(channel) == {}
    assert registry.describe_stream(channel, "temp", unit="°C") == StreamDescription("", "°C", "")
    assert registry.describe_stream(channel, "temp", label="Temperature") == StreamDescription(
        "Temperature", "°C", ""
    )
    registry.describe_stream(channel, "psi", description="of the boiler")
    assert registry.stream_descriptions(channel) == {
        "psi": StreamDescription(description="of the boiler"),
        "temp": StreamDescription("Temperature", "°C", ""),
    }
    assert registry.forget_stream_description(channel, "temp")
    assert not registry.forget_stream_description(channel, "temp")
    assert not registry.forget_stream_description(channel, "a\ud800")
    assert list(registry.stream_descriptions(channel)) == ["psi"]


def test_descriptions_belong_to_one_channel(registry: Registry, user: str) -> None:
    one, two = registry.add_channel(user, 1).id, registry.add_channel(user, 2).id
    registry.describe_stream(one, "temp", unit="K")
    assert registry.stream_descriptions(two) == {}
    registry.delete_channel(one, AT_US)
    again = registry.add_channel(user, 1).id
    assert registry.stream_descriptions(again) == {}


@pytest.mark.parametrize(
    ("stream", "field", "value"),
    [
        ("temp", "unit", 7), ("temp", "unit", "x" * (TEXT_BYTES_MAX + 1)), ("temp", "kind", "number"),
        ("temp", "label", "a\ud800"), ("a\ud800", "label", "stream"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_of_a_stream_is_refused(
    registry: Registry, user: str, stream: str, field: str, value: Any
) -> None:
    channel = registry.add_channel(user, 1).id
    with pytest.raises(FieldError, match=value if field == "label" and value == "stream" else field):
        registry.describe_stream(channel, stream, **{field: value})
    assert registry.stream_descriptions(channel) == {}


def test_no_more_streams_are_described_than_a_channel_may_have(registry: Registry, user: str) -> None:
    channel = registry.add_channel(user, 1).id
    for name in "abc":
        registry.describe_stream(channel, name, unit="x")
    with pytest.raises(LimitError, match="3"):
        registry.describe_stream(channel, "d", unit="x")
    registry.describe_stream(channel, "c", unit="y")
    with pytest.raises(UnknownError):
        registry.describe_stream(99, "c", unit="y")
