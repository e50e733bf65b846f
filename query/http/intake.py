"""What the client sends, one request at a time: the strict reader in front of h11, without any I/O.

The intake holds the received bytes. ``next_head`` gives a head when one is complete; ``next_body`` then gives as much
of that request's body as has come, in the canonical spelling that h11 is to see: chunk extensions and trailers are
checked and left out (RFC 9112 section 7.1: both may be ignored). Bytes of the next request stay here until the
present one is answered, so pipelining costs nothing and h11 never sees beyond one message.
"""

import re
from enum import Enum, auto

from query.http.errors import ProtocolError
from query.http.head import (
    CHUNKED,
    TCHAR,
    RequestHead,
    check_beginning,
    check_characters,
    parse_fields,
    parse_head,
)
from query.http.options import HttpOptions

# Section 7.1.1: BWS around ";" and "=", a token or quoted-string as the value. Possessive, so that it stays linear.
CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]+)(?:[ \t]*;[ \t]*[" + TCHAR + rb"]++(?:[ \t]*=[ \t]*(?:[" + TCHAR + rb"]++"
    rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"))?+)*+'
)
CHUNK_LINE_BYTES_MAX = 1_024  # size and extensions of one chunk
CHUNK_DIGITS_MAX = 16
EXTENSION_BYTES_MAX = 16_384  # of one body, together: extensions are a way to send bytes that nobody counts


class _Part(Enum):
    HEAD = auto()
    LENGTH = auto()
    CHUNK_LINE = auto()
    CHUNK_DATA = auto()
    CHUNK_END = auto()
    TRAILERS = auto()
    DONE = auto()


class Intake:
    """The receiving half of one connection. Never raises anything but ProtocolError, and nothing useful after it."""

    __slots__ = (
        "_buffer",
        "_extension_bytes",
        "_left",
        "_options",
        "_part",
        "_received",
        "_scanned",
        "is_ended",
    )

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self._buffer = bytearray()
        self._part = _Part.HEAD
        self._scanned = 0  # bytes of the buffer known to hold no end of head
        self._left = 0  # bytes of the body or chunk to come
        self._received = 0  # bytes of a chunked body
        self._extension_bytes = 0
        self.is_ended = False  # the client has closed its side

    def feed(self, data: bytes) -> None:
        """Bytes from the socket; none is the end."""
        if data:
            self._buffer += data
        else:
            self.is_ended = True

    @property
    def buffered(self) -> int:
        """Bytes that are not consumed yet."""
        return len(self._buffer)

    @property
    def is_body_done(self) -> bool:
        """Whether the request in hand has come completely."""
        return self._part is _Part.DONE

    @property
    def body_left(self) -> int | None:
        """Bytes of the body to come; None if nobody knows (chunked)."""
        if self._part is _Part.DONE:
            return 0
        return self._left if self._part is _Part.LENGTH else None

    def take_rest(self) -> bytes:
        """All that is not consumed yet: somebody else goes on with this connection."""
        return self._take(len(self._buffer))

    def next_request(self) -> None:
        """The request in hand is answered; its body must have come completely."""
        assert self._part is _Part.DONE
        self._part = _Part.HEAD
        self._scanned = 0

    def next_head(self) -> RequestHead | None:
        """The next request's head, or None until more has come.

        Raises:
            ProtocolError: What has come is not one, or the client closed in its middle.
        """
        assert self._part is _Part.HEAD
        buffer = self._buffer
        while buffer[:2] == b"\r\n":  # section 2.2: empty lines before a request line are ignored
            del buffer[:2]
            self._scanned = 0
        try:
            head = self._parse_head()
        except ProtocolError as error:
            error.is_head = buffer.startswith(b"HEAD ")
            raise
        if head is not None:
            self._begin_body(head.length)
        return head

    def next_body(self) -> bytes:
        """The canonical bytes of the body that have come since; empty until more has.

        Raises:
            ProtocolError: The framing is wrong, the body too long, or the client closed in its middle.
        """
        part = self._part
        if part is _Part.LENGTH:
            data = self._take(self._left)
            self._left -= len(data)
            if not self._left:
                self._part = _Part.DONE
        elif part in (_Part.HEAD, _Part.DONE):
            return b""
        else:
            data = self._next_chunks()
        if self.is_ended and not data and self._part is not _Part.DONE:
            raise ProtocolError(400, "the connection ended within a body")
        return data

    def _parse_head(self) -> RequestHead | None:
        buffer, scanned = self._buffer, self._scanned
        end = buffer.find(b"\r\n\r\n", max(0, scanned - 3))
        if 0 <= end <= self._options.header_bytes_max - 4:
            head = parse_head(bytes(buffer[: end + 4]), self._options)
            del buffer[: end + 4]
            self._scanned = 0
            return head
        if buffer and buffer != b"\r":
            # The request line needs its look when it is new, and when it has no end.
            if scanned == 0 or buffer.find(b"\r\n", 0, scanned) < 0:
                check_beginning(bytes(buffer), self._options)
            check_characters(buffer, max(0, scanned - 1))
            if len(buffer) > self._options.header_bytes_max:
                limit = self._options.header_bytes_max
                raise ProtocolError(431, f"request line and fields exceed {limit} bytes")
            if self.is_ended:
                raise ProtocolError(400, "the connection ended within a request")
        self._scanned = len(buffer)
        return None

    def _begin_body(self, length: int) -> None:
        self._received = self._extension_bytes = 0
        if length == CHUNKED:
            self._part = _Part.CHUNK_LINE
        else:
            self._left = length
            self._part = _Part.LENGTH if length else _Part.DONE

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _next_chunks(self) -> bytes:
        out: list[bytes] = []
        advanced = True
        while advanced and self._part is not _Part.DONE:
            match self._part:
                case _Part.CHUNK_LINE:
                    advanced = self._chunk_line(out)
                case _Part.CHUNK_DATA:
                    data = self._take(self._left)
                    advanced = bool(data)
                    self._left -= len(data)
                    out.append(data)
                    if not self._left:
                        self._part = _Part.CHUNK_END
                case _Part.CHUNK_END:
                    advanced = self._chunk_end(out)
                case _:
                    advanced = self._trailers(out)
        return b"".join(out)

    def _chunk_line(self, out: list[bytes]) -> bool:
        buffer = self._buffer
        end = buffer.find(b"\r\n", 0, CHUNK_LINE_BYTES_MAX + 2)
        line = bytes(buffer[: end + 2 if end >= 0 else CHUNK_LINE_BYTES_MAX + 1])
        check_characters(line)
        if end < 0:
            if len(line) > CHUNK_LINE_BYTES_MAX:
                raise ProtocolError(400, f"a chunk's size and extensions exceed {CHUNK_LINE_BYTES_MAX} bytes")
            return False
        found = CHUNK_LINE.fullmatch(line, 0, end)
        if found is None:
            raise ProtocolError(400, "a chunk begins with its size in hexadecimal")
        digits = found[1].lstrip(b"0")
        self._extension_bytes += end - len(found[1])
        if self._extension_bytes > EXTENSION_BYTES_MAX:
            raise ProtocolError(400, f"chunk extensions exceed {EXTENSION_BYTES_MAX} bytes")
        size = int(digits or b"0", 16) if len(digits) <= CHUNK_DIGITS_MAX else 1 << 64
        self._received += size
        if self._received > self._options.body_bytes_max:
            raise ProtocolError(413, f"a body has at most {self._options.body_bytes_max} bytes")
        del buffer[: end + 2]
        if size:
            self._left = size
            self._part = _Part.CHUNK_DATA
            out.append(b"%x\r\n" % size)
        else:
            self._part = _Part.TRAILERS
            self._scanned = 0
        return True

    def _chunk_end(self, out: list[bytes]) -> bool:
        if not b"\r\n".startswith(self._buffer[:2]):
            raise ProtocolError(400, "a chunk is longer than its size")
        if len(self._buffer) < 2:
            return False
        del self._buffer[:2]
        out.append(b"\r\n")
        self._part = _Part.CHUNK_LINE
        return True

    def _trailers(self, out: list[bytes]) -> bool:
        buffer = self._buffer
        if buffer[:2] == b"\r\n":
            end, size = 0, 2
        else:
            end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
            size = end + 4
        if end < 0 or size > self._options.header_bytes_max:
            check_characters(buffer, max(0, self._scanned - 1))
            if len(buffer) > self._options.header_bytes_max:
                raise ProtocolError(431, f"trailers exceed {self._options.header_bytes_max} bytes")
            self._scanned = len(buffer)
            return False
        section = self._take(size)
        check_characters(section)
        if end:
            parse_fields(section[:end].split(b"\r\n"), self._options)
        out.append(b"0\r\n\r\n")
        self._part = _Part.DONE
        return True
