"""A plain MQTT broker to hold ours against: lists searched from front to back, no trees, notes or numbers.

To be read beside the standard. Each method is something that happens, and says what every client is sent for it. Where
the standard leaves the choice to the server the model asks ``choose``: whoever plays it tries every answer and keeps
the worlds that fit what was seen (``outcomes``).

What is ours, not the standard's: the bounds of queues and which message goes when one is full; QoS 0 is not sent to a
client whose socket is behind; a session that never outlived a connection is forgotten with its will by a restart.
"""

import itertools
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from tests.ingest.topic_model import fits

NEVER = 0xFFFFFFFF
SECOND_US = 1_000_000
T = TypeVar("T")


@dataclass(frozen=True)
class Message:
    """What was published; ``expires_us`` 0 for never."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool
    expires_us: int = 0
    content_type: bytes = b""

    @property
    def bytes(self) -> int:
        """What it takes in a queue."""
        return len(self.topic) + len(self.payload) + (4 + len(self.content_type) if self.content_type else 0)


@dataclass(frozen=True)
class Will:
    """``life_s`` 0 for a message that does not expire."""

    message: Message
    delay_s: int
    life_s: int


@dataclass(frozen=True)
class Subscription:
    qos: int
    no_local: bool = False
    as_published: bool = False
    handling: int = 0
    identifier: int = 0


@dataclass
class Copy:
    """A message for one client.

    Attributes:
        packet_id: 0 while it waits, -1 until we have seen which one the broker chose.
        is_received: PUBREC came.
        is_here: it was sent on the connection that there is now.
    """

    message: Message
    qos: int
    retain: bool
    identifiers: tuple[int, ...]
    packet_id: int = 0
    is_received: bool = False
    is_here: bool = False


@dataclass
class Line:
    """A connection and its terms; ``packet_max`` 0 for any size."""

    slot: int
    protocol: int
    window: int
    packet_max: int = 0
    is_slow: bool = False


@dataclass
class Client:
    """A session; ``line`` is None while the client is away, and then ``closed_us`` says since when."""

    line: Line | None = None
    expiry_s: int = 0
    is_noted: bool = False
    closed_us: int = 0
    subscriptions: dict[bytes, Subscription] = field(default_factory=dict)
    owed: list[Copy] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)
    will: Will | None = None

    @property
    def flying(self) -> list[Copy]:
        return [each for each in self.owed if each.packet_id]

    @property
    def waiting(self) -> list[Copy]:
        return [each for each in self.owed if not each.packet_id]

    @property
    def will_due_us(self) -> int:
        assert self.will is not None
        return self.closed_us + min(self.will.delay_s, self.expiry_s) * SECOND_US

    @property
    def expires_us(self) -> int:
        return self.closed_us + self.expiry_s * SECOND_US


class Publish(NamedTuple):
    """As a client sees it; ``left_s`` 0 for a message that does not expire."""

    dup: bool
    qos: int
    retain: bool
    topic: bytes
    payload: bytes
    left_s: int
    identifiers: tuple[int, ...]
    content_type: bytes


class Other(NamedTuple):
    """Any other packet: its type, its packet id or 0, its reason codes."""

    kind: int
    packet_id: int
    codes: tuple[int, ...]


@dataclass
class Given:
    """What one step sends to one connection, and whether it ends it."""

    messages: list[tuple[Copy, Publish]] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)
    is_closed: bool = False


@dataclass(frozen=True)
class Bounds:
    """The broker's options, as far as they matter here."""

    window: int
    waiting_max: int
    waiting_bytes_max: int
    drops_oldest: bool
    receive_max: int


