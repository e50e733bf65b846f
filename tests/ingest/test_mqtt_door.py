"""The session machine and its driver: who may connect, what is owed for each packet, what ends a connection."""

from pathlib import Path

import pytest

from ingest.admission import Admission
from ingest.mqtt.packets import ReasonCode
from ingest.pace import RateLimiter
from storage.journal import Journal, Limits
from storage.kinds import Refusal
from storage.registry import Registry, User
from storage.ring import Ring
from storage.schema import Schema
from tests.ingest.test_mqtt_packets import frame
from tests.twins.doors import make_door


class Wire:
    """A link that remembers."""

    def __init__(self) -> None:
        self.sent: dict[int, bytes] = {}
        self.closed: list[int] = []
        self.admitted: list[int] = []
        self.keepalive: dict[int, float] = {}
        self.refusals: list[int] = []
        self.stored = 0

    def send(self, slot: int, data: bytes) -> None:
        self.sent[slot] = self.sent.get(slot, b"") + data

    def close(self, slot: int) -> None:
        self.closed.append(slot)

    def set_keepalive(self, slot: int, deadline_s: float) -> None:
        self.keepalive[slot] = deadline_s

    def admit(self, slot: int, protocol: int, words_bytes_max: int) -> None:
        self.admitted.append(slot)

    def backlog(self, slot: int) -> int:
        return 0

    def call_when_drained(self, slot: int) -> None: ...

    def invalidate_routes(self) -> None: ...

    def peer(self, slot: int) -> str:
        return "127.0.0.1"

    def count_refusal(self, speaks: str, refusal: int) -> None:
        self.refusals.append(refusal)

    def count_stored(self, speaks: str) -> None:
        self.stored += 1


class House:
    def __init__(self, path: Path, rows: int = 64) -> None:
        self.registry = Registry(path / "registry.sqlite3")
        self.user: User = self.registry.add_user(1)
        channel = self.registry.add_channel(self.user.user_id, 1)
        self.registry.add_device(self.user.user_id, "d", 1, enabled=True, channel=channel.id)
        self.journal = Journal(Ring(rows, 256, 4096), Schema(), Limits(), 70_000)
        self.door = make_door(Admission(self.registry, RateLimiter(0)), self.journal)
        self.wire = self.door.link = Wire()
        self.token = self.user.device_token

    def receive(self, slot: int, data: bytes | str) -> bytes:
        """Deliver one frame; what was sent back."""
        self.wire.sent.pop(slot, None)
        assert self.door.on_packet(slot, frame(data) if isinstance(data, str) else data, 0.0, 1)
        return self.wire.sent.get(slot, b"")

    def connect(
        self, slot: int = 1, client_id: str = "c", user: str | None = None, token: str | None = None
    ) -> bytes:
        user, token = user or self.user.user_id, token or self.token
        fields = b"".join(len(text).to_bytes(2, "big") + text.encode() for text in (client_id, user, token))
        body = b"\x00\x04MQTT\x04\xc2\x00\x0a" + fields
        return self.receive(slot, b"\x10" + bytes([len(body)]) + body)

    def publish(self, slot: int, topic: str, payload: bytes, first: int = 0x32, packet_id: int = 9) -> bytes:
        body = len(topic).to_bytes(2, "big") + topic.encode()
        body += (packet_id.to_bytes(2, "big") if first & 6 else b"") + payload
        return self.receive(slot, bytes([first, len(body)]) + body)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_the_right_token_connects_and_the_keepalive_has_its_grace(house: House) -> None:
    assert house.connect() == b"\x20\x02\x00\x00"
    assert house.wire.admitted == [1]
    assert house.wire.keepalive == {1: 15.0}
    assert house.door.user_of(1, b"") == (house.user.user_id, house.token.encode())


