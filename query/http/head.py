"""A request's head, read strictly: request line and fields (RFC 9112 sections 2, 3 and 5), framing (section 6).

h11 is generous where the standard permits it: bare LF, control characters, folded lines, spaces around. Generosity
is what smuggling is made of, so this module stands before it and h11 is told a canonical form of what passed. Where
the standard lets a server choose between repairing and refusing, we refuse with 400 and close.

The order of answers: bytes that no request line has, request line, version, bytes that no head has, fields, Host,
framing, method, size, expectation.
"""

import re
from typing import NamedTuple

from query.http.errors import ProtocolError
from query.http.options import HttpOptions
from query.http.target import Target, is_host, parse_target

# Control characters (HTAB apart), DEL, a CR without LF and a LF without CR: section 2.2, RFC 9110 section 5.5.
# A CR at the very end may still get its LF.
FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
TCHAR = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
TOKEN = re.compile(rb"[" + TCHAR + rb"]+")
REQUEST_LINE = re.compile(rb"([" + TCHAR + rb"]+) ([\x21-\x7e\x80-\xff]+) HTTP/([0-9])\.([0-9])")

# What the services understand somewhere; a known method on the wrong resource is their 405.
METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"})
METHOD_BYTES_MAX = 64  # a longer «method» is not one we lack, it is a request line without an end
LENGTH_DIGITS_MAX = 18  # more digits than any length that could be meant; no conversion is tried

CHUNKED = -1  # RequestHead.length of a chunked body

Fields = list[tuple[bytes, bytes]]


class RequestHead(NamedTuple):
    """One request's head, checked.

    Attributes:
        method: known, case-sensitive.
        target: where it goes.
        version: ``1.1`` or ``1.0``; a higher minor version counts as 1.1 (RFC 9110 section 2.5).
        fields: names in lower case, values without surrounding white space, in order.
        length: of the body in bytes, or CHUNKED.
        awaits_continue: the client waits for 100 before it sends the body.
        closes: the client wants the connection closed after the response.
    """

    method: bytes
    target: Target
    version: bytes
    fields: Fields
    length: int
    awaits_continue: bool
    closes: bool

    def canonical(self) -> bytes:
        """What h11 has to know of it: method, version, framing, persistence, expectation."""
        framing = b""
        if self.length == CHUNKED:
            framing = b"transfer-encoding: chunked\r\n"
        elif self.length:
            framing = b"content-length: %d\r\n" % self.length
        return b"%b / HTTP/%b\r\nhost: h\r\n%b%b%b\r\n" % (
            self.method,
            self.version,
            framing,
            b"expect: 100-continue\r\n" if self.awaits_continue else b"",
            b"connection: close\r\n" if self.closes else b"",
        )

    def asks_for_websocket(self, path: bytes) -> bool:
        """Whether it is the opening request of a WebSocket on this path (RFC 6455 section 4.1)."""
        return (
            self.target.path == path
            and self.method == b"GET"
            and self.version == b"1.1"
            and not self.length
            and b"websocket" in _members([value for name, value in self.fields if name == b"upgrade"])
        )

    def spelled(self) -> bytes:
        """The head in full, as it could have been received."""
        path, query, _ = self.target
        lines = [b"%b %b HTTP/%b" % (self.method, path + b"?" * bool(query) + query, self.version)]
        lines += [b"%b: %b" % field for field in self.fields]
        return b"\r\n".join([*lines, b"", b""])


def check_characters(data: bytes | bytearray, begin: int = 0) -> None:
    """No byte from begin on is one that FORBIDDEN names.

    Raises:
        ProtocolError: 400, one is.
    """
    if FORBIDDEN.search(data, begin):
        raise ProtocolError(400, "a control character, or CR and LF apart")


def check_beginning(data: bytes, options: HttpOptions) -> None:
    """Whether bytes from a request boundary on may still begin with a request line; what cannot is refused at once.

    Raises:
        ProtocolError: They cannot.
    """
    line, ending, _ = data.partition(b"\r\n")
    check_characters(line + ending)
    if ending or len(line) > options.request_line_bytes_max + 1:
        _parse_request_line(line, options)
    elif TOKEN.match(line) is None:
        raise ProtocolError(400, "a request begins with its method")


def parse_head(data: bytes, options: HttpOptions) -> RequestHead:
    """Read a complete head.

    Args:
        data: from the first byte of the request line to the end of the empty line.
        options: limits.

    Raises:
        ProtocolError: It breaks a rule.
    """
    lines = data.split(b"\r\n")
    check_characters(lines[0])  # the line by itself: the answer to it may not wait for the fields
    method, target, minor = _parse_request_line(lines[0], options)
    check_characters(data)
    return _parse_rest(method, target, b"1.0" if minor == b"0" else b"1.1", lines[1:-2], len(data), options)


