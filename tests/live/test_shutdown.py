"""How a daemon ends, and what is there when it begins again."""

import contextlib
import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.live.honest import (
    EVERY_KIND,
    Honest,
    http_chunked,
    http_keep_alive,
    http_padded,
    paho_qos_1,
    raw_mqtt,
)
from tests.twins.mqtt_packets import connect, packet, text

READINGS = 30  # that each client has before the end comes
STOP_S = 5.0  # for a daemon that has nothing to wait for
PROMPT_S = 5.0  # for a handful of questions
# How a client sees the end.
CUT = (OSError, http.client.HTTPException)


def started(daemon: Daemon, kinds: tuple[Callable[[Honest], None], ...]) -> list[Honest]:
    clients = [Honest(daemon, number, talk) for number, talk in enumerate(kinds, 10)]
    for client in clients:
        client.start()
    return clients


def wait_until_busy(daemon: Daemon, clients: list[Honest], readings: int = READINGS) -> None:
    """Every client has some more acknowledgements than now."""
    goal = {client: client.acknowledged + readings for client in clients}
    daemon.wait_until(
        lambda: all(client.acknowledged >= goal[client] or client.problem for client in clients), 30
    )
    assert [(client.name, client.problem) for client in clients if client.problem] == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_under_load_answers_what_it_stores_and_stores_what_it_answers(
    tmp_path: Path, how: signal.Signals
) -> None:
    with Daemon(tmp_path / "data") as daemon:
        daemon.add_user()
        clients = started(daemon, EVERY_KIND)
        wait_until_busy(daemon, clients)
        assert daemon.stop(how) == 0
        for client in clients:
            client.stop()
            assert isinstance(client.problem, CUT), (client.name, client.problem)
    assert "Traceback" not in daemon.log.read_text()
    with daemon:
        for client in clients:
            stored, acknowledged = client.stored(), client.acknowledged
            # QoS 2 stores with the first of its two acknowledgements.
            more = len(stored) == acknowledged + 1 and client.is_qos_2
            assert stored == list(range(acknowledged + more)), client.name


def test_a_second_daemon_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        daemon.add_user()
        clients = started(daemon, (http_keep_alive,))
        second = Daemon(daemon.data)
        second.log = tmp_path / "second.stderr"
        with pytest.raises(AssertionError, match=f"{daemon.data} is in use by another daemon"):
            second.start()
        assert second.process.wait(10) == 1
        assert second.process.communicate()[0] == ""
        assert f"pid {daemon.process.pid}" in second.log.read_text()
        assert "Traceback" not in second.log.read_text()
        wait_until_busy(daemon, clients)
        for client in clients:
            client.stop()
            assert client.stored() == list(range(client.acknowledged))


def test_clients_of_mqtt_5_are_told_that_the_daemon_stops(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon, contextlib.ExitStack() as open_clients:
        user = daemon.add_user()
        names = text(user["user_id"].encode()) + text(user["device_token"].encode())
        clients = []
        for level, properties in ((5, b"\0"), (4, b"")):
            client = socket.create_connection(("127.0.0.1", daemon.port("mqtt")), 5)
            open_clients.enter_context(client)
            head = b"\0\x04MQTT" + bytes([level]) + b"\xc2\0\x3c" + properties
            client.sendall(packet(0x10, head + text(b"client %d" % level) + names))
            clients.append((client, client.recv(2, socket.MSG_WAITALL)))
        for client, (first, size) in clients:
            assert first == 0x20
            client.recv(size, socket.MSG_WAITALL)
        assert daemon.stop() == 0
        heard = [client.recv(4_096) for client, _ in clients]
        assert (heard[0][0], heard[0][2]) == (0xE0, 0x8B)
        assert heard[1] == b""


def test_a_stop_does_not_wait_for_who_is_silent(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon, contextlib.ExitStack() as clients:
        user = daemon.add_user()
        hello = connect(b"silent", user["user_id"].encode(), user["device_token"].encode())
        post = b"POST /post_v2/ HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1"
        get = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
        for speaks, sent in (("mqtt", b""), ("mqtt", hello), ("mqtt", hello + b"\x32\x7f"), ("http", b""),
                             ("http", post), ("http", get), ("http", post[:30])):  # fmt: skip
            client = socket.create_connection(("127.0.0.1", daemon.port(speaks)), 5)
            clients.enter_context(client).sendall(sent)
        assert daemon.request("GET", "/healthz")[0] == 200  # so the others have been read, too
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < STOP_S


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 MiB in memory."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root, with the right to mount, can make a small disk")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that there is; the file is to be removed to give it back."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)) == 4096:
            pass
    return ballast


# More readings of 60 KB than the largest record holds: then there is no room in memory either.
WRITERS = 20


@pytest.mark.parametrize("is_killed", [False, True], ids=["room comes", "killed before room comes"])
def test_readings_wait_for_room_on_a_full_disk(small_disk: Path, is_killed: bool) -> None:
    data = small_disk / "data"
    with Daemon(
        data,
        THINGSCALE_STORAGE_SEGMENT_BYTES=str(2 << 20),
        THINGSCALE_STORAGE_BATCH_BYTES_MAX=str(1 << 20),
        THINGSCALE_STORAGE_SPARE_SEGMENTS="1",
    ) as daemon:
        daemon.add_user()
        clients = started(daemon, (*[http_padded] * WRITERS, http_chunked, raw_mqtt, paho_qos_1))
        wait_until_busy(daemon, clients, 5)
        ballast = fill(small_disk)
        daemon.wait_until(lambda: daemon.metric("thingscale_disk_full_total") > 0)
        daemon.wait_until(lambda: daemon.metric("thingscale_input_stalls_total") > 0)
        daemon.wait_until(lambda: "waiting, and trying again" in daemon.log.read_text())
        # Who only asks is answered as ever.
        acknowledged = {client: client.acknowledged for client in clients}
        began = time.monotonic()
        for client in clients:
            stored = client.stored()
            assert stored[: acknowledged[client]] == list(range(acknowledged[client])), client.name
        assert daemon.request("GET", "/healthz")[0] == 200
        # There may be a few bytes left in the registry's file.
        assert daemon.post("new", "1")[0] in (201, 503)
        assert time.monotonic() - began < PROMPT_S
        assert [(client.name, client.problem) for client in clients if client.problem] == []
        ballast.unlink()
        if is_killed:
            daemon.kill()
            for client in clients:
                client.stop()
            daemon.start()
        else:
            wait_until_busy(daemon, clients, 5)
            for client in clients:
                client.stop()
        for client in clients:
            stored = client.stored()
            assert stored[: client.acknowledged] == list(range(client.acknowledged)), client.name
            assert is_killed or len(stored) == client.acknowledged, client.name
    assert "Traceback" not in daemon.log.read_text()


def test_a_log_that_fills_its_disk_is_sealed_and_gives_the_room_back(small_disk: Path) -> None:
    data = small_disk / "data"
    with Daemon(data, THINGSCALE_STORAGE_SEGMENT_BYTES=str(4 << 20)) as daemon:
        daemon.add_user()
        clients = started(daemon, (http_padded,) * 4)
        # More than the whole disk holds, several times over; nobody makes room but the daemon itself.
        wait_until_busy(daemon, clients, 2 * (128 << 20) // 60_000 // len(clients))
        for client in clients:
            client.stop()
        assert daemon.metric("thingscale_seals_total") > 0
        daemon.restart()
        for client in clients:
            assert client.stored() == list(range(client.acknowledged)), client.name
    assert "Traceback" not in daemon.log.read_text()
