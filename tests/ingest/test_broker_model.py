"""The broker against a plain model: any order of clients that come, go, subscribe, publish, acknowledge, and of restarts.

The model searches lists from front to back and knows no trees, notes or numbers. After every packet what each client is sent must be
what the model says, packet for packet: PUBLISHes in order, and everything else in order.
"""

import itertools
import random
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.mqtt.options import BrokerOptions, Topics, WhenFull
from tests.crash.broker_clients import packet, reply, text
from tests.ingest.broker_house import BrokerHouse, Packet
from tests.ingest.topic_model import fits

CLIENTS = [b"x", b"y", b"z"]
# Few, so that they meet.
TOPICS = [b"a", b"b", b"a/b", b"a/a", b"b/a", b"/a", b"a/", b"$c", b"$c/a", b"a/b/a"]
FILTERS = [
    *TOPICS,
    *(b"/".join(each) for size in (1, 2) for each in itertools.product([b"a", b"+"], repeat=size)),
]
FILTERS += [b"#", b"a/#", b"+/#", b"+/b/#", b"$c/#", b"a/b/#", b"/+"]
STEPS = 120
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


class Pair:
    """A broker and its model."""

    def __init__(self, when_full: WhenFull) -> None:
        self.when_full = when_full
        self.directory = TemporaryDirectory()
        options = BrokerOptions(
            topics=Topics.ANY,
            inflight_max=WINDOW,
            queued_messages_max=WAITING_MAX,
            when_full=when_full,
        )
        self.house = BrokerHouse(Path(self.directory.name), options)
        self.clients: dict[bytes, Client] = {}
        self.retained: dict[bytes, tuple[bytes, int]] = {}
        self.slots = self.count = 0
        self.given: dict[int, Given] = defaultdict(Given)

    def close(self) -> None:
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

    def unsubscribe(self, name: bytes, chosen: int) -> None:
        client = self.live(name)
        if client is None:
            return
        known = [*client.subscriptions, b"never"]
        filter_text = known[chosen % len(known)]
        client.subscriptions.pop(filter_text, None)
        self.given[client.slot].others.append((0xB0, b"\x00\x08"))
        self.step(client.slot, packet(0xA2, b"\x00\x08" + text(filter_text)))

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

    def release(self, name: bytes, packet_id: int) -> None:
        client = self.live(name)
        if client is None:
            return
        client.taken.discard(packet_id)
        self.given[client.slot].others.append((0x70, struct.pack(">H", packet_id)))
        self.step(client.slot, reply(0x62, packet_id))

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

    def restart(self) -> None:
        for name in list(self.clients):
            self.away(name)
        self.house.restart()

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


def act(pair: Pair, chance: random.Random) -> None:
    """Something that a client may do; restarts are rare, so that queues grow between them."""
    away = [name for name in CLIENTS if pair.live(name) is None]
    if chance.random() < 0.03:
        pair.restart()
        return
    if chance.random() < (0.3 if away else 0.03):
        pair.connect(chance.choice(away or CLIENTS), chance.random() < 0.8)
        return
    live = [name for name in CLIENTS if name not in away]
    if not live:
        return
    name = chance.choice(live)
    kind = chance.choices(
        ["publish", "acknowledge", "subscribe", "release", "unsubscribe", "disconnect"], [40, 25, 12, 8, 5, 4]
    )[0]
    if kind == "publish":
        is_empty = chance.random() < 0.15
        pair.publish(
            name,
            chance.choice(TOPICS),
            chance.randint(0, 2),
            chance.random() < 0.3,
            is_empty,
            chance.randint(1, 3),
        )
    elif kind == "acknowledge":
        pair.acknowledge(name, chance.randrange(WINDOW))
    elif kind == "subscribe":
        asked = [(chance.choice(FILTERS), chance.randint(0, 2)) for _ in range(chance.randint(1, 2))]
        pair.subscribe(name, asked)
    elif kind == "release":
        pair.release(name, chance.randint(1, 3))
    elif kind == "unsubscribe":
        pair.unsubscribe(name, chance.randrange(10))
    else:
        pair.disconnect(name, chance.random() < 0.5)


@pytest.mark.parametrize("when_full", list(WhenFull))
@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_client_is_sent_what_the_model_says(when_full: WhenFull, seed: int) -> None:
    pair = Pair(when_full)
    chance = random.Random(seed)
    try:
        for _ in range(STEPS):
            act(pair, chance)
            pair.the_counts_are_the_models()
    finally:
        pair.close()
