"""One client's connection: requests in, ASGI calls, responses out, one after the other.

One task does everything; there is none that watches for the client's going. It is noticed by a failed read or write,
and by the server's sweep, which looks at every connection once a second (``look``): what waits too long is cancelled
there, with a reason.

A client that ends its side may still want its response (``nc -N``), so the end of input is not the end of a request.
Only when nothing of the response has left for ``half_closed_s`` does it count as gone.

Small bodies are read before the application is called: what is malformed then gets its 400 whatever the application
would have said, and a slow client holds no application.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import h11
import trio

from query.http.buffers import EXTENSION, Buffers
from query.http.errors import ClientGoneError, ProtocolError
from query.http.head import RequestHead
from query.http.intake import Intake
from query.http.options import HttpOptions
from query.http.pipe import PIPE, Pipe
from query.http.replies import ALLOW_ALL, REASONS, DateFields, render_error
from query.http.tls import TlsSocket
from query.http.wire import DISCARD_BYTES_MAX, Counts, Phase, Wire

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Asgi = Callable[
    [Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

# A pipelining client may have this much waiting while a response is being made.
AHEAD_BYTES_MAX = 65_536
# Requests in a row without waiting for the socket before other tasks get their turn.
BURST_MAX = 16
# How long the sweep leaves a request alone before it looks whether the client is still there.
UNWATCHED_S = 1.0

# Where the HTTP port speaks WebSocket.
UPGRADE_PATH = b"/mqtt"

# The one kind of response that has no end of its own (WHATWG HTML, 9.2).
EVENT_STREAM = b"text/event-stream; charset=utf-8"

CONTINUE = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
# Our states in which the application may still be listened to.
_ANSWERING = (h11.IDLE, h11.SEND_RESPONSE, h11.SEND_BODY)

log = logging.getLogger("thingscale.http")


class Home(Protocol):
    """What a connection needs of its server."""

    app: Asgi
    options: HttpOptions
    dates: DateFields
    is_draining: bool
    now_s: float
    counts: Counts
    upgrade: Callable[[socket.socket, bytes], None] | None


class Connection:
    """See the module. ``run`` is the task; ``look`` and ``drain`` may be called by the server at any time."""

    def __init__(self, home: Home, sock: socket.socket | TlsSocket, received: bytes) -> None:
        self._home = home
        self._options = home.options
        self._wire = Wire(home, sock)
        self._intake = Intake(home.options)
        if received:
            self._intake.feed(received)
        self._protocol = h11.Connection(h11.SERVER)
        self._scope = trio.CancelScope()
        self._body_bytes = 0  # of the request in hand, and how long they took
        self._body_waited_s = 0.0
        self._head: RequestHead | None = None
        self._ahead: bytes | None = None  # a small body that was read before the call
        self._started: Message | None = None  # http.response.start, held until its content is known
        self._has_sent = False  # something of the response in hand has left
        self._failure: ProtocolError | None = None  # what to answer instead of the application
        self._is_bodiless = False  # HEAD, 204, 304: what the application sends stays here
        self._is_endless = False  # a stream of events: who has ended the own side does not wait for its end
        self._has_left = False  # somebody else has the socket
        self._ended_at_s = 0.0

    # ---- the server's side

    async def run(self) -> None:
        """Serve the client until it or we close. The guard: nothing but a cancellation leaves this."""
        try:
            with self._scope:
                await self._serve()
            if self._failure is not None and not self._has_sent and not self._wire.is_gone:
                await self._refuse(self._failure)
        except OSError:
            pass  # the client is gone; it has nothing to be told
        except Exception:  # the connection's guard: one client's trouble is nobody else's
            log.exception("a connection failed")
        finally:
            if not self._has_left:
                self._wire.close()

    def drain(self) -> None:
        """End when the request in hand is answered; at once if there is none."""
        if self._wire.phase is Phase.HANDSHAKE or (
            self._wire.phase is Phase.IDLE and not self._intake.buffered
        ):
            self._scope.cancel()

    def look(self, now_s: float) -> bool:
        """The sweep: end what has waited too long. True if that was a time-out."""
        waited_s = now_s - self._wire.since_s
        options = self._options
        match self._wire.phase:
            case Phase.HANDSHAKE:
                is_over = waited_s > options.head_s
            case Phase.IDLE:
                is_over = waited_s > options.idle_s
            case Phase.HEAD:
                is_over = waited_s > options.head_s
                self._failure = ProtocolError(408, "the request took too long to come") if is_over else None
            case Phase.BODY:
                is_over = (
                    self._body_waited_s + waited_s
                    > options.body_s + self._body_bytes / options.body_bytes_per_s_min
                )
                self._failure = (
                    ProtocolError(408, "the request's body took too long to come") if is_over else None
                )
            case Phase.APPLICATION:
                is_over = waited_s > UNWATCHED_S and self._is_client_gone(now_s)
            case Phase.WRITING:
                is_over = waited_s > options.write_s
            case Phase.LINGERING:
                is_over = waited_s > options.linger_s
        if is_over:
            self._wire.is_gone = self._failure is None
            self._scope.cancel()
        return is_over

    def _is_client_gone(self, now_s: float) -> bool:
        try:
            if not self._wire.has_ended():
                return False
        except OSError:
            return True
        self._ended_at_s = self._ended_at_s or now_s
        if self._is_endless:
            return True
        return not self._has_sent and now_s - self._ended_at_s > self._options.half_closed_s

    # ---- requests

    async def _serve(self) -> None:
        burst = 0
        await self._wire.shake_hands()
        while not self._wire.is_gone:
            self._wire.enter(Phase.IDLE)
            try:
                head = await self._receive_head()
                if head is None or self._leaves(head):
                    return
                self._begin(head)
                if head.length and not head.awaits_continue:
                    await self._read_ahead()
            except ProtocolError as error:
                await self._refuse(error)
                return
            await self._answer(head)
            if not await self._finish():
                return
            burst += 1
            if burst % BURST_MAX == 0:
                await trio.lowlevel.checkpoint()

    async def _receive_head(self) -> RequestHead | None:
        """The next head, or None if the client has closed between two requests, or we want to."""
        intake = self._intake
        while (head := intake.next_head()) is None:
            if intake.is_ended:
                return None
            if self._wire.phase is Phase.IDLE:
                if intake.buffered:
                    self._wire.enter(Phase.HEAD)
                elif self._home.is_draining:
                    return None
            await self._read()
        return head

    def _leaves(self, head: RequestHead) -> bool:
        """Give the socket away if the request wants to speak something else."""
        upgrade, sock = self._home.upgrade, self._wire.socket
        if upgrade is None or isinstance(sock, TlsSocket) or not head.asks_for_websocket(UPGRADE_PATH):
            return False
        self._has_left = True
        upgrade(sock, head.spelled() + self._intake.take_rest())
        return True

    def _begin(self, head: RequestHead) -> None:
        self._head = head
        self._ahead = None
        self._started = None
        self._has_sent = False
        self._body_bytes = 0
        self._body_waited_s = 0.0
        self._home.counts.requests += 1
        self._ended_at_s = 0.0
        self._is_endless = False
        self._protocol.receive_data(head.canonical())
        event = self._protocol.next_event()
        assert type(event) is h11.Request, "h11 disagrees with the strict reader"
        if not head.length:
            self._protocol.next_event()  # the end of the message
            self._ahead = b""

    async def _read_ahead(self) -> None:
        """Take a small body whole. A body that turns out larger is left to the application."""
        parts: list[bytes] = []
        size = 0
        while True:
            data, is_done = await self._receive_body()
            parts.append(data)
            size += len(data)
            if is_done or size > self._options.body_ahead_bytes:
                self._ahead = b"".join(parts)
                return
            left = self._intake.body_left
            if left is not None and size + left > self._options.body_ahead_bytes:
                self._ahead = b"".join(parts)
                return

    async def _receive_body(self) -> tuple[bytes, bool]:
        """Some of the body, at least a byte, and whether that was all of it."""
        if self._wire.phase is not Phase.BODY:
            self._wire.enter(Phase.BODY)
        while True:
            if canonical := self._intake.next_body():
                self._protocol.receive_data(canonical)
            parts: list[bytes] = []
            while type(event := self._protocol.next_event()) is h11.Data:
                parts.append(bytes(event.data))
            is_done = type(event) is h11.EndOfMessage
            if parts or is_done:
                data = b"".join(parts)
                self._body_bytes += len(data)
                self._body_waited_s += self._home.now_s - self._wire.since_s
                self._wire.since_s = self._home.now_s
                return data, is_done
            await self._read()

    async def _answer(self, head: RequestHead) -> None:
        self._wire.enter(Phase.APPLICATION)
        if head.target.path == b"*":
            await self._send(
                {"type": "http.response.start", "status": 200, "headers": [(b"allow", ALLOW_ALL)]}
            )
            await self._send({"type": "http.response.body"})
            return
        scope = self._asgi_scope(head)
        if scope is None:
            self._failure = ProtocolError(400, "the path is not UTF-8")
            return
        try:
            await self._home.app(scope, self._receive, self._send)
        except ClientGoneError:
            self._wire.is_gone = True
        except Exception:  # the application's guard: its fault costs this response, not the server
            if self._failure is None and not self._wire.is_gone:
                log.exception("the application failed on %s", head.method.decode("ascii"))
                if not self._has_sent:
                    self._failure = ProtocolError(500, "the server failed; its log says why")
        if self._failure is None and not self._has_sent and not self._wire.is_gone:
            self._failure = ProtocolError(500, "the server gave no answer")

    async def _finish(self) -> bool:
        """What is owed after the application has returned; whether the connection goes on."""
        protocol = self._protocol
        if self._failure is not None and not self._has_sent:
            self._failure.is_head = self._head is not None and self._head.method == b"HEAD"
            await self._refuse(self._failure)
            return False
        if self._wire.is_gone or protocol.our_state not in (h11.DONE, h11.MUST_CLOSE):
            return False  # a cut response must look like one: closed in its middle
        if protocol.our_state is h11.MUST_CLOSE:
            await self._linger()
            return False
        try:
            while protocol.their_state is not h11.DONE:
                await self._receive_body()
        except ProtocolError:
            await self._linger()  # the request is answered already; its rest was malformed
            return False
        protocol.start_next_cycle()
        self._intake.next_request()
        return True

    # ---- ASGI

    def _asgi_scope(self, head: RequestHead) -> Scope | None:
        path, query, authority = head.target
        try:
            text = (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8")
        except UnicodeDecodeError:
            return None
        fields = head.fields
        if authority is not None:  # RFC 9112 section 3.2.2: the received Host is ignored
            fields = [(name, authority if name == b"host" else value) for name, value in fields]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": head.version.decode("ascii"),
            "method": head.method.decode("ascii"),
            "scheme": "https" if self._wire.is_tls else "http",
            "path": text,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": fields,
            "client": self._wire.client,
            "server": self._wire.server,
            "extensions": {EXTENSION: {}},
            PIPE: Pipe(self) if head.version == b"1.1" else None,
        }

    async def _receive(self) -> Message:
        """ASGI receive: the body, then, when asked again, the client's going."""
        if self._wire.is_gone or self._failure is not None or self._protocol.our_state not in _ANSWERING:
            return {"type": "http.disconnect"}
        if self._ahead is not None:
            body, self._ahead = self._ahead, None
            return {"type": "http.request", "body": body, "more_body": not self._intake.is_body_done}
        try:
            if self._intake.is_body_done:
                await self._wait_until_gone()
                return {"type": "http.disconnect"}
            if self._protocol.they_are_waiting_for_100_continue and not self._intake.buffered:
                await self._wire.send([self._protocol.send(CONTINUE)])
            body, is_done = await self._receive_body()
        except ProtocolError as error:
            self._failure = error
            return {"type": "http.disconnect"}
        except OSError:
            self._wire.lose()
            return {"type": "http.disconnect"}
        self._wire.enter(Phase.APPLICATION)
        return {"type": "http.request", "body": body, "more_body": not is_done}

    async def _wait_until_gone(self) -> None:
        """Read ahead what the client pipelines, until it resets, or a write or the sweep finds it gone."""
        while not self._intake.is_ended and self._intake.buffered < AHEAD_BYTES_MAX:
            await self._read()
        if not (self._is_endless and self._intake.is_ended):
            await self._wire.gone.wait()

    async def _send(self, message: Message) -> None:
        """ASGI send. After a failure of the request what the application says is not heard."""
        if self._wire.is_gone:
            raise ClientGoneError("the client is gone")
        if self._failure is not None and not self._has_sent:
            return
        if message["type"] == "http.response.start":
            assert self._started is None, "a response starts once"
            assert not self._has_sent, "a response starts once"
            self._started = message
            return
        assert message["type"] == "http.response.body"
        body: bytes | Buffers = message.get("body", b"")
        more: bool = message.get("more_body", False)
        pieces: list[bytes | Buffers] = []
        if self._started is not None:
            pieces += self._start_response(self._started, body, more)
            self._started = None
            self._has_sent = True
        if body and not self._is_bodiless:
            pieces += self._protocol.send_with_data_passthrough(h11.Data(data=body)) or ()  # type: ignore[arg-type]
        if not more:
            pieces += self._protocol.send_with_data_passthrough(h11.EndOfMessage()) or ()
        try:
            await self._wire.send(pieces)
        except OSError as error:
            self._wire.lose()
            raise ClientGoneError("the client is gone") from error

    def send_nowait(self, chunks: bytes) -> int:
        """See Pipe."""
        if self._wire.is_gone or self._protocol.our_state is not h11.SEND_BODY:
            return 0
        return self._wire.send_nowait(chunks)

    async def send_framed(self, chunks: bytes | memoryview) -> None:
        """See Pipe."""
        if self._wire.is_gone:
            raise ClientGoneError("the client is gone")
        assert self._protocol.our_state is h11.SEND_BODY, "the response goes on"
        try:
            await self._wire.send([chunks])
        except OSError as error:
            self._wire.lose()
            raise ClientGoneError("the client is gone") from error

    def _start_response(self, start: Message, body: bytes | Buffers, more: bool) -> list[bytes]:
        assert self._head is not None
        status: int = start["status"]
        is_head = self._head.method == b"HEAD"
        self._is_bodiless = is_head or status in (204, 304)
        fields = [*start.get("headers", ()), *self._home.dates.now()]
        self._is_endless = more and (b"content-type", EVENT_STREAM) in fields
        if (
            not more
            and (body or not self._is_bodiless)
            and not any(name == b"content-length" for name, _ in fields)
        ):
            fields.append((b"content-length", b"%d" % len(body)))
        if self._home.is_draining or self._has_much_to_come():
            fields.append((b"connection", b"close"))
        counts = self._home.counts.responses
        counts[status] = counts.get(status, 0) + 1
        response = h11.Response(status_code=status, headers=fields, reason=REASONS.get(status, b""))
        return self._protocol.send_with_data_passthrough(response) or []

    def _has_much_to_come(self) -> bool:
        """Whether the rest of the request's body is not worth reading only to keep the connection."""
        if self._intake.is_body_done:
            return False
        left = self._intake.body_left
        return left is None or left > DISCARD_BYTES_MAX or self._protocol.they_are_waiting_for_100_continue

    async def _read(self) -> None:
        self._intake.feed(await self._wire.receive())

    async def _refuse(self, error: ProtocolError) -> None:
        """Answer with an error of ours and close."""
        counts = self._home.counts
        counts.responses[error.status] = counts.responses.get(error.status, 0) + 1
        counts.protocol_errors[error.status] = counts.protocol_errors.get(error.status, 0) + 1
        self._failure = None
        self._has_sent = True
        with trio.move_on_after(self._options.linger_s):
            await self._wire.send([render_error(error, self._home.dates)])
            await self._linger()

    async def _linger(self) -> None:
        await self._wire.linger(discards=not self._intake.is_ended)
