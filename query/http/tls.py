"""A TLS socket that behaves like the bare non-blocking one that the connection works on.

OpenSSL sits on the descriptor itself, and a record is given out whole (RECV_BYTES is larger than any), so the
descriptor is readable whenever there is something to read.
"""

import contextlib
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import trio


class TlsSocket:
    """The server's side. Methods that the socket would make wait raise BlockingIOError, as a socket's do.

    Raises:
        OSError: the client is gone already.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.setblocking(False)
        self._sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._has_parted = False

    async def shake_hands(self) -> None:
        """Raises OSError (of which SSLError is one)."""
        while True:
            try:
                self._sock.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(self._sock)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self._sock)
            else:
                return

    def fileno(self) -> int:
        return self._sock.fileno()

    def getpeername(self) -> Any:
        return self._sock.getpeername()

    def getsockname(self) -> Any:
        return self._sock.getsockname()

    def recv(self, size: int, flags: int = 0) -> bytes:
        if flags:  # a peek: at what is encrypted, which tells whether the client is there
            return socket.socket.recv(self._sock, size, flags)
        try:
            return self._sock.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def sendmsg(self, parts: Sequence[memoryview]) -> int:
        """Some of the first one: records are made one by one in any case."""
        try:
            return self._sock.send(parts[0])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def shutdown(self, how: int) -> None:
        self._part()
        socket.socket.shutdown(self._sock, how)

    def close(self) -> None:
        self._part()
        self._sock.close()

    def _part(self) -> None:
        """close_notify, once; the client's own is not waited for."""
        if not self._has_parted:
            self._has_parted = True
            with contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()
