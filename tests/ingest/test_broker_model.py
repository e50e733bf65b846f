"""The broker against a plain model: any order of what clients of all versions do, of slow sockets, crashes and restarts.

After every step what each client is sent must be what the model (``broker_model``) says, packet for packet: PUBLISHes in
their order, and everything else in its order. A failure is told as the shortest list of steps that still shows it.

``make model`` plays 10,000 times with each policy, which takes half an hour.
"""

import itertools
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ingest.mqtt.options import BrokerOptions, Topics, WhenFull
from tests.ingest import broker_packets as wire
from tests.ingest.broker_house import BrokerHouse, Packet
from tests.ingest.broker_model import (
    NEVER,
    SECOND_US,
    Bounds,
    Given,
    Line,
    Message,
    Model,
    Other,
    Publish,
    Subscription,
    Will,
    outcomes,
)

CLIENTS = [b"x", b"y", b"z"]
# Few, so that they meet.
TOPICS = [b"a", b"b", b"a/b", b"a/a", b"b/a", b"/a", b"a/", b"$c", b"$c/a", b"a/b/a"]
FILTERS = [
    *TOPICS,
    *(b"/".join(each) for size in (1, 2) for each in itertools.product([b"a", b"+"], repeat=size)),
]
FILTERS += [b"#", b"a/#", b"+/#", b"+/b/#", b"$c/#", b"a/b/#", b"/+"]
SHARES = [b"$share/g/#", b"$share/g/a", b"$share/g/+/b", b"$share/h/#"]
STEPS = 120
BOUNDS = Bounds(window=2, waiting_max=4, waiting_bytes_max=100, drops_oldest=False, receive_max=3)
ALIASES = 2
# More worlds than a step leaves open; the broker's choices show soon.
WORLDS_MAX = 64

Event = Callable[[Model], None]
# What one connection was sent: PUBLISHes with their packet ids, and the rest.
Heard = tuple[list[tuple[int, Publish]], list[Other]]


