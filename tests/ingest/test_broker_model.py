"""The broker against a plain model: any order of clients that come, go, subscribe, publish, acknowledge, and of restarts.

The model searches lists from front to back and knows no trees, notes or numbers. After every packet what each client is sent must be
what the model says, packet for packet: PUBLISHes in order, and everything else in order.
"""

import struct
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ingest.mqtt.options import BrokerOptions, Topics, WhenFull
from tests.crash.broker_clients import packet, reply, text
from tests.ingest.broker_house import BrokerHouse, Packet
from tests.ingest.topic_model import TOPICS, filters, fits

CLIENTS = st.sampled_from([b"x", b"y", b"z"])
WINDOW, WAITING_MAX = 2, 4


@dataclass
class Owed:
    """A message of QoS 1 or 2 for one client; ``packet_id`` 0 while it waits."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool
    packet_id: int = 0
    is_received: bool = False


@dataclass
class Client:
    """A session; ``slot`` 0 while the client is away."""

    is_kept: bool
    slot: int = 0
    subscriptions: dict[bytes, int] = field(default_factory=dict)
    owed: list[Owed] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)

    @property
    def flying(self) -> list[Owed]:
        return [each for each in self.owed if each.packet_id]

    @property
    def waiting(self) -> list[Owed]:
        return [each for each in self.owed if not each.packet_id]


@dataclass
class Given:
    """What a client is to be sent by one step: PUBLISHes, and the rest."""

    messages: list[tuple[Owed, bool]] = field(default_factory=list)  # and whether it is DUP
    others: list[Packet] = field(default_factory=list)


class BrokerMachine(RuleBasedStateMachine):
    when_full = WhenFull.DROP_NEWEST

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        options = BrokerOptions(
            topics=Topics.ANY,
            inflight_max=WINDOW,
            queued_messages_max=WAITING_MAX,
            when_full=self.when_full,
        )
        self.house = BrokerHouse(Path(self.directory.name), options)
        self.clients: dict[bytes, Client] = {}
        self.retained: dict[bytes, tuple[bytes, int]] = {}
        self.slots = self.count = 0
        self.given: dict[int, Given] = defaultdict(Given)

    def teardown(self) -> None:
        self.house.close()
        self.directory.cleanup()

    # ---- the model

    def owe(self, client: Client, message: Owed) -> None:
        if message.qos == 0:
            if client.slot:
                self.given[client.slot].messages.append((message, False))
            return
        client.owed.append(message)
        self.pump(client)
        if len(client.waiting) > WAITING_MAX:
            waiting = client.waiting
            gone = waiting[0] if self.when_full is WhenFull.DROP_OLDEST else waiting[-1]
            client.owed = [each for each in client.owed if each is not gone]

    def pump(self, client: Client) -> None:
        """Send what the window lets through; -1 stands for an id that the broker chooses."""
        while client.slot and client.waiting and len(client.flying) < WINDOW:
            message = client.waiting[0]
            message.packet_id = -1
            self.given[client.slot].messages.append((message, False))

    def step(self, slot: int, frame: bytes) -> None:
        """Deliver the frame and compare."""
        sent = self.house.receive(slot, frame)
        given, self.given = self.given, defaultdict(Given)
        for number in sent.keys() | given.keys():
            messages = [each for each in sent.get(number, ()) if each[0] >> 4 == 3]
            others = [each for each in sent.get(number, ()) if each[0] >> 4 != 3]
            assert others == given[number].others
            assert len(messages) == len(given[number].messages), (messages, given[number].messages)
            for (first, body), (message, is_again) in zip(messages, given[number].messages, strict=True):
                assert first == 0x30 | is_again << 3 | message.qos << 1 | message.retain
                head, rest = text(message.topic), body
                assert rest[: len(head)] == head
                rest = rest[len(head) :]
                if message.qos:
                    packet_id, rest = int.from_bytes(rest[:2], "big"), rest[2:]
                    assert packet_id
                    assert message.packet_id in (-1, packet_id)
                    message.packet_id = packet_id
                assert rest == message.payload
        for client in self.clients.values():
            ids = [each.packet_id for each in client.flying]
            assert len(set(ids)) == len(ids)

    def away(self, name: bytes) -> None:
        client = self.clients[name]
        client.slot = 0
        if not client.is_kept:
            del self.clients[name]

    # ---- what happens

    @rule(name=CLIENTS, is_kept=st.sampled_from([True, True, False]))
    def connect(self, name: bytes, is_kept: bool) -> None:
        self.slots += 1
        if name in self.clients and self.clients[name].slot:
            self.away(name)
        if not is_kept:
            self.clients.pop(name, None)
        is_present = name in self.clients
        client = self.clients.setdefault(name, Client(is_kept))
        client.slot = self.slots
        given = self.given[self.slots]
        given.others.append((0x20, bytes([is_present, 0])))
        for each in client.flying:
            if each.is_received:
                given.others.append((0x62, struct.pack(">H", each.packet_id)))
            else:
                given.messages.append((each, True))
        self.pump(client)
        flags = b"\xc0" if is_kept else b"\xc2"
        body = b"\x00\x04MQTT\x04" + flags + b"\x00\x00" + text(name) + self.house.credentials
        self.step(self.slots, packet(0x10, body))

    def live(self, name: bytes) -> Client | None:
        client = self.clients.get(name)
        return client if client is not None and client.slot else None

    @rule(name=CLIENTS, says_so=st.booleans())
    def disconnect(self, name: bytes, says_so: bool) -> None:
        client = self.live(name)
        if client is None:
            return
        slot = client.slot
        self.away(name)
        if says_so:
            self.step(slot, b"\xe0\x00")
        else:
            self.house.cut(slot)

    @rule(name=CLIENTS, asked=st.lists(st.tuples(filters(), st.integers(0, 2)), min_size=1, max_size=3))
    def subscribe(self, name: bytes, asked: list[tuple[bytes, int]]) -> None:
        client = self.live(name)
        if client is None:
            return
        codes = bytes(qos for _, qos in asked)
        self.given[client.slot].others.append((0x90, b"\x00\x07" + codes))
        namespace = self.house.door.broker.namespace(self.house.user.user_id, self.house.token)
        for filter_text, qos in asked:
            client.subscriptions[filter_text] = qos
            # They come in no particular order: in the broker's, then.
            topics = [message.topic for message in namespace.retained.matching(filter_text)]
            assert sorted(topics) == sorted(topic for topic in self.retained if fits(filter_text, topic))
            for topic in topics:
                payload, published = self.retained[topic]
                self.owe(client, Owed(topic, payload, min(qos, published), True))
        body = b"\x00\x07" + b"".join(text(each) + bytes([qos]) for each, qos in asked)
        self.step(client.slot, packet(0x82, body))

    @rule(name=CLIENTS, chosen=st.integers(0, 9))
    def unsubscribe(self, name: bytes, chosen: int) -> None:
        client = self.live(name)
        if client is None:
            return
        known = [*client.subscriptions, b"never"]
        filter_text = known[chosen % len(known)]
        client.subscriptions.pop(filter_text, None)
        self.given[client.slot].others.append((0xB0, b"\x00\x08"))
        self.step(client.slot, packet(0xA2, b"\x00\x08" + text(filter_text)))

    @rule(
        name=CLIENTS, topic=TOPICS, qos=st.integers(0, 2), retain=st.booleans(),
        is_empty=st.sampled_from([False, False, False, True]), packet_id=st.integers(1, 3),
    )  # fmt: skip
    def publish(
        self, name: bytes, topic: bytes, qos: int, retain: bool, is_empty: bool, packet_id: int
    ) -> None:
        client = self.live(name)
        if client is None:
            return
        self.count += 1
        payload = b"" if is_empty else b"%d" % self.count
        if qos:
            self.given[client.slot].others.append((0x40 if qos == 1 else 0x50, struct.pack(">H", packet_id)))
        if qos < 2 or packet_id not in client.taken:
            if retain and payload:
                self.retained[topic] = payload, qos
            elif retain:
                self.retained.pop(topic, None)
            for each in self.clients.values():
                granted = [
                    asked for filter_text, asked in each.subscriptions.items() if fits(filter_text, topic)
                ]
                if granted:
                    self.owe(each, Owed(topic, payload, min(qos, max(granted)), False))
        if qos == 2:
            client.taken.add(packet_id)
        body = text(topic) + (struct.pack(">H", packet_id) if qos else b"") + payload
        self.step(client.slot, packet(0x30 | qos << 1 | retain, body))

    @rule(name=CLIENTS, packet_id=st.integers(1, 3))
    def release(self, name: bytes, packet_id: int) -> None:
        client = self.live(name)
        if client is None:
            return
        client.taken.discard(packet_id)
        self.given[client.slot].others.append((0x70, struct.pack(">H", packet_id)))
        self.step(client.slot, reply(0x62, packet_id))

    @rule(name=CLIENTS, chosen=st.integers(0, WINDOW - 1))
    def acknowledge(self, name: bytes, chosen: int) -> None:
        client = self.live(name)
        if client is None or not client.flying:
            return
        message = client.flying[chosen % len(client.flying)]
        packet_id = message.packet_id
        if message.qos == 2 and not message.is_received:
            message.is_received = True
            self.given[client.slot].others.append((0x62, struct.pack(">H", packet_id)))
            self.step(client.slot, reply(0x50, packet_id))
            return
        client.owed = [each for each in client.owed if each is not message]
        self.pump(client)
        self.step(client.slot, reply(0x40 if message.qos == 1 else 0x70, packet_id))

    @rule()
    def restart(self) -> None:
        for name in list(self.clients):
            self.away(name)
        self.house.restart()

    @invariant()
    def the_counts_are_the_models(self) -> None:
        found = self.house.door.broker.statistics()
        clients = self.clients.values()
        assert found.sessions == len(clients)
        assert found.durable_sessions == sum(client.is_kept for client in clients)
        assert found.subscriptions == sum(len(client.subscriptions) for client in clients)
        assert found.retained == len(self.retained)
        assert found.queued == sum(len(client.waiting) for client in clients)
        assert found.inflight == sum(len(client.flying) for client in clients)
        assert self.house.door.broker.notebook.put_off == 0


class DropOldestMachine(BrokerMachine):
    when_full = WhenFull.DROP_OLDEST


BUDGET = settings(max_examples=60, stateful_step_count=50, deadline=None)
BrokerMachine.TestCase.settings = BUDGET
DropOldestMachine.TestCase.settings = BUDGET
TestNewestIsDropped = BrokerMachine.TestCase
TestOldestIsDropped = DropOldestMachine.TestCase
