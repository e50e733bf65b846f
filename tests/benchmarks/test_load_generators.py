"""The load generators against the null server: what they count is what was sent and taken."""

import contextlib
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from benchmarks.programs import program

PROTOCOLS = {"mqtt": "publishes", "http": "requests"}


class NullServer:
    """A running null server; `counts` ends it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([program("null_server")], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())

    def port(self, protocol: str) -> int:
        return int(self.ready[protocol].rpartition(":")[2])

    def counts(self) -> dict[str, int]:
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=10)
        counts: dict[str, int] = json.loads(out)
        return counts


@pytest.fixture
def null_server() -> Iterator[NullServer]:
    server = NullServer()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


def load(protocol: str, port: int, *options: str) -> "subprocess.CompletedProcess[bytes]":
    command = [
        program(f"{protocol}_load"),
        "--port",
        str(port),
        "--duration",
        "0.1",
        "--warmup",
        "0.02",
        *options,
    ]
    return subprocess.run(command, capture_output=True, timeout=30, check=False)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "options",
    [
        ["--connections", "3", "--window", "1"],
        ["--connections", "20", "--window", "20"],
        ["--connections", "5", "--window", "7", "--payload-bytes", "40000"],
        ["--connections", "7", "--window", "3", "--payload", "form", "--payload-bytes", "200"],
        ["--connections", "2", "--window", "5", "--rate", "3000", "--payload", "number"],
    ],
    ids=" ".join,
)
def test_what_is_acknowledged_is_what_was_sent_and_what_the_server_took(
    null_server: NullServer, protocol: str, options: list[str]
) -> None:
    done = load(protocol, null_server.port(protocol), *options)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert 0 < result["messages"] <= result["acknowledged"] == result["sent"]
    assert null_server.counts()[PROTOCOLS[protocol]] == result["sent"]


@pytest.mark.parametrize("window", ["1", "7", "400"])
def test_qos_0_is_counted_exactly_by_its_pings(null_server: NullServer, window: str) -> None:
    done = load("mqtt", null_server.port("mqtt"), "--qos", "0", "--connections", "9", "--window", window)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["acknowledged"] == result["sent"] == null_server.counts()["publishes"]


@pytest.mark.parametrize("qos", ["0", "1"])
def test_a_given_number_of_messages_is_sent_exactly(null_server: NullServer, qos: str) -> None:
    options = ["--messages", "70001", "--connections", "11", "--window", "20", "--qos", qos]
    result = json.loads(load("mqtt", null_server.port("mqtt"), *options).stdout)
    assert result["messages"] == result["sent"] == null_server.counts()["publishes"] == 70_001


def test_an_open_loop_keeps_its_rate_and_its_latency_is_ordered(null_server: NullServer) -> None:
    options = ["--rate", "5000", "--connections", "10", "--window", "20", "--duration", "0.4"]
    result = json.loads(load("mqtt", null_server.port("mqtt"), *options).stdout)
    assert result["per_second"] == pytest.approx(5000, rel=0.1)
    latency = result["latency_us"]
    order = ["p50", "p90", "p99", "p999", "max"]
    assert sorted(order, key=lambda name: latency[name]) == order


def test_the_cpu_of_the_server_is_measured_over_the_same_window(null_server: NullServer) -> None:
    options = ["--server-pid", str(null_server.process.pid), "--connections", "50"]
    result = json.loads(load("mqtt", null_server.port("mqtt"), *options).stdout)
    assert 0 < result["server_cpu_s"] <= result["seconds"] * 1.1
    assert result["server_cpu_us_per_message"] == pytest.approx(
        result["server_cpu_s"] * 1e6 / result["messages"], rel=0.01
    )


def test_idle_connections_are_held_until_stdin_ends(null_server: NullServer) -> None:
    command = [
        program("mqtt_load"),
        "--port",
        str(null_server.port("mqtt")),
        "--idle",
        "--connections",
        "300",
    ]
    holder = subprocess.Popen(
        [*command, "--source-addresses", "3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert json.loads(holder.stdout.readline())["connections"] == 300
    holder.communicate(timeout=10)
    assert holder.returncode == 0
    assert null_server.counts()["connections"] == 300


@contextlib.contextmanager
def scripted_server(answer: bytes) -> Iterator[int]:
    """A server that answers whatever comes first with these bytes and then closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)
                client.shutdown(socket.SHUT_WR)
                with contextlib.suppress(OSError):
                    while client.recv(65536):
                        pass

        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


@pytest.mark.parametrize(
    ("protocol", "answer", "complaint"),
    [
        ("mqtt", bytes.fromhex("20 02 00 04"), "refused with return code 4"),
        ("mqtt", bytes.fromhex("20 02 00 00"), "closed"),
        ("mqtt", bytes.fromhex("20 02 00 00  40 02 00 02"), "PUBACK 2 where 1 was due"),
        ("mqtt", bytes.fromhex("20 02 00 00  40 02 00 01"), "a reply without a request"),
        ("mqtt", bytes.fromhex("20 02 00 00  a0 02 00 01"), "unexpected packet a0 02"),
        ("http", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "a reply other than 200"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n", "without Content-Length"),
        (
            "http",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK",
            "closes after a reply",
        ),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nOK", "closed"),
    ],
)
def test_a_reply_that_is_not_the_expected_one_ends_the_run(
    protocol: str, answer: bytes, complaint: str
) -> None:
    with scripted_server(answer) as port:
        done = load(protocol, port, "--connections", "1")
    assert done.returncode == 1
    assert complaint in done.stderr.decode()