class Pair:
    """A broker and the worlds of its model that fit what was seen so far."""

    def __init__(self, when_full: WhenFull) -> None:
        self.directory = TemporaryDirectory()
        drops_oldest = when_full is WhenFull.DROP_OLDEST
        bounds = Bounds(
            BOUNDS.window, BOUNDS.waiting_max, BOUNDS.waiting_bytes_max, drops_oldest, BOUNDS.receive_max
        )
        options = BrokerOptions(
            topics=Topics.ANY,
            receive_max=bounds.receive_max,
            topic_alias_max=ALIASES,
            inflight_max=bounds.window,
            queued_messages_max=bounds.waiting_max,
            queued_bytes_max=bounds.waiting_bytes_max,
            when_full=when_full,
        )
        self.house = BrokerHouse(Path(self.directory.name), options)
        self.worlds = [Model(bounds)]
        self.ears: dict[int, wire.Ears] = {}
        self.aliases: dict[int, dict[int, bytes]] = {}  # by slot, as its client set them
        self.slots = self.count = 0
        self.is_lost = False
        self.story: list[str] = []

    def close(self) -> None:
        self.house.close()
        self.directory.cleanup()

    @property
    def world(self) -> Model:
        return self.worlds[0]

    def step(self, story: str, action: Callable[[], object], event: Event, *, ticks: bool = True) -> None:
        """Something happens to both of them: compare. What is lost happens to the broker only."""
        self.story.append(story + " (lost)" * self.is_lost)
        house = self.house

        def do() -> None:
            if ticks:
                house.door.on_tick(house.now_us)
            action()

        if self.is_lost:
            house.act(do)
            return
        sent, closed = house.step(do)

        def happens(world: Model) -> None:
            world.now_us = house.now_us
            world.time_is_over()
            event(world)

        heard = {slot: self.hear(slot, packets) for slot, packets in sent.items()}
        worlds: list[Model] = []
        complaint = ""
        for after in itertools.chain.from_iterable(outcomes(world, happens) for world in self.worlds):
            found = differs(after, heard, closed) or self.counts_differ(after)
            complaint = complaint or found
            after.given = {}
            if not found and not any(
                after.clients == other.clients and after.retained == other.retained for other in worlds
            ):
                worlds.append(after)
        assert worlds, complaint
        assert len(worlds) <= WORLDS_MAX
        self.worlds = worlds

    def hear(self, slot: int, packets: list[Packet]) -> Heard:
        heard = [self.ears[slot].read(first, body) for first, body in packets]
        others = [each for each in heard if isinstance(each, Other)]
        return [each for each in heard if not isinstance(each, Other)], others

    def counts_differ(self, world: Model) -> str:
        found = self.house.door.broker.statistics()
        clients = world.clients.values()
        counts = {
            "sessions": (found.sessions, len(clients)),
            "durable": (found.durable_sessions, sum(client.is_noted for client in clients)),
            "subscriptions": (found.subscriptions, sum(len(client.subscriptions) for client in clients)),
            "retained": (found.retained, len(world.retained)),
            "put off": (self.house.door.broker.notebook.put_off, 0),
        }
        counts["owed"] = found.queued + found.inflight, sum(len(client.owed) for client in clients)
        sessions = self.house.namespace.sessions
        for name, client in world.clients.items():
            outbox = sessions[name].outbox if name in sessions else None
            counts[f"owed to {name!r}"] = 0 if outbox is None else len(outbox), len(client.owed)
        return "".join(
            f"{name}: {ours}, not {models}\n" for name, (ours, models) in counts.items() if ours != models
        )

    def send(self, story: str, name: bytes, frame: bytes, event: Event) -> None:
        slot = self.line(name).slot
        self.step(f"{name!r} {story}", lambda: self.house.receive(slot, frame), event)

    def line(self, name: bytes) -> Line:
        line = self.world.clients[name].line
        assert line is not None
        return line

    def live(self) -> list[bytes]:
        return [name for name, client in self.world.clients.items() if client.line is not None]

    # ---- what happens

    def connect(self, chance: random.Random, name: bytes) -> None:
        self.slots += 1
        protocol = chance.choice([3, 4, 5, 5])
        is_clean = chance.random() < 0.2
        expiry_s = 0 if is_clean else NEVER
        line = Line(self.slots, protocol, 0)
        alias_max, will = 0, None
        if chance.random() < 0.4:
            message = self.message(chance, protocol)
            will = Will(
                message,
                chance.choice([0, 2, 5]) if protocol == 5 else 0,
                chance.choice([0, 0, 1, 4]) if protocol == 5 else 0,
            )
        if protocol == 5:
            expiry_s = chance.choice([0, 3, 6, NEVER])
            line.window = chance.choice([0, 1, 3])
            line.packet_max = chance.choice([0, 0, 24, 32])
            alias_max = chance.choice([0, 1, 3])
        frame = wire.connect(
            line,
            name,
            expiry_s if protocol == 5 else 0,
            is_clean=is_clean,
            will=will,
            alias_max=alias_max,
            tail=self.house.credentials,
        )
        line.window = min(line.window or BOUNDS.window, BOUNDS.window)
        self.ears[line.slot] = wire.Ears(protocol, alias_max, line.packet_max)
        self.aliases[line.slot] = {}
        self.step(
            f"{name!r} connects: {line}, clean {is_clean}, expiry {expiry_s} s, aliases {alias_max}, {will}",
            lambda: self.house.receive(line.slot, frame),
            lambda world: world.connect(
                name, pickle.loads(pickle.dumps(line)), expiry_s, is_clean=is_clean, will=will
            ),
            ticks=chance.random() < 0.5,
        )

    def message(self, chance: random.Random, protocol: int) -> Message:
        self.count += 1
        payload = (
            b"" if chance.random() < 0.1 else b"%d" % self.count + b"." * chance.choice([0, 0, 0, 10, 25])
        )
        content_type = b"t" if protocol == 5 and chance.random() < 0.2 else b""
        return Message(
            chance.choice(TOPICS), payload, chance.randint(0, 2), chance.random() < 0.3, 0, content_type
        )

    def publish(self, chance: random.Random, name: bytes) -> None:
        line = self.line(name)
        message = self.message(chance, line.protocol)
        packet_id = chance.randint(1, 4)
        known = self.aliases[line.slot]
        if known and chance.random() < 0.3:
            message = replace(message, topic=chance.choice([*known.values()]))
        topic, alias, life_s = message.topic, 0, 0
        if line.protocol == 5:
            life_s = chance.choice([0, 0, 1, 3, 8])
            alias = chance.choice([0, 0, *range(ALIASES + 1)])
            if alias and known.get(alias) == topic:
                topic = b""
            elif alias:
                known[alias] = topic
        frame = wire.publish(line.protocol, message, packet_id, topic, life_s, alias)

        def event(world: Model) -> None:
            expires_us = world.now_us + life_s * SECOND_US if life_s else 0
            world.take(
                name,
                Message(
                    message.topic,
                    message.payload,
                    message.qos,
                    message.retain,
                    expires_us,
                    message.content_type,
                ),
                packet_id,
            )

        self.send(f"publishes {packet_id}: {message}, for {life_s} s, alias {alias}", name, frame, event)

    def subscribe(self, chance: random.Random, name: bytes) -> None:
        protocol = self.line(name).protocol
        identifier = chance.choice([0, 0, 1, 2]) if protocol == 5 else 0
        asked = []
        for _ in range(chance.randint(1, 2)):
            text = chance.choice(SHARES if chance.random() < 0.25 else FILTERS)
            if chance.random() < 0.25:  # once more
                text = chance.choice([*self.world.clients[name].subscriptions, text])
            subscription = Subscription(chance.randint(0, 2))
            if protocol == 5:
                subscription = Subscription(
                    subscription.qos,
                    no_local=chance.random() < 0.4 and text not in SHARES,
                    as_published=chance.random() < 0.5,
                    handling=chance.randint(0, 2),
                    identifier=identifier,
                )
            asked.append((text, subscription))
        orders = [
            [message.topic for message in self.house.namespace.retained.matching(text)] for text, _ in asked
        ]
        frame = wire.subscribe(protocol, asked, identifier)
        self.send(f"subscribes to {asked}", name, frame, lambda world: world.subscribe(name, asked, orders))

    def unsubscribe(self, chance: random.Random, name: bytes) -> None:
        text = chance.choice([*self.world.clients[name].subscriptions, b"never"])
        frame = wire.unsubscribe(self.line(name).protocol, text)
        self.send(f"unsubscribes {text!r}", name, frame, lambda world: world.unsubscribe(name, text))

    def release(self, chance: random.Random, name: bytes) -> None:
        packet_id = chance.randint(1, 4)
        frame = wire.acknowledgement(self.line(name).protocol, 6, packet_id)
        self.send(f"releases {packet_id}", name, frame, lambda world: world.release(name, packet_id))

    def acknowledge(self, chance: random.Random, name: bytes) -> None:
        here = [each for each in self.world.clients[name].flying if each.is_here]
        if not here:
            return
        copy = chance.choice(here)
        kind, packet_id, code = 4 if copy.qos == 1 else 7 if copy.is_received else 5, copy.packet_id, 0
        protocol = self.line(name).protocol
        if chance.random() < 0.05:
            kind, packet_id = chance.choice([4, 5, 7]), chance.choice([packet_id, 60_000])
        elif protocol == 5 and kind < 7 and chance.random() < 0.1:
            code = 0x80
        frame = wire.acknowledgement(protocol, kind, packet_id, code)
        self.send(
            f"acknowledges {packet_id}: {kind} with {code:#x}",
            name,
            frame,
            lambda world: world.acknowledge(name, kind, packet_id, code),
        )

    def disconnect(self, chance: random.Random, name: bytes) -> None:
        protocol = self.line(name).protocol
        code, expiry_s = 0, None
        if protocol == 5:
            code = chance.choice([0, 4])
            expiry_s = chance.choice([None, 0, 4, NEVER])
        frame = wire.disconnect(protocol, code, expiry_s)
        story = f"disconnects with {code}, expiry {expiry_s}"
        self.send(story, name, frame, lambda world: world.disconnect(name, code, expiry_s))

    def cut(self, chance: random.Random, name: bytes) -> None:
        slot = self.line(name).slot
        self.step(f"{name!r} is cut off", lambda: self.house.cut(slot), lambda world: world.gone(name))

    def kick(self, chance: random.Random, name: bytes) -> None:
        action = lambda: self.house.kick(name.decode())  # noqa: E731
        self.step(f"{name!r} is sent away", action, lambda world: world.hang_up(name, 0x98))

    def breach(self, chance: random.Random, name: bytes) -> None:
        """A SUBSCRIBE without filters [MQTT-3.8.3-2]."""
        frame = wire.subscribe(self.line(name).protocol, [], 0)
        self.send("breaks the protocol", name, frame, lambda world: world.hang_up(name, 0x82))

    def slow(self, chance: random.Random, name: bytes) -> None:
        line = self.line(name)
        if line.is_slow:
            action, event = lambda: self.house.drain(line.slot), lambda world: world.drain(name)
        else:
            action, event = lambda: self.house.wire.slow.add(line.slot), lambda world: world.slow_down(name)
        self.step(f"{name!r} {'takes everything' if line.is_slow else 'is slow'}", action, event)

    def wait(self, chance: random.Random) -> None:
        self.house.now_us += chance.randint(1, 4) * SECOND_US
        self.step("time goes by", lambda: None, lambda world: None)

    def crash(self, chance: random.Random) -> None:
        """What was in no durable batch did not happen; nobody was sent anything for it."""
        self.is_lost = True
        for _ in range(chance.randint(0, 3)):
            act(self, chance)
        self.is_lost = False
        self.house.now_us += chance.choice([1, 1, 2 * SECOND_US, 5 * SECOND_US])
        self.story.append("crash")
        self.house.crash()
        for world in self.worlds:
            world.now_us = self.house.now_us
            world.restart()


