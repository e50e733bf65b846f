"""The HTTP fast lane against h11 and the connector: the same bytes get the same answers and store the same rows.

Streams run whole, byte by byte, and glued to a following post; nobody may be able to tell the sides apart but by the
Date. Where the lane declines, the server answers on both sides, and what the lane took before must not show.
"""

import itertools
from collections.abc import Iterator

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twins.http_sides import LaneSide, converse, lane, twin
from tests.twins.posts import GOOD, PLAIN, RARE, post
from tests.twins.storing import OTHER_TOKEN, TOKEN


def bytes_of(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


def ways(stream: bytes) -> Iterator[tuple[str, list[bytes], bytes]]:
    """How a stream may come, as pieces, and all that was sent."""
    yield "whole", [stream], stream
    yield "byte by byte", bytes_of(stream), stream
    yield "glued", [stream + GOOD], stream + GOOD
    yield "glued, byte by byte", bytes_of(stream + b"\r\n" + GOOD), stream + b"\r\n" + GOOD


@pytest.mark.parametrize("name", PLAIN)
def test_the_lane_answers_a_plain_post_as_the_server_would(name: str) -> None:
    for way, pieces, sent in ways(PLAIN[name]):
        outcome, is_taken = lane(pieces)
        assert outcome == twin(sent), way
        assert is_taken or b"\r\n\r\nPOST" in sent, way


@pytest.mark.parametrize("name", RARE)
def test_a_rare_or_wrong_request_is_read_as_the_server_reads_it(name: str) -> None:
    for way, pieces, sent in ways(RARE[name]):
        assert lane(pieces)[0] == twin(sent), way


def test_some_answers_are_what_the_contract_says() -> None:
    """The two sides could agree on nonsense."""
    outcome, _ = lane([PLAIN["json"] + PLAIN["no JSON"] + PLAIN["device 0"] + PLAIN["close"] + GOOD])
    assert [(answer.status, answer.body) for answer in outcome.answers] == [
        (200, b"OK"), (400, b"BAD_JSON_FORMAT"), (400, b"DEVICE_ID_ZERO"), (200, b"OK")
    ]  # fmt: skip
    assert outcome.counts == {"stored": 2, "BAD_JSON_FORMAT": 1, "DEVICE_ID_ZERO": 1}
    assert [row.device for row in outcome.rows] == [1, 1]


# ---- random streams

NAMES = [b"Host", b"Content-Length", b"X-DEVICETOKEN", b"X-DEVICEID", b"X-TAGNAME", b"Connection", b"Accept"]
spelled = st.sampled_from(NAMES).flatmap(lambda name: st.sampled_from([name, name.lower(), name.upper()]))
spaces = st.sampled_from([b"", b" ", b" ", b" ", b"  ", b"\t", b" \t "])
contents = st.sampled_from(
    [TOKEN.encode(), OTHER_TOKEN.encode(), b"d", b"e", b"off", b"bare", b"new", b"0", b"", b"x", b"x:80", b"x:99999",
     b"1", b"2", b"13", b"01", b"close", b"keep-alive", b"close, x", b"a b", b"\xc3\xa9"]
)  # fmt: skip
odd_lines = st.builds(lambda *parts: b"".join(parts), spelled, st.just(b":"), spaces, contents, spaces)
bodies = st.sampled_from(
    [b"1", b'{"a":1}', b'{"a":"x","b":[1, 2]}', b"{", b"", b"null", b"v=1&v2=x", b"v=+2", b"\xff"]
)
lines = st.sampled_from(
    [b"POST /post_v2/ HTTP/1.1"] * 3 + [b"POST /post_v1 HTTP/1.1", b"POST /post/ HTTP/1.1"]
)
ordinary = st.builds(
    lambda body, line, device, tag: post(body, *tag, line=line, device=b"X-DEVICEID: " + device),
    bodies,
    lines,
    st.sampled_from([b"d", b"d", b"e", b"off", b"new"]),
    st.sampled_from([[], [], [b"X-TAGNAME: n"], [b"Connection: close"]]),
)
odd = st.builds(
    lambda body, line, extra, missing: post(body, *extra, line=line, **missing),
    bodies,
    lines,
    st.lists(odd_lines, max_size=2),
    st.dictionaries(st.sampled_from(["host", "token", "device"]), st.none() | odd_lines, max_size=2),
)
named = st.sampled_from([*PLAIN.values(), *RARE.values()]).filter(lambda stream: len(stream) < 1_000)
between = st.sampled_from([b"", b"", b"", b"\r\n", b"\r\n\r\n", b"\n", b"\r"])
noise = st.sampled_from(
    [b"", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b":", b",", b";", b"0", b"9", b"\0", b"\x7f", b"\xff", b"%41", b"a"]
)  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A few requests, and in half of the cases one accident."""
    stream = b"".join(
        draw(st.lists(st.one_of(ordinary, ordinary, odd, named, between), min_size=1, max_size=4))
    )
    if draw(st.booleans()):
        begin = draw(st.integers(0, len(stream)))
        end = begin + draw(st.sampled_from([0, 1, 1, 2, 5]))
        stream = stream[:begin] + draw(noise | st.just(stream[begin:end] * 2)) + stream[end:]
    return stream


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    bounds = [0, *sorted({number % (len(stream) + 1) for number in at}), len(stream)]
    return [stream[begin:end] for begin, end in itertools.pairwise(bounds)]


@settings(max_examples=250)
@given(streams(), st.lists(st.integers(0, 5_000), max_size=4), st.sampled_from([0, 0, 1, 3]))
def test_no_stream_shows_who_reads_it(stream: bytes, at: list[int], per_s: float) -> None:
    assert lane(cut(stream, at), per_s)[0] == twin(stream, per_s)


@settings(max_examples=60)
@given(streams())
def test_no_stream_shows_who_reads_it_byte_by_byte(stream: bytes) -> None:
    assert lane(bytes_of(stream))[0] == twin(stream)


@settings(max_examples=80)
@given(st.lists(ordinary, min_size=5, max_size=20).map(b"".join), st.sampled_from([0, 3, 7]), st.booleans())
def test_a_ring_without_room_delays_and_changes_nothing(stream: bytes, per_s: float, is_ring: bool) -> None:
    size = {"rows": 2} if is_ring else {"batch_bytes_max": 400}
    assert lane([stream], per_s, **size)[0] == twin(stream, per_s)


def test_that_ring_is_too_small_indeed() -> None:
    side = LaneSide(0, 2, 1 << 20)
    outcome = trio.run(converse, side, [post(b"1") * 20])
    assert len(outcome.rows) == 20
    assert side.stalls > 5
