"""The HTTP server: connections that somebody else accepted, served until they end or the server drains.

It has a listener for HTTPS only (``accept``). Plain HTTP is accepted by the reactor, which looks at the first bytes and
hands over whatever is not a plain connector post: the descriptor, at a request boundary, with the bytes already read.
A WebSocket's opening request goes the other way (``upgrade``). ``run`` is the lifetime of all connections;
``adopt_nowait`` may be called at any time while it runs. Once a second a sweep looks at every connection.
"""

import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from query.http.connection import Asgi, Connection
from query.http.errors import ProtocolError
from query.http.options import HttpOptions
from query.http.replies import DateFields, render_error
from query.http.tls import TlsSocket
from query.http.wire import Counts

SWEEP_S = 1.0
ACCEPTS_PER_TURN_MAX = 64

log = logging.getLogger("thingscale.http")


@dataclass(frozen=True, slots=True)
class HttpStatistics:
    """What the server has done since it began, and has in hand.

    Attributes:
        connections: open now.
        adopted: ever.
        refused: clients beyond connections_max, answered with 503.
        requests: heads that were accepted.
        responses: by status, our own errors included.
        protocol_errors: by status: requests that were malformed, too large, too slow or not implemented.
        timeouts: connections that the sweep ended.
        bytes_received, bytes_sent: without what the reactor read before the hand-over.
    """

    connections: int
    adopted: int
    refused: int
    requests: int
    responses: dict[int, int] = field(default_factory=dict)
    protocol_errors: dict[int, int] = field(default_factory=dict)
    timeouts: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0


class HttpServer:
    """Serves an ASGI application on adopted connections.

    Args:
        app: the ASGI callable; ``http`` scopes only, no lifespan.
        options: limits.
        unix_s: the wall clock, for Date.
        upgrade: called with (socket, bytes received) of a plain connection that asks for a WebSocket on UPGRADE_PATH:
            the socket is the callee's from then on, the bytes begin with the request.
    """

    def __init__(
        self,
        app: Asgi,
        options: HttpOptions | None = None,
        unix_s: Callable[[], float] = time.time,
        upgrade: Callable[[socket.socket, bytes], None] | None = None,
    ) -> None:
        self.app = app
        self.upgrade = upgrade
        self.options = options or HttpOptions()
        self.dates = DateFields(self.options.server, unix_s)
        self.counts = Counts()
        self.is_draining = False
        self.now_s = 0.0
        self._adopted = 0
        self._refused = 0
        self._connections: set[Connection] = set()
        self._nursery: trio.Nursery | None = None
        self._is_empty = trio.Event()
        self._doors = trio.CancelScope()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the connections; returns only when cancelled, and then they are closed at once."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.now_s = trio.current_time()
                task_status.started()
                while True:
                    await trio.sleep(SWEEP_S)
                    self._sweep(trio.current_time())
        finally:
            self._nursery = None

    async def accept(self, listener: socket.socket, context: Callable[[], ssl.SSLContext]) -> None:
        """Serve the HTTPS clients of a listening, non-blocking socket, until cancelled or drained.

        Args:
            listener: the caller closes it.
            context: gives what is in force for a new connection.
        """
        with self._doors:
            while True:
                await trio.lowlevel.wait_readable(listener)
                try:
                    for _ in range(ACCEPTS_PER_TURN_MAX):
                        self._admit(listener.accept()[0], context())
                except BlockingIOError:
                    continue
                except OSError as error:
                    # accept(2): network errors of the new connection are reported here, too; they are its own.
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        await trio.sleep(SWEEP_S)

    def _admit(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secure = TlsSocket(sock, context)
        except OSError:  # gone already
            sock.close()
            return
        self.adopt_nowait(secure)

    def adopt_nowait(self, sock: socket.socket | TlsSocket, received: bytes = b"") -> None:
        """Take over a connected stream socket and serve it.

        Args:
            sock: becomes non-blocking; the server closes it.
            received: bytes that were read from it already, from a request boundary on.
        """
        if (
            self._nursery is None
            or self.is_draining
            or len(self._connections) >= self.options.connections_max
        ):
            self._turn_away(sock)
            return
        if isinstance(sock, socket.socket):
            sock.setblocking(False)
        self._adopted += 1
        connection = Connection(self, sock, received)
        self._connections.add(connection)
        self._nursery.start_soon(self._serve, connection)

    async def drain(self, deadline_s: float) -> bool:
        """Let the requests in hand finish, take no new one, and return when all connections are closed.

        Args:
            deadline_s: seconds from now; what is still open then stays so until ``run`` is cancelled.

        Returns:
            Whether all were closed in time.
        """
        self.is_draining = True
        self._doors.cancel()
        self._is_empty = trio.Event()
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            with trio.move_on_after(deadline_s):
                await self._is_empty.wait()
        return not self._connections

    def statistics(self) -> HttpStatistics:
        """A snapshot."""
        counts = self.counts
        return HttpStatistics(
            connections=len(self._connections),
            adopted=self._adopted,
            refused=self._refused,
            requests=counts.requests,
            responses=dict(counts.responses),
            protocol_errors=dict(counts.protocol_errors),
            timeouts=counts.timeouts,
            bytes_received=counts.bytes_received,
            bytes_sent=counts.bytes_sent,
        )

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._is_empty.set()

    def _sweep(self, now_s: float) -> None:
        self.now_s = now_s
        for connection in list(self._connections):
            if connection.look(now_s):
                self.counts.timeouts += 1

    def _turn_away(self, sock: socket.socket | TlsSocket) -> None:
        """No room: say so if the socket takes it at once, and close."""
        self._refused += 1
        if isinstance(sock, TlsSocket):
            sock.close()  # a handshake only to say no is too dear
            return
        sock.setblocking(False)
        try:
            sock.send(render_error(ProtocolError(503, "too many connections"), self.dates))
            sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            log.debug("a client that was turned away did not wait: %s", error)
        finally:
            sock.close()