def differs(world: Model, heard: dict[int, Heard], closed: set[int]) -> str:
    """What is wrong with what was heard; empty for nothing. The packet ids that the broker chose are learnt on the way."""
    given = world.given
    wanted_closed = {slot for slot, each in given.items() if each.is_closed}
    if closed != wanted_closed:
        return f"closed {closed}, not {wanted_closed}\n"
    for slot in heard.keys() | given.keys():
        messages, others = heard.get(slot, ([], []))
        wanted = given.get(slot, Given())
        if others != wanted.others:
            return f"{slot} was sent {others}, not {wanted.others}\n"
        shown = [publish for _, publish in messages]
        if shown != [publish for _, publish in wanted.messages]:
            return f"{slot} was sent {shown}, not {[publish for _, publish in wanted.messages]}\n"
        for (packet_id, publish), (copy, _) in zip(messages, wanted.messages, strict=True):
            if publish.qos and copy.packet_id not in (-1, packet_id):
                return f"{slot}: {publish} has the packet id {packet_id}, not {copy.packet_id}\n"
            copy.packet_id = packet_id
    for name, client in world.clients.items():
        ids = [each.packet_id for each in client.flying]
        if len(set(ids)) < len(ids):
            return f"{name!r}: a packet id twice: {ids}\n"
    return ""


