"""TLS through the compiled way: the reactor, sockets, and a client that is Python's ssl."""

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.reactor import Options
from ingest.tls import TlsContext, TlsTransport
from tests.ingest.test_reactor import CONNECT, House, publish
from thingscale.config import load
from thingscale.devcert import make_development_files
from thingscale.tls import make_mqtt_context

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def puback(number: int) -> bytes:
    return b"\x40\x02" + struct.pack(">H", number)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    make_development_files(directory, ["localhost"], force=False)
    return directory


@pytest.fixture(scope="module")
def server(files: Path) -> TlsContext:
    names = {"tls.certificate": str(files / "server.pem"), "tls.key": str(files / "server.key")}
    return make_mqtt_context(load(None, names, {}))


class Device:
    """A client in TLS: what it says is sealed and sent, what the house sends is opened."""

    def __init__(self, house: "TlsHouse", context: ssl.SSLContext) -> None:
        self.house = house
        self.socket = house.client("mqtts")
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.received = bytearray()
        self.is_over = False

    def shake_hands(self, step: int = 1 << 20) -> None:
        def is_done() -> bool:
            self.hear()
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                return True
            self.send_raw(self.outgoing.read(), step)
            return False

        self.house.until(is_done)
        self.send_raw(self.outgoing.read(), step)

    def send_raw(self, data: bytes, step: int = 1 << 20) -> None:
        for begin in range(0, len(data), step):
            self.socket.sendall(data[begin : begin + step])
            if begin + step < len(data):
                self.house.turn()

    def sealed(self, *pieces: bytes) -> bytes:
        """A record for each."""
        for piece in pieces:
            self.tls.write(piece)
        return self.outgoing.read()

    def hear(self) -> None:
        """What is there, and no longer."""
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            piece = self.socket.recv(1 << 20)
            self.is_over |= not piece
            self.incoming.write(piece)
        self.socket.setblocking(True)

    def open(self) -> None:
        self.hear()
        with contextlib.suppress(ssl.SSLWantReadError):
            while piece := self.tls.read(1 << 20):
                self.received += piece

    def read(self, size: int) -> bytes:
        def enough() -> bool:
            self.open()
            return len(self.received) >= size

        self.house.until(enough)
        got = bytes(self.received[:size])
        del self.received[:size]
        return got

    def says_goodbye(self) -> bool:
        """Nothing but close_notify comes, and the end of the stream."""

        def is_over() -> bool:
            self.hear()
            return self.is_over

        self.house.until(is_over)
        return self.tls.read(1 << 20) == b""


class TlsHouse(House):
    """A house with a door in TLS."""

    def __init__(self, server: TlsContext, rows: int = 1024) -> None:
        super().__init__(Options(rate_limited=False), rows)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self.listeners["mqtts"] = listener
        self.reactor.listen(listener.fileno(), "mqtt", lambda: TlsTransport(server))


@pytest.fixture
def house(server: TlsContext) -> Iterator[TlsHouse]:
    house = TlsHouse(server)
    yield house
    house.close()


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def context(request: pytest.FixtureRequest, files: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files / "ca.pem"))
    context.minimum_version = context.maximum_version = request.param
    return context


def admitted(house: TlsHouse, context: ssl.SSLContext) -> Device:
    device = Device(house, context)
    device.shake_hands()
    device.send_raw(device.sealed(CONNECT))
    assert device.read(4) == b"\x20\x02\x00\x00"
    return device


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_packets_across_and_within_records_are_taken_in_order(
    house: TlsHouse, context: ssl.SSLContext, step: int
) -> None:
    device = Device(house, context)
    device.shake_hands(step)
    data = CONNECT + publish(b"1", packet_id=1) + publish(b"2", packet_id=2) + b"\xc0\x00"
    device.send_raw(device.sealed(data[:3], data[3:30], data[30:50], data[50:]), step)
    assert device.read(14) == b"\x20\x02\x00\x00" + puback(1) + puback(2) + b"\xd0\x00"
    assert house.rows == 2
    assert house.reactor.statistics().wrapped_connections == 1


