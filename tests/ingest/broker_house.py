"""A broker without sockets that can be stopped and made anew from what it noted."""

from collections.abc import Callable
from pathlib import Path

from ingest.admission import Admission
from ingest.durability import Durability
from ingest.mqtt.broker import Broker
from ingest.mqtt.delivery import BEHIND_BYTES
from ingest.mqtt.door import MqttDoor
from ingest.mqtt.notebook import Notebook
from ingest.mqtt.options import BrokerOptions
from ingest.mqtt.sessions import Namespace
from ingest.pace import RateLimiter
from storage.journal import Journal, Limits
from storage.notes import decode_note
from storage.registry import Registry
from storage.ring import Ring
from storage.schema import Schema
from storage.sessions import SessionStore
from storage.waiting import WaitingNotes
from tests.crash.broker_clients import text
from tests.ingest.test_mqtt_door import Wire
from thingscale.clients import Clients

Packet = tuple[int, bytes]  # first byte, body


def split(data: bytes) -> list[Packet]:
    """The packets, all of them short."""
    found = []
    while data:
        assert data[1] < 128
        found.append((data[0], data[2 : 2 + data[1]]))
        data = data[2 + data[1] :]
    return found


class SlowWire(Wire):
    """A link whose sockets may be far behind.

    Attributes:
        slow: connections with more to take than the broker lets them.
        to_call: those whose broker wants to hear when they have taken it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.slow: set[int] = set()
        self.to_call: set[int] = set()

    def backlog(self, slot: int) -> int:
        return BEHIND_BYTES + 1 if slot in self.slow else 0

    def call_when_drained(self, slot: int) -> None:
        self.to_call.add(slot)

    def kick(self, now_s: float, now_us: int) -> None: ...


class BrokerHouse:
    """Door, broker, journal, and the session store behind them. Every step makes a batch of its own."""

    def __init__(self, path: Path, options: BrokerOptions) -> None:
        self.options = options
        self.registry = Registry(path / "registry.sqlite3")
        self.user = self.registry.add_user(1)
        self.token = self.user.device_token.encode()
        self.credentials = text(self.user.user_id.encode()) + text(self.token)
        self.store = SessionStore.open(path / "sessions.sqlite3")
        self.notes: list[bytes] = []
        self.now_us = 1
        self.start()

    def start(self) -> None:
        """Make everything from what the session store has."""
        self.journal = Journal(Ring(64, 256, 4096), Schema(), Limits(), 70_000)
        saved = self.store.load()
        broker = Broker(self.options, Notebook(self.journal, 1 << 15, saved.next_number))
        self.door = MqttDoor(Admission(self.registry, RateLimiter(0)), self.journal, broker)
        self.wire = SlowWire()
        self.door.link = self.wire
        tokens = {self.user.user_id: self.token}
        broker.load(saved, tokens.get, self.now_us)

    @property
    def namespace(self) -> Namespace:
        return self.door.broker.namespace(self.user.user_id, self.token)

    def flush(self) -> None:
        """The batch is durable."""
        while (batch := self.journal.take_batch()) is not None:
            self.notes += self.journal.release(batch).notes

    def crash(self) -> None:
        """Stop without a word. What is in no durable batch is lost; the notes come to the store, some of them twice."""
        if self.notes:
            self.apply(decode_note(self.notes[len(self.notes) // 2])[0])
        self.apply(None)
        self.notes = self.notes[-3:]
        self.start()
        self.flush()

    def apply(self, number: int | None) -> None:
        """As a start does it: what the log tells, up to a number. Before it there may have been another start."""
        waiting = WaitingNotes(self.store.applied)
        waiting.extend(self.notes)
        self.store.apply(*waiting.portion(number))

    def act(self, action: Callable[[], object]) -> None:
        """What the reactor does in one go: something happens, and the connections that were closed for it go."""
        self.now_us += 1
        action()
        for slot in self.wire.closed:  # grows while it is walked
            self.door.on_closed(slot, self.now_us)

    def step(self, action: Callable[[], object]) -> tuple[dict[int, list[Packet]], set[int]]:
        """The same in a batch of its own: what was sent, by slot, and who was closed."""
        self.act(action)
        self.flush()
        sent, closed = self.wire.sent, set(self.wire.closed)
        assert len(closed) == len(self.wire.closed)
        self.wire.sent, self.wire.closed = {}, []
        return {slot: split(data) for slot, data in sent.items()}, closed

    def receive(self, slot: int, frame: bytes) -> None:
        assert self.door.on_packet(slot, frame, 0.0, self.now_us)

    def cut(self, slot: int) -> None:
        """The connection is gone without DISCONNECT."""
        self.door.on_closed(slot, self.now_us)

    def kick(self, client_id: str) -> None:
        """As the REST service does it, which may come too late."""
        now = lambda: (0.0, self.now_us)  # noqa: E731
        durability = Durability(self.journal, self.wire, now)
        clients = Clients(self.door.broker, durability, lambda _: self.token, self.wire.peer, now)
        clients.kick(self.user.user_id, client_id)

    def drain(self, slot: int) -> None:
        """The socket has taken everything."""
        self.wire.slow.discard(slot)
        if slot in self.wire.to_call:
            self.wire.to_call.discard(slot)
            self.door.on_writable(slot, self.now_us)

    def close(self) -> None:
        self.store.close()
        self.registry.close()
