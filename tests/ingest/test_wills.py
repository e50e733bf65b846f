"""A will on a data topic is a reading like any other: admitted, stored once, relayed; over restarts, and without room."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ingest.mqtt.options import BrokerOptions
from storage.kinds import Refusal
from tests.conformance.packets import Will, connect, disconnect, publish, subscribe
from tests.ingest.broker_house import BrokerHouse

V5 = SimpleNamespace(version=5, ids={}, said={})
SECOND = 1_000_000


class Family(BrokerHouse):
    """A house with one mapped device, d."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, BrokerOptions())
        user_id = self.user.user_id
        channel = self.registry.add_channel(user_id, 1)
        self.registry.add_device(user_id, "d", 1, enabled=True, channel=channel.id)

    def join(self, slot: int, will: Will | None = None, kept_s: int = 0, clean: bool = True) -> None:
        props = {"session_expiry": kept_s} if kept_s else {}
        user, token = self.user.user_id, self.token
        packet = connect(f"c{slot}", clean=clean, will=will, user=user, password=token, props=props)
        sent = self.say(slot, packet(V5))  # type: ignore[arg-type]
        assert sent[slot][3] == 0

    def say(self, slot: int, frame: bytes) -> dict[int, bytes]:
        """Deliver one packet; what was sent, by slot."""
        self.wire.sent = {}
        self.act(lambda: self.receive(slot, frame))
        self.wire.closed = []
        self.flush()
        return self.wire.sent

    def leave(self, slot: int) -> dict[int, bytes]:
        """The connection breaks."""
        self.wire.sent = {}
        self.act(lambda: self.cut(slot))
        self.flush()
        return self.wire.sent

    def restart(self) -> None:
        self.flush()
        self.crash()

    def topic(self, device: str = "d") -> str:
        return f"{self.token.decode()}/json/{device}"

    def listen(self, slot: int) -> None:
        self.join(slot)
        self.say(slot, subscribe(1, f"{self.token.decode()}/#")(V5))  # type: ignore[arg-type]

    def tick(self, at_us: int) -> None:
        self.door.on_tick(at_us)
        self.flush()

    def fill(self) -> None:
        """The ring has no row left; nothing was sealed."""
        self.join(9)
        while self.journal.ring.written < 64:
            self.say(9, publish(self.topic(), b"1")(V5))  # type: ignore[arg-type]

    @property
    def stored(self) -> int:
        return self.journal.ring.written


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Family]:
    house = Family(tmp_path)
    yield house
    house.close()


@pytest.mark.parametrize("kept_s", [0, 600])
def test_a_will_is_stored_once_and_relayed(house: Family, kept_s: int) -> None:
    house.listen(2)
    house.join(1, Will(house.topic(), b'{"gone":1}'), kept_s)
    sent = house.leave(1)
    assert house.stored == 1
    assert b'{"gone":1}' in sent[2]
    house.tick(10**12)
    assert house.stored == 1


def test_who_says_goodbye_leaves_no_reading(house: Family) -> None:
    house.join(1, Will(house.topic(), b"1"))
    house.say(1, disconnect())
    assert house.stored == 0


def test_a_will_is_admitted_like_a_message(house: Family) -> None:
    for number, device in enumerate(("new", "new", "0")):
        house.join(number + 1, Will(house.topic(device), b"1"))
        house.leave(number + 1)
    house.join(5, Will(house.topic(), b"{"))
    house.leave(5)
    assert house.stored == 0
    refused = [Refusal(number).name for number in house.wire.refusals]
    assert refused == ["NEW_DEVICE_FOUND", "NO_MAPPED_CH", "DEVICE_ID_ZERO", "BAD_JSON_FORMAT"]


def test_a_delayed_will_is_stored_once_over_restarts(house: Family) -> None:
    house.join(1, Will(house.topic(), b"1", props={"will_delay": 5}), 600)
    house.leave(1)
    house.restart()
    house.tick(house.now_us + SECOND)
    assert house.stored == 0
    house.tick(house.now_us + 6 * SECOND)
    assert house.stored == 1
    house.restart()
    house.tick(house.now_us + 10 * SECOND)
    assert house.stored == 0, "the ring is new: nothing came again"


def test_the_will_of_a_client_that_was_there_when_the_daemon_went_is_stored_once(house: Family) -> None:
    house.join(1, Will(house.topic(), b"1"), 600)
    house.restart()
    house.tick(house.now_us + SECOND)
    assert house.stored == 1
    house.restart()
    house.tick(house.now_us + 2 * SECOND)
    assert house.stored == 0


@pytest.mark.parametrize("kept_s", [0, 600])
def test_a_will_waits_for_room_in_the_ring(house: Family, kept_s: int) -> None:
    house.join(1, Will(house.topic(), b"1"), kept_s)
    house.fill()
    house.leave(1)
    house.tick(house.now_us + 2 * SECOND)
    assert house.stored == 64
    house.journal.ring.mark_sealed(64)
    house.tick(house.now_us + 4 * SECOND)
    house.tick(house.now_us + 6 * SECOND)
    assert house.stored == 65


def test_a_will_that_waits_for_room_outlives_a_restart(house: Family) -> None:
    house.join(1, Will(house.topic(), b"1"), 600)
    house.fill()
    house.leave(1)
    house.restart()
    house.tick(house.now_us + 2 * SECOND)
    assert house.stored == 1


def test_a_client_that_takes_its_session_over_does_not_lose_the_old_will(house: Family) -> None:
    house.join(1, Will(house.topic(), b"1"), 600)
    house.fill()
    user, token = house.user.user_id, house.token
    packet = connect("c1", clean=False, user=user, password=token, props={"session_expiry": 600})
    house.say(3, packet(V5))  # type: ignore[arg-type]
    assert house.stored == 64
    house.journal.ring.mark_sealed(64)
    house.tick(house.now_us + SECOND)
    assert house.stored == 65