@pytest.mark.parametrize("wrong", [{"token": "0" * 32}, {"user": "U999999"}, {"user": ""}, {"token": "é"}])
def test_wrong_credentials_are_return_code_4_and_a_close(house: House, wrong: dict[str, str]) -> None:
    other = house.registry.add_user(1)
    for value in (wrong, {"user": other.user_id}):
        house.wire.closed.clear()
        user = value.get("user", house.user.user_id) or " "
        token = value.get("token", house.token)
        body = b"\x00\x04MQTT\x04\xc2\x00\x0a\x00\x01c"
        body += b"".join(len(text.encode()).to_bytes(2, "big") + text.encode() for text in (user, token))
        assert house.receive(2, b"\x10" + bytes([len(body)]) + body) == b"\x20\x02\x00\x04"
        assert house.wire.closed == [2]
        assert house.wire.admitted == []
        house.door.on_closed(2, 1)


def test_anonymous_is_refused(house: House) -> None:
    assert house.receive(1, "10 0004 'MQTT' 04 02 003c 0001 'c'") == b"\x20\x02\x00\x04"


def test_a_version_that_nobody_speaks_is_return_code_1(house: House) -> None:
    assert house.receive(1, "10 0004 'MQTT' 06 02 003c 00 0001 'c'") == b"\x20\x02\x00\x01"
    assert house.wire.closed == [1]


def test_a_client_of_version_5_is_told_why_it_is_refused(house: House) -> None:
    assert house.receive(1, "10 0004 'MQTT' 05 02 003c 02 17 00 0001 'c'") == b"\x20\x03\x00\x86\x00"
    assert house.wire.closed == [1]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("10 0004 'MQTT' 05 03 003c 00 0001 'c'", 0x81),
        ("10 0004 'MQTT' 05", 0x81),
        ("12 0004 'MQTT' 05 02 003c 00 0001 'c'", 0x81),
        ("10 0004 'MQTT' 05 02 003c 03 21 0000 0001 'c'", 0x82),
        ("10 0004 'MQTT' 05 02 003c 04 17 01 17 01 0001 'c'", 0x82),
        ("10 0004 'MQTT' 85 02 003c 00 0001 'c'", 0x84),
    ],
)
def test_a_connect_of_5_0_that_is_wrong_is_told_why_before_the_end(
    house: House, data: str, code: int
) -> None:
    answer = house.receive(1, data)
    assert answer[0] == 0x20
    assert answer[2:4] == bytes([0, code])
    assert f"{ReasonCode(code).name}: ".encode() in answer
    assert house.wire.closed == [1]
    house.wire.sent.clear()
    house.door.on_closed(1, 1)
    assert house.wire.sent == {}


@pytest.mark.parametrize(
    "data",
    [
        "10 0004 'MQTT' 04 03 003c 0001 'c'",
        "10 0006 'MQIsdp' 03 0a 003c 0001 'c'",
        "10 0004 'MQTX' 05 02 003c 00 0001 'c'",
        "10 0004 'MQ'",
        "f0 0004 'MQTT' 05",
    ],
)
def test_a_wrong_connect_of_the_others_ends_without_a_word(house: House, data: str) -> None:
    assert house.receive(1, data) == b""
    assert house.wire.closed == [1]


@pytest.mark.parametrize("data", ["10 0004 'MQTT' 04 00 003c 0000", "10 0006 'MQIsdp' 03 02 003c 0000"])
def test_an_empty_client_id_needs_3_1_1_and_a_clean_session(house: House, data: str) -> None:
    assert house.receive(1, data) == b"\x20\x02\x00\x02"
    assert house.connect(2, "") == b"\x20\x02\x00\x00"
    assert house.connect(3, "") == b"\x20\x02\x00\x00"
    assert house.wire.closed == [1]


def test_the_second_client_with_an_id_takes_over_but_not_another_users(house: House) -> None:
    house.connect(1)
    other = house.registry.add_user(1)
    house.connect(2, user=other.user_id, token=other.device_token)
    assert house.wire.closed == []
    house.connect(3)
    assert house.wire.closed == [1]
    house.door.on_closed(1, 1)
    namespace = house.door.broker.namespace(house.user.user_id, house.token.encode())
    assert [connection.slot for _, connection in namespace.live()] == [3]
    assert house.door.broker.counts.taken_over == 1