def test_a_packet_of_many_records_and_its_neighbours(house: TlsHouse, context: ssl.SSLContext) -> None:
    device, other = admitted(house, context), admitted(house, context)
    large = publish(b'"' + b"x" * 24_000 + b'"', packet_id=3)
    stream = device.sealed(large[:18_000], large[18_000:], publish(b"4", packet_id=4))
    device.send_raw(stream[:20_000])
    house.turn()
    other.send_raw(other.sealed(publish(b"5", packet_id=5)))
    assert other.read(4) == puback(5)
    device.send_raw(stream[20_000:])
    assert device.read(8) == puback(3) + puback(4)
    assert house.rows == 3


def test_a_puback_waits_for_the_commit(house: TlsHouse, context: ssl.SSLContext) -> None:
    device = admitted(house, context)
    house.commits.held = True
    device.send_raw(device.sealed(publish(b"1")))
    house.until(lambda: house.commits.out)
    for _ in range(20):
        house.turn()
    device.open()
    assert device.received == b""
    house.commits.finish()
    assert device.read(4) == puback(1)


def test_the_peers_goodbye_ends_it_when_what_came_before_is_answered(
    house: TlsHouse, context: ssl.SSLContext
) -> None:
    device = admitted(house, context)
    house.commits.held = True
    last = device.sealed(publish(b"1"))
    with contextlib.suppress(ssl.SSLWantReadError):
        device.tls.unwrap()
    device.send_raw(last + device.outgoing.read() + b"junk behind it")
    house.until(lambda: house.commits.out)
    house.commits.finish()
    house.until(lambda: house.table.closed)
    assert (house.rows, len(house.table.closed)) == (1, 1)
    assert house.reactor.statistics().transport_errors == 0


def test_a_record_that_was_changed_ends_it_and_is_counted(house: TlsHouse, context: ssl.SSLContext) -> None:
    device, other = admitted(house, context), admitted(house, context)
    good, evil = device.sealed(publish(b"1")), device.sealed(publish(b"2"))
    device.send_raw(good + evil[:-1] + bytes([evil[-1] ^ 1]))
    house.until(lambda: house.table.closed)
    statistics = house.reactor.statistics()
    assert (house.rows, statistics.transport_errors, statistics.wrapped_connections) == (1, 1, 1)
    other.send_raw(other.sealed(publish(b"3", packet_id=3)))
    assert other.read(4) == puback(3)


@pytest.mark.parametrize(
    "junk", [b"\x10\x0c\x00\x04MQTT", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(99)]
)
def test_what_is_no_tls_is_closed_and_counted(house: TlsHouse, junk: bytes) -> None:
    client = house.client("mqtts")
    client.sendall(junk)
    house.until(lambda: house.table.closed)
    assert house.reactor.statistics().transport_errors == 1


def test_the_daemons_close_says_goodbye(house: TlsHouse, context: ssl.SSLContext) -> None:
    device = admitted(house, context)
    device.send_raw(device.sealed(b"\xe0\x00"))
    assert device.says_goodbye()


def test_half_a_handshake_is_no_sign_of_life(house: TlsHouse, context: ssl.SSLContext) -> None:
    device = Device(house, context)
    with contextlib.suppress(ssl.SSLWantReadError):
        device.tls.do_handshake()
    hello = device.outgoing.read()
    for number in range(11):
        device.send_raw(hello[number : number + 1])
        house.turn()
        house.now += 1
        house.reactor.tick(house.now, 0)
    house.until(lambda: house.table.closed)


def test_a_slow_reader_gets_everything_in_order(house: TlsHouse, context: ssl.SSLContext) -> None:
    device = admitted(house, context)
    device.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    asked, done = 6_000_000, False
    stream = device.sealed(*[b"\xc0\x00" * 8_000] * (asked // 8_000), publish(b"1"))
    device.socket.setblocking(False)
    sent, was_blocked, limit = 0, False, time.monotonic() + 30
    while not done:
        assert time.monotonic() < limit
        with contextlib.suppress(BlockingIOError):
            device.socket.setblocking(False)
            if sent < len(stream):
                sent += device.socket.send(stream[sent : sent + 65_536])
        was_blocked |= house.reactor.statistics().output_bytes > 0
        if was_blocked or sent == len(stream):
            device.open()
        house.turn()
        done = len(device.received) == 2 * asked + 4
    assert was_blocked
    assert device.received == b"\xd0\x00" * asked + puback(1)
