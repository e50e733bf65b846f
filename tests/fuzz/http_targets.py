"""HTTP: the strict reader piece by piece, the compiled lane beside it, the reactor with its server beside the server."""

import logging
from itertools import pairwise

import h11

from ingest import http_lane
from query.http.errors import ProtocolError
from query.http.head import CHUNKED, RequestHead
from query.http.intake import Intake
from query.http.options import HttpOptions
from tests.fuzz.mqtt_targets import exactly
from tests.fuzz.transport_targets import cuts_of
from tests.twins.http_sides import lane, twin

OPTIONS = HttpOptions(request_line_bytes_max=300, header_bytes_max=1_000, headers_max=20, body_bytes_max=600)
POSTS = {2: (b"/post_v2/", b"/post_v2"), 1: (b"/post_v1/", b"/post_v1", b"/post/", b"/post")}

# Heads, bodies as h11 is to see them, and None for a refusal at the end: of two things that are wrong with a request, the
# one that came first is named, and that depends on how the bytes came.
Seen = list[RequestHead | bytes | None]


def read(data: bytes, cuts: list[int], options: HttpOptions) -> Seen:
    """Everything that an intake makes of the bytes, and then of their end."""
    intake = Intake(options)
    seen: Seen = []
    body: list[bytes] | None = None
    for begin, end in zip([0, *cuts, len(data)], [*cuts, len(data), len(data)], strict=True):
        if begin == end and end < len(data):
            continue  # no bytes are the end
        intake.feed(data[begin:end])
        try:
            while True:
                if body is None:
                    head = intake.next_head()
                    if head is None:
                        break
                    seen.append(head)
                    body = []
                body.append(intake.next_body())
                if not intake.is_body_done:
                    break
                seen.append(b"".join(body))
                body = None
                intake.next_request()
        except ProtocolError:
            seen.append(None)
            return seen
        if intake.is_ended:
            break
    return seen


def check_intake(data: bytes) -> None:
    """Whole, in pieces and byte by byte it is the same requests, and h11 reads the canonical ones as they were meant."""
    whole = read(data, [], OPTIONS)
    assert read(data, cuts_of(data), OPTIONS) == whole
    if len(data) < 400:
        assert read(data, list(range(1, len(data))), OPTIONS) == whole
    for head, body in pairwise(whole):
        if isinstance(head, RequestHead) and isinstance(body, bytes):
            check_with_h11(head, body)


def check_with_h11(head: RequestHead, body: bytes) -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(head.canonical() + body)
    assert isinstance(server.next_event(), h11.Request)
    content = b""
    while isinstance(event := server.next_event(), h11.Data):
        content += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert server.trailing_data == (b"", False)
    assert len(content) == head.length if head.length != CHUNKED else len(content) <= len(body)


def check_lane(data: bytes) -> None:
    """A post that the lane takes is one for the strict reader too, the same one; its prefixes are no other."""
    taken = http_lane.parse(exactly(data))
    if not taken:
        return
    size = taken["consumed"]
    assert http_lane.parse(exactly(data[:size])) == taken
    for shorter in (size - 1, size // 2, 10, 0):
        assert http_lane.parse(exactly(data[:shorter])) is False
    head, body, *rest = read(data[:size], [], HttpOptions(body_bytes_max=65_536))
    assert isinstance(head, RequestHead)
    assert (rest, body, head.length) == ([], taken["body"], len(taken["body"]))
    assert (head.method, head.version, head.closes) == (b"POST", b"1.1", taken["close"])
    assert head.target.path in POSTS[taken["version"]]
    fields = dict(reversed(head.fields))
    for name, key in ((b"x-devicetoken", "token"), (b"x-deviceid", "device"), (b"x-tagname", "tag")):
        assert fields.get(name) == taken[key]


class Complaints(logging.Handler):
    """What the server logs as its own fault."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))


COMPLAINTS = Complaints()
logging.getLogger("thingscale.http").addHandler(COMPLAINTS)


def check_conversation(data: bytes) -> None:
    """The reactor with its lane, and the server alone: the same answers, the same rows."""
    if b"HEAD" in data or not data:
        return  # how long an answer to HEAD is cannot be told from the answer alone
    cuts = cuts_of(data)
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if b > a]
    outcome, _ = lane(pieces)
    assert outcome == twin(data)
    assert not COMPLAINTS.seen, COMPLAINTS.seen.pop()
