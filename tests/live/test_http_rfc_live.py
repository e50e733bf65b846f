"""The table of RFC 9110 and 9112 on the daemon's HTTP port: lane, hand-over and HTTP server together.

Every row runs as it is written, at the connector and at a REST resource, whole and byte by byte, with plain posts that
store a reading glued before or behind it. The connections are open all at once and get their bytes in turns: then two
bytes of one connection seldom meet in one read, and nobody's half request may hold up the others.
"""

import contextlib
import itertools
import json
import select
import socket
from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.daemon import Daemon
from tests.query.rfc9112_cases import (
    CASES,
    MODES,
    Case,
    Post,
    applies,
    at_connector,
    at_rest,
    judge,
    plain_posts_of,
    stream_of,
)
from tests.query.rfc9112_rows import WITNESS, post

# The daemon ends a silent head after 15 s; all rows together must be over long before.
ANSWER_S = 10.0
PLACES: dict[str, Callable[[Case], Case | None]] = {
    "as written": lambda case: case,
    "at the connector": at_connector,
    "at a REST resource": at_rest,
}
device_numbers = itertools.count()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("rfc") / "data") as daemon:
        daemon.add_user()
        yield daemon
        assert "Traceback" not in daemon.log.read_text()


class Exchange:
    """One connection: what is still to be sent, what has come back."""

    def __init__(self, address: tuple[str, int], stream: bytes, *, is_half: bool) -> None:
        self.client = socket.create_connection(address, ANSWER_S)
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = memoryview(stream)
        self._is_half = is_half
        self._received = b""
        self._readable = select.poll()
        self._readable.register(self.client, select.POLLIN)

    def send(self, count: int) -> bool:
        """Send some more; False when all is sent, or the server wants no more of it.

        Who is told that no more is wanted stops: the server reads for a while after its last answer, not for ever.
        """
        try:
            if self._is_closed():
                return False
            self.client.sendall(self._stream[:count])
            self._stream = self._stream[count:]
            if not self._stream and self._is_half:
                self.client.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            return False  # the answer came before the end of the request; it is there to be read
        return bool(self._stream)

    def receive(self) -> bytes:
        """Everything until the server closes.

        It may close with a reset if the client sends on behind its own ``Connection: close``; the answer comes first.
        """
        with self.client, contextlib.suppress(ConnectionResetError):
            while data := self.client.recv(65_536):
                self._received += data
        return self._received

    def _is_closed(self) -> bool:
        if not self._readable.poll(0):
            return False
        data = self.client.recv(65_536)
        self._received += data
        return not data


def exchange_all(address: tuple[str, int], streams: Iterable[tuple[bytes, bool]], count: int) -> list[bytes]:
    """What each stream is answered with; ``count`` bytes at a time, in turns."""
    exchanges = [Exchange(address, stream, is_half=is_half) for stream, is_half in streams]
    open_ones = exchanges
    while open_ones:
        open_ones = [exchange for exchange in open_ones if exchange.send(count)]
    return [exchange.receive() for exchange in exchanges]


def run(daemon: Daemon, place: str, mode: str, bytes_at_a_time: int) -> list[str]:
    """Every row that there is for place and mode; the names of the wrong ones, with what is wrong."""
    cases = [
        case
        for written in CASES
        if applies(written, mode) and (case := PLACES[place](written)) is not None
        if len(case.sent) < 2_000 * bytes_at_a_time
    ]
    assert len(cases) > 60
    number = next(device_numbers)
    device = f"plain-{number}"
    daemon.add_device(device, number)
    plain = Post(daemon.user["device_token"], 200)
    address = ("127.0.0.1", daemon.port("http"))
    streams = [(stream_of(case, mode, plain, device), case.open is None) for case in cases]
    replies = exchange_all(address, streams, bytes_at_a_time)
    wrong = [
        f"{case.name}: {problem}"
        for case, received in zip(cases, replies, strict=True)
        if (problem := judge(case, mode, received, plain)) is not None
    ]
    # Exactly what was answered is stored.
    if len(daemon.stream(number, X_PAGELIMIT="10000")) != sum(plain_posts_of(case, mode) for case in cases):
        wrong.append("not every plain post is stored once")
    return wrong


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", PLACES)
def test_every_row_gets_its_answer(daemon: Daemon, place: str, mode: str) -> None:
    assert not run(daemon, place, mode, 1 << 20)


@pytest.mark.parametrize("place", PLACES)
def test_every_row_gets_its_answer_byte_by_byte(daemon: Daemon, place: str) -> None:
    assert not run(daemon, place, "followed", 1)


def test_every_row_gets_its_answer_byte_by_byte_behind_a_post(daemon: Daemon) -> None:
    assert not run(daemon, "as written", "behind", 1)


def ask(daemon: Daemon, *requests: bytes) -> bytes:
    """Send one request after the other, each when something came back for the one before, then read to the end."""
    received = b""
    with socket.create_connection(("127.0.0.1", daemon.port("http")), ANSWER_S) as client:
        for number, request in enumerate(requests):
            if number:
                received += client.recv(65_536)
            client.sendall(request)
        while data := client.recv(65_536):
            received += data
    return received


def test_100_continue_is_sent_when_the_body_is_wanted(daemon: Daemon) -> None:
    head = post(b"Content-Length: 1\r\nExpect: 100-continue\r\n")
    received = ask(daemon, head, b"1", WITNESS)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 ")
    assert received.count(b"HTTP/1.1 ") == 3


def test_no_100_continue_but_the_answer_when_the_body_is_not_wanted(daemon: Daemon) -> None:
    head = post(b"Content-Length: 1\r\nExpect: 100-continue\r\n").replace(b"POST /post_v2/", b"PUT /v2/user")
    received = ask(daemon, head)
    assert received.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nconnection: close\r\n" in received.lower()


def test_http_1_0_gets_a_stream_without_chunks(daemon: Daemon) -> None:
    daemon.add_device("old", 7_000)
    assert daemon.post("old", "1") == (200, "OK")
    token = daemon.user["api_token"].encode()
    request = b"GET /v2/stream/7000 HTTP/1.%d\r\nHost: h\r\nX-APITOKEN: " + token + b"\r\nX-ENDTIME: last\r\n"
    old = ask(daemon, request % 0 + b"\r\n")
    new = ask(daemon, request % 1 + b"Connection: close\r\n\r\n")
    assert b"transfer-encoding" not in old.lower()
    assert b"\r\nconnection: close\r\n" in old.lower()
    head, _, content = old.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(content)["stream"][0]["value"] == 1
    assert new.startswith(b"HTTP/1.1 200 ")


def test_head_has_the_fields_of_get_and_no_content(daemon: Daemon) -> None:
    def fields(method: bytes) -> list[bytes]:
        head, _, content = ask(daemon, WITNESS.replace(b"GET", method)).partition(b"\r\n\r\n")
        assert bool(content) is (method == b"GET")
        return sorted(line for line in head.split(b"\r\n") if not line.lower().startswith(b"date"))

    assert fields(b"HEAD") == fields(b"GET")


def test_allow_names_every_method_of_the_path(daemon: Daemon) -> None:
    for path, allowed in (
        ("/v2/device/d", "DELETE, GET, HEAD, POST, PUT"),
        ("/v2/user", "GET, HEAD, PUT"),
        ("/healthz", "GET, HEAD"),
        ("/post_v2", "POST"),
    ):
        status, _, fields = daemon.request("PATCH", path)
        assert (status, fields["allow"]) == (405, allowed)
