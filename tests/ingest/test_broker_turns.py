"""Turns that the broker's model found and the broker once took wrong, each by itself."""

import itertools
from pathlib import Path

import pytest

from ingest.mqtt import packets
from ingest.mqtt.options import BrokerOptions, Topics, WhenFull
from ingest.mqtt.sessions import Session
from tests.ingest import broker_packets as wire
from tests.ingest.broker_house import BrokerHouse, Packet
from tests.ingest.broker_model import NEVER, SECOND_US, Line, Message, Subscription, Will

HELLO = Message(b"a", b"hello", 1, False)


class Table(BrokerHouse):
    """Clients of MQTT 5, one slot each."""

    def say(self, slot: int, frame: bytes) -> dict[int, list[Packet]]:
        """Deliver a packet; what was sent, by slot."""
        return self.step(lambda: self.receive(slot, frame))[0]

    def join(
        self, slot: int, name: bytes, expiry_s: int = NEVER, will: Will | None = None
    ) -> dict[int, list[Packet]]:
        frame = wire.connect(
            Line(slot, 5, 0), name, expiry_s, is_clean=False, will=will, alias_max=0, tail=self.credentials
        )
        return self.say(slot, frame)

    def subscribe(self, slot: int, *asked: tuple[bytes, Subscription]) -> None:
        self.say(slot, wire.subscribe(5, list(asked), 0))

    def publish(self, slot: int, message: Message, life_s: int = 0) -> dict[int, list[Packet]]:
        return self.say(slot, wire.publish(5, message, 1, message.topic, life_s, 0))

    def retain(self, slot: int, topic: bytes, life_s: int) -> None:
        self.publish(slot, Message(topic, b"x", 1, True), life_s)

    def wait(self, seconds: int) -> None:
        self.now_us += seconds * SECOND_US
        self.step(lambda: self.door.on_tick(self.now_us))

    @property
    def retained(self) -> list[bytes]:
        topics = sorted(message.topic for message in self.namespace.retained)
        assert len(topics) == self.door.broker.statistics().retained
        return topics


def publishes(packets: list[Packet]) -> list[Packet]:
    return [each for each in packets if each[0] >> 4 == 3]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path, BrokerOptions(topics=Topics.ANY))


def test_a_session_whose_time_was_over_while_the_daemon_was_down_is_not_there(table: Table) -> None:
    table.join(1, b"x", expiry_s=5)
    table.subscribe(1, (b"a", Subscription(1)))
    table.step(lambda: table.cut(1))
    table.now_us += 6 * SECOND_US
    table.crash()
    ((first, body),) = table.join(2, b"x")[2]
    assert (first, body[0]) == (0x20, 0)
    assert not table.namespace.sessions[b"x"].subscriptions


def test_a_message_to_one_session_directly_and_by_a_group_is_two_after_a_crash_as_well(table: Table) -> None:
    table.join(1, b"x")
    table.subscribe(
        1, (b"a", Subscription(1)), (b"$share/g/#", Subscription(1)), (b"$share/h/a", Subscription(2))
    )
    table.step(lambda: table.cut(1))
    table.join(2, b"y")
    table.publish(2, HELLO)
    table.crash()
    assert len(publishes(table.join(3, b"x")[3])) == 3


def test_the_time_of_a_will_begins_when_it_is_published(table: Table) -> None:
    table.join(1, b"x", will=Will(HELLO, 0, 3))
    table.join(2, b"y")
    table.subscribe(2, (b"#", Subscription(1)))
    table.now_us += 60 * SECOND_US
    sent, _ = table.step(lambda: table.cut(1))
    ((_, body),) = publishes(sent[2])
    assert b"\x02\x00\x00\x00\x03" in body


def test_a_will_is_its_clients_own_message_for_no_local(table: Table) -> None:
    """A client that wants none of its own gets none of its own [MQTT-3.8.3-3]."""
    table.join(1, b"x", will=Will(HELLO, 0, 0))
    table.subscribe(1, (b"a", Subscription(1, no_local=True)))
    table.step(lambda: table.cut(1))
    assert not publishes(table.join(2, b"x")[2])


def test_a_message_that_fits_into_no_queue_costs_nobody_else_its_place(tmp_path: Path) -> None:
    options = BrokerOptions(topics=Topics.ANY, queued_bytes_max=20, when_full=WhenFull.DROP_OLDEST)
    table = Table(tmp_path, options)
    table.join(1, b"x")
    table.subscribe(1, (b"a", Subscription(1)))
    table.step(lambda: table.cut(1))
    table.join(2, b"y")
    table.publish(2, HELLO)
    table.publish(2, Message(b"a", bytes(30), 1, False))
    assert [body[-5:] for _, body in publishes(table.join(3, b"x")[3])] == [b"hello"]


def test_a_message_that_meets_more_subscriptions_than_a_note_has_room_for_is_found_again_by_all(
    table: Table,
) -> None:
    """28 sessions with 512 subscription identifiers each: 71 KB of them, where a batch has room for less."""
    names = [b"client-%d" % number for number in range(28)]
    asked = [
        packets.Subscription(b"/".join(levels), 1) for levels in itertools.product((b"a", b"+"), repeat=9)
    ]

    def subscribe(session: Session) -> None:
        for each in asked:
            table.door.broker.subscribe(session, each, 1 << 27, table.now_us)

    for slot, name in enumerate(names, 1):
        table.join(slot, name)
        table.step(lambda: subscribe(table.namespace.sessions[name]))  # noqa: B023
        table.step(lambda: table.cut(slot))  # noqa: B023
    table.join(99, b"y")
    table.publish(99, Message(b"/".join([b"a"] * 9), b"hello", 1, False))
    while table.door.broker.notebook.is_waiting:
        table.step(lambda: table.door.on_room(table.now_us))
    table.crash()
    for name in names:
        outbox = table.namespace.sessions[name].outbox
        assert outbox is not None
        assert [len(each.identifiers) for each in outbox.waiting] == [512]


def test_a_retained_message_whose_time_is_over_is_forgotten_and_makes_room(tmp_path: Path) -> None:
    table = Table(tmp_path, BrokerOptions(topics=Topics.ANY, retained_messages_max=3))
    table.join(1, b"x")
    for topic, life_s in ((b"a", 2), (b"b", 2), (b"c", 5)):
        table.retain(1, topic, life_s)
    table.retain(1, b"b", 0)
    table.retain(1, b"d", 0)
    assert table.retained == [b"a", b"b", b"c"]
    table.wait(2)
    assert table.retained == [b"b", b"c"]
    table.retain(1, b"d", 0)
    table.crash()
    assert table.retained == [b"b", b"c", b"d"]
    table.wait(3)
    assert table.retained == [b"b", b"d"]
    table.crash()
    assert table.retained == [b"b", b"d"]


def test_what_was_replaced_or_removed_does_not_pile_up_until_its_time_is_over(table: Table) -> None:
    table.join(1, b"x")
    table.retain(1, b"$x/a", 7)
    for number in range(500):
        table.retain(1, b"b", 1_000_000 + number)
        table.publish(1, Message(b"b", b"", 1, True))
    assert len(table.door.broker._ends) < 100
    table.wait(7)
    assert table.retained == []
