"""The socket of one client: bare and non-blocking, it waits only when the client makes it wait.

At some thousand requests a second the checkpoints of the convenient interfaces cost more than the parsing. Whoever
uses it says what it waits for (``Phase``), so that somebody else can tell when that has taken too long.
"""

import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from itertools import islice
from typing import Any, Final, Protocol

import trio

from query.http.buffers import Buffers
from query.http.tls import TlsSocket

# One recv; a request with its small body fits, and a large upload needs few.
RECV_BYTES: Final = 65_536
# Up to here head and content leave in one send, so one packet where possible.
JOIN_BYTES_MAX: Final = 65_536
# Buffers of one system call; IOV_MAX is 1,024.
PARTS_MAX: Final = 64
# What a client still sends after its last response is read away up to here.
DISCARD_BYTES_MAX: Final = 262_144


class Phase(Enum):
    """What a connection waits for; each has its patience."""

    HANDSHAKE = auto()  # TLS
    IDLE = auto()  # the first byte of a request
    HEAD = auto()
    BODY = auto()
    APPLICATION = auto()
    WRITING = auto()  # the client to take bytes
    LINGERING = auto()  # the client to close


class Counts:
    """What the server's connections have done so far."""

    __slots__ = ("bytes_received", "bytes_sent", "protocol_errors", "requests", "responses", "timeouts")

    def __init__(self) -> None:
        self.bytes_received = self.bytes_sent = self.requests = self.timeouts = 0
        self.responses: dict[int, int] = {}  # by status
        self.protocol_errors: dict[int, int] = {}  # by status, those of ``responses`` included


class Clock(Protocol):
    """What a wire needs of the server: the time of its last sweep, and the counts."""

    now_s: float
    counts: Counts


class Wire:
    """See the module. One task at a time.

    Attributes:
        socket: as given.
        phase: what is waited for.
        since_s: since when.
        is_gone: the client takes nothing any more.
        gone: set when a read or write has found that out.
        client, server: the two ends' addresses, None where there are no such.
    """

    def __init__(self, clock: Clock, sock: socket.socket | TlsSocket) -> None:
        self.socket = sock
        self.phase = Phase.IDLE
        self.since_s = clock.now_s
        self.is_gone = False
        self.gone = trio.Event()
        self.client = self.server = None
        self._clock = clock
        try:
            self.client = _address(sock.getpeername())
            self.server = _address(sock.getsockname())
        except OSError:
            self.is_gone = True

    @property
    def is_tls(self) -> bool:
        return isinstance(self.socket, TlsSocket)

    def enter(self, phase: Phase) -> None:
        """Wait for something else from now on."""
        self.phase = phase
        self.since_s = self._clock.now_s

    def lose(self) -> None:
        """The client is gone."""
        self.is_gone = True
        self.gone.set()

    def close(self) -> None:
        trio.lowlevel.notify_closing(self.socket)
        self.socket.close()

    async def shake_hands(self) -> None:
        """TLS's, where the socket has it. Raises OSError."""
        if isinstance(self.socket, TlsSocket):
            self.enter(Phase.HANDSHAKE)
            await self.socket.shake_hands()

    def has_ended(self) -> bool:
        """Whether the client has ended its side; for the sweep. Raises OSError: it is gone."""
        with suppress(BlockingIOError):
            return not self.socket.recv(1, socket.MSG_PEEK)
        return False

    async def receive(self) -> bytes:
        """What has come, at least a byte; nothing once the client has ended its side. Raises OSError."""
        # A client answers the response that has just left; to look for its next request at once is in vain.
        if self.phase is Phase.IDLE and isinstance(self.socket, socket.socket):
            await trio.lowlevel.wait_readable(self.socket)
        while True:
            # Called off although the socket has become readable: what is not read is not begun, and owes no answer.
            await trio.lowlevel.checkpoint_if_cancelled()
            try:
                data = self.socket.recv(RECV_BYTES)
                break
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.socket)
        self._clock.counts.bytes_received += len(data)
        return data

    def send_nowait(self, data: bytes) -> int:
        """How much of it the socket took."""
        try:
            sent = self.socket.sendmsg([memoryview(data)])
        except BlockingIOError:
            return 0
        except OSError:
            self.lose()
            return 0
        self._clock.counts.bytes_sent += sent
        return sent

    async def send(self, pieces: Sequence[bytes | memoryview | Buffers]) -> None:
        """All of them. Raises OSError."""
        parts: list[bytes | memoryview] = []
        for piece in pieces:
            parts += piece.parts if isinstance(piece, Buffers) else [piece]
        if len(parts) > 1 and sum(map(len, pieces)) <= JOIN_BYTES_MAX:
            parts = [b"".join(parts)]
        left = deque(memoryview(part) for part in parts if part)
        while left:
            try:
                sent = self.socket.sendmsg(list(islice(left, PARTS_MAX)))
            except BlockingIOError:
                before = self.phase
                self.enter(Phase.WRITING)
                await trio.lowlevel.wait_writable(self.socket)
                self.enter(before)
                continue
            self._clock.counts.bytes_sent += sent
            while sent:
                if sent < len(left[0]):
                    left[0] = left[0][sent:]
                    break
                sent -= len(left.popleft())
        if len(parts) > 1:
            await trio.lowlevel.checkpoint()  # a fast reader must not keep the thread to itself

    async def linger(self, *, discards: bool) -> None:
        """Close our side, and read on for a while: closing over unread input would reset the response away (9.6)."""
        self.enter(Phase.LINGERING)
        self.socket.shutdown(socket.SHUT_WR)
        discarded = 0
        while discards and discarded < DISCARD_BYTES_MAX:
            try:
                data = self.socket.recv(RECV_BYTES)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.socket)
                continue
            if not data:
                return
            discarded += len(data)


def _address(name: Any) -> tuple[str, int] | None:
    return (name[0], name[1]) if isinstance(name, tuple) else None
