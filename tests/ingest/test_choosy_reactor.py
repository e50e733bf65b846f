"""When there is no room for long, who brings no reading is still answered; who brings one waits, and loses nothing."""

import socket
import struct
from collections.abc import Iterator

import pytest

from ingest.reactor import Options
from tests.ingest.test_reactor import OK, House, post, publish

ROWS = 8


# Twice as many readings as there is room for, and what they are answered with.
READINGS = b"".join(publish(b"%d" % i, packet_id=i) for i in range(1, 2 * ROWS + 1))
ANSWERS = b"".join(b"\x40\x02" + struct.pack(">H", i) for i in range(1, 2 * ROWS + 1))


@pytest.fixture
def full() -> Iterator[tuple[House, socket.socket]]:
    """A house without room since more than a second, and who waits for it."""
    house = House(rows=ROWS)
    client = house.mqtt()
    client.sendall(READINGS)
    house.until(lambda: house.reactor.is_full)
    later(house)
    yield house, client
    house.close()


def later(house: House) -> None:
    house.now += 2
    house.reactor.tick(house.now, 0)


def make_room(house: House) -> None:
    house.until(lambda: house.journal.ring.durable == house.rows)
    house.journal.ring.mark_sealed(house.journal.ring.durable)
    house.reactor.kick(house.now, 0)


def test_a_moment_without_room_is_waited_out() -> None:
    house = House(rows=ROWS)
    client = house.mqtt()
    client.sendall(READINGS)
    house.until(lambda: house.reactor.is_full)
    house.reactor.tick(house.now, 0)
    assert house.reactor.is_full
    assert not house.reactor.is_choosy
    house.close()


def test_patience_begins_again_when_there_is_room() -> None:
    house = House(rows=ROWS)
    quiet, client = house.mqtt(), house.mqtt()
    client.sendall(READINGS)
    house.until(lambda: house.reactor.is_full)
    house.now += 200  # more than anybody's keepalive
    make_room(house)
    house.until(lambda: not house.reactor.is_full)
    house.reactor.tick(house.now, 0)
    quiet.sendall(b"\xc0\x00")
    assert house.read(quiet, 2) == b"\xd0\x00"
    house.now += 91
    house.reactor.tick(house.now, 0)
    assert house.is_closed(quiet)
    house.close()


def test_who_asks_something_else_is_answered(full: tuple[House, socket.socket]) -> None:
    house, _ = full
    assert house.reactor.is_choosy
    newcomer = house.mqtt()
    newcomer.sendall(b"\xc0\x00")
    assert house.read(newcomer, 2) == b"\xd0\x00"
    person = house.client("http")
    person.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
    house.until(lambda: house.handed)
    house.table.http = 4
    refused = house.client("http")
    refused.sendall(post(b"1"))
    assert house.read(refused, 1)


def test_who_brings_a_reading_waits_and_is_answered_when_there_is_room(
    full: tuple[House, socket.socket],
) -> None:
    house, first = full
    device, poster = house.mqtt(), house.client("http")
    device.sendall(publish(b"100") + b"\xc0\x00")
    poster.sendall(post(b"1"))
    assert house.is_silent(device)
    assert house.is_silent(poster)
    device.sendall(publish(b"101", packet_id=2))
    answers = b""
    while len(answers) < len(ANSWERS):
        make_room(house)
        answers += house.read(first, min(4 * ROWS, len(ANSWERS) - len(answers)))
    assert answers == ANSWERS
    make_room(house)
    assert house.read(device, 10) == b"\x40\x02\x00\x01\xd0\x00\x40\x02\x00\x02"
    assert house.read(poster, len(OK)) == OK
    make_room(house)
    assert not house.reactor.is_full
    assert not house.reactor.is_choosy
    assert house.rows == 2 * ROWS + 3
    device.sendall(publish(b"102", packet_id=3))
    assert house.read(device, 4) == b"\x40\x02\x00\x03"


def test_who_leaves_while_waiting_is_forgotten_and_the_others_are_not(
    full: tuple[House, socket.socket],
) -> None:
    house, first = full
    leaver, device = house.mqtt(), house.mqtt()
    leaver.sendall(publish(b"100"))
    assert house.is_silent(leaver)
    device.sendall(publish(b"101"))
    assert house.is_silent(device)
    leaver.close()
    for _ in range(4):
        make_room(house)
    assert house.read(first, len(ANSWERS)) == ANSWERS
    assert house.read(device, 4) == b"\x40\x02\x00\x01"
    assert not house.reactor.is_full


def test_a_drain_reads_nobody(full: tuple[House, socket.socket]) -> None:
    house, _ = full
    newcomer = house.mqtt()
    house.reactor.drain()
    newcomer.sendall(b"\xc0\x00")
    assert house.is_silent(newcomer)


def test_it_stops_reading_when_what_is_kept_takes_too_much_memory() -> None:
    house = House(Options(rate_limited=False, input_bytes_max=100_000), rows=ROWS)
    client = house.mqtt()
    client.sendall(READINGS)
    house.until(lambda: house.reactor.is_full)
    later(house)
    assert house.reactor.is_choosy
    large = house.mqtt()
    large.sendall(publish(b" " * 60_000 + b"1"))
    house.until(lambda: house.reactor.statistics().input_bytes > 60_000)
    later(house)
    assert house.reactor.is_full
    assert not house.reactor.is_choosy
    house.close()
