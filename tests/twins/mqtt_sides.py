"""The two sides of the MQTT lane's differential test.

On one side plain Python finds the packets and gives every one to the session machine (ingest/mqtt). On the other side
the reactor does, and its lane keeps to itself what it can. A script is what several clients send, in order.
"""

import contextlib
import socket
from collections import Counter
from typing import NamedTuple

from ingest.admission import Admission
from ingest.gate import Gate
from ingest.mqtt.door import DoorStatistics
from ingest.mqtt.options import BrokerOptions
from ingest.mqtt.sentences import puback_tails
from ingest.pace import RateLimiter
from ingest.reactor import Options, Reactor
from ingest.refusals import REASONS
from storage.journal import Limits
from storage.kinds import Refusal
from tests.twins.doors import NO_LIMITS, make_door
from tests.twins.storing import Keeper, MemoryRegistry, Row

LIMITS = Limits(payload_bytes_max=6_000)
PACKET_BYTES_MAX = 8_000
# Before its CONNECT nobody may announce more (ingest/reactor.pyx).
STRANGER_BYTES_MAX = 4_096
NOW = (100.0, 1_000_000)

Script = list[tuple[int, bytes]]


class Outcome(NamedTuple):
    """All that can be seen from outside; ``sent`` and ``is_closed`` by client."""

    sent: dict[int, bytes]
    is_closed: dict[int, bool]
    rows: list[Row]
    states: list[tuple[int, bytes]]
    counts: dict[str, int]
    door: DoorStatistics


class MalformedError(Exception):
    """The remaining length does not end [MQTT-2.2.3]."""


def packet_bytes(data: bytes) -> int | None:
    """Bytes of the packet that begins here; None when that cannot be known yet."""
    remaining = 0
    for position, byte in enumerate(data[1:5]):
        remaining += (byte & 0x7F) * 128**position
        if byte < 0x80:
            return 2 + position + remaining
    if len(data) >= 5:
        raise MalformedError
    return None


def admission() -> Admission:
    return Admission(MemoryRegistry(), RateLimiter(0))  # type: ignore[arg-type]


class PlainSide:
    """Packets found by ``packet_bytes``, all of them for the door. It is the door's link too."""

    def __init__(self, options: BrokerOptions = NO_LIMITS) -> None:
        self.keeper = Keeper(LIMITS)
        self.door = make_door(admission(), self.keeper.journal, options)
        self.door.link = self
        self.buffers: dict[int, bytes] = {}
        self.sent: dict[int, bytes] = {}
        self.admitted: set[int] = set()
        self.closed: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.current: int | None = None

    def run(self, script: Script) -> Outcome:
        for slot, data in script:
            self.current = slot
            self.sent.setdefault(slot, b"")
            self.buffers[slot] = self.buffers.get(slot, b"") + data
            self.take_packets(slot)
            self.current = None
            if slot in self.closed:
                self.door.on_closed(slot, NOW[1])
            self.keeper.commit()
        self.keeper.close()
        is_closed = {slot: slot in self.closed for slot in self.sent}
        keeper = self.keeper
        return Outcome(
            self.sent, is_closed, keeper.rows, keeper.states, dict(self.counts), self.door.statistics()
        )

    def take_packets(self, slot: int) -> None:
        while slot not in self.closed:
            data = self.buffers[slot]
            if slot not in self.admitted and data and data[0] >> 4 != 1:
                self.door.on_malformed(slot, "the first packet")
                self.closed.add(slot)
                return
            reason = "packet_bytes_max"
            try:
                size = packet_bytes(data)
            except MalformedError:
                size, reason = PACKET_BYTES_MAX + 1, "remaining length"
            if size is None:
                return
            if size > PACKET_BYTES_MAX:
                self.door.on_malformed(slot, reason)
                self.closed.add(slot)
            elif slot not in self.admitted and size > STRANGER_BYTES_MAX and data[0] != 0x10:
                self.closed.add(slot)
            elif size > len(data):
                return
            else:
                self.buffers[slot] = data[size:]
                assert self.door.on_packet(slot, data[:size], *NOW)

    # ---- the door's link

    def send(self, slot: int, data: bytes) -> None:
        assert slot not in self.closed, "nothing is said after a close"
        self.sent[slot] += data

    def close(self, slot: int) -> None:
        self.closed.add(slot)
        if slot != self.current:
            self.door.on_closed(slot, NOW[1])

    def admit(self, slot: int, protocol: int, words_bytes_max: int) -> None:
        self.admitted.add(slot)

    def backlog(self, slot: int) -> int:
        return 0

    def call_when_drained(self, slot: int) -> None: ...

    def invalidate_routes(self) -> None: ...

    def set_keepalive(self, slot: int, deadline_s: float) -> None:
        pass

    def peer(self, slot: int) -> str:
        return ""

    def count_refusal(self, speaks: str, refusal: int) -> None:
        self.counts[Refusal(refusal).name] += 1

    def count_stored(self, speaks: str) -> None:
        self.counts["stored"] += 1


class LaneSide:
    """The reactor over real sockets, turned by hand."""

    def __init__(
        self,
        rows: int = 4096,
        text_bytes: int = 1 << 20,
        batch_bytes_max: int = 1 << 20,
        options: BrokerOptions = NO_LIMITS,
    ) -> None:
        self.keeper = Keeper(LIMITS, rows, text_bytes, batch_bytes_max)
        allowed = admission()
        self.door = make_door(allowed, self.keeper.journal, options)
        self.reactor = Reactor(
            self.keeper.journal,
            self.keeper,
            Gate(allowed, self.door.user_of, self.door.broker.has_listeners),
            self.door,
            lambda *moved: None,
            Options(packet_bytes_max=PACKET_BYTES_MAX),
            NOW[0],
            self.door.relay,
        )
        self.door.link = self.reactor
        self.reactor.set_puback_tails(puback_tails(REASONS))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.reactor.listen(self.listener.fileno(), "mqtt")
        self.clients: dict[int, socket.socket] = {}
        self.sent: dict[int, bytes] = {}
        self.is_closed: dict[int, bool] = {}

    def run(self, script: Script) -> Outcome:
        for number, data in script:
            if number not in self.clients:
                self.clients[number] = socket.create_connection(self.listener.getsockname())
                self.clients[number].setblocking(False)
                self.clients[number].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.sent[number], self.is_closed[number] = b"", False
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.clients[number].sendall(data)
            self.settle()
        statistics = self.reactor.statistics()
        counts = +(Counter(statistics.mqtt_refusals) + Counter(stored=statistics.mqtt_stored))
        door = self.door.statistics()
        self.stalls, self.declined = statistics.stalls, statistics.declined_packets
        assert statistics.mqtt_connections == sum(not closed for closed in self.is_closed.values())
        self.reactor.close_all()
        for thing in (*self.clients.values(), self.listener, self.keeper):
            thing.close()
        return Outcome(self.sent, self.is_closed, self.keeper.rows, self.keeper.states, dict(counts), door)

    def settle(self) -> None:
        """Turn until nothing happens any more."""
        ring = self.keeper.journal.ring
        for turn in range(10_000):
            self.reactor.turn(*NOW)
            is_waiting = self.reactor.is_full or self.reactor.replies_waiting or ring.durable < ring.written
            if turn >= 2 and not is_waiting:
                break
        assert not is_waiting, "the reactor never came to rest"
        for number, client in self.clients.items():
            try:
                while more := client.recv(65_536):
                    self.sent[number] += more
                self.is_closed[number] = True
            except ConnectionResetError:
                self.is_closed[number] = True
            except BlockingIOError:
                pass
