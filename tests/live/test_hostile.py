"""A hostile afternoon: crowds on both ports, honest clients between them, and what it costs the daemon."""

import contextlib
import json
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.live.honest import EVERY_KIND, Honest
from tests.twins.mqtt_packets import connect

CONNECTIONS = 3_000  # of each crowd
CROWD_S = 60
# The slowest acknowledgement that an honest client may see, besides the disk's own time: some disks take a nap now and
# then. Most come within a few milliseconds.
PROMPT_S = 3.0
READINGS = 100  # that each honest client has at least
# What both crowds together may add to the daemon's memory at its height: 16 MiB of incomplete packets (the limit set
# below), the same again for what the allocator keeps of them, and the connections' own state.
GROWTH_BYTES_MAX = 64 << 20
SHORT_S = "2"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(
        tmp_path_factory.mktemp("hostile") / "data",
        THINGSCALE_LIMITS_CONNECT_TIMEOUT_S=SHORT_S,
        THINGSCALE_LIMITS_PARTIAL_TIMEOUT_S=SHORT_S,
        THINGSCALE_LIMITS_HTTP_IDLE_S=SHORT_S,
        THINGSCALE_LIMITS_INPUT_BYTES_MAX=str(16 << 20),
        THINGSCALE_STORAGE_RING_TEXT_BYTES=str(16 << 20),
    ) as daemon:
        daemon.add_user()
        yield daemon


def memory(daemon: Daemon, which: str) -> int:
    """VmRSS or VmHWM (its height so far) in bytes."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    found = re.search(rf"{which}:\s+([0-9]+) kB", status)
    assert found is not None
    return int(found[1]) << 10


def sockets(daemon: Daemon) -> int:
    count = 0
    for descriptor in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            count += descriptor.readlink().name.startswith("socket:")
    return count


def crowd(daemon: Daemon, speaks: str, user: dict[str, str]) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "tests.live.hostility",
        speaks,
        str(daemon.port(speaks)),
        "1",
        str(CONNECTIONS),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps(user))
    process.stdin.close()
    return process


def test_a_hostile_afternoon(daemon: Daemon) -> None:
    honest_user = dict(daemon.user)
    hostile_user = {**daemon.add_user(), "device": "crowd"}
    daemon.wait_until(lambda: daemon.request("GET", "/v2/user")[0] == 200)
    daemon.add_device("crowd", 1)
    daemon.user = honest_user
    clients = [Honest(daemon, number, talk) for number, talk in enumerate(EVERY_KIND, 10)]
    for client in clients:
        assert client.stored() == []  # and DuckDB has all its threads and files
    before_bytes, before_sockets = memory(daemon, "VmRSS"), sockets(daemon)

    for client in clients:
        client.start()
    crowds = [crowd(daemon, speaks, hostile_user) for speaks in ("mqtt", "http")]
    done = []
    for process in crowds:
        assert process.stdout is not None
        done.append(json.loads(process.stdout.read() or "{}"))
        assert process.wait(CROWD_S) == 0
        process.stdout.close()
    daemon.wait_until(
        lambda: all(client.acknowledged >= READINGS or client.problem for client in clients), 30
    )
    for client in clients:
        client.stop()

    for counts in done:
        assert counts["connections"] >= CONNECTIONS
        assert counts["announcements refused"] > 50
        assert counts["endless heads refused"] > 0
        assert "endless heads taken" not in counts
    assert [(client.name, client.problem) for client in clients if client.problem] == []
    disk_s = daemon.metric("thingscale_commit_seconds_sum")
    for client in clients:
        assert client.slowest_s < PROMPT_S + disk_s, client.name
        assert client.stored() == list(range(client.acknowledged)), client.name
    daemon.wait_until(lambda: sockets(daemon) <= before_sockets)
    assert daemon.metric('thingscale_connections{protocol="mqtt"}') == 0
    assert memory(daemon, "VmHWM") - before_bytes < GROWTH_BYTES_MAX
    log = daemon.log.read_text()
    assert "Traceback" not in log
    assert not re.search(r"(?i)error|critical", log)


HEAD = b"POST /post_v2/ HTTP/1.1\r\nHost: h\r\n"
SAYS_408 = b"HTTP/1.1 408 "
# Who begins something and then stays silent: what is sent, and what the daemon says before it hangs up.
HALF_OPEN = {
    "mqtt": (
        (b"", b""),
        (b"\x10", b""),
        (b"\x10\x3c\x00\x04MQTT", b""),
        (b"\x10\xff\xff\x01" + b"x" * 20_000, b""),
    ),
    "http": (
        (b"", b""),
        (b"P", SAYS_408),
        (HEAD, SAYS_408),
        (HEAD + b"Content-Length: 60000\r\n\r\n" + b"1" * 2_000, SAYS_408),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n", SAYS_408),
        (b"GET /healthz HTTP/1.1\r\n", SAYS_408),
        (b"PUT /v2/user HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n", SAYS_408),
    ),
}
HALF_OPEN_EACH = 40
LET_GO_S = 30.0  # the short time-outs, once in the lane and once in the HTTP server, and the sweeps between


def test_half_open_clients_are_let_go_with_a_word(daemon: Daemon) -> None:
    before = sockets(daemon)
    with contextlib.ExitStack() as clients:
        kinds = {
            clients.enter_context(socket.create_connection(("127.0.0.1", daemon.port(speaks)), 5)): kind
            for speaks in HALF_OPEN
            for kind in HALF_OPEN[speaks] * HALF_OPEN_EACH
        }
        for client, (sent, _) in kinds.items():
            client.sendall(sent)
        assert sockets(daemon) >= before + len(kinds) // 2
        for client, received in received_until_closed(list(kinds), LET_GO_S):
            sent, expected = kinds[client]
            assert received.startswith(expected), (sent[:40], received)
            assert bool(received) is bool(expected), (sent[:40], received)
    daemon.wait_until(lambda: sockets(daemon) <= before)


def received_until_closed(
    clients: list[socket.socket], limit_s: float
) -> Iterator[tuple[socket.socket, bytes]]:
    """Each client with all that it received, as soon as the daemon has closed it. Fails after the limit."""
    received = dict.fromkeys(clients, b"")
    end = time.monotonic() + limit_s
    while received:
        ready, _, _ = select.select(list(received), [], [], max(0.0, end - time.monotonic()))
        assert ready, f"{len(received)} clients are still held"
        for client in ready:
            data = client.recv(65_536)
            received[client] += data
            if not data:
                yield client, received.pop(client)


@pytest.mark.parametrize("speaks", ["mqtt", "http"])
def test_who_never_reads_the_answers_is_not_read_either(daemon: Daemon, speaks: str) -> None:
    """Questions without end: the daemon must stop taking them long before its memory is full of answers."""
    before_bytes = memory(daemon, "VmRSS")
    user = daemon.user
    hello = connect(b"deaf", user["user_id"].encode(), user["device_token"].encode())
    post = HEAD + b"Content-Length: 1\r\n\r\n1"
    question = b"\xc0\x00" * 30_000 if speaks == "mqtt" else post * 1_000
    with socket.create_connection(("127.0.0.1", daemon.port(speaks)), 5) as client:
        client.settimeout(1.0)
        client.sendall(hello if speaks == "mqtt" else b"")
        try:
            for _ in range(4_000):
                client.sendall(question)
        except (TimeoutError, ConnectionError):
            pass
        else:
            pytest.fail("everything was taken")
        assert daemon.request("GET", "/healthz")[0] == 200
        assert memory(daemon, "VmRSS") - before_bytes < 16 << 20
