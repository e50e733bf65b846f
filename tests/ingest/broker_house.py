"""A broker without sockets that can be stopped and made anew from what it noted."""

from pathlib import Path

from ingest.admission import Admission, RateLimiter
from ingest.mqtt.broker import Broker
from ingest.mqtt.door import MqttDoor
from ingest.mqtt.notebook import Notebook
from ingest.mqtt.options import BrokerOptions
from storage.journal import Journal, Limits
from storage.registry import Registry
from storage.ring import Ring
from storage.schema import Schema
from storage.sessions import SessionStore
from tests.crash.broker_clients import text
from tests.ingest.test_mqtt_door import Wire

Packet = tuple[int, bytes]  # first byte, body


def split(data: bytes) -> list[Packet]:
    """The packets, all of them short."""
    found = []
    while data:
        assert data[1] < 128
        found.append((data[0], data[2 : 2 + data[1]]))
        data = data[2 + data[1] :]
    return found


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
        self.wire = Wire()
        self.door.link = self.wire
        tokens = {self.user.user_id: self.token}
        broker.load(saved, tokens.get, self.now_us)

    def flush(self) -> None:
        """The batch is durable."""
        while (batch := self.journal.take_batch()) is not None:
            self.notes += self.journal.release(batch).notes

    def restart(self) -> None:
        """Stop without a word; the notes come to the store, some of them for the second time."""
        self.flush()
        self.store.apply(self.notes[: len(self.notes) // 2])
        self.store.apply(self.notes)
        self.notes = self.notes[-3:]
        self.start()

    def receive(self, slot: int, frame: bytes) -> dict[int, list[Packet]]:
        """Deliver one frame; what was sent, by slot."""
        self.now_us += 1
        self.wire.sent.clear()
        assert self.door.on_packet(slot, frame, 0.0, self.now_us)
        self.flush()
        sent, self.wire.sent = self.wire.sent, {}
        for gone in self.wire.closed:
            self.door.on_closed(gone, self.now_us)
        self.wire.closed.clear()
        self.flush()
        assert not self.wire.sent
        return {number: split(data) for number, data in sent.items()}

    def cut(self, slot: int) -> None:
        """The connection is gone without DISCONNECT."""
        self.door.on_closed(slot, self.now_us)
        self.flush()

    def close(self) -> None:
        self.store.close()
        self.registry.close()
