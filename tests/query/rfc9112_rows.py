"""What the rows of the RFC tables are made of."""

WITNESS = b"GET /healthz HTTP/1.1\r\nHost: witness\r\nConnection: close\r\n\r\n"

# (clause, what it says, bytes, statuses, "open" | "close" | "half", field of the last response)
Row = tuple[str, str, bytes, str, str] | tuple[str, str, bytes, str, str, str]


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