def parse_fields(lines: list[bytes], options: HttpOptions) -> Fields:
    """Field lines of a head or of a trailer section (RFC 9112 section 5).

    Args:
        lines: without their CRLF, FORBIDDEN already excluded.
        options: limits.
    """
    if len(lines) > options.headers_max:
        raise ProtocolError(431, f"more than {options.headers_max} fields")
    fields: Fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or TOKEN.fullmatch(name) is None:
            if line[:1] in b" \t":
                raise ProtocolError(400, "a folded or indented field line")
            raise ProtocolError(400, "a field line is not name, colon, value")
        fields.append((name.lower(), value.strip(b" \t")))
    return fields


def _parse_request_line(line: bytes, options: HttpOptions) -> tuple[bytes, bytes, bytes]:
    if len(line) > options.request_line_bytes_max:
        if TOKEN.fullmatch(line[: METHOD_BYTES_MAX + 1]):
            raise ProtocolError(501, "this method is not implemented")  # section 3: longer than any we have
        raise ProtocolError(414, f"the request line exceeds {options.request_line_bytes_max} bytes")
    found = REQUEST_LINE.fullmatch(line)
    if found is None:
        raise ProtocolError(400, "the request line is not method, target, version")
    method, target, major, minor = found.groups()
    if major != b"1":
        raise ProtocolError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    return method, target, minor


def _parse_rest(
    method: bytes, target: bytes, version: bytes, lines: list[bytes], head_bytes: int, options: HttpOptions
) -> RequestHead:
    parsed = parse_target(method, target)
    if head_bytes > options.header_bytes_max:
        raise ProtocolError(431, f"request line and fields exceed {options.header_bytes_max} bytes")
    fields = parse_fields(lines, options)
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    expectations: list[bytes] = []
    closes = version == b"1.0"
    for name, value in fields:
        if name == b"host":
            hosts.append(value)
        elif name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name == b"expect":
            expectations.append(value)
        elif name == b"connection" and b"close" in _members([value]):
            closes = True
    # Section 3.2: none (1.1), more than one, or a wrong one is 400.
    if len(hosts) > 1 or (not hosts and version != b"1.0"):
        raise ProtocolError(400, "exactly one Host field is needed")
    if hosts and not is_host(hosts[0]):
        raise ProtocolError(400, "the Host field is not host[:port]")
    length = _body_length(version, lengths, codings)
    if method not in METHODS:
        raise ProtocolError(501, "this method is not implemented")
    if length > options.body_bytes_max:
        raise ProtocolError(413, f"a body has at most {options.body_bytes_max} bytes")
    awaits_continue = False
    if expectations and version != b"1.0":  # RFC 9110 section 10.1.1: HTTP/1.0 cannot expect
        wanted = _members(expectations)
        if wanted - {b"100-continue"}:
            raise ProtocolError(417, "the only expectation is 100-continue")
        awaits_continue = bool(wanted) and length != 0
    return RequestHead(method, parsed, version, fields, length, awaits_continue, closes)


def _members(values: list[bytes]) -> set[bytes]:
    """A comma-separated list's members, in lower case; empty ones do not count (RFC 9110 section 5.6.1)."""
    return {
        member for value in values for part in value.lower().split(b",") if (member := part.strip(b" \t"))
    }


def _body_length(version: bytes, lengths: list[bytes], codings: list[bytes]) -> int:
    """RFC 9112 section 6.3, with every doubtful case an error."""
    if codings:
        if version == b"1.0":
            raise ProtocolError(400, "HTTP/1.0 has no Transfer-Encoding")  # section 6.1
        if lengths:
            raise ProtocolError(400, "Transfer-Encoding and Content-Length together")  # section 6.3, item 3
        named = [part.strip(b" \t").lower() for part in b",".join(codings).split(b",")]
        if named[-1] != b"chunked" or b"chunked" in named[:-1] or b"" in named:
            raise ProtocolError(400, "chunked must be the last transfer coding, once")  # section 6.3, item 4
        if len(named) > 1:
            raise ProtocolError(501, "the only transfer coding is chunked")  # section 6.1
        return CHUNKED
    if not lengths:
        return 0
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise ProtocolError(400, "Content-Length must be one decimal number")  # RFC 9110 section 8.6
    digits = lengths[0].lstrip(b"0")
    if len(digits) > LENGTH_DIGITS_MAX:
        raise ProtocolError(413, "a body cannot be that long")
    return int(digits or b"0")
