"""Responses that the server gives without the application, and the fields that every response has."""

import json
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from query.http.errors import TOKENS, ProtocolError
from query.http.head import METHODS

# TRACE is known, and allowed nowhere (RFC 9110 section 15.5.6).
ALLOW_ALL = b", ".join(sorted(METHODS - {b"TRACE"}))
REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


class DateFields:
    """Date and Server (RFC 9110 sections 6.6.1 and 10.2.4), made once a second.

    Args:
        server: the Server field's value.
        unix_s: the wall clock, seconds.
    """

    def __init__(self, server: bytes, unix_s: Callable[[], float]) -> None:
        self._server = server
        self._unix_s = unix_s
        self._second = -1
        self._fields: tuple[tuple[bytes, bytes], ...] = ()

    def now(self) -> tuple[tuple[bytes, bytes], ...]:
        """The two fields, as they are at this second."""
        second = int(self._unix_s())
        if second != self._second:
            self._second = second
            date = formatdate(second, usegmt=True).encode("ascii")
            self._fields = ((b"date", date), (b"server", self._server))
        return self._fields


def render_error(error: ProtocolError, dates: DateFields) -> bytes:
    """A complete closing response, in the shape of the REST API's errors; without content for a HEAD."""
    body = json.dumps({"error": TOKENS[error.status], "detail": error.reason}, separators=(",", ":")).encode()
    fields = [
        *dates.now(),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    if error.status == 503:
        fields.append((b"retry-after", b"1"))
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (
        error.status, REASONS[error.status], lines, b"" if error.is_head else body,
    )  # fmt: skip
