"""The reactor over real sockets, turned by hand: replies wait for the commit, and nobody disturbs anybody else."""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ingest.reactor import Options, Reactor
from storage.commit import Completed
from storage.journal import Batch, Journal, Limits
from storage.kinds import PayloadKind, Refusal
from storage.ring import Ring
from storage.schema import Schema

CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
CLOSING_OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK"


def publish(payload: bytes, topic: bytes = b"T/json/d", packet_id: int | None = 1) -> bytes:
    rest = (
        struct.pack(">H", len(topic))
        + topic
        + (b"" if packet_id is None else struct.pack(">H", packet_id))
        + payload
    )
    length, size = b"", len(rest)
    while True:
        length += bytes([size % 128 | (128 if size > 127 else 0)])
        size //= 128
        if not size:
            return bytes([0x30 if packet_id is None else 0x32]) + length + rest


def post(body: bytes, *headers: str, path: str = "/post_v2/") -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        "X-DEVICETOKEN:t",
        "X-DEVICEID: d",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class HeldCommits:
    """A committer that finishes when the test says so."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.fileno = os.eventfd(0, os.EFD_NONBLOCK)
        self.out: Batch | None = None
        self.batches = 0
        self.entries: list[int] = []  # of each batch
        self.held = False
        self.elapsed_s = 0.0

    def submit_nowait(self) -> bool:
        self.out = self.journal.take_batch()
        if self.out is None:
            return False
        self.batches += 1
        self.entries.append(self.out.entries)
        if not self.held:
            self.finish()
        return True

    def finish(self) -> None:
        if self.out is not None:
            os.eventfd_write(self.fileno, 1)

    def complete_nowait(self) -> Completed | None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fileno)
            out, self.out = self.out, None
            assert out is not None
            states, notes = self.journal.release(out)
            return Completed(1, out.next_seq, out.entries, states, notes, self.elapsed_s)
        return None


class Table:
    """Gate and door in one: what is routed where, and what was declined."""

    def __init__(self) -> None:
        self.routes: dict[bytes, tuple[int, int, int, bytes] | int | None] = {
            b"T/json/d": (PayloadKind.JSON, 1, 1, b"")
        }
        self.http: tuple[int, int] | int = (1, 1)
        self.allowed = True
        self.waits_s = 7
        self.asked = 0
        self.packets: list[bytes] = []
        self.closed: list[int] = []
        self.malformed: list[str] = []
        self.timed_out: list[int] = []
        self.drained: list[int] = []
        self.given_back = 0
        self.reactor: Reactor

    def route_mqtt(
        self, connection: int, topic: bytes, at_us: int
    ) -> tuple[int, int, int, bytes] | int | None:
        self.asked += 1
        return self.routes.get(topic)

    def route_http(
        self, token: bytes | None, device: bytes | None, tag: bytes, now: float, at_us: int
    ) -> tuple[int, int] | int:
        self.asked += 1
        return self.http if token == b"t" else Refusal.AUTH_REQUIRED

    def allow(self, device: int, now: float) -> bool:
        return self.allowed

    def retry_s(self) -> int:
        return self.waits_s

    def give_back(self, device: int) -> None:
        self.given_back += 1

    def on_packet(self, connection: int, frame: bytes, now: float, at_us: int) -> None:
        self.packets.append(frame)
        if frame[0] == 0x10:
            self.reactor.send(connection, b"\x20\x02\x00\x00")
            self.reactor.admit(connection)
            self.reactor.set_keepalive(connection, 90)
        elif frame[0] == 0xE0:
            self.reactor.close(connection)

    def on_malformed(self, connection: int, reason: str) -> None:
        self.malformed.append(reason)

    def on_timeout(self, connection: int) -> None:
        self.timed_out.append(connection)

    def on_writable(self, connection: int, at_us: int) -> None:
        self.drained.append(connection)

    def on_closed(self, connection: int, at_us: int) -> None:
        self.closed.append(connection)


class House:
    """A reactor with its doors on loopback."""

    def __init__(self, options: Options = Options(rate_limited=False), rows: int = 1024) -> None:  # noqa: B008
        self.journal = Journal(Ring(rows, 4096, 1 << 16), Schema(), Limits(), 70_000)
        self.commits = HeldCommits(self.journal)
        self.table = Table()
        self.handed: list[tuple[socket.socket, bytes]] = []
        self.now = 100.0
        self.reactor = Reactor(
            self.journal,
            self.commits,
            self.table,
            self.table,
            lambda *moved: self.handed.append(moved),
            options,
            self.now,
        )
        self.table.reactor = self.reactor
        replies = [(b"HTTP/1.1 4%02d\r\n\r\n" % i,) * 2 for i in range(len(Refusal) + 1)]
        replies[0] = OK, CLOSING_OK
        replies[Refusal.TOO_MANY_REQUESTS] = (b"HTTP/1.1 429 in %d\r\n\r\n",) * 2
        self.reactor.set_http_replies(replies)
        self.listeners = {}
        for speaks in ("mqtt", "http"):
            listener = socket.create_server(("127.0.0.1", 0))
            listener.setblocking(False)
            self.listeners[speaks] = listener
            self.reactor.listen(listener.fileno(), speaks)
        self.clients: list[socket.socket] = []

    def client(self, speaks: str) -> socket.socket:
        client = socket.create_connection(self.listeners[speaks].getsockname())
        client.settimeout(5)
        self.clients.append(client)
        return client

    def mqtt(self) -> socket.socket:
        client = self.client("mqtt")
        client.sendall(CONNECT)
        assert self.read(client, 4) == b"\x20\x02\x00\x00"
        return client

    def turn(self) -> None:
        self.reactor.turn(self.now, int(self.now * 1e6))

    def until(self, condition: Callable[[], Any]) -> None:
        limit = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < limit, "the reactor never got there"
            self.turn()

    def read(self, client: socket.socket, size: int) -> bytes:
        """Turn until the client has that many bytes, or the end of the stream."""
        client.setblocking(False)
        got = b""

        def enough() -> bool:
            nonlocal got
            with contextlib.suppress(BlockingIOError):
                piece = client.recv(size - len(got))
                got += piece
                return not piece or len(got) == size
            return False

        self.until(enough)
        client.setblocking(True)
        return got

    def is_silent(self, client: socket.socket) -> bool:
        for _ in range(20):
            self.turn()
        client.setblocking(False)
        try:
            return client.recv(1, socket.MSG_PEEK) is None
        except BlockingIOError:
            return True
        finally:
            client.setblocking(True)

    def is_closed(self, client: socket.socket) -> bool:
        try:
            return self.read(client, 1) == b""
        except ConnectionResetError:
            return True

    @property
    def rows(self) -> int:
        return self.journal.ring.written

    def close(self) -> None:
        self.reactor.close_all()
        for thing in (*self.clients, *self.listeners.values(), *(moved for moved, _ in self.handed)):
            thing.close()
        os.close(self.commits.fileno)


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


def test_a_puback_leaves_only_after_the_commit(house: House) -> None:
    client = house.mqtt()
    house.commits.held = True
    client.sendall(publish(b"1"))
    house.until(lambda: house.commits.out)
    assert house.is_silent(client)
    house.commits.finish()
    assert house.read(client, 4) == b"\x40\x02\x00\x01"
    assert house.journal.ring.durable == 1


def test_replies_keep_their_order_behind_a_waiting_one(house: House) -> None:
    client = house.mqtt()
    house.commits.held = True
    client.sendall(publish(b"1", packet_id=7) + b"\xc0\x00" + publish(b"2", packet_id=8))
    house.until(lambda: house.commits.out)
    client.sendall(b"\xc0\x00")
    assert house.is_silent(client)
    house.commits.held = False
    house.commits.finish()
    assert house.read(client, 12) == b"\x40\x02\x00\x07\xd0\x00\x40\x02\x00\x08\xd0\x00"


def test_what_was_taken_together_is_committed_together(house: House) -> None:
    clients = [house.mqtt() for _ in range(5)]
    before = house.commits.batches
    for client in clients:
        client.sendall(b"".join(publish(b"%d" % i, packet_id=i) for i in range(1, 11)))
    time.sleep(0.01)
    house.until(lambda: house.journal.ring.durable == 50)
    assert house.commits.batches - before <= 5


@pytest.mark.parametrize(("elapsed_s", "entries"), [(0.0001, [1, 2]), (0.1, [1, 1, 1])], ids=["fast", "slow"])
def test_a_fast_disk_gets_larger_batches_and_a_slow_one_never_idles(
    house: House, elapsed_s: float, entries: list[int]
) -> None:
    clients = [house.mqtt() for _ in range(3)]
    house.commits.held, house.commits.elapsed_s = True, elapsed_s
    del house.commits.entries[:]
    for count, client in enumerate(clients[:2]):
        client.sendall(publish(b"1"))
        house.until(lambda count=count: house.rows == count + 1)
    clients[2].sendall(publish(b"1"))
    time.sleep(0.01)
    house.commits.held = False
    house.commits.finish()
    house.until(lambda: house.journal.ring.durable == 3)
    assert house.commits.entries == entries


def test_connect_and_publish_in_one_segment_are_one_after_the_other(house: House) -> None:
    client = house.client("mqtt")
    client.sendall(CONNECT + publish(b"5"))
    assert house.read(client, 8) == b"\x20\x02\x00\x00\x40\x02\x00\x01"
    assert house.rows == 1


@pytest.mark.parametrize("step", [1, 3])
def test_packets_may_come_in_pieces(house: House, step: int) -> None:
    client = house.mqtt()
    data = publish(b'{"a":1}', packet_id=None) + publish(b"2", packet_id=9) + b"\xc0\x00"
    for at in range(0, len(data), step):
        client.sendall(data[at : at + step])
        house.turn()
    assert house.read(client, 6) == b"\x40\x02\x00\x09\xd0\x00"
    assert house.rows == 2


def test_the_last_words_before_a_close_are_heard(house: House) -> None:
    client = house.mqtt()
    client.sendall(publish(b"1", packet_id=None) + publish(b"2") + b"\xe0\x00")
    client.close()
    house.until(lambda: house.table.closed)
    assert house.rows == 2


def test_the_last_words_before_a_reset_are_heard(house: House) -> None:
    client = house.mqtt()
    client.sendall(publish(b"1"))
    assert house.read(client, 4)
    client.sendall(publish(b"2") + publish(b"3", packet_id=None))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    house.until(lambda: house.table.closed)
    assert house.rows == 3


def test_a_client_with_unread_replies_may_go(house: House) -> None:
    client = house.mqtt()
    house.commits.held = True
    client.sendall(publish(b"1"))
    house.until(lambda: house.commits.out)
    client.sendall(publish(b"2", packet_id=None))
    client.close()
    house.turn()
    house.commits.held = False
    house.commits.finish()
    house.until(lambda: house.table.closed)
    house.until(lambda: house.journal.ring.durable == 2)


def test_a_refused_publish_is_acknowledged_and_counted(house: House) -> None:
    house.table.routes[b"T/json/x"] = int(Refusal.NO_MAPPED_CH)
    client = house.mqtt()
    client.sendall(publish(b"1", b"T/json/x", 3) + publish(b"no json", packet_id=4))
    assert house.read(client, 8) == b"\x40\x02\x00\x03\x40\x02\x00\x04"
    refusals = house.reactor.statistics().mqtt_refusals
    assert (refusals["NO_MAPPED_CH"], refusals["BAD_JSON_FORMAT"], house.rows) == (1, 1, 0)


def test_a_route_is_looked_up_once_until_the_registry_changes(house: House) -> None:
    client = house.mqtt()
    for i in range(1, 4):
        client.sendall(publish(b"1", packet_id=i))
        assert house.read(client, 4)
    assert house.table.asked == 1
    house.table.routes[b"T/json/d"] = int(Refusal.DEVICE_DISABLED)
    house.reactor.invalidate_routes()
    client.sendall(publish(b"1"))
    assert house.read(client, 4)
    assert (house.table.asked, house.rows) == (2, 3)


def test_a_tag_is_cut_from_the_topic(house: House) -> None:
    house.table.routes[b"T/json/d/north/"] = (PayloadKind.JSON, 1, 1, b"north")
    client = house.mqtt()
    for i in range(1, 3):
        client.sendall(publish(b"1", b"T/json/d/north/", i))
        assert house.read(client, 4)
    assert [tag.name for tag in house.journal.schema.tags_of(1)] == ["north"]


@pytest.mark.parametrize(
    "frame",
    [
        publish(b"1", packet_id=0),
        b"\x34" + publish(b"1")[1:],
        b"\x33" + publish(b"1")[1:],
        b"\x38" + publish(b"1", packet_id=None)[1:],
        publish(b"1", b""),
        b"\x32\x03\x00\x09T",
        b"\x30\x01\x00",
        b"\xc1\x00",
        b"\x82\x00",
    ],
)
def test_what_the_lane_does_not_take_goes_to_the_door_whole(house: House, frame: bytes) -> None:
    client = house.mqtt()
    client.sendall(frame + b"\xc0\x00")
    assert house.read(client, 2) == b"\xd0\x00"
    assert house.table.packets[1:] == [frame]
    assert house.rows == 0


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff\x7f", b"\xff\xff\xff\x7f", b"\x80\x80\x40"])
def test_a_packet_that_announces_too_much_closes_its_connection_only(house: House, length: bytes) -> None:
    honest, hostile = house.mqtt(), house.mqtt()
    hostile.sendall(b"\x30" + length + b"x" * 50)
    assert house.is_closed(hostile)
    honest.sendall(publish(b"1"))
    assert house.read(honest, 4) == b"\x40\x02\x00\x01"
    assert len(house.table.malformed) == 1


def test_nobody_publishes_before_connect(house: House) -> None:
    client = house.client("mqtt")
    client.sendall(publish(b"1")[:1])
    assert house.is_closed(client)
    assert (house.table.packets, house.table.malformed) == ([], ["the first packet"])
    assert house.rows == 0


def test_silence_beyond_the_keepalive_ends_a_connection(house: House) -> None:
    client, other = house.mqtt(), house.mqtt()
    house.now += 89
    other.sendall(b"\xc0\x00")
    assert house.read(other, 2)
    house.now += 2
    house.reactor.tick(house.now, 0)
    assert house.is_closed(client)
    other.sendall(b"\xc0\x00")
    assert house.read(other, 2) == b"\xd0\x00"


def test_a_connection_that_never_says_connect_is_ended(house: House) -> None:
    client = house.client("mqtt")
    house.until(lambda: house.reactor.statistics().mqtt_connections)
    house.now += 11
    house.reactor.tick(house.now, 0)
    assert house.is_closed(client)


def test_a_connect_that_drips_has_no_more_time_than_one_that_does_not_come(house: House) -> None:
    client = house.client("mqtt")
    house.until(lambda: house.reactor.statistics().mqtt_connections)
    for begin in (0, 4):
        house.now += 4
        client.sendall(CONNECT[begin : begin + 4])
        assert house.is_silent(client)
        house.reactor.tick(house.now, 0)
    house.now += 4
    house.reactor.tick(house.now, 0)
    assert house.is_closed(client)


def test_the_keepalive_begins_with_connect(house: House) -> None:
    client = house.client("mqtt")
    house.until(lambda: house.reactor.statistics().mqtt_connections)
    house.now += 9
    client.sendall(CONNECT)
    assert house.read(client, 4) == b"\x20\x02\x00\x00"
    house.now += 89
    house.reactor.tick(house.now, 0)
    client.sendall(b"\xc0\x00")
    assert house.read(client, 2) == b"\xd0\x00"


def test_a_full_ring_stops_reading_and_loses_nothing() -> None:
    house = House(rows=8)
    client, other = house.mqtt(), house.mqtt()
    client.sendall(b"".join(publish(b"%d" % i, packet_id=i) for i in range(1, 21)))
    house.until(lambda: house.reactor.is_full)
    other.sendall(publish(b"100"))
    assert house.is_silent(other)
    answers = b""
    while len(answers) < 80:
        house.until(lambda: house.journal.ring.durable == house.rows)
        house.journal.ring.mark_sealed(house.journal.ring.durable)
        house.reactor.kick(house.now, 0)
        answers += house.read(client, min(8, 80 - len(answers)))
    assert answers == b"".join(b"\x40\x02" + struct.pack(">H", i) for i in range(1, 21))
    house.journal.ring.mark_sealed(house.journal.ring.durable)
    house.reactor.kick(house.now, 0)
    assert house.read(other, 4) == b"\x40\x02\x00\x01"
    assert house.rows == 21
    house.close()


def test_a_post_is_answered_after_the_commit(house: House) -> None:
    client = house.client("http")
    house.commits.held = True
    client.sendall(post(b'{"a":1}'))
    house.until(lambda: house.commits.out)
    assert house.is_silent(client)
    house.commits.finish()
    assert house.read(client, len(OK)) == OK


def test_posts_may_be_pipelined_and_followed_by_an_empty_line(house: House) -> None:
    client = house.client("http")
    client.sendall(
        post(b"1") + b"\r\n" + post(b"v=2", path="/post_v1") + post(b"3", "X-TAGNAME: n", "Connection: close")
    )
    assert house.read(client, 500) == OK + OK + CLOSING_OK
    assert house.rows == 3


@pytest.mark.parametrize("step", [1, 7])
def test_a_post_may_come_in_pieces(house: House, step: int) -> None:
    client = house.client("http")
    data = post(b'{"a":1}')
    for at in range(0, len(data), step):
        client.sendall(data[at : at + step])
        house.turn()
    assert house.read(client, len(OK)) == OK


def test_what_comes_behind_the_last_post_does_not_take_its_answer_away(house: House) -> None:
    client = house.client("http")
    house.commits.held = True
    client.sendall(post(b"1", "Connection: close"))
    house.until(lambda: house.commits.out)
    client.sendall(b"\r\n")
    house.commits.finish()
    assert house.read(client, 500) == CLOSING_OK
    assert client.recv(1) == b""


def test_a_half_closed_client_still_gets_its_answer(house: House) -> None:
    client = house.client("http")
    client.sendall(post(b"1"))
    client.shutdown(socket.SHUT_WR)
    assert house.read(client, 500) == OK


def test_refusals_have_their_replies(house: House) -> None:
    client = house.client("http")
    house.table.http = int(Refusal.NO_MAPPED_CH)
    client.sendall(post(b"1"))
    expected = b"HTTP/1.1 4%02d\r\n\r\n" % Refusal.NO_MAPPED_CH
    assert house.read(client, len(expected)) == expected
    house.table.http = (1, 1)
    client.sendall(post(b"{"))
    expected = b"HTTP/1.1 4%02d\r\n\r\n" % Refusal.BAD_JSON_FORMAT
    assert house.read(client, len(expected)) == expected


def test_the_rate_limit_is_asked_for_every_post() -> None:
    house = House(Options(rate_limited=True))
    client = house.client("http")
    client.sendall(post(b"1"))
    assert house.read(client, len(OK)) == OK
    house.table.allowed = False
    client.sendall(post(b"1"))
    expected = b"HTTP/1.1 429 in 7\r\n\r\n"
    assert house.read(client, len(expected)) == expected
    assert house.rows == 1
    house.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v2/user HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01",
        post(b"1", "Expect: 100-continue"),
        post(b"1", "Content-Length: 1"),
        post(b"1", "Transfer-Encoding: chunked"),
        post(b"1", "X-DEVICEID: e"),
        post(b"1", "Folded: a", " b"),
        post(b"1", path="/post_v2/?x=1"),
        b"POST /post_v2/ HTTP/1.0\r\n",
        b"POST /post_v2/ HTTP/1.1\nHost: x\n\n",
        b"POST /post_v2/ HTTP/1.1\r\nHost : x\r\n",
        b"POST /post_v2/ HTTP/1.1\r\nContent-Length: 1\r\n\r\n1",
        b"POST /post_v2/ HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 5000,
    ],
)
def test_what_is_not_a_plain_post_moves_to_the_http_server_unread(house: House, request_bytes: bytes) -> None:
    client = house.client("http")
    client.sendall(post(b"1") + request_bytes)
    house.until(lambda: house.handed)
    moved, received = house.handed[0]
    assert received == request_bytes[: len(received)]
    assert client.recv(len(OK)) == OK
    rest = b""
    while len(received + rest) < len(request_bytes):
        rest += moved.recv(65536)
    assert received + rest == request_bytes
    assert house.rows == 1


def test_half_a_request_that_does_not_go_on_moves_to_the_http_server(house: House) -> None:
    client = house.client("http")
    client.sendall(b"POST /post_v2/ HTTP/1.1\r\nHost")
    house.until(lambda: house.reactor.statistics().input_bytes)
    house.now += 21
    house.reactor.tick(house.now, 0)
    assert house.handed[0][1] == b"POST /post_v2/ HTTP/1.1\r\nHost"


def test_a_client_that_never_reads_is_let_go() -> None:
    house = House(Options(rate_limited=False, reply_bytes_max=100_000))
    client, honest = house.mqtt(), house.mqtt()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    for _ in range(3000):
        with contextlib.suppress(BlockingIOError, ConnectionError):
            client.send(b"\xc0\x00" * 10_000)
        house.turn()
        if house.table.closed or house.reactor.statistics().output_bytes:
            break
    honest.sendall(publish(b"1"))
    assert house.read(honest, 4) == b"\x40\x02\x00\x01"
    assert house.reactor.statistics().output_bytes <= 100_000
    house.close()


def test_connections_beyond_the_limit_are_refused_and_counted() -> None:
    house = House(Options(mqtt_connections_max=2, rate_limited=False))
    clients = [house.mqtt(), house.mqtt()]
    assert house.is_closed(house.client("mqtt"))
    assert house.reactor.statistics().refused_connections == 1
    clients[0].close()
    house.until(lambda: house.table.closed)
    house.mqtt()
    house.close()


def test_draining_answers_what_was_taken_and_takes_nothing_more(house: House) -> None:
    client = house.mqtt()
    house.commits.held = True
    client.sendall(publish(b"1"))
    house.until(lambda: house.commits.out)
    house.reactor.drain()
    client.sendall(publish(b"2"))
    house.commits.held = False
    house.commits.finish()
    assert house.read(client, 4) == b"\x40\x02\x00\x01"
    assert house.is_silent(client)
    assert (house.rows, house.reactor.replies_waiting) == (1, 0)