MOVES = {
    Pair.publish: 40, Pair.acknowledge: 24, Pair.subscribe: 12, Pair.release: 8, Pair.unsubscribe: 4, Pair.disconnect: 3,
    Pair.cut: 2, Pair.kick: 1, Pair.breach: 1, Pair.slow: 6,
}  # fmt: skip


def act(pair: Pair, chance: random.Random) -> None:
    """Something that may happen; crashes are rare, so that queues grow between them."""
    live = pair.live()
    away = [name for name in CLIENTS if name not in live]
    if chance.random() < 0.03 and not pair.is_lost:
        pair.crash(chance)
    elif chance.random() < 0.08:
        pair.wait(chance)
    elif chance.random() < (0.3 if away else 0.03):
        pair.connect(chance, chance.choice(away or CLIENTS))
    elif live:
        (move,) = chance.choices(list(MOVES), list(MOVES.values()))
        move(pair, chance, chance.choice(live))


def play(when_full: WhenFull, seeds: list[int]) -> tuple[str, list[str]]:
    """What went wrong, empty for nothing, and what happened. Each seed makes one step, whatever came before it."""
    pair = Pair(when_full)
    try:
        for seed in seeds:
            act(pair, random.Random(seed))
    except (AssertionError, KeyError) as error:
        return f"{type(error).__name__}: {error}", pair.story
    finally:
        pair.close()
    return "", pair.story


def shortest(when_full: WhenFull, seeds: list[int]) -> list[int]:
    """Fewer steps that still go wrong: none can be left out."""
    size = len(seeds) // 2
    while size:
        at = 0
        while at < len(seeds):
            fewer = seeds[:at] + seeds[at + size :]
            if play(when_full, fewer)[0]:
                seeds = fewer
            else:
                at += size
        size //= 2
    return seeds


@pytest.mark.parametrize("when_full", list(WhenFull))
@given(seed=st.integers(0, 2**32))
@settings(phases=[Phase.explicit, Phase.generate])
def test_every_client_is_sent_what_the_model_says(when_full: WhenFull, seed: int) -> None:
    chance = random.Random(seed)
    seeds = [chance.getrandbits(32) for _ in range(STEPS)]
    if play(when_full, seeds)[0]:
        seeds = shortest(when_full, seeds)
        complaint, story = play(when_full, seeds)
        pytest.fail("\n".join([f"{seeds}", *story, complaint]))
