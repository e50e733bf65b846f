"""RFC 9110 and 9112 as a table: what is sent, and what a strict origin server does.

Every row is named after its clause. ``statuses`` are the responses in order; ``open`` says whether the connection can
be used afterwards. ``probe`` runs a row against a port (a listener with the daemon behind it, say), in one of MODES;
the rows need two resources only: ``GET /healthz`` (200) and ``POST /post_v2/``, which reads its body and answers 401,
for no row has a token. A row is judged by what follows it: a witness request that must be answered (open) or must not
(closed), so a body read too short or too long shows.
"""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

WITNESS = b"GET /healthz HTTP/1.1\r\nHost: witness\r\nConnection: close\r\n\r\n"
# A plain post that the fast lane takes; what comes behind it crosses the hand-over.
LANE_POST = b"POST /post_v2/ HTTP/1.1\r\nHost: lane\r\nX-DEVICEID: d\r\nContent-Length: 1\r\n\r\n1"
MODES = ("whole", "bytes", "alone", "behind")
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Case:
    """One row.

    Attributes:
        clause: of the standard.
        says: what it demands, or what we chose where it leaves a choice.
        sent: the request, or what pretends to be one.
        statuses: of the final responses, in order.
        open: whether the witness is answered; None: half of the request only, then the client closes its side.
        fields: field lines that the last response must have (regular expressions, any case).
    """

    clause: str
    says: str
    sent: bytes
    statuses: tuple[int, ...]
    open: bool | None
    fields: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.clause} {self.says}"


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    head: str
    body: bytes


def get(
    fields: bytes = b"",
    target: bytes = b"/healthz",
    version: bytes = b"HTTP/1.1",
    host: bytes = b"Host: h\r\n",
) -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + host + fields + b"\r\n"


