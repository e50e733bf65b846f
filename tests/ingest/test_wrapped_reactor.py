"""Connections with a transport: the same order, the same patience, the same limits, and a last word."""

import contextlib
import logging
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from ingest.reactor import Options
from ingest.transports import TransportError
from tests.ingest.test_reactor import CONNECT, House, publish

GOODBYE, BROKEN, ASK, FAULT = (struct.pack(">H", n) for n in (0xFFFF, 0xFFFE, 0xFFFD, 0xFFFC))
LAST = b"LAST"
OWED = b"OWED"


def record(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


class Records:
    """A toy: MQTT bytes in records of two bytes of length; the largest lengths are signs."""

    def __init__(self) -> None:
        self.buffer = self.pending = b""
        self.is_ended = False
        self.last = LAST

    def receive(self, data: bytes) -> bytes:
        self.buffer += data
        out = b""
        while len(self.buffer) >= 2 and not self.is_ended:
            head = self.buffer[:2]
            if head in (GOODBYE, BROKEN):
                self.is_ended = True
                if head == BROKEN:
                    raise TransportError("broken", out)
            elif head == ASK:
                self.pending += OWED
                self.buffer = self.buffer[2:]
            elif head == FAULT:
                raise ZeroDivisionError
            else:
                end = 2 + int.from_bytes(head, "big")
                if len(self.buffer) < end:
                    break
                out += self.buffer[2:end]
                self.buffer = self.buffer[end:]
        return out

    def send(self, data: bytes) -> bytes:
        return record(data)

    def take_pending(self) -> bytes:
        pending, self.pending = self.pending, b""
        return pending

    def ended(self) -> bytes:
        last, self.last = self.last, b""
        return last


class WrappedHouse(House):
    """A house with a third door."""

    def __init__(self, options: Options = Options(rate_limited=False), rows: int = 1024) -> None:  # noqa: B008
        super().__init__(options, rows)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self.listeners["wrapped"] = listener
        self.reactor.listen(listener.fileno(), "mqtt", Records)

    def wrapped(self) -> socket.socket:
        client = self.client("wrapped")
        client.sendall(record(CONNECT))
        assert self.read(client, 6) == record(b"\x20\x02\x00\x00")
        return client


@pytest.fixture
def house() -> Iterator[WrappedHouse]:
    house = WrappedHouse()
    yield house
    house.close()


def puback(number: int) -> bytes:
    return b"\x40\x02" + struct.pack(">H", number)


@pytest.mark.parametrize("step", [1, 5, 10_000])
def test_packets_across_and_within_records_are_taken_in_order(house: WrappedHouse, step: int) -> None:
    client = house.wrapped()
    data = publish(b"1", packet_id=1) + publish(b"2", packet_id=2)
    stream = record(data[:3]) + record(data[3:30]) + record(b"") + ASK + record(data[30:])
    for at in range(0, len(stream), step):
        client.sendall(stream[at : at + step])
        house.turn()
    got = b""
    while not (OWED in got and puback(1) in got and puback(2) in got):
        got += house.read(client, 1)
    assert got.index(puback(1)) < got.index(puback(2))
    assert house.rows == 2
    assert house.reactor.statistics().wrapped_connections == 1


def test_what_a_transport_owes_does_not_wait_for_the_commit_and_a_puback_does(house: WrappedHouse) -> None:
    client = house.wrapped()
    house.commits.held = True
    client.sendall(record(publish(b"1")) + ASK)
    assert house.read(client, len(OWED)) == OWED
    assert house.is_silent(client)
    house.commits.finish()
    assert house.read(client, 6) == record(puback(1))


@pytest.mark.parametrize("sign", [GOODBYE, BROKEN])
def test_what_came_before_the_end_is_taken_and_answered_before_the_last_word(
    house: WrappedHouse, sign: bytes
) -> None:
    client = house.wrapped()
    house.commits.held = True
    client.sendall(record(publish(b"1")) + sign + record(publish(b"2")))
    house.until(lambda: house.commits.out)
    assert house.is_silent(client)
    house.commits.finish()
    assert house.read(client, 11) == record(puback(1)) + LAST
    assert house.is_closed(client)
    assert (house.rows, len(house.table.closed)) == (1, 1)
    statistics = house.reactor.statistics()
    assert statistics.transport_errors == (sign == BROKEN)
    assert (statistics.wrapped_connections, statistics.mqtt_connections) == (0, 0)


def test_the_daemons_close_has_a_last_word_too(house: WrappedHouse) -> None:
    client = house.wrapped()
    client.sendall(record(b"\xe0\x00"))
    assert house.read(client, 5) == LAST


def test_a_transports_own_fault_costs_its_connection_only(
    house: WrappedHouse, caplog: pytest.LogCaptureFixture
) -> None:
    client, other = house.wrapped(), house.wrapped()
    with caplog.at_level(logging.CRITICAL):
        client.sendall(FAULT)
        assert house.is_closed(client)
    other.sendall(record(publish(b"1")))
    assert house.read(other, 6) == record(puback(1))


def test_the_last_words_before_a_close_are_heard(house: WrappedHouse) -> None:
    client = house.wrapped()
    client.sendall(record(publish(b"1", packet_id=None) + publish(b"2")) + GOODBYE)
    client.close()
    house.until(lambda: house.table.closed)
    assert house.rows == 2


def test_bytes_that_become_no_mqtt_are_no_sign_of_life(house: WrappedHouse) -> None:
    client = house.client("wrapped")
    for _ in range(11):
        client.sendall(ASK)
        assert house.read(client, len(OWED)) == OWED
        house.now += 1
        house.reactor.tick(house.now, 0)
    assert house.read(client, 5) == LAST
    assert house.is_closed(client)


def test_a_keepalive_counts_packets(house: WrappedHouse) -> None:
    client = house.wrapped()
    for _ in range(4):
        house.now += 60
        client.sendall(record(b"\xc0\x00"))
        assert house.read(client, 4) == record(b"\xd0\x00")
        house.reactor.tick(house.now, 0)
    house.now += 91
    house.reactor.tick(house.now, 0)
    assert house.read(client, 5) == LAST


def test_a_slow_reader_gets_everything_in_order_and_then_the_last_word(house: WrappedHouse) -> None:
    client = house.wrapped()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    asked = 4_000_000
    pings = record(b"\xc0\x00" * 1000)
    stream = pings * (asked // 1000) + record(publish(b"1")) + GOODBYE
    client.setblocking(False)
    sent, got = 0, bytearray()
    end = time.monotonic() + 20
    was_blocked = False
    while not got.endswith(LAST):
        assert time.monotonic() < end
        with contextlib.suppress(BlockingIOError):
            if sent < len(stream):
                sent += client.send(stream[sent : sent + 65_536])
        was_blocked |= house.reactor.statistics().output_bytes > 0
        if was_blocked or sent == len(stream):
            with contextlib.suppress(BlockingIOError):
                got += client.recv(1 << 20)
        house.turn()
    assert was_blocked
    plain, at = bytearray(), 0
    while at < len(got) - len(LAST):
        size = int.from_bytes(got[at : at + 2], "big")
        plain += got[at + 2 : at + 2 + size]
        at += 2 + size
    assert plain == b"\xd0\x00" * asked + puback(1)


def test_a_full_ring_loses_nothing_of_a_wrapped_connection_that_has_ended() -> None:
    house = WrappedHouse(rows=8)
    client = house.wrapped()
    client.sendall(record(b"".join(publish(b"%d" % i, packet_id=i) for i in range(1, 21))) + GOODBYE)
    house.until(lambda: house.reactor.is_full)
    for _ in range(4):
        house.until(lambda: house.journal.ring.durable == house.rows)
        house.journal.ring.mark_sealed(house.journal.ring.durable)
        house.reactor.kick(house.now, 0)
    got = b""
    while not got.endswith(LAST):
        got += house.read(client, 1)
    assert house.rows == 20
    assert got.count(b"\x40\x02") == 20
    house.close()


def test_an_adopted_connection_goes_on_with_what_was_read(house: WrappedHouse) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    house.clients.append(ours)
    theirs.setblocking(False)
    received = record(CONNECT + publish(b"1")) + ASK
    house.reactor.adopt(theirs.detach(), "mqtt", Records(), received, house.now, int(house.now * 1e6))
    got = house.read(ours, 6 + 6 + len(OWED))
    assert OWED in got
    assert puback(1) in got
    ours.sendall(record(publish(b"2", packet_id=2)))
    assert house.read(ours, 6) == record(puback(2))


def test_a_connection_too_many_is_not_adopted() -> None:
    house = WrappedHouse(Options(mqtt_connections_max=1, rate_limited=False))
    house.wrapped()
    ours, theirs = socket.socketpair()
    house.clients.append(ours)
    house.reactor.adopt(theirs.detach(), "mqtt", Records(), b"", house.now, 0)
    assert ours.recv(1) == b""
    assert house.reactor.statistics().refused_connections == 1
    house.close()
