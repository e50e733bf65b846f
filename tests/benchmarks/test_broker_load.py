"""The broker's load generator: what it counts arrived, and a broker that does wrong is found out."""

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.broker_traffic import MOSQUITTO_OPTIONS
from benchmarks.programs import program, tls_missing
from benchmarks.servers import PEERS, Place
from thingscale.devcert import make_development_files

Packets = list[bytes]


def load(port: int, *options: str) -> "subprocess.CompletedProcess[bytes]":
    command = [str(program("broker_load")), "--port", str(port), *options]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


@contextlib.contextmanager
def mosquitto(directory: Path, *, tls: bool = False) -> Iterator[tuple[int, list[str]]]:
    """A running mosquitto: its port, and what a client has to be told of TLS."""
    if PEERS["mosquitto"].missing():
        pytest.skip(PEERS["mosquitto"].missing())
    certificate = make_development_files(directory / "tls", ["localhost"], force=False) if tls else None
    place = Place(None, directory, {}, 0, certificate, mosquitto_options=MOSQUITTO_OPTIONS)
    with PEERS["mosquitto"].open(place) as server:
        yield server.mqtt_port, ["--tls", str(server.ca)] if server.ca else []


@pytest.mark.parametrize("qos", ["0", "1", "2"])
@pytest.mark.parametrize(
    ("options", "copies"),
    [
        (["--pattern", "pair", "--publishers", "7", "--subscribers", "7", "--window", "10"], 1),
        (["--pattern", "fanout", "--publishers", "1", "--subscribers", "9", "--window", "3"], 9),
        (["--pattern", "shared", "--publishers", "20", "--subscribers", "3", "--window", "1"], 1),
    ],
    ids=["pair", "fanout", "shared"],
)
def test_every_delivery_is_counted_once(tmp_path: Path, options: list[str], copies: int, qos: str) -> None:
    with mosquitto(tmp_path) as (port, _):
        done = load(port, *options, "--qos", qos, "--messages", "3001")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["sent"] == result["acknowledged"] == 3001
    assert result["messages"] == result["delivered"] == 3001 * copies
    assert result["lost"] == result["doubled"] == 0


@pytest.mark.skipif(bool(tls_missing()), reason=tls_missing())
def test_the_same_holds_in_tls(tmp_path: Path) -> None:
    with mosquitto(tmp_path, tls=True) as (port, tls):
        done = load(
            port, *tls, "--qos", "2", "--messages", "2000", "--payload-bytes", "4000", "--window", "16"
        )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["sent"], result["delivered"], result["lost"], result["doubled"]) == (2000, 2000, 0, 0)


@pytest.mark.skipif(bool(tls_missing()), reason=tls_missing())
def test_a_certificate_of_another_ca_is_refused(tmp_path: Path) -> None:
    other = make_development_files(tmp_path / "other", ["localhost"], force=False)
    with mosquitto(tmp_path, tls=True) as (port, _):
        done = load(port, "--tls", str(other.ca))
    assert done.returncode == 1
    assert b"certificate verify failed" in done.stderr


def test_an_open_loop_publishes_at_its_rate(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as (port, _):
        done = load(port, "--rate", "500", "--window", "100", "--duration", "0.5", "--warmup", "0")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert 200 <= result["sent"] == result["delivered"] <= 260


class RelayingBroker:
    """Passes what one publisher sends to one subscriber, through `change`: all PUBLISH packets in, those out.

    Enough of MQTT for that: whole packets below 128 bytes, every acknowledgement at once.
    """

    def __init__(self, messages: int, change: Callable[[Packets], Packets]) -> None:
        self.messages, self.change = messages, change
        self.subscriber: socket.socket | None = None
        self.taken: Packets = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def accept(self) -> None:
        for _ in range(2):
            client, _ = self.listener.accept()
            self.threads.append(threading.Thread(target=self.serve, args=(client,)))
            self.threads[-1].start()

    def serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), client.makefile("rb") as stream:
            while head := stream.read(2):
                self.packet(client, head + stream.read(head[1]))

    def packet(self, client: socket.socket, packet: bytes) -> None:
        match packet[0] >> 4:
            case 1:
                client.sendall(bytes.fromhex("20 02 00 00"))
            case 8:
                self.subscriber = client
                client.sendall(bytes([0x90, 3, *packet[2:4], packet[-1]]))
            case 6:
                client.sendall(bytes([0x70, 2, *packet[2:4]]))
            case 5:
                client.sendall(bytes([0x62, 2, *packet[2:4]]))
            case 3:
                self.publish(client, packet)

    def publish(self, client: socket.socket, packet: bytes) -> None:
        qos, end_of_topic = packet[0] >> 1 & 3, 4 + packet[3]
        if qos:
            client.sendall(bytes([(0, 0x40, 0x50)[qos], 2, *packet[end_of_topic : end_of_topic + 2]]))
        self.taken.append(packet)
        if len(self.taken) == self.messages and self.subscriber is not None:
            self.subscriber.sendall(b"".join(self.change(self.taken)))

    def close(self) -> None:
        for thread in self.threads:
            thread.join(10)
        self.listener.close()


