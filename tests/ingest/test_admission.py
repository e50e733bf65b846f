"""Admission: the order of the contract's checks (2.2), what is registered on the way, and where a reading goes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingest.admission import DEVICE_ID_BYTES_MAX, Admission, Route, text_of
from ingest.pace import RateLimiter
from storage.kinds import Refusal
from storage.registry import Registry, RegistryLimits

AT_US = 1_700_000_000_000_000
TAG_BYTES_MAX = 16


@dataclass
class House:
    """A user with channel 1, and admission for it; every post comes a minute after the last one."""

    registry: Registry
    admission: Admission
    user_id: str
    token: bytes
    channel: int
    now: float = 0.0

    def post(self, device_id: bytes | None, tag: bytes = b"", token: bytes | None = None) -> Route | Refusal:
        self.now += 60
        return self.admission.route_http(token or self.token, device_id, tag, self.now, AT_US)

    def route(self, device_id: bytes, tag: bytes = b"") -> Route | Refusal:
        return self.admission.route(self.user_id, device_id, tag, AT_US)

    def device(self, name: str, *, enabled: bool = True, mapped: bool = True) -> int:
        channel = self.channel if mapped else None
        return self.registry.add_device(self.user_id, name, AT_US, enabled=enabled, channel=channel).id

    def names(self) -> list[str]:
        return [device.device_id for device in self.registry.devices(self.user_id)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    registry = Registry(tmp_path / "registry.sqlite3", RegistryLimits(devices_per_user_max=3))
    user = registry.add_user(AT_US)
    channel = registry.add_channel(user.user_id, 1)
    admission = Admission(registry, RateLimiter(1.0), TAG_BYTES_MAX)
    yield House(registry, admission, user.user_id, user.device_token.encode(), channel.id)
    registry.close()


# ---- where a reading goes


def test_an_enabled_and_mapped_device_has_a_route(house: House) -> None:
    device = house.device("d1")
    assert house.post(b"d1") == house.route(b"d1") == Route(device, house.channel)
    assert house.route(b"d1", b"a tag") == Route(device, house.channel)


def test_the_same_device_id_of_another_user_is_another_device(house: House) -> None:
    house.device("d1")
    other = house.registry.add_user(AT_US)
    assert house.post(b"d1", token=other.device_token.encode()) is Refusal.NEW_DEVICE_FOUND
    assert house.names() == ["d1"]


# ---- the order of the checks: each request is wrong in every way that comes later, too


def test_a_wrong_token_comes_first_and_registers_nothing(house: House) -> None:
    for token in (None, b"", b"0" * 32, b"\xff", house.token.lower(), house.token + b" "):
        assert house.admission.route_http(token, b"new", b"", 0, AT_US) is Refusal.AUTH_REQUIRED
    assert house.names() == []


def test_a_wrong_token_costs_the_device_nothing(house: House) -> None:
    device = house.device("d1")
    assert house.admission.route_http(b"wrong", b"d1", b"", 0, AT_US) is Refusal.AUTH_REQUIRED
    assert house.admission.route_http(house.token, b"d1", b"", 0, AT_US) == Route(device, house.channel)


def test_the_rate_limit_comes_before_the_device_id(house: House) -> None:
    for device_id, refusal in (
        (b"0", Refusal.DEVICE_ID_ZERO),
        (None, Refusal.DEVICE_ID_ZERO),
        (b"\n", Refusal.DEVICE_ID_INVALID),
        (b"new", Refusal.NEW_DEVICE_FOUND),
    ):
        assert house.admission.route_http(house.token, device_id, b"", 5, AT_US) is refusal
        assert house.admission.route_http(house.token, device_id, b"", 5, AT_US) is Refusal.TOO_MANY_REQUESTS
        assert (
            house.admission.route_http(house.token, device_id, b"", 6, AT_US) is not Refusal.TOO_MANY_REQUESTS
        )


def test_the_rate_limit_is_of_one_device_of_one_user(house: House) -> None:
    other = house.registry.add_user(AT_US).device_token.encode()
    for token, device_id in ((house.token, b"a"), (house.token, b"b"), (other, b"a")):
        assert house.admission.route_http(token, device_id, b"", 5, AT_US) is Refusal.NEW_DEVICE_FOUND


def test_a_rotated_token_is_the_same_bucket(house: House) -> None:
    house.admission.route_http(house.token, b"a", b"", 5, AT_US)
    token = house.registry.rotate(house.user_id, "device_token").device_token.encode()
    assert house.admission.route_http(token, b"a", b"", 5, AT_US) is Refusal.TOO_MANY_REQUESTS
    assert house.admission.route_http(house.token, b"a", b"", 5, AT_US) is Refusal.AUTH_REQUIRED


def test_mqtt_knows_no_rate_limit(house: House) -> None:
    device = house.device("d1")
    assert {house.route(b"d1") for _ in range(100)} == {Route(device, house.channel)}


@pytest.mark.parametrize("device_id", [None, b"", b"0"])
def test_no_device_id_is_refused_and_registers_nothing(house: House, device_id: bytes | None) -> None:
    assert house.post(device_id, b"\n") is Refusal.DEVICE_ID_ZERO
    assert house.names() == []


@pytest.mark.parametrize(
    "device_id",
    [b"a\x00", b"a\n", b"\x7f", b"a\tb", b"\xff", b"\xed\xa0\x80", b"d" * (DEVICE_ID_BYTES_MAX + 1)],
)
def test_a_device_id_that_is_no_name_is_refused_and_registers_nothing(house: House, device_id: bytes) -> None:
    assert house.post(device_id) is Refusal.DEVICE_ID_INVALID
    assert house.names() == []


@pytest.mark.parametrize("name", ["00", "0.0", " ", "å" * (DEVICE_ID_BYTES_MAX // 2), "a/b'\";--", "端末"])
def test_any_other_name_is_a_device_id(house: House, name: str) -> None:
    assert house.post(name.encode()) is Refusal.NEW_DEVICE_FOUND
    assert house.names() == [name]


def test_an_unmapped_device_is_told_so_before_it_is_told_that_it_is_disabled(house: House) -> None:
    house.device("d1", enabled=False, mapped=False)
    assert house.post(b"d1", b"\n") is Refusal.NO_MAPPED_CH
    house.registry.update_device(house.user_id, "d1", channel=house.channel)
    assert house.post(b"d1", b"\n") is Refusal.DEVICE_DISABLED
    house.registry.update_device(house.user_id, "d1", enabled=True)
    assert house.post(b"d1", b"\n") is Refusal.TAG_INVALID
    assert isinstance(house.post(b"d1", b"t"), Route)


def test_an_enabled_device_without_a_channel_is_refused(house: House) -> None:
    house.device("d1", mapped=False)
    assert house.post(b"d1") is Refusal.NO_MAPPED_CH


def test_the_device_of_a_deleted_channel_is_unmapped_and_stays_so(house: House) -> None:
    house.device("d1")
    house.registry.delete_channel(house.channel, AT_US)
    assert house.post(b"d1") is Refusal.NO_MAPPED_CH
    again = house.registry.add_channel(house.user_id, 1)
    assert house.post(b"d1") is Refusal.NO_MAPPED_CH
    house.registry.update_device(house.user_id, "d1", channel=again.id)
    assert house.post(b"d1") == Route(1, again.id)
    assert again.id != house.channel


@pytest.mark.parametrize("tag", [b"a\x00", b"\n", b"\xff", b"t" * (TAG_BYTES_MAX + 1), "å".encode() * 9])
def test_a_tag_that_is_no_name_is_refused(house: House, tag: bytes) -> None:
    house.device("d1")
    assert house.post(b"d1", tag) is Refusal.TAG_INVALID


@pytest.mark.parametrize("tag", [b"", b"t", b"0", b"t" * TAG_BYTES_MAX, "å".encode() * 8])
def test_a_tag_of_the_longest_size_is_taken(house: House, tag: bytes) -> None:
    house.device("d1")
    assert isinstance(house.post(b"d1", tag), Route)


# ---- auto provisioning


def test_an_unknown_device_is_registered_neither_enabled_nor_mapped(house: House) -> None:
    assert house.post(b"new") is Refusal.NEW_DEVICE_FOUND
    device = house.registry.device(house.user_id, "new")
    assert device is not None
    assert (device.enabled, device.channel, device.activate_at_us) == (False, None, AT_US)
    assert (device.description, device.device_type, device.location, device.manufacturer) == ("", "", "", "")
    assert house.post(b"new") is Refusal.NO_MAPPED_CH


def test_a_deleted_device_is_registered_again_under_its_old_number(house: House) -> None:
    device = house.device("d1")
    house.registry.delete_device(house.user_id, "d1", AT_US)
    assert house.post(b"d1") is Refusal.NEW_DEVICE_FOUND
    again = house.registry.device(house.user_id, "d1")
    assert again is not None
    assert (again.id, again.enabled, again.channel) == (device, False, None)


def test_at_the_device_limit_only_known_devices_get_in(house: House) -> None:
    for name in (b"a", b"b", b"c"):
        assert house.post(name) is Refusal.NEW_DEVICE_FOUND
    assert house.post(b"d") is house.route(b"d") is Refusal.MAX_DEVICE_REACH
    assert house.names() == ["a", "b", "c"]
    assert house.post(b"a") is Refusal.NO_MAPPED_CH
    house.registry.delete_device(house.user_id, "a", AT_US)
    assert house.post(b"d") is Refusal.NEW_DEVICE_FOUND


def test_the_device_limit_is_of_one_user(house: House) -> None:
    for name in (b"a", b"b", b"c"):
        house.post(name)
    other = house.registry.add_user(AT_US).device_token.encode()
    assert house.post(b"d", token=other) is Refusal.NEW_DEVICE_FOUND


# ---- names


def test_a_name_is_measured_in_bytes_and_read_as_text() -> None:
    assert text_of("åå".encode(), 4) == "åå"
    assert text_of("åå".encode(), 3) is None
    assert text_of(b"", 0) == ""
