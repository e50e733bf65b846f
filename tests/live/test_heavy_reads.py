"""Heavy reads of a running daemon: whom they do not hold up, and what ends them."""

import http.client
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, workers

ROWS = 60_000
EVERYTHING = "/v2/stream/1?start=2020-01-01&end=2099-12-31"
NOTE = "x" * 200  # a reply is larger than what sockets hold


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(
        tmp_path / "data",
        THINGSCALE_QUERY_HEAVY_ROWS="1000",
        THINGSCALE_QUERY_CONCURRENT_MAX="1",
        THINGSCALE_LIMITS_HTTP_BODY_BYTES_MAX=str(64 << 20),
    ) as daemon:
        daemon.add_user()
        daemon.add_device("pump-7", 1)
        lines = (f"2024-05-02 {i // 3_600:02}:{i // 60 % 60:02}:{i % 60:02},{i},{NOTE}" for i in range(ROWS))
        body = "\n".join(["at,temp,note", *lines]).encode()
        status, reply, _ = daemon.request("POST", "/v2/stream/1", body, {"Content-Type": "text/csv"})
        assert status == 201, reply
        yield daemon


@contextmanager
def asking(daemon: Daemon, path: str) -> Iterator[http.client.HTTPResponse]:
    """A reply whose head has come; the client goes when this is left."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port("http"), timeout=60)
    connection.request("GET", path, headers={"X-APITOKEN": daemon.user["api_token"]})
    try:
        yield connection.getresponse()
    finally:
        connection.close()


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_who_does_not_read_holds_up_nobody_and_its_worker_ends_with_it(daemon: Daemon) -> None:
    with asking(daemon, EVERYTHING) as slow:
        assert slow.status == 200
        daemon.wait_until(lambda: len(workers(daemon)) == 1)
        # One heavy read computes at a time, and this one does not.
        with asking(daemon, EVERYTHING) as other:
            assert other.read().count(b'"_id"') == ROWS
        status, reply, _ = daemon.request("GET", "/v2/stream/1?start=2024-05-01&end=2024-05-01")
        assert (status, reply["stream"]) == (200, [])
        daemon.wait_until(lambda: len(workers(daemon)) == 1)
    daemon.wait_until(lambda: not workers(daemon))


def test_a_worker_that_is_killed_cuts_its_reply_and_nothing_else(daemon: Daemon) -> None:
    with asking(daemon, EVERYTHING) as reply:
        daemon.wait_until(lambda: workers(daemon))
        (victim,) = workers(daemon)
        os.kill(victim, signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            reply.read()
    with asking(daemon, EVERYTHING + "&format=csv") as reply:
        assert reply.read().count(b"\r\n") == ROWS + 1


def test_a_daemon_that_is_killed_leaves_no_worker(daemon: Daemon) -> None:
    with asking(daemon, EVERYTHING):
        daemon.wait_until(lambda: workers(daemon))
        (worker,) = workers(daemon)
        nursery = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        daemon.kill()
        ends = time.monotonic() + 10
        while not (gone(worker) and gone(nursery)):
            assert time.monotonic() < ends
            time.sleep(0.02)
    daemon.start()


def test_aggregates_of_a_running_daemon_come_from_a_worker(daemon: Daemon) -> None:
    status, reply, _ = daemon.request("GET", f"{EVERYTHING}&aggregate=count,max")
    assert status == 200
    found: Any = reply["result"][0]["value"]["temp"]
    assert found == {"count": ROWS, "max": ROWS - 1}
    daemon.wait_until(lambda: not workers(daemon))