@pytest.mark.parametrize("data", ["c0", "30 0001 'a'", "e0"])
def test_the_first_packet_is_connect_or_the_connection_ends(house: House, data: str) -> None:
    assert house.receive(1, data) == b""
    assert house.wire.closed == [1]


@pytest.mark.parametrize("data", ["10 0004 'MQTT' 04 02 003c 0001 'c'", "36 0001 'a' 0001", "f0", "82 0001"])
def test_a_broken_protocol_ends_the_connection_without_a_word(house: House, data: str) -> None:
    house.connect()
    assert house.receive(1, data) == b""
    assert house.wire.closed == [1]
    assert sum(house.door.statistics().protocol_errors.values()) == 1


def test_filters_beside_the_own_token_are_refused_one_by_one(house: House) -> None:
    house.connect()
    assert house.receive(1, "82 0005 0001 'a' 01 0001 'b' 00") == bytes.fromhex("90 04 00 05 80 80")
    assert house.receive(1, "a2 0006 0001 'a'") == bytes.fromhex("b0 02 00 06")
    assert house.receive(1, "c0") == b"\xd0\x00"
    assert house.receive(1, "40 0001") == b""
    assert house.wire.closed == []
    assert house.receive(1, "e0") == b""
    assert house.wire.closed == [1]


def test_qos_2_is_stored_once_however_often_it_is_sent(house: House) -> None:
    house.connect()
    topic = f"{house.token}/json/d"
    for first in (0x34, 0x3C, 0x3C):
        assert house.publish(1, topic, b"5", first) == b"\x50\x02\x00\x09"
    assert house.journal.ring.written == 1
    assert house.receive(1, "62 0009") == bytes.fromhex("70 02 00 09")
    assert house.receive(1, "62 0009") == bytes.fromhex("70 02 00 09")
    assert house.publish(1, topic, b"6", 0x34) == b"\x50\x02\x00\x09"
    assert house.journal.ring.written == 2


def test_topics_beside_the_lane_are_acknowledged_whatever_becomes_of_them(house: House) -> None:
    house.connect()
    token = house.token
    for topic, payload, refused in (
        ("x/json/d", b"1", "FOREIGN_TOPIC"),
        (f"{token}/json", b"1", "UNKNOWN_TOPIC"),
        (f"{token}/json/d/t/u", b"1", "UNKNOWN_TOPIC"),
        (f"{token}/json/0", b"1", "DEVICE_ID_ZERO"),
        (f"{token}/json/new", b"1", "NEW_DEVICE_FOUND"),
        (f"{token}/json/new", b"1", "NO_MAPPED_CH"),
        (f"{token}/json/d", b"{", "BAD_JSON_FORMAT"),
        (f"{token}/state/d", b"nothing", "BAD_FORM_FORMAT"),
        (f"{token}/d/subscribe", b"led:on", None),
        (f"{token}/json/d", b"1", None),
        (f"{token}/state/d", b"load=1", None),
        (f"{token}/binary/d", b"\x00", None),
        (f"{token}/d/", b"v=1", None),
    ):
        house.wire.refusals.clear()
        assert house.publish(1, topic, payload) == b"\x40\x02\x00\x09", topic
        assert [Refusal(number).name for number in house.wire.refusals] == ([refused] if refused else [])
    assert house.wire.stored == 4
    assert house.journal.ring.written == 3


def test_a_packet_that_finds_no_room_is_offered_again_and_stored_once(tmp_path: Path) -> None:
    house = House(tmp_path, rows=2)
    house.connect()
    topic = f"{house.token}/json/d"
    for first in (0x31, 0x35):
        house.publish(1, topic, b"5", first)
    body = len(topic).to_bytes(2, "big") + topic.encode() + b"\x00\x07" + b"6"
    waiting = bytes([0x35, len(body)]) + body
    house.wire.sent.clear()
    assert house.door.on_packet(1, waiting, 0.0, 1) is False
    assert house.wire.sent == {}
    batch = house.journal.take_batch()
    assert batch is not None
    house.journal.release(batch)
    house.journal.ring.mark_sealed(2)
    assert house.receive(1, waiting) == b"\x50\x02\x00\x07"
    assert house.journal.ring.written == 3
