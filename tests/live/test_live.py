"""Live viewers of a running daemon: every datapoint once and in order, also after a break; limits; stopping."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.live.test_rest import call, refused


class Viewer:
    """A client of /v2/live; ``next`` reads one event."""

    def __init__(self, daemon: Daemon, query: str = "", **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.port("http"), timeout=20)
        sent = {"X-APITOKEN": daemon.user["api_token"]}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request("GET", f"/v2/live{query}", headers=sent)
        self.reply = self.connection.getresponse()
        assert self.reply.status == 200, self.reply.read()
        assert self.reply.getheader("Content-Type", "").startswith("text/event-stream")
        assert self.reply.readline() == b":\n"
        self.reply.readline()

    def next(self) -> tuple[str, int | None, Any] | None:
        """Kind, id and data; None at the end. Comments are passed over."""
        kind, seq, data = "", None, None
        while line := self.reply.readline():
            if line == b"\n":
                if kind:
                    return kind, seq, data
                continue
            name, _, text = line.rstrip(b"\n").partition(b": ")
            match name:
                case b"event":
                    kind = text.decode()
                case b"id":
                    seq = int(text)
                case b"data":
                    data = json.loads(text)
        return None

    def datapoints(self, count: int) -> list[tuple[int, Any]]:
        found = []
        for _ in range(count):
            event = self.next()
            assert event is not None
            kind, seq, data = event
            assert (kind, data["_id"][8:]) == ("datapoint", f"{seq:016x}")
            found.append((seq, data))
        return found

    def close(self) -> None:
        self.connection.close()
        self.reply.close()


@contextlib.contextmanager
def viewing(daemon: Daemon, query: str = "", **headers: str) -> Iterator[Viewer]:
    viewer = Viewer(daemon, query, **headers)
    try:
        yield viewer
    finally:
        viewer.close()


@pytest.fixture(scope="module")
def daemon(rest: Daemon) -> Daemon:
    rest.add_device("a", 1)
    rest.add_device("b", 2)
    return rest


def test_what_devices_send_is_seen_a_moment_later_in_order(daemon: Daemon) -> None:
    with (
        viewing(daemon) as everything,
        viewing(daemon, "?channel=1") as one,
        viewing(daemon, "?device=b&tag=t") as few,
    ):
        for i in range(20):
            assert daemon.post(
                "ab"[i % 2], json.dumps({"n": i}), **({"X-TAGNAME": "t"} if i % 4 == 1 else {})
            )
        seen = everything.datapoints(20)
        assert [data["value"]["n"] for _, data in seen] == list(range(20))
        assert [seq for seq, _ in seen] == sorted(seq for seq, _ in seen)
        assert [data["value"]["n"] for _, data in one.datapoints(10)] == list(range(0, 20, 2))
        assert [data["value"]["n"] for _, data in few.datapoints(5)] == list(range(1, 20, 4))
        first = seen[1][1]
        assert list(first) == ["channel", "_id", "at", "device", "tag", "value"]
        assert (first["channel"], first["device"], first["tag"]) == (2, "b", "t")
        assert first["at"].endswith("+09:00")
        stored = daemon.stream(2)[0]
        assert (stored["_id"], stored["value"]) == (first["_id"], first["value"])


def test_what_people_write_is_seen_too(daemon: Daemon) -> None:
    with viewing(daemon, "?channel=1") as viewer:
        body = [{"value": 1, "at": "2024-05-02 10:00"}, {"value": "x\ny", "tag": "t"}]
        assert call(daemon, "POST", "/v2/stream/1", body)[0] == 201
        (_, first), (_, second) = viewer.datapoints(2)
        assert (first["at"], first["value"], first["device"]) == ("2024-05-02T10:00:00.000000+09:00", 1, "")
        assert (second["value"], second["tag"]) == ("x\ny", "t")


def test_a_viewer_goes_on_where_it_stopped_wherever_the_rows_are_by_then(daemon: Daemon) -> None:
    with viewing(daemon) as viewer:
        daemon.post("a", '{"n":0}')
        ((last, _),) = viewer.datapoints(1)
    for i in range(1, 7):
        daemon.post("ab"[i % 2], json.dumps({"n": i}))
    for change in (lambda: None, daemon.restart, lambda: daemon.run("publish", "--now"), daemon.restart):
        change()
        for how in ({"Last_Event_ID": str(last)}, {}):
            with viewing(daemon, "" if how else f"?since={last}", **how) as viewer:
                assert [data["value"]["n"] for _, data in viewer.datapoints(6)] == list(range(1, 7))
            with viewing(daemon, f"?device=b&channel=1,2&since={last}") as viewer:
                assert [data["value"]["n"] for _, data in viewer.datapoints(3)] == [1, 3, 5]
    with viewing(daemon, f"?since={last}") as viewer:
        daemon.post("a", '{"n":7}')
        assert [data["value"]["n"] for _, data in viewer.datapoints(7)] == list(range(1, 8))


def test_what_comes_while_a_viewer_resumes_is_seen_once(daemon: Daemon) -> None:
    with viewing(daemon) as viewer:
        daemon.post("a", '{"n":0}')
        ((last, _),) = viewer.datapoints(1)
    stop = threading.Event()
    sent = [0]

    def send() -> None:
        while not stop.is_set():
            sent[0] += 1
            assert call(daemon, "POST", "/v2/stream/1", [{"value": {"n": sent[0]}}] * 1)[0] == 201

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(8):
            time.sleep(0.05)
            with viewing(daemon, f"?since={last}") as viewer:
                count = sent[0] + 5
                assert [data["value"]["n"] for _, data in viewer.datapoints(count)] == list(
                    range(1, count + 1)
                )
    finally:
        stop.set()
        sender.join()


def test_a_client_of_http_1_0_has_the_events_without_chunks(daemon: Daemon) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port("http")), timeout=20) as client:
        token = daemon.user["api_token"]
        client.sendall(f"GET /v2/live?channel=1 HTTP/1.0\r\nX-APITOKEN: {token}\r\n\r\n".encode())
        received = b""
        while not received.endswith(b"\r\n\r\n:\n\n"):
            received += client.recv(4_096)
        assert b"chunked" not in received.lower()
        for i in range(3):
            daemon.post("a", json.dumps({"n": i}))
        received = b""
        while received.count(b"\n\n") < 3:
            received += client.recv(4_096)
        events = received.split(b"\n\n")
        assert [event.partition(b"\n")[0] for event in events] == [b"event: datapoint"] * 3 + [b""]
        assert [json.loads(event.partition(b"data: ")[2])["value"]["n"] for event in events[:3]] == [0, 1, 2]


def test_wrong_requests_are_refused_by_name(daemon: Daemon) -> None:
    assert refused(daemon, "GET", "/v2/live", X_APITOKEN="no") == (401, "AUTH_REQUIRED")
    assert refused(daemon, "GET", "/v2/live?channel=99") == (404, "NO_CHANNEL")
    assert refused(daemon, "GET", "/v2/live?chanel=1") == (400, "BAD_PARAMETER")
    for since in ("x", "-1", "999999999999", "9" * 30):
        assert refused(daemon, "GET", f"/v2/live?since={since}") == (400, "BAD_PARAMETER")
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port("http"), timeout=10)
    connection.request("HEAD", "/v2/live", headers={"X-APITOKEN": daemon.user["api_token"]})
    reply = connection.getresponse()
    assert (reply.status, reply.read()) == (200, b"")
    connection.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(
        tmp_path / "data",
        THINGSCALE_LIVE_VIEWERS_MAX="3",
        THINGSCALE_LIVE_VIEWERS_PER_USER_MAX="2",
        THINGSCALE_LIVE_BUFFER_BYTES_MAX="20_000",
        THINGSCALE_LIVE_RESUME_ROWS_MAX="10",
        THINGSCALE_LIVE_HEARTBEAT_S="0.2",
    ) as daemon:
        daemon.add_user()
        daemon.add_device("a", 1)
        yield daemon


def test_viewers_are_bounded_heard_of_when_quiet_and_do_not_delay_a_stop(small: Daemon) -> None:
    with viewing(small) as one, viewing(small) as two:
        assert refused(small, "GET", "/v2/live") == (429, "TOO_MANY_REQUESTS")
        assert small.metric("thingscale_live_viewers") == 2
        assert [two.reply.readline() for _ in range(4)] == [b":\n", b"\n"] * 2
        one.close()
        small.wait_until(lambda: small.metric("thingscale_live_viewers") == 1)
        began = time.monotonic()
        assert small.stop() == 0
        assert time.monotonic() - began < 5
        while two.reply.readline():
            pass


def test_more_than_is_given_after_the_fact_is_a_gap_that_says_so(small: Daemon) -> None:
    for i in range(30):
        small.post("a", json.dumps({"n": i}))
    small.run("publish", "--now")
    for _ in range(2):
        with viewing(small, "?since=4") as viewer:
            event = viewer.next()
            assert event == ("gap", None, {"from": 5, "to": 19})
            assert [seq for seq, _ in viewer.datapoints(10)] == list(range(20, 30))
        small.restart()


def test_a_viewer_that_does_not_read_is_told_where_it_may_go_on(small: Daemon) -> None:
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    slow.connect(("127.0.0.1", small.port("http")))
    token = small.user["api_token"]
    slow.sendall(f"GET /v2/live HTTP/1.1\r\nHost: x\r\nX-APITOKEN: {token}\r\n\r\n".encode())
    assert slow.recv(10) == b"HTTP/1.1 2"
    text = "x" * 5_000
    with viewing(small) as fast:
        count = 0
        while small.metric("thingscale_live_lagged_total") == 0 and count < 4_000:
            assert call(small, "POST", "/v2/stream/1", [{"value": text}] * 20)[0] == 201
            fast.datapoints(20)
            count += 20
            if count == 2_000:
                break
        slow.settimeout(10)
        received = b""
        while piece := slow.recv(1 << 20):
            received += piece
            if b"event: lagged" in received:
                break
        since = json.loads(
            received.partition(b"event: lagged\r\n"[:13])[2].partition(b"data: ")[2].split(b"\n")[0]
        )
        seqs = [int(line[4:]) for line in received.split(b"\n") if line.startswith(b"id: ")]
        assert seqs == list(range(len(seqs)))
        assert since == {"since": seqs[-1]}
        assert small.metric("thingscale_live_lagged_total") == 1
    slow.close()