@dataclass
class Model:
    """One world. ``script`` answers ``choose``; ``forks`` are the scripts that remain to be tried."""

    bounds: Bounds
    clients: dict[bytes, Client] = field(default_factory=dict)
    retained: dict[bytes, Message] = field(default_factory=dict)
    given: dict[int, Given] = field(default_factory=dict)
    now_us: int = 0
    script: list[int] = field(default_factory=list)
    asked: int = 0
    forks: list[list[int]] = field(default_factory=list)

    def choose(self, options: Sequence[T]) -> T:
        """What the broker is free to do one way or another."""
        if len(options) == 1:
            return options[0]
        if self.asked == len(self.script):
            self.forks += [[*self.script, other] for other in range(1, len(options))]
            self.script = [*self.script, 0]
        self.asked += 1
        return options[self.script[self.asked - 1]]

    # ---- what is sent

    def to(self, line: Line) -> Given:
        return self.given.setdefault(line.slot, Given())

    def say(self, line: Line, kind: int, packet_id: int, *codes: int) -> None:
        """Acknowledgements before 5.0 have no reason codes."""
        if line.protocol < 5 and kind not in (2, 9):
            codes = (0,) if kind < 9 else ()
        self.to(line).others.append(Other(kind, packet_id, codes))

    def show(self, line: Line, copy: Copy) -> bool:
        """PUBLISH; False when the client does not take it: it has expired unsent, or is too large."""
        message, is_five = copy.message, line.protocol == 5
        left_us = message.expires_us - self.now_us if message.expires_us else 0
        if message.expires_us and left_us <= 0 and not copy.packet_id:
            return False
        left_s = max(1, -(-left_us // SECOND_US)) if message.expires_us and is_five else 0
        content_type, identifiers = (message.content_type, copy.identifiers) if is_five else (b"", ())
        size = 4 + len(message.topic) + 2 * (copy.qos > 0) + len(message.payload)
        if is_five:
            size += 1 + 5 * (left_s > 0) + 2 * len(identifiers)
            size += 3 + len(content_type) if content_type else 0
        if line.packet_max and size > line.packet_max:
            return False
        shown = Publish(
            copy.packet_id != 0, copy.qos, copy.retain, message.topic, message.payload, left_s, identifiers,
            content_type,
        )  # fmt: skip
        self.to(line).messages.append((copy, shown))
        return True

    def pump(self, client: Client) -> None:
        """Send what is owed, in order, as far as window and socket allow; again what an older connection left open."""
        line = client.line
        while line is not None and not line.is_slow:
            following = [each for each in client.owed if not each.is_here]
            if not following or len(client.owed) - len(following) >= line.window:
                return
            copy = following[0]
            copy.is_here = True
            if copy.is_received:
                self.say(line, 6, copy.packet_id, 0)
            elif self.show(line, copy):
                copy.packet_id = copy.packet_id or -1
            else:
                self.drop(client, copy)

    def drop(self, client: Client, copy: Copy) -> None:
        client.owed = [each for each in client.owed if each is not copy]

    def owe(self, client: Client, copy: Copy) -> None:
        line = client.line
        if copy.qos == 0:
            if line is not None and not line.is_slow:
                self.show(line, copy)
            return
        client.owed.append(copy)
        self.pump(client)

        def is_over() -> bool:
            size = sum(each.message.bytes for each in client.waiting)
            return len(client.waiting) > self.bounds.waiting_max or size > self.bounds.waiting_bytes_max

        if self.bounds.drops_oldest and copy.message.bytes <= self.bounds.waiting_bytes_max:
            while is_over():
                self.drop(client, client.waiting[0])
        elif is_over():
            self.drop(client, copy)

    def publish(self, message: Message, origin: bytes) -> bool:
        """Retain it if it says so, and give it to whoever has subscribed; whether anybody has."""
        if message.retain:
            self.retained.pop(message.topic, None)
            if message.payload:
                self.retained[message.topic] = message
        is_for_somebody = False
        copies: dict[bytes, list[Copy]] = {}
        groups: dict[bytes, list[tuple[bytes, Subscription]]] = {}
        for name, client in self.clients.items():
            met = []
            for text, subscription in client.subscriptions.items():
                if text.startswith(b"$share/"):
                    if fits(text.split(b"/", 2)[2], message.topic):
                        groups.setdefault(text, []).append((name, subscription))
                elif fits(text, message.topic):
                    is_for_somebody = True
                    if not (subscription.no_local and name == origin):
                        met.append(subscription)
            if met:
                copies[name] = [copy_for(message, met)]
        for members in groups.values():
            lines = {name: self.clients[name].line for name, _ in members}
            there = [each for each in members if (line := lines[each[0]]) is not None]
            ready = [each for each in there if (line := lines[each[0]]) is not None and not line.is_slow]
            name, subscription = self.choose(ready or there or members)
            copies.setdefault(name, []).append(copy_for(message, [subscription]))
        for name, all_copies in copies.items():
            for copy in self.choose(list(itertools.permutations(all_copies))):
                self.owe(self.clients[name], copy)
        return is_for_somebody or bool(groups)

    # ---- sessions

    def connect(self, name: bytes, line: Line, expiry_s: int, *, is_clean: bool, will: Will | None) -> None:
        """A connection ends an older one of the same client [MQTT-3.1.4-3]."""
        old = self.clients.get(name)
        if old is not None and old.line is not None:
            self.hang_up(name, 0x8E, comes_back=not is_clean)
        if is_clean and name in self.clients:
            self.end(name)
        is_present = name in self.clients
        client = self.clients.setdefault(name, Client())
        client.line, client.expiry_s, client.will = line, expiry_s, will
        client.is_noted = client.is_noted or expiry_s > 0
        for copy in client.owed:
            copy.is_here = False
        self.say(line, 2, 0, is_present and line.protocol > 3, 0)
        self.pump(client)

    def hang_up(self, name: bytes, code: int, *, comes_back: bool = False) -> None:
        """Our side ends the connection; 5.0 is told why."""
        line = self.clients[name].line
        assert line is not None
        if line.protocol == 5:
            self.say(line, 14, 0, code)
        self.to(line).is_closed = True
        self.gone(name, comes_back=comes_back)

    def gone(self, name: bytes, *, has_will: bool = True, comes_back: bool = False) -> None:
        """The connection is no more. A client that is back in the same session keeps its delayed will from being sent."""
        client = self.clients[name]
        client.line, client.closed_us = None, self.now_us
        if not has_will:
            client.will = None
        if client.will is not None and client.will_due_us == self.now_us:
            self.send_will(name)
        if client.expiry_s == 0:
            self.end(name)
        elif comes_back:
            client.will = None

    def send_will(self, name: bytes) -> None:
        client = self.clients[name]
        will, client.will = client.will, None
        if will is not None:
            message = will.message
            expires_us = self.now_us + will.life_s * SECOND_US if will.life_s else 0
            self.publish(
                Message(
                    message.topic,
                    message.payload,
                    message.qos,
                    message.retain,
                    expires_us,
                    message.content_type,
                ),
                name,
            )

    def end(self, name: bytes) -> None:
        """The session's end is its will's time at the latest (5.0 section 3.1.3.2.2)."""
        self.send_will(name)
        del self.clients[name]

    def disconnect(self, name: bytes, code: int, expiry_s: int | None) -> None:
        """DISCONNECT from the client: it takes the will back, except with 0x04 (5.0 section 3.14.2.1)."""
        client = self.clients[name]
        assert client.line is not None
        if expiry_s is not None:
            if expiry_s and not client.expiry_s:
                self.hang_up(name, 0x82)
                return
            client.expiry_s = expiry_s
        self.to(client.line).is_closed = True
        self.gone(name, has_will=code != 0)

    def time_is_over(self) -> None:
        """Wills and sessions that are due; the standard knows no order among clients."""
        due = [
            name
            for name, client in self.clients.items()
            if client.line is None
            and (
                (client.will is not None and client.will_due_us <= self.now_us)
                or (client.expiry_s != NEVER and client.expires_us <= self.now_us)
            )
        ]
        for name in self.choose(list(itertools.permutations(due))):
            client = self.clients[name]
            if client.will is not None and client.will_due_us <= self.now_us:
                self.send_will(name)
            if client.expiry_s != NEVER and client.expires_us <= self.now_us:
                self.end(name)
        self.retained = {
            topic: message
            for topic, message in self.retained.items()
            if not message.expires_us or message.expires_us > self.now_us
        }

    def restart(self) -> None:
        """Every connection is cut by it."""
        for name, client in list(self.clients.items()):
            if client.line is not None:
                client.line, client.closed_us = None, self.now_us
            if not client.is_noted:
                del self.clients[name]

    def slow_down(self, name: bytes) -> None:
        line = self.clients[name].line
        assert line is not None
        line.is_slow = True

    def drain(self, name: bytes) -> None:
        """The client's socket has taken everything."""
        client = self.clients[name]
        assert client.line is not None
        client.line.is_slow = False
        self.pump(client)

    # ---- packets

    def subscribe(
        self, name: bytes, asked: list[tuple[bytes, Subscription]], orders: list[list[bytes]]
    ) -> None:
        """``orders``: for each filter its retained topics as the broker puts them, which is in no particular order."""
        client = self.clients[name]
        assert client.line is not None
        self.say(client.line, 9, 7, *(each.qos for _, each in asked))
        owed = []
        for (text, subscription), order in zip(asked, orders, strict=True):
            is_new = text not in client.subscriptions
            client.subscriptions[text] = subscription
            if subscription.handling == 2 or (subscription.handling == 1 and not is_new):
                continue
            if text.startswith(b"$share/"):
                continue
            assert sorted(order) == sorted(topic for topic in self.retained if fits(text, topic))
            for message in map(self.retained.__getitem__, order):
                if not message.expires_us or message.expires_us > self.now_us:
                    copy = copy_for(message, [subscription])
                    copy.retain = True
                    owed.append(copy)
        for copy in owed:
            self.owe(client, copy)

    def unsubscribe(self, name: bytes, text: bytes) -> None:
        """What is owed already stays owed."""
        client = self.clients[name]
        assert client.line is not None
        was_there = client.subscriptions.pop(text, None) is not None
        self.say(client.line, 11, 8, 0 if was_there else 0x11)

    def take(self, name: bytes, message: Message, packet_id: int) -> None:
        """PUBLISH from a client. A QoS 2 id that is taken is the same message until PUBREL [MQTT-4.3.3-10]."""
        client = self.clients[name]
        line = client.line
        assert line is not None
        if message.qos == 2 and packet_id in client.taken:
            self.say(line, 5, packet_id, 0)
            return
        if message.qos == 2 and len(client.taken) >= self.bounds.receive_max:
            self.hang_up(name, 0x93)
            return
        found = self.publish(message, name)
        if message.qos == 2:
            client.taken.add(packet_id)
        if message.qos:
            self.say(line, 3 + message.qos, packet_id, 0 if found or message.qos == 2 else 0x10)

    def release(self, name: bytes, packet_id: int) -> None:
        client = self.clients[name]
        assert client.line is not None
        self.say(client.line, 7, packet_id, 0 if packet_id in client.taken else 0x92)
        client.taken.discard(packet_id)

    def acknowledge(self, name: bytes, kind: int, packet_id: int, code: int) -> None:
        """PUBACK 4, PUBREC 5, PUBCOMP 7. What is no answer to the message in flight breaks the protocol."""
        client = self.clients[name]
        assert client.line is not None
        found = [each for each in client.flying if each.packet_id == packet_id]
        if not found:
            if kind == 5 and code < 0x80:
                self.say(client.line, 6, packet_id, 0x92)
            return
        (copy,) = found
        if copy.qos != (1 if kind == 4 else 2) or (kind == 7 and not copy.is_received):
            self.hang_up(name, 0x82)
        elif kind == 5 and code < 0x80:
            copy.is_received = True
            self.say(client.line, 6, packet_id, 0)
        else:
            self.drop(client, copy)
            self.pump(client)


def copy_for(message: Message, met: list[Subscription]) -> Copy:
    """One copy, with the highest QoS of all subscriptions and all their identifiers [MQTT-3.3.4-2, MQTT-3.3.4-5]."""
    qos = min(message.qos, max(each.qos for each in met))
    retain = message.retain and any(each.as_published for each in met)
    return Copy(message, qos, retain, tuple(sorted(each.identifier for each in met if each.identifier)))


def outcomes(world: Model, happens: Callable[[Model], None]) -> Iterator[Model]:
    """Every world that may come of this one."""
    saved = pickle.dumps(world)
    scripts: list[list[int]] = [[]]
    while scripts:
        after: Model = pickle.loads(saved)
        after.script, after.asked, after.forks, after.given = scripts.pop(), 0, [], {}
        happens(after)
        scripts += after.forks
        yield after
