"""The registry's devices: provisioning, the limit, mapping, states, deletion and return."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from storage.journal import State
from storage.registry import (
    TEXT_BYTES_MAX,
    Device,
    DeviceLimitError,
    FieldError,
    InUseError,
    Registry,
    RegistryLimits,
    UnknownError,
)

AT_US = 1_700_000_000_000_000
NAMES = st.sampled_from(["a", "b", "c", "d"])
NUMBERS = st.integers(1, 3)
USE = st.integers(0, 1)  # which connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite3"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    registry = Registry(path, RegistryLimits(devices_per_user_max=3))
    yield registry
    registry.close()


@pytest.fixture
def user(registry: Registry) -> str:
    return registry.add_user(AT_US).user_id


def test_a_provisioned_device_is_known_but_neither_enabled_nor_mapped(registry: Registry, user: str) -> None:
    version = registry.version
    device = registry.provision_device(user, "a", AT_US)
    assert device == Device(
        id=device.id,
        user_id=user,
        device_id="a",
        description="",
        enabled=False,
        channel=None,
        mapped_ch=None,
        device_type="",
        location="",
        manufacturer="",
        activate_at_us=AT_US,
        state=None,
        state_at_us=None,
    )
    assert registry.version == version  # nobody's route is another one
    assert registry.device(user, "a") == device
    assert registry.device_name(device.id) == "a"


def test_a_device_may_be_added_with_its_fields(registry: Registry, user: str) -> None:
    channel = registry.add_channel(user, 7).id
    version = registry.version
    device = registry.add_device(user, "a", AT_US, enabled=True, channel=channel, location="roof")
    assert (device.enabled, device.channel, device.mapped_ch, device.location) == (True, channel, 7, "roof")
    assert registry.version > version


def test_devices_are_listed_by_name_and_belong_to_one_user(registry: Registry, user: str) -> None:
    other = registry.add_user(AT_US).user_id
    for name in ("b", "a", "ä"):
        registry.add_device(user, name, AT_US)
    one = registry.add_device(other, "a", AT_US)
    assert [device.device_id for device in registry.devices(user)] == ["a", "b", "ä"]
    assert registry.devices(other) == [one]
    assert registry.device(user, "A") is None
    assert registry.device(other, "b") is None


def test_a_device_is_added_once(registry: Registry, user: str) -> None:
    device = registry.add_device(user, "a", AT_US, description="first")
    for add in (registry.add_device, registry.provision_device):
        with pytest.raises(InUseError, match="a"):
            add(user, "a", AT_US + 1)
    assert registry.devices(user) == [device]


def test_beyond_the_limit_no_device_is_added_until_one_is_deleted(registry: Registry, user: str) -> None:
    other = registry.add_user(AT_US).user_id
    for name in ("a", "b", "c"):
        registry.provision_device(user, name, AT_US)
    for add in (registry.add_device, registry.provision_device):
        with pytest.raises(DeviceLimitError, match="3"):
            add(user, "d", AT_US)
    registry.add_device(other, "d", AT_US)
    registry.delete_device(user, "b", AT_US)
    registry.add_device(user, "d", AT_US)
    with pytest.raises(DeviceLimitError):
        registry.add_device(user, "b", AT_US)  # a deleted one counts like a new one
    assert [device.device_id for device in registry.devices(user)] == ["a", "c", "d"]


def test_a_deleted_device_comes_back_with_its_id_and_nothing_else(registry: Registry, user: str) -> None:
    channel = registry.add_channel(user, 1).id
    device = registry.add_device(user, "a", AT_US, enabled=True, channel=channel, description="x")
    registry.put_states([State(AT_US, device.id, b"load=1")])
    version = registry.version
    registry.delete_device(user, "a", AT_US)
    assert registry.version > version
    assert registry.device(user, "a") is None
    assert registry.devices(user) == []
    assert registry.device_name(device.id) == "a"  # what it sent stays
    with pytest.raises(UnknownError):
        registry.delete_device(user, "a", AT_US)
    with pytest.raises(UnknownError):
        registry.update_device(user, "a", enabled=True)
    again = registry.provision_device(user, "a", AT_US + 9)
    empty = {"description": "", "state": None, "state_at_us": None}
    off = {"enabled": False, "channel": None, "mapped_ch": None}
    assert again == replace(device, activate_at_us=AT_US + 9, **empty, **off)  # type: ignore[arg-type]


def test_only_what_can_change_a_route_changes_the_version(registry: Registry, user: str) -> None:
    channel = registry.add_channel(user, 1).id
    registry.add_device(user, "a", AT_US)
    version = registry.version
    device = registry.update_device(user, "a", description="x", device_type="y", manufacturer="z")
    assert (device.description, device.device_type, device.manufacturer) == ("x", "y", "z")
    assert registry.version == version
    for fields in ({"enabled": True}, {"channel": channel}, {"channel": None}, {"enabled": False}):
        registry.update_device(user, "a", **fields)
        assert registry.version > version
        version = registry.version


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("enabled", 1),
        ("enabled", "true"),
        ("enabled", None),
        ("description", None),
        ("location", "x" * (TEXT_BYTES_MAX + 1)),
        ("location", "half a pair: \ud83d"),
        ("device_id", "b"),
        ("user_id", "U000002"),
        ("at_us", 1),
        ("state", b""),
        ("mapped_ch", 1),
        ("id", 1),
    ],
)
def test_a_field_of_a_device_that_cannot_be_set_is_named_and_nothing_changes(
    registry: Registry, user: str, field: str, value: object
) -> None:
    device = registry.add_device(user, "a", AT_US)
    with pytest.raises(FieldError, match=field):
        registry.update_device(user, "a", **{"manufacturer": "new", field: value})
    with pytest.raises(FieldError, match=field):
        registry.add_device(user, "b", AT_US, **{field: value})
    assert registry.devices(user) == [device]


def test_the_last_state_in_the_order_of_the_log_stands_also_when_the_clock_was_set_back(
    registry: Registry, user: str
) -> None:
    device = registry.add_device(user, "a", AT_US).id
    other = registry.add_device(user, "b", AT_US).id
    registry.put_states(
        [State(5, device, b"load=1"), State(7, device, b"load=2"), State(9, 12345, b"nobody")]
    )
    registry.put_states([State(4, device, b"load=3")])
    found = {each.id: (each.state, each.state_at_us) for each in registry.devices(user)}
    assert found == {device: (b"load=3", 4), other: (None, None)}


class RegistryMachine(RuleBasedStateMachine):
    """Two connections to one file, in turn, against dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        path = Path(self.directory.name) / "registry.sqlite3"
        self.both = [Registry(path, RegistryLimits(3)), Registry(path, RegistryLimits(3))]
        self.user = self.both[0].add_user(AT_US).user_id
        self.both[1].poll()
        self.devices: dict[str, tuple[bool, int | None]] = {}  # enabled, number of its channel
        self.ids: dict[str, int] = {}
        self.channels: dict[int, int] = {}
        self.buried: list[int] = []

    def teardown(self) -> None:
        for registry in self.both:
            registry.close()
        self.directory.cleanup()

    def changes(self, use: int, moves: bool) -> None:
        """The connection that was used has a new version or not; the other one hears of it."""
        assert self.both[1 - use].poll() == moves
        assert self.both[0].version == self.both[1].version

    @rule(use=USE, name=NAMES)
    def provision(self, use: int, name: str) -> None:
        if name in self.devices:
            expected: type[Exception] | None = InUseError
        else:
            expected = DeviceLimitError if len(self.devices) == 3 else None
        if expected is not None:
            with pytest.raises(expected):
                self.both[use].provision_device(self.user, name, AT_US)
        else:
            device = self.both[use].provision_device(self.user, name, AT_US)
            assert device.id == self.ids.setdefault(name, device.id)
            self.devices[name] = False, None
        self.changes(use, False)

    @rule(use=USE, name=NAMES, enabled=st.booleans(), number=NUMBERS)
    def update(self, use: int, name: str, enabled: bool, number: int) -> None:
        channel = self.channels.get(number)
        if name not in self.devices:
            with pytest.raises(UnknownError):
                self.both[use].update_device(self.user, name, enabled=enabled, channel=channel)
        else:
            self.both[use].update_device(self.user, name, enabled=enabled, channel=channel)
            self.devices[name] = enabled, None if channel is None else number
        self.changes(use, name in self.devices)

    @rule(use=USE, name=NAMES)
    def delete(self, use: int, name: str) -> None:
        known = self.devices.pop(name, None)
        if known is None:
            with pytest.raises(UnknownError):
                self.both[use].delete_device(self.user, name, AT_US)
        else:
            self.both[use].delete_device(self.user, name, AT_US)
        self.changes(use, known is not None)

    @rule(use=USE, number=NUMBERS)
    def add_channel(self, use: int, number: int) -> None:
        new = number not in self.channels
        if new:
            channel = self.both[use].add_channel(self.user, number).id
            assert channel not in self.buried
            self.channels[number] = channel
        else:
            with pytest.raises(InUseError):
                self.both[use].add_channel(self.user, number)
        self.changes(use, new)

    @rule(use=USE, number=NUMBERS)
    def delete_channel(self, use: int, number: int) -> None:
        if number in self.channels:
            channel = self.channels.pop(number)
            self.both[use].delete_channel(channel, AT_US)
            self.buried.append(channel)
            for name, (enabled, mapped) in self.devices.items():
                self.devices[name] = enabled, None if mapped == number else mapped
            self.changes(use, True)

    @invariant()
    def both_see_the_same(self) -> None:
        for registry in self.both:
            assert {each.number: each.id for each in registry.channels(self.user)} == self.channels
            assert sorted(registry.deleted_channels()) == sorted(self.buried)
            found = registry.devices(self.user)
            assert {each.device_id: (each.enabled, each.mapped_ch) for each in found} == self.devices
            for each in found:
                assert each.id == self.ids[each.device_id]
                assert each.channel == (None if each.mapped_ch is None else self.channels[each.mapped_ch])


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