def through(change: Callable[[Packets], Packets], qos: int) -> "subprocess.CompletedProcess[bytes]":
    broker = RelayingBroker(4, change)
    try:
        one = ["--publishers", "1", "--subscribers", "1", "--window", "4", "--messages", "4"]
        return load(broker.port, *one, "--qos", str(qos), "--duration", "0.1")
    finally:
        broker.close()


def again_with_another_id(packets: Packets) -> Packets:
    """The second message twice, as if it were two."""
    twin = bytearray(packets[1])
    twin[4 + twin[3] + 1] = 99
    return [*packets[:2], bytes(twin), *packets[2:]]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_broker_that_does_right_passes(qos: int) -> None:
    done = through(lambda packets: packets, qos)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["delivered"] == 4


@pytest.mark.parametrize(
    ("qos", "change", "complaint"),
    [
        (1, lambda p: [p[0], *p[2:]], "message 2 of publisher 0 where 1 was due"),
        (2, lambda p: [p[0], *p[2:]], "message 2 of publisher 0 where 1 was due"),
        (1, lambda p: [p[1], p[0], *p[2:]], "message 1 of publisher 0 where 0 was due"),
        (0, lambda p: [p[0], *p], "1 messages of QoS 0 arrived twice"),
        (2, again_with_another_id, "1 messages of QoS 2 arrived twice"),
        (2, lambda p: [p[0], *p], "PUBREL for 1, which is not held"),
        (1, lambda p: [p[0][:-1] + b"y", *p[1:]], "not as it was sent"),
        (1, lambda p: [p[0].replace(b"bench/0", b"bench/1"), *p[1:]], "not as it was sent"),
        (0, lambda p: [bytes.fromhex("40 02 00 01"), *p], "an unexpected packet 40"),
        (1, lambda p: [bytes([0x30]) + p[0][1:]], "a bad PUBLISH 30"),
    ],
    ids=["lost 1", "lost 2", "disordered", "doubled 0", "doubled 2", "same id", "payload", "topic", "puback", "qos"],
)  # fmt: skip
def test_a_broker_that_does_wrong_is_found_out(
    qos: int, change: Callable[[Packets], Packets], complaint: str
) -> None:
    done = through(change, qos)
    assert done.returncode == 1
    assert complaint in done.stderr.decode()


def test_what_is_lost_at_qos_0_is_counted() -> None:
    done = through(lambda packets: [packets[0], *packets[2:]], 0)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["sent"], result["delivered"], result["lost"]) == (4, 3, 1)


def test_a_doubled_message_of_qos_1_is_counted() -> None:
    done = through(again_with_another_id, 1)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["doubled"] == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--pattern", "ring"], "expected pair, fanout or shared"),
        (["--pattern", "fanout", "--publishers", "2"], "one publisher"),
        (["--publishers", "2", "--subscribers", "3"], "as many publishers as subscribers"),
        (["--payload-bytes", "19"], "20 to 4096"),
        (["--qos", "3"], "expected 0, 1 or 2"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(options: list[str], complaint: str) -> None:
    done = load(1, *options)
    assert done.returncode == 1
    assert complaint in done.stderr.decode()
