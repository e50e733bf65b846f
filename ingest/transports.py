"""What may stand between a socket and MQTT: TLS (ingest.tls), WebSocket, or one in the other. Bytes in, bytes out.

The reactor keeps a transport for a wrapped connection, and only for those. What it reads from the socket it gives to
``receive`` and takes the MQTT bytes from there; what it has to say goes through ``send`` at the moment when it leaves.
Besides MQTT a transport owes the peer bytes of its own (a handshake, a pong): ``take_pending`` gives them, and they
wait for nothing, because they say nothing about readings.

A goodbye of the peer (close_notify, Close) is an end of input like a closed socket: what came before it is taken and
answered first. So is a broken transport: the error carries what came before, and the last word (an alert, a 400, a
Close frame with its code) is what ``ended`` gives.
"""

from http import HTTPStatus
from typing import Final, Protocol

import h11
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection, ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

# The opening request of a WebSocket.
HEAD_BYTES_MAX: Final = 8_192
BODY_FIELDS: Final = (b"content-length", b"transfer-encoding")
SUBPROTOCOLS: Final = ("mqtt", "mqttv3.1")


class TransportError(Exception):
    """The peer broke TLS or WebSocket; the transport has ended.

    Attributes:
        reason: what was wrong.
        received: the MQTT bytes that came before it.
    """

    def __init__(self, reason: str, received: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.received = received


class Transport(Protocol):
    """One connection's. Raises nothing but TransportError."""

    def receive(self, data: bytes) -> bytes:
        """Socket bytes in, MQTT bytes out, which may be none. Raises TransportError."""

    def send(self, data: bytes) -> bytes:
        """MQTT bytes in, socket bytes out. Raises TransportError when nothing can be said any more."""

    def take_pending(self) -> bytes:
        """Socket bytes that are owed since ``receive``."""

    @property
    def is_ended(self) -> bool:
        """The peer said goodbye or broke the transport; further input is not looked at."""

    def ended(self) -> bytes:
        """The last socket bytes before a close: close_notify, an alert, a Close frame, a refusal. Once."""


class WebSocketTransport:
    """The server's side of RFC 6455, for MQTT: any path, binary messages, whose borders mean nothing [MQTT-6.0.0-2].

    Frames are not gathered: what has come of one goes on at once, so that its announced length needs no limit.

    Args:
        origins: of the pages that may connect, in lower case; empty for any. A client that names none is no browser
            (RFC 6455 section 10.2), and is not asked.
    """

    __slots__ = ("_connection", "_goodbye", "_head", "_origins", "_pending", "is_ended")

    def __init__(self, origins: frozenset[bytes] = frozenset()) -> None:
        self._origins = origins
        self._head = bytearray()
        self._connection: Connection | None = None
        self._pending = self._goodbye = b""
        self.is_ended = False

    def receive(self, data: bytes) -> bytes:
        if self.is_ended:
            return b""
        if self._connection is None:
            data = self._open(data)
        if self._connection is None or not data:
            return b""
        return self._receive_frames(self._connection, data)

    def _receive_frames(self, connection: Connection, data: bytes) -> bytes:
        parts: list[bytes] = []
        connection.receive_data(data)
        for event in connection.events():
            match event:
                case BytesMessage():
                    parts.append(bytes(event.data))
                case Ping():
                    self._pending += connection.send(event.response())
                case TextMessage():
                    # [MQTT-6.0.0-1]: data frames are binary.
                    raise self._broken(connection, CloseReason.UNSUPPORTED_DATA, "a text frame", parts)
                case CloseConnection():
                    if connection.state is not ConnectionState.REMOTE_CLOSING:
                        raise self._broken(connection, event.code, event.reason or "a bad frame", parts)
                    self.is_ended = True
                    self._goodbye = connection.send(event.response())
                    break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _broken(self, connection: Connection, code: int, reason: str, parts: list[bytes]) -> TransportError:
        self.is_ended = True
        self._goodbye = connection.send(CloseConnection(code=code))
        return TransportError(f"WebSocket: {reason}", b"".join(parts))

    def _open(self, data: bytes) -> bytes:
        """The opening handshake; what came behind it. Raises TransportError."""
        head = self._head
        scanned = len(head)
        head += data
        if head[:4] != b"GET "[: len(head)]:
            raise self._refused(HTTPStatus.BAD_REQUEST, "the first bytes are not GET")
        end = head.find(b"\r\n\r\n", max(0, scanned - 3)) + 4
        if (len(head) if end < 4 else end) > HEAD_BYTES_MAX:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise self._refused(status, f"the opening request exceeds {HEAD_BYTES_MAX} bytes")
        if end < 4:
            return b""
        rest = bytes(head[end:])
        opening = WSConnection(ConnectionType.SERVER)
        try:
            opening.receive_data(bytes(head[:end]))
            request = next(opening.events(), None)
            if not isinstance(request, Request):
                raise self._refused(HTTPStatus.BAD_REQUEST, "the opening request is not complete")
            if any(name in BODY_FIELDS and value != b"0" for name, value in request.extra_headers):
                raise self._refused(HTTPStatus.BAD_REQUEST, "the opening request has a body")
            origins = [value.lower() for name, value in request.extra_headers if name == b"origin"]
            if self._origins and any(origin not in self._origins for origin in origins):
                raise self._refused(HTTPStatus.FORBIDDEN, "ORIGIN_NOT_ALLOWED")
            spoken = next((name for name in request.subprotocols if name in SUBPROTOCOLS), None)
            self._pending += opening.send(AcceptConnection(subprotocol=spoken))
        except RemoteProtocolError as error:
            hint = error.event_hint
            code = hint.status_code if isinstance(hint, RejectConnection) else 400
            raise self._refused(HTTPStatus(code), str(error)) from error
        except (LocalProtocolError, h11.ProtocolError, ValueError) as error:
            raise self._refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        self._connection = opening.connection
        self._head = bytearray()
        return rest

    def _refused(self, status: HTTPStatus, reason: str) -> TransportError:
        self.is_ended = True
        self._head = bytearray()
        token = reason if status is HTTPStatus.FORBIDDEN else ""
        self._goodbye = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Length: {len(token)}\r\n"
            f"Sec-WebSocket-Version: 13\r\n\r\n{token}"
        ).encode()
        return TransportError(f"WebSocket: {reason}")

    def send(self, data: bytes) -> bytes:
        if self._connection is None:
            raise TransportError("WebSocket: nothing can be said before the handshake")
        if self._connection.state is not ConnectionState.OPEN:
            return b""  # who has said Close does not listen
        return self._connection.send(BytesMessage(data=data))

    def take_pending(self) -> bytes:
        pending, self._pending = self._pending, b""
        return pending

    def ended(self) -> bytes:
        if self._connection is not None and self._connection.state is ConnectionState.OPEN:
            return self._connection.send(CloseConnection(code=CloseReason.NORMAL_CLOSURE))
        goodbye, self._goodbye = self._goodbye, b""
        return goodbye


class Stacked:
    """One transport within another: WebSocket within TLS."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, outer: Transport, inner: Transport) -> None:
        self._outer = outer
        self._inner = inner

    def receive(self, data: bytes) -> bytes:
        try:
            between = self._outer.receive(data)
        except TransportError as error:
            raise TransportError(error.reason, self._inner.receive(error.received)) from error
        return self._inner.receive(between) if between else b""

    def send(self, data: bytes) -> bytes:
        return self._outer.send(self._inner.send(data))

    def take_pending(self) -> bytes:
        owed = self._outer.take_pending()  # made before what follows is sealed
        pending = self._inner.take_pending()
        return owed + self._outer.send(pending) if pending else owed

    @property
    def is_ended(self) -> bool:
        return self._outer.is_ended or self._inner.is_ended

    def ended(self) -> bytes:
        goodbye = self._inner.ended()
        if goodbye:
            try:
                goodbye = self._outer.send(goodbye)
            except TransportError:
                goodbye = b""  # TLS has failed: only its alert may still be sent
        return goodbye + self._outer.ended()
