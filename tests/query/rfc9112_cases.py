"""RFC 9110 and 9112 as a table: what is sent, and what a strict origin server does.

Every row is named after its clause. ``statuses`` are the responses in order; ``open`` says whether the connection can
be used afterwards. A row is judged by what follows it: a witness that must be answered (open) or must not (closed), so
a body read too short or too long shows, and so does a second request that hides behind a refused one.

The rows need two resources only: ``GET /healthz`` (200) and ``POST /post_v2/``, which reads its body and answers 401,
for no row has a token. ``at_connector`` and ``at_rest`` move rows to other resources; MODES are what surrounds them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.query.rfc9112_bodies import CHUNKED, CONNECTION, FRAMING, SMUGGLING
from tests.query.rfc9112_heads import FIELDS, HOST, START_LINE, TARGET
from tests.query.rfc9112_rows import WITNESS, Row

# Followed by the witness, by nothing, by the witness and behind a plain post, or followed by a plain post.
MODES = ("followed", "alone", "behind", "ahead")


@dataclass(frozen=True, slots=True)
class Case:
    """One row.

    Attributes:
        clause: of the standard.
        says: what it demands, or what we chose where it leaves a choice.
        sent: the request, or what pretends to be one.
        statuses: of the final responses, in order.
        open: whether the witness is answered; None: half of the request only, then the client closes its side.
        field: a field line that the last response must have (a regular expression, any case).
    """

    clause: str
    says: str
    sent: bytes
    statuses: tuple[int, ...]
    open: bool | None
    field: str = ""

    @property
    def name(self) -> str:
        return f"{self.clause} {self.says}"


@dataclass(frozen=True, slots=True)
class Post:
    """A plain post that the fast lane takes, and what it is answered with; ``device`` is the X-DEVICEID."""

    token: str = ""
    status: int = 401

    def render(self, device: str, *, close: bool = False) -> bytes:
        lines = [
            "POST /post_v2/ HTTP/1.1",
            "Host: lane",
            f"X-DEVICETOKEN: {self.token}",
            f"X-DEVICEID: {device}",
            "Content-Length: 1",
            *["Connection: close"] * close,
        ]
        return "\r\n".join([*lines, "", "1"]).encode()


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    head: str
    body: bytes

    def has(self, field: str) -> bool:
        return re.search(rf"(?im)^{field}", self.head) is not None


def _case(row: Row) -> Case:
    clause, says, sent, statuses, after = row[:5]
    is_open = {"open": True, "close": False, "half": None}[after]
    return Case(clause, says, sent, tuple(map(int, statuses.split())), is_open, *row[5:])


CASES: list[Case] = [
    _case(row) for table in (START_LINE, TARGET, HOST, FIELDS, FRAMING, CHUNKED, CONNECTION, SMUGGLING) for row in table
]  # fmt: skip


def at_connector(case: Case) -> Case | None:
    """The row of a GET as a post to the connector, with a length if it has none; None if it cannot be one."""
    if not case.sent.lstrip().startswith(b"GET") or b"POST" in case.sent:
        return None
    moved = _move(case, b"GET ", b"POST ", b"/post_v2/")
    if moved is None or re.search(rb"(?i)content-length|transfer-encoding", moved.sent):
        return moved
    lines = moved.sent.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\nContent-Length: 0\r\n")
    return replace(moved, sent=lines)


def at_rest(case: Case) -> Case | None:
    """The row at a REST resource that answers 401 too, in both methods; None if it cannot be there.

    The resource answers before it reads, so the body that an Expect announced is not waited for (RFC 9110 10.1.1).
    """
    if WITNESS in case.sent or re.search(rb"(?:DELETE|HEAD|OPTIONS|PUT|PATCH|TRACE) ", case.sent):
        return None
    if case.open and b"expect: 100-continue" in case.sent.lower():
        return None
    case = replace(case, sent=case.sent.replace(b"POST /post_v2/", b"PUT /v2/user"))
    return _move(case, b"GET ", b"GET ", b"/v2/user")


def _move(case: Case, method: bytes, new_method: bytes, path: bytes) -> Case | None:
    found = case.sent.count(b"/healthz")
    if 405 in case.statuses or case.statuses.count(200) not in (0, found):
        return None
    sent = case.sent.replace(method, new_method).replace(b"/healthz", path)
    return replace(
        case, sent=sent, statuses=tuple(401 if status == 200 else status for status in case.statuses)
    )


def applies(case: Case, mode: str) -> bool:
    """Alone is for what must be refused without waiting for more."""
    return {"alone": case.open is False, "ahead": case.open is not None}.get(mode, True)


def stream_of(case: Case, mode: str, plain: Post, device: str) -> bytes:
    """All bytes that the client sends in this mode."""
    before = plain.render(device) if mode == "behind" else b""
    after = b""
    if case.open is not None and mode != "alone":
        after = plain.render(device, close=True) if mode == "ahead" else WITNESS
    return before + case.sent + after


def plain_posts_of(case: Case, mode: str) -> int:
    """How many plain posts must have been answered."""
    return int(mode == "behind" or (mode == "ahead" and bool(case.open)))


def judge(case: Case, mode: str, received: bytes, plain: Post) -> str | None:
    """What is wrong with everything that the server sent until it closed; None if nothing is."""
    behind = (plain.status,) if mode == "behind" else ()
    witness = ((plain.status if mode == "ahead" else 200),) if case.open else ()
    statuses = behind + case.statuses + witness
    methods = [b"POST"] * len(behind) + re.findall(rb"(?:^|\n|1)([A-Z]+)(?= )", case.sent)
    try:
        responses = list(responses_of(received, [method == b"HEAD" for method in methods]))
    except ValueError as error:
        return f"not a response: {error}: {received[-200:]!r}"
    found = tuple(response.status for response in responses)
    if found != statuses:
        return f"{found} instead of {statuses}: {received[:300]!r}"
    if b"HTTP/1.1 100" in received and (
        b"expect: 100-continue" not in case.sent.lower() or b"HTTP/1.0" in case.sent
    ):
        return "100 without an expectation"
    last = responses[len(statuses) - 1 - bool(case.open)] if case.statuses else None
    if last is not None and not last.has(case.field):
        return f"no field like {case.field!r} in {last}"
    if case.open is False and last is not None and not last.has("connection: .*close"):
        return f"closed without saying so: {last}"
    return next(filter(None, map(_lacks, responses)), None)


def _lacks(response: Response) -> str | None:
    """What every response of its status must have (RFC 9110 sections 6.6.1, 15.5.2, 15.5.6)."""
    wanted = {401: r"www-authenticate: \S", 405: "allow: "}.get(response.status, "")
    if not response.has(r"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r?$"):
        return f"no Date in {response}"
    return None if response.has(wanted) else f"no {wanted} in {response}"


def responses_of(data: bytes, heads: list[bool]) -> Iterator[Response]:
    """Parse final responses; a HEAD's has no content, and 100 is skipped."""
    number = 0
    while data:
        head, ending, data = data.partition(b"\r\n\r\n")
        found = re.match(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\x20-\x7e]*\r\n", head + b"\r\n")
        if not ending or found is None:
            raise ValueError("status line or fields")
        if re.search(rb"\r\n(?![!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*(?:\r\n|\Z))", head):
            raise ValueError("a field line")
        status, text = int(found[1]), head.decode("latin-1")
        if status < 200:
            continue
        lengths = re.findall(r"(?im)^content-length: ([0-9]+)\r?$", text)
        size = 0
        if not (number < len(heads) and heads[number]) and status not in (204, 304):
            if len(lengths) != 1:
                raise ValueError("not one Content-Length")
            size = int(lengths[0])
        if len(data) < size:
            raise ValueError("content cut short")
        yield Response(status, text, data[:size])
        data = data[size:]
        number += 1