def post(fields: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return b"POST /post_v2/ " + version + b"\r\nHost: h\r\n" + fields + b"\r\n" + body


def chunked(body: bytes, fields: bytes = b"") -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n" + fields, body)


# (clause, what it says, bytes, statuses, "open" | "close" | "half", fields...)
Row = tuple[str, str, bytes, str, str] | tuple[str, str, bytes, str, str, str]

START_LINE: list[Row] = [
    ("9112-3", "a plain GET", get(), "200", "open", r"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"),
    ("9112-2.2", "an empty line before the request line is ignored", b"\r\n" + get(), "200", "open"),
    ("9112-2.2", "several empty lines are ignored too", b"\r\n\r\n\r\n" + get(), "200", "open"),
    ("9112-2.2", "an empty line of a bare LF is not one", b"\n" + get(), "400", "close"),
    ("9112-2.2", "bare LF ends no line", b"GET /healthz HTTP/1.1\nHost: h\n\n", "400", "close"),
    ("9112-2.2", "bare LF ends no field", b"GET /healthz HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", "400", "close"),
    ("9112-2.2", "bare LF ends no head", b"GET /healthz HTTP/1.1\r\nHost: h\r\n\n", "400", "close"),
    ("9112-2.2", "bare CR in the request line", b"GET /healthz\r HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-2.2", "bare CR for a line end", b"GET /healthz HTTP/1.1\rHost: h\r\r", "400", "close"),
    ("9112-2.2", "bare CR in a field", get(b"X: a\rb\r\n"), "400", "close"),
    ("9112-2.2", "CR CR LF", b"GET /healthz HTTP/1.1\r\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-2.2", "white space before the first field", b"GET /healthz HTTP/1.1\r\n Host: h\r\n\r\n", "400", "close"),
    ("9112-2.2", "a tab before the first field", b"GET /healthz HTTP/1.1\r\n\tX: y\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-2.2", "a space before the method", b" " + get(), "400", "close"),
    ("9112-2.2", "a UTF-8 byte order mark", b"\xef\xbb\xbf" + get(), "400", "close"),
    ("9112-2.2", "UTF-16", "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n".encode("utf-16-le"), "400", "close"),
    ("9112-2.2", "a TLS ClientHello", bytes.fromhex("16 03 01 00 05 01 00 00 01 00"), "400", "close"),
    ("9112-2.2", "MQTT on the HTTP port", bytes.fromhex("10 0c 00 04 4d 51 54 54 04 02 00 3c 00 00"), "400", "close"),
    ("9112-3", "two spaces after the method", b"GET  /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3", "two spaces before the version", b"GET /healthz  HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3", "a tab between the parts", b"GET\t/healthz\tHTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3", "a vertical tab between the parts", b"GET\x0b/healthz HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3", "a space after the version", b"GET /healthz HTTP/1.1 \r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3", "a fourth part", b"GET /healthz HTTP/1.1 x\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3", "a space in the target", get(target=b"/heal thz"), "400", "close"),
    ("9112-3", "no target", b"GET HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3", "an empty target", b"GET  HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3", "HTTP/0.9: no version", b"GET /healthz\r\n\r\n", "400", "close"),
    ("9112-3", "a method alone", b"GET\r\n\r\n", "400", "close"),
    ("9112-3", "a target of 7900 bytes is read", get(target=b"/healthz?" + b"a" * 7890), "200", "open"),
    ("9112-3", "a target that is too long", get(target=b"/" + b"a" * 9000), "414", "close"),
    ("9112-3", "a target without an end", b"GET /" + b"a" * 20_000, "414", "close"),
    ("9112-3", "a method longer than any", b"A" * 9000 + b" / HTTP/1.1\r\nHost: h\r\n\r\n", "501", "close"),
    ("9112-3.1", "a method is a token: parenthesis", b"G(T /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3.1", "a method is a token: at sign", b"G@T /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3.1", "a method is a token: colon", b"GET: /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3.1", "a method is a token: obs-text", b"G\xc9T /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3.1", "a method is a token: NUL", b"GE\x00T /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9110-9.1", "an unknown method", b"BREW /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "501", "close"),
    ("9110-9.1", "an unknown method of odd tchars", b"!#$%&'*+-.^_`|~09 / HTTP/1.1\r\nHost: h\r\n\r\n", "501", "close"),
    ("9110-9.1", "methods are case-sensitive", b"get /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "501", "close"),
    ("9110-9.3.2", "HEAD has no content", b"HEAD /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "200", "open"),
    ("9110-9.3.2", "HEAD of nothing has no content either", b"HEAD /nothing HTTP/1.1\r\nHost: h\r\n\r\n", "404", "open"),
    ("9110-9.3.2", "a malformed HEAD has no content", b"HEAD /healthz HTTP/1.1\r\n\r\n", "400", "close"),
    ("9110-9.3.6", "CONNECT is not implemented", b"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", "501", "close"),
    ("9110-9.3.8", "TRACE is not implemented", b"TRACE /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "501", "close"),
    ("9110-9.3.7", "OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "200", "open", r"allow: .*GET"),
    ("9110-15.5.6", "a method the resource lacks, with Allow", b"DELETE /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "405", "open", r"allow: .*GET"),
    ("9110-15.5.6", "GET of the connector, with Allow", get(target=b"/post_v2/"), "405", "open", r"allow: .*POST"),
    ("9110-15.5.5", "a resource that is not there", get(target=b"/nothing"), "404", "open"),
    ("9112-2.3", "HTTP/1.0", get(version=b"HTTP/1.0"), "200", "close", r"connection: close"),
    ("9112-2.3", "HTTP/1.0 without Host", get(version=b"HTTP/1.0", host=b""), "200", "close"),
    ("9110-2.5", "a higher minor version counts as 1.1", get(version=b"HTTP/1.2"), "200", "open"),
    ("9110-2.5", "1.9 counts as 1.1", get(version=b"HTTP/1.9"), "200", "open"),
    ("9110-2.5", "1.9 without Host", get(version=b"HTTP/1.9", host=b""), "400", "close"),
    ("9110-15.6.6", "HTTP/2.0", get(version=b"HTTP/2.0"), "505", "close"),
    ("9110-15.6.6", "HTTP/0.9 in words", get(version=b"HTTP/0.9"), "505", "close"),
    ("9110-15.6.6", "HTTP/9.9", get(version=b"HTTP/9.9"), "505", "close"),
    ("9113-3.4", "the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505", "close"),
    ("9112-2.3", "the version's name is case-sensitive", get(version=b"http/1.1"), "400", "close"),
    ("9112-2.3", "one digit after the point", get(version=b"HTTP/1.10"), "400", "close"),
    ("9112-2.3", "one digit before the point", get(version=b"HTTP/01.1"), "400", "close"),
    ("9112-2.3", "a version has a point", get(version=b"HTTP/11"), "400", "close"),
    ("9112-2.3", "a version has a minor", get(version=b"HTTP/1."), "400", "close"),
    ("9112-2.3", "a version has digits", get(version=b"HTTP/1.x"), "400", "close"),
    ("9112-2.3", "a version has a name", get(version=b"1.1"), "400", "close"),
    ("9112-2.3", "a version has no sign", get(version=b"HTTP/+1.1"), "400", "close"),
    ("9112-2.3", "another protocol", get(version=b"RTSP/1.0"), "400", "close"),
    ("9112-2.3", "a space in the version", get(version=b"HTTP/ 1.1"), "400", "close"),
]  # fmt: skip

TARGET: list[Row] = [
    ("9112-3.2.1", "a query", get(target=b"/healthz?a=1&b=/?:@!$&'()*+,;=~"), "200", "open"),
    ("9112-3.2.1", "percent-encoding is decoded", get(target=b"/%68ealthz"), "200", "open"),
    ("9112-3.2.1", "a fragment is not sent", get(target=b"/healthz#x"), "400", "close"),
    ("9112-3.2.1", "not a path", get(target=b"healthz"), "400", "close"),
    ("9112-3.2.1", "a backslash", get(target=b"/heal\\thz"), "400", "close"),
    ("9112-3.2.1", "a quotation mark", get(target=b'/"'), "400", "close"),
    ("9112-3.2.1", "angle brackets", get(target=b"/<script>"), "400", "close"),
    ("9112-3.2.1", "braces", get(target=b"/{a}"), "400", "close"),
    ("9112-3.2.1", "a caret in the query", get(target=b"/healthz?^"), "400", "close"),
    ("9112-3.2.1", "raw UTF-8", get(target=b"/\xc3\xa9"), "400", "close"),
    ("9112-3.2.1", "NUL", get(target=b"/heal\x00thz"), "400", "close"),
    ("9112-3.2.1", "DEL", get(target=b"/heal\x7fthz"), "400", "close"),
    ("9112-3.2.1", "a percent sign alone", get(target=b"/%"), "400", "close"),
    ("9112-3.2.1", "a percent sign with one digit", get(target=b"/%4"), "400", "close"),
    ("9112-3.2.1", "a percent sign with no digits", get(target=b"/%zz"), "400", "close"),
    ("9112-3.2.1", "a percent sign in the query", get(target=b"/healthz?%g1"), "400", "close"),
    ("9112-3.2.2", "absolute-form is accepted", get(target=b"http://h/healthz"), "200", "open"),
    ("9112-3.2.2", "absolute-form with port and query", get(target=b"http://h:8080/healthz?x"), "200", "open"),
    ("9112-3.2.2", "absolute-form overrules Host", get(target=b"http://other/healthz"), "200", "open"),
    ("9112-3.2.2", "absolute-form needs Host too", get(target=b"http://h/healthz", host=b""), "400", "close"),
    ("9112-3.2.2", "absolute-form does not excuse a wrong Host", get(target=b"http://h/healthz", host=b"Host: a b\r\n"), "400", "close"),
    ("9110-4.2.3", "schemes are case-insensitive", get(target=b"HTTP://H/healthz"), "200", "open"),
    ("9110-4.2.3", "an empty path is /", get(target=b"http://h"), "404", "open"),
    ("9110-4.2.3", "an empty path before a query is /", get(target=b"http://h?x"), "404", "open"),
    ("9110-4.2.1", "an empty host in absolute-form", get(target=b"http:///healthz"), "400", "close"),
    ("9110-4.2.1", "a port without a host", get(target=b"http://:80/healthz"), "400", "close"),
    ("9110-4.2.4", "userinfo is an error", get(target=b"http://u:p@h/healthz"), "400", "close"),
    ("9110-7.4", "https over a connection that is not secured", get(target=b"https://h/healthz"), "421", "close"),
    ("9112-3.2.2", "another scheme", get(target=b"ftp://h/healthz"), "400", "close"),
    ("9112-3.2.2", "a scheme without an authority", get(target=b"http:/healthz"), "400", "close"),
    ("9112-3.2.2", "a fragment in absolute-form", get(target=b"http://h/healthz#x"), "400", "close"),
    ("9112-3.2.2", "a wrong port in absolute-form", get(target=b"http://h:x/healthz"), "400", "close"),
    ("9112-3.2.3", "authority-form is for CONNECT", get(target=b"h:80"), "400", "close"),
    ("9112-3.2.3", "CONNECT needs authority-form", b"CONNECT /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3.2.3", "CONNECT needs a port", b"CONNECT h HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
    ("9112-3.2.4", "asterisk-form is for OPTIONS", get(target=b"*"), "400", "close"),
    ("9112-3.2.4", "OPTIONS of an absolute-form without a path is *", b"OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n", "200", "open"),
    ("9112-3.2.4", "an asterisk and more", b"OPTIONS *x HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close"),
]  # fmt: skip

HOST: list[Row] = [
    ("9112-3.2", "no Host", get(host=b""), "400", "close"),
    ("9112-3.2", "two Hosts", get(host=b"Host: a\r\nHost: b\r\n"), "400", "close"),
    ("9112-3.2", "two equal Hosts", get(host=b"Host: a\r\nHost: a\r\n"), "400", "close"),
    ("9112-3.2", "two Hosts in HTTP/1.0", get(host=b"Host: a\r\nHost: b\r\n", version=b"HTTP/1.0"), "400", "close"),
    ("9112-3.2", "a wrong Host in HTTP/1.0", get(host=b"Host: a b\r\n", version=b"HTTP/1.0"), "400", "close"),
    ("9112-3.3", "an empty Host means the default", get(host=b"Host:\r\n"), "200", "open"),
    ("9110-7.2", "Host with a port", get(host=b"Host: h:8080\r\n"), "200", "open"),
    ("9110-7.2", "Host with an empty port", get(host=b"Host: h:\r\n"), "200", "open"),
    ("9110-7.2", "Host is an IPv4 address", get(host=b"Host: 127.0.0.1:80\r\n"), "200", "open"),
    ("9110-7.2", "Host is an IPv6 address", get(host=b"Host: [::1]:80\r\n"), "200", "open"),
    ("9110-7.2", "Host with percent-encoding", get(host=b"Host: a%20b\r\n"), "200", "open"),
    ("9110-7.2", "Host in capitals", get(host=b"HOST: EXAMPLE.com\r\n"), "200", "open"),
    ("9110-7.2", "Host with a space", get(host=b"Host: a b\r\n"), "400", "close"),
    ("9110-7.2", "Host with a path", get(host=b"Host: h/x\r\n"), "400", "close"),
    ("9110-7.2", "Host with a query", get(host=b"Host: h?x\r\n"), "400", "close"),
    ("9110-7.2", "Host with userinfo", get(host=b"Host: u@h\r\n"), "400", "close"),
    ("9110-7.2", "Host is a URI", get(host=b"Host: http://h\r\n"), "400", "close"),
    ("9110-7.2", "Host is a list", get(host=b"Host: a, b\r\n"), "400", "close"),
    ("9110-7.2", "a port of letters", get(host=b"Host: h:http\r\n"), "400", "close"),
    ("9110-7.2", "a negative port", get(host=b"Host: h:-1\r\n"), "400", "close"),
    ("9110-7.2", "a port beyond 65535", get(host=b"Host: h:65536\r\n"), "400", "close"),
    ("9110-7.2", "two ports", get(host=b"Host: h:80:80\r\n"), "400", "close"),
    ("9110-7.2", "an IPv6 address without brackets", get(host=b"Host: ::1\r\n"), "400", "close"),
    ("9110-7.2", "half a bracket", get(host=b"Host: [::1\r\n"), "400", "close"),
    ("9110-7.2", "not an IPv6 address", get(host=b"Host: [::g]\r\n"), "400", "close"),
    ("9110-7.2", "a bad percent-encoding in Host", get(host=b"Host: a%zz\r\n"), "400", "close"),
    ("9110-7.2", "a quotation mark in Host", get(host=b'Host: "h"\r\n'), "400", "close"),
    ("9110-7.2", "obs-text in Host", get(host=b"Host: h\xe9\r\n"), "400", "close"),
]  # fmt: skip

FIELDS: list[Row] = [
    ("9112-5.1", "no space after the colon", get(host=b"Host:h\r\n"), "200", "open"),
    ("9112-5.1", "white space around a value is not part of it", get(host=b"Host: \t h \t \r\n"), "200", "open"),
    ("9112-5.1", "a space before the colon", get(host=b"Host : h\r\n"), "400", "close"),
    ("9112-5.1", "a tab before the colon", get(b"X\t: y\r\n"), "400", "close"),
    ("9112-5.1", "a space before the colon of Content-Length", post(b"Content-Length : 1\r\n", b"1"), "400", "close"),
    ("9112-5", "no colon", get(b"X\r\n"), "400", "close"),
    ("9112-5", "no name", get(b": y\r\n"), "400", "close"),
    ("9112-5", "an empty value", get(b"X:\r\n"), "200", "open"),
    ("9112-5", "a value with colons", get(b"X: a:b:c\r\n"), "200", "open"),
    ("9112-5.2", "a folded field", get(b"X: a\r\n b\r\n"), "400", "close"),
    ("9112-5.2", "a field folded by a tab", get(b"X: a\r\n\tb\r\n"), "400", "close"),
    ("9112-5.2", "a fold at the end", get(b"X: a\r\n \r\n"), "400", "close"),
    ("9112-5.2", "a folded Transfer-Encoding", post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9110-5.1", "a name with a space", get(b"X Y: z\r\n"), "400", "close"),
    ("9110-5.1", "a name with a bracket", get(b"X[Y]: z\r\n"), "400", "close"),
    ("9110-5.1", "a name with a slash", get(b"X/Y: z\r\n"), "400", "close"),
    ("9110-5.1", "a name with a quotation mark", get(b'"X": z\r\n'), "400", "close"),
    ("9110-5.1", "a name with obs-text", get(b"X\xe9: z\r\n"), "400", "close"),
    ("9110-5.1", "a name with NUL", get(b"X\x00: z\r\n"), "400", "close"),
    ("9110-5.1", "every tchar is fine in a name", get(b"!#$%&'*+-.^_`|~09azAZ: y\r\n"), "200", "open"),
    ("9110-5.1", "names are case-insensitive", post(b"cOnTeNt-LeNgTh: 1\r\n", b"1"), "401", "open"),
    ("9110-5.5", "NUL in a value", get(b"X: a\x00b\r\n"), "400", "close"),
    ("9110-5.5", "a control character in a value", get(b"X: a\x01b\r\n"), "400", "close"),
    ("9110-5.5", "an escape in a value", get(b"X: \x1b[0m\r\n"), "400", "close"),
    ("9110-5.5", "DEL in a value", get(b"X: \x7f\r\n"), "400", "close"),
    ("9110-5.5", "a tab in a value", get(b"X: a\tb\r\n"), "200", "open"),
    ("9110-5.5", "obs-text in a value", get(b"X: caf\xe9 \xc3\xa9\r\n"), "200", "open"),
    ("9110-5.3", "a field may come twice", get(b"X: a\r\nX: b\r\n"), "200", "open"),
    ("9110-5.4", "a field that is too large", get(b"X: " + b"a" * 20_000 + b"\r\n"), "431", "close"),
    ("9110-5.4", "fields without an end", b"GET /healthz HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 5000, "431", "close"),
    ("9110-5.4", "a field without an end", b"GET /healthz HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 20_000, "431", "close"),
    ("9110-5.4", "too many fields", get(b"X: y\r\n" * 1000), "431", "close"),
    ("9110-5.4", "8 KiB of fields are read", get(b"X: " + b"a" * 8000 + b"\r\n"), "200", "open"),
    ("9110-7.8", "an Upgrade that is not wanted is ignored", get(b"Connection: upgrade\r\nUpgrade: foo/2\r\n"), "200", "open"),
    ("9110-7.8", "h2c is ignored", get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"), "200", "open"),
    ("9110-10.1.4", "TE says nothing about the request", get(b"TE: trailers\r\nConnection: TE\r\n"), "200", "open"),
    ("9110-14.2", "an unknown Range unit is ignored", get(b"Range: lines=1-2\r\n"), "200", "open"),
]  # fmt: skip

FRAMING: list[Row] = [
    ("9112-6.3", "no Content-Length, no body", post(b""), "401", "open"),
    ("9112-6.3", "Content-Length 0", post(b"Content-Length: 0\r\n"), "401", "open"),
    ("9112-6.2", "a body", post(b"Content-Length: 5\r\n", b"12345"), "401", "open"),
    ("9112-6.2", "leading zeros", post(b"Content-Length: 0005\r\n", b"12345"), "401", "open"),
    ("9112-6.2", "a body on a GET", get(b"Content-Length: 5\r\n") + b"12345", "200", "open"),
    ("9112-6.2", "a body that looks like a request", post(b"Content-Length: %d\r\n" % len(WITNESS), WITNESS), "401", "open"),
    ("9110-8.6", "a negative length", post(b"Content-Length: -1\r\n", b"1"), "400", "close"),
    ("9110-8.6", "a length with a plus", post(b"Content-Length: +1\r\n", b"1"), "400", "close"),
    ("9110-8.6", "a length in hexadecimal", post(b"Content-Length: 0x1\r\n", b"1"), "400", "close"),
    ("9110-8.6", "a length with a fraction", post(b"Content-Length: 1.0\r\n", b"1"), "400", "close"),
    ("9110-8.6", "a length with an exponent", post(b"Content-Length: 1e0\r\n", b"1"), "400", "close"),
    ("9110-8.6", "a length with an underscore", post(b"Content-Length: 1_0\r\n", b"1" * 10), "400", "close"),
    ("9110-8.6", "a length with letters", post(b"Content-Length: 1a\r\n", b"1"), "400", "close"),
    ("9110-8.6", "an empty length", post(b"Content-Length:\r\n"), "400", "close"),
    ("9110-8.6", "a length of two numbers", post(b"Content-Length: 1 1\r\n", b"1"), "400", "close"),
    ("9110-8.6", "a length in quotes", post(b'Content-Length: "1"\r\n', b"1"), "400", "close"),
    ("9110-8.6", "a length in other digits", post("Content-Length: \u0661\r\n".encode(), b"1"), "400", "close"),
    ("9110-8.6", "a list of equal lengths is refused", post(b"Content-Length: 1, 1\r\n", b"1"), "400", "close"),
    ("9110-8.6", "a list of lengths", post(b"Content-Length: 1, 2\r\n", b"12"), "400", "close"),
    ("9110-8.6", "two equal lengths are refused", post(b"Content-Length: 1\r\nContent-Length: 1\r\n", b"1"), "400", "close"),
    ("9110-8.6", "two lengths", post(b"Content-Length: 1\r\nContent-Length: 2\r\n", b"12"), "400", "close"),
    ("9110-8.6", "a wrong length on a GET", get(b"Content-Length: x\r\n"), "400", "close"),
    ("9110-15.5.14", "a length beyond the limit", post(b"Content-Length: 99999999999\r\n", b"1"), "413", "close"),
    ("9110-8.6", "a length beyond any integer", post(b"Content-Length: " + b"9" * 40 + b"\r\n", b"1"), "413", "close"),
    ("9110-8.6", "2^64 + 1 is not 1", post(b"Content-Length: 18446744073709551617\r\n", b"1"), "413", "close"),
    ("9112-6.3", "Transfer-Encoding and Content-Length", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.3", "Content-Length and Transfer-Encoding", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.3", "both on a GET", get(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n", "400", "close"),
    ("9112-6.3", "Content-Length 0 and Transfer-Encoding", post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.1", "Transfer-Encoding in HTTP/1.0", post(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"HTTP/1.0"), "400", "close"),
    ("9112-6.1", "both in HTTP/1.0", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n", b"HTTP/1.0"), "400", "close"),
    ("9112-6.1", "a coding that is not ours, then chunked", post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), "501", "close"),
    ("9112-6.1", "the same in two fields", post(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), "501", "close"),
    ("9112-6.1", "identity, then chunked", post(b"Transfer-Encoding: identity, chunked\r\n", b"0\r\n\r\n"), "501", "close"),
    ("9112-6.3", "chunked is not the last coding", post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.3", "chunked is not a coding", post(b"Transfer-Encoding: gzip\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.3", "identity alone", post(b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.3", "xchunked", post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.3", "chunkedx", post(b"Transfer-Encoding: chunkedx\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.3", "chunked in quotes", post(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"), "400", "close"),
    ("9112-6.3", "a vertical tab before chunked", post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.3", "an empty Transfer-Encoding", post(b"Transfer-Encoding:\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.1", "chunked twice", post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.1", "chunked twice, in two fields", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.1", "chunked and identity, in two fields", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "chunked has no parameters", post(b"Transfer-Encoding: chunked;q=1\r\n", b"0\r\n\r\n"), "400", "close"),
    ("9112-6.1", "codings are case-insensitive", post(b"Transfer-Encoding: CHUNKED\r\n", b"1\r\n1\r\n0\r\n\r\n"), "401", "open"),
    ("9112-6.1", "a tab before chunked is white space", post(b"Transfer-Encoding:\tchunked\r\n", b"1\r\n1\r\n0\r\n\r\n"), "401", "open"),
    ("9112-6.1", "an underscore makes another field", post(b"Transfer_Encoding: chunked\r\nContent-Length: 1\r\n", b"1"), "401", "open"),
    ("9112-6.3", "a body that never comes", post(b"Content-Length: 5\r\n", b"12"), "400", "half"),
    ("9112-8", "half a head, then the end", b"GET /healthz HTTP/1.1\r\nHost: h\r\n", "400", "half"),
    ("9112-8", "half a request line, then the end", b"GET /hea", "400", "half"),
    ("9112-8", "half a chunk, then the end", chunked(b"5\r\n12"), "400", "half"),
    ("9112-8", "no last chunk, then the end", chunked(b"1\r\n1\r\n"), "400", "half"),
    ("9112-8", "no end of the trailers, then the end", chunked(b"0\r\nX: y\r\n"), "400", "half"),
    ("9112-9.6", "a client that closes its side is still answered", get(), "200", "half"),
    ("9112-9.6", "nothing, then the end", b"", "", "half"),
    ("9112-2.2", "an empty line, then the end", b"\r\n", "", "half"),
]  # fmt: skip

CHUNKED: list[Row] = [
    ("9112-7.1", "one chunk", chunked(b"5\r\n12345\r\n0\r\n\r\n"), "401", "open"),
    ("9112-7.1", "several chunks", chunked(b"1\r\n1\r\n2\r\n23\r\n0\r\n\r\n"), "401", "open"),
    ("9112-7.1", "no chunks", chunked(b"0\r\n\r\n"), "401", "open"),
    ("9112-7.1", "a chunked GET", get(b"Transfer-Encoding: chunked\r\n") + b"1\r\n1\r\n0\r\n\r\n", "200", "open"),
    ("9112-7.1", "sizes in capitals", chunked(b"A\r\n1234567890\r\n0\r\n\r\n"), "401", "open"),
    ("9112-7.1", "sizes in small letters", chunked(b"a\r\n1234567890\r\n0\r\n\r\n"), "401", "open"),
    ("9112-7.1", "leading zeros", chunked(b"0000005\r\n12345\r\n000\r\n\r\n"), "401", "open"),
    ("9112-7.1", "data that looks like a chunk", chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), "401", "open"),
    ("9112-7.1", "a size with 0x", chunked(b"0x5\r\n12345\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "a negative size", chunked(b"-1\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "a size with a plus", chunked(b"+1\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "a size that is not hexadecimal", chunked(b"g\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "a size with an underscore", chunked(b"1_0\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "no size", chunked(b"\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "white space before a size", chunked(b" 1\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "white space after a size", chunked(b"1 \r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "a tab after a size", chunked(b"1\t\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "a size with a fraction", chunked(b"1.0\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "a size that ends in bare LF", chunked(b"1\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "a size that ends in bare CR", chunked(b"1\r1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "a size that ends in CR CR LF", chunked(b"1\r\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "data that ends in bare LF", chunked(b"1\r\n1\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "data that ends in bare CR", chunked(b"1\r\n1\r0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "data longer than its size", chunked(b"1\r\n12\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "data shorter than its size", chunked(b"3\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1", "no line end after the data", chunked(b"1\r\n10\r\n\r\n"), "400", "close"),
    ("9112-7.1", "the last chunk ends in bare LF", chunked(b"1\r\n1\r\n0\n\n"), "400", "close"),
    ("9112-7.1", "the trailers end in bare LF", chunked(b"1\r\n1\r\n0\r\n\n"), "400", "close"),
    ("9112-7.1", "a size beyond the limit", chunked(b"fffffffff\r\n1"), "413", "close"),
    ("9112-7.1", "a size beyond any integer", chunked(b"f" * 30 + b"\r\n1"), "413", "close"),
    ("9112-7.1", "2^64 + 1 is not 1", chunked(b"10000000000000001\r\n1\r\n0\r\n\r\n"), "413", "close"),
    ("9112-7.1.1", "an extension", chunked(b"1;a\r\n1\r\n0\r\n\r\n"), "401", "open"),
    ("9112-7.1.1", "an extension with a value", chunked(b"1;a=b\r\n1\r\n0;c=d\r\n\r\n"), "401", "open"),
    ("9112-7.1.1", "an extension with a quoted value", chunked(b'1;a="b;\\"c\t\xe9"\r\n1\r\n0\r\n\r\n'), "401", "open"),
    ("9112-7.1.1", "several extensions", chunked(b"1;a=b;c;d=e\r\n1\r\n0\r\n\r\n"), "401", "open"),
    ("9112-7.1.1", "bad white space around an extension", chunked(b"1 ; a = b\r\n1\r\n0\r\n\r\n"), "401", "open"),
    ("9112-7.1.1", "an extension without a name", chunked(b"1;\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1.1", "an extension without a value", chunked(b"1;a=\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1.1", "a quoted value without its end", chunked(b'1;a="b\r\n1\r\n0\r\n\r\n'), "400", "close"),
    ("9112-7.1.1", "an extension with NUL", chunked(b"1;a\x00\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1.1", "an extension with bare LF", chunked(b"1;a\n\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1.1", "an extension with bare CR", chunked(b"1;a\rb\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1.1", "an extension of obs-text", chunked(b"1;\xe9\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1.1", "an extension that is too long", chunked(b"1;" + b"a" * 5000 + b"\r\n1\r\n0\r\n\r\n"), "400", "close"),
    ("9112-7.1.1", "an extension without an end", chunked(b"1;" + b"a" * 5000), "400", "close"),
    ("9112-7.1.1", "extensions that are too long together", chunked(b"".join([b"1;" + b"a" * 1000 + b"\r\n1\r\n"] * 20) + b"0\r\n\r\n"), "400", "close"),
    ("9112-7.1.2", "trailers", chunked(b"1\r\n1\r\n0\r\nX: y\r\nZ:\r\n\r\n"), "401", "open"),
    ("9110-6.5.1", "a trailer does not change the framing", chunked(b"1\r\n1\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\n"), "401", "open"),
    ("9112-7.1.2", "a trailer without a colon", chunked(b"1\r\n1\r\n0\r\nX\r\n\r\n"), "400", "close"),
    ("9112-7.1.2", "a space before a trailer's colon", chunked(b"1\r\n1\r\n0\r\nX : y\r\n\r\n"), "400", "close"),
    ("9112-7.1.2", "a folded trailer", chunked(b"1\r\n1\r\n0\r\nX: y\r\n z\r\n\r\n"), "400", "close"),
    ("9112-7.1.2", "NUL in a trailer", chunked(b"1\r\n1\r\n0\r\nX: \x00\r\n\r\n"), "400", "close"),
    ("9112-7.1.2", "a bare LF in a trailer", chunked(b"1\r\n1\r\n0\r\nX: y\nZ: a\r\n\r\n"), "400", "close"),
    ("9112-7.1.2", "trailers that are too large", chunked(b"1\r\n1\r\n0\r\n" + b"X: y\r\n" * 5000), "431", "close"),
    ("9112-7.1.2", "a request instead of the trailers' end", chunked(b"1\r\n1\r\n0\r\n") + get(), "400", "close"),
]  # fmt: skip

CONNECTION: list[Row] = [
    ("9112-9.3", "HTTP/1.1 persists", get(), "200", "open"),
    ("9112-9.3", "keep-alive says nothing new", get(b"Connection: keep-alive\r\n"), "200", "open"),
    ("9112-9.6", "close closes", get(b"Connection: close\r\n"), "200", "close", r"connection: close"),
    ("9112-9.6", "options are case-insensitive", get(b"Connection: CLOSE\r\n"), "200", "close"),
    ("9112-9.6", "close in a list", get(b"Connection: keep-alive, close\r\n"), "200", "close"),
    ("9112-9.6", "close in a second field", get(b"Connection: foo\r\nConnection: close\r\n"), "200", "close"),
    ("9112-9.6", "close with empty members", get(b"Connection: , close ,\r\n"), "200", "close"),
    ("9112-9.6", "closed is another option", get(b"Connection: closed\r\n"), "200", "open"),
    ("9112-9.6", "close after a body", post(b"Content-Length: 1\r\nConnection: close\r\n", b"1"), "401", "close"),
    ("9112-9.6", "nothing is read after close", post(b"Content-Length: 1\r\nConnection: close\r\n", b"1\r\n") + get(), "401", "close"),
    ("9112-9.3.2", "pipelined requests are answered in order", get() + get(target=b"/nothing") + get(), "200 404 200", "open"),
    ("9112-9.3.2", "pipelined bodies", post(b"Content-Length: 1\r\n", b"1") + chunked(b"1\r\n1\r\n0\r\n\r\n") + get(), "401 401 200", "open"),
    ("9112-9.3.2", "pipelined HEAD and GET", b"HEAD /healthz HTTP/1.1\r\nHost: h\r\n\r\n" + get(), "200 200", "open"),
    ("9112-9.3.2", "the first is answered, the malformed second refused", get() + b"GET / HTTP/1.1\r\n\r\n", "200 400", "close"),
    ("9112-2.2", "an empty line behind a body", post(b"Content-Length: 1\r\n", b"1\r\n") + get(), "401 200", "open"),
    ("9110-10.1.1", "Expect with the body behind it", post(b"Content-Length: 1\r\nExpect: 100-continue\r\n", b"1"), "401", "open"),
    ("9110-10.1.1", "Expect is case-insensitive", post(b"Content-Length: 1\r\nExpect: 100-Continue\r\n", b"1"), "401", "open"),
    ("9110-10.1.1", "Expect without a body", get(b"Expect: 100-continue\r\n"), "200", "open"),
    ("9110-10.1.1", "an unknown expectation", get(b"Expect: the-unexpected\r\n"), "417", "close"),
    ("9110-10.1.1", "one known, one unknown expectation", post(b"Content-Length: 1\r\nExpect: 100-continue, x\r\n", b"1"), "417", "close"),
    ("9110-10.1.1", "an empty expectation", get(b"Expect:\r\n"), "200", "open"),
    ("9110-10.1.1", "HTTP/1.0 cannot expect", post(b"Content-Length: 1\r\nExpect: x\r\n", b"1", b"HTTP/1.0"), "401", "close"),
    ("9110-10.1.1", "a body too large is refused before it is sent", post(b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n"), "413", "close"),
    ("9110-11.6.1", "401 has a challenge", post(b"Content-Length: 1\r\n", b"1"), "401", "open", r"www-authenticate: \S"),
]  # fmt: skip


def _case(row: Row) -> Case:
    clause, says, sent, statuses, after = row[:5]
    is_open = {"open": True, "close": False, "half": None}[after]
    return Case(clause, says, sent, tuple(map(int, statuses.split())), is_open, row[5:])


CASES: list[Case] = [
    _case(row) for row in [*START_LINE, *TARGET, *HOST, *FIELDS, *FRAMING, *CHUNKED, *CONNECTION]
]  # fmt: skip


def stream_of(case: Case, mode: str) -> bytes:
    """All bytes that the client sends in this mode."""
    before = LANE_POST if mode == "behind" else b""
    after = b"" if case.open is None or mode == "alone" else WITNESS
    return before + case.sent + after


def applies(case: Case, mode: str) -> bool:
    """Alone is for what must be refused without waiting for more; long rows are not sent byte by byte."""
    if mode == "alone":
        return case.open is False
    return mode != "bytes" or len(case.sent) < 2000


def judge(case: Case, mode: str, received: bytes) -> str | None:
    """What is wrong with everything that the server sent until it closed; None if nothing is."""
    statuses = ((401,) if mode == "behind" else ()) + case.statuses + ((200,) if case.open else ())
    methods = [b"POST"] * (mode == "behind") + re.findall(
        rb"(?:^|\n|1)(GET|HEAD|POST|OPTIONS)(?= )", case.sent
    )
    try:
        responses = list(responses_of(received, [method == b"HEAD" for method in methods]))
    except ValueError as error:
        return f"not a response: {error}: {received[-200:]!r}"
    found = tuple(response.status for response in responses)
    if found != statuses:
        return f"{found} instead of {statuses}: {received[:300]!r}"
    last = responses[len(statuses) - 1 - bool(case.open)] if statuses else None
    for wanted in case.fields:
        if last is None or re.search(rf"(?im)^{wanted}", last.head) is None:
            return f"no field like {wanted!r} in {last}"
    for response in responses:
        if re.search(r"(?im)^date: ", response.head) is None and response.status != 401:
            return f"no Date in {response}"
    if case.open is False and last is not None and re.search(r"(?im)^connection: .*close", last.head) is None:
        return f"closed without saying so: {last}"
    return None


def responses_of(data: bytes, heads: list[bool]) -> Iterator[Response]:
    """Parse final responses; a HEAD's has no content, and 100 is skipped."""
    number = 0
    while data:
        head, ending, data = data.partition(b"\r\n\r\n")
        found = re.match(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\x20-\x7e]*\r\n", head + b"\r\n")
        if not ending or found is None:
            raise ValueError("status line or fields")
        status, text = int(found[1]), head.decode("latin-1")
        if status < 200:
            continue
        length = re.search(r"(?im)^content-length: ([0-9]+)\r?$", text)
        size = 0 if (number < len(heads) and heads[number]) or status in (204, 304) else -1
        if size:
            if length is None:
                raise ValueError("no Content-Length")
            size = int(length[1])
        if len(data) < size:
            raise ValueError("content cut short")
        yield Response(status, text, data[:size])
        data = data[size:]
        number += 1


def probe(address: tuple[str, int], case: Case, mode: str = "whole") -> str | None:
    """Run one row against a port; None, or what is wrong."""
    received = b""
    with socket.create_connection(address, ANSWER_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = stream_of(case, mode)
        try:
            for i in range(0, len(stream), 1 if mode == "bytes" else len(stream)):
                client.sendall(stream[i : i + 1] if mode == "bytes" else stream)
            if case.open is None:
                client.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer came before the end of the request; it is there to be read
        try:
            while data := client.recv(65_536):
                received += data
        except TimeoutError:
            return f"neither answered nor closed within {ANSWER_S} s: {received[-200:]!r}"
        except ConnectionResetError:
            return f"reset: {received[-200:]!r}"
    return judge(case, mode, received)
