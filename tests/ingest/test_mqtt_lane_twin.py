"""The MQTT fast lane against the session machine: the same packets, the same answers, the same rows, the same end."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twins.mqtt_packets import (
    DATA,
    PING,
    STREAMS,
    STREAMS_5,
    T,
    connect,
    connect_5,
    packet,
    publish,
    text,
)
from tests.twins.mqtt_sides import LaneSide, MalformedError, Outcome, PlainSide, Script, packet_bytes
from tests.twins.storing import OTHER_TOKEN, OTHER_USER, USER


def whole(stream: bytes) -> Script:
    return [(0, stream)]


def by_bytes(stream: bytes) -> Script:
    """Every byte alone, except for the middle of a long stream."""
    head, middle, tail = stream[:300], stream[300:-300], stream[300:][-300:]
    pieces = [
        *(head[i : i + 1] for i in range(len(head))),
        middle,
        *(tail[i : i + 1] for i in range(len(tail))),
    ]
    assert b"".join(pieces) == stream
    return [(0, piece) for piece in pieces]


def by_packets(stream: bytes) -> Script:
    script = []
    while stream:
        try:
            size = packet_bytes(stream) or len(stream)
        except MalformedError:
            size = len(stream)
        script.append((0, stream[:size]))
        stream = stream[size:]
    return script


def agree(script: Script) -> Outcome:
    expected = PlainSide().run(script)
    assert LaneSide().run(script) == expected
    return expected


@pytest.mark.parametrize("name", STREAMS)
def test_the_lane_and_the_session_machine_say_the_same(name: str) -> None:
    for first in (connect(), b""):
        stream = first + STREAMS[name]
        for way in (whole(stream), by_bytes(stream), by_packets(stream)):
            agree(way)
        glued = first + STREAMS[name] + publish(DATA, b'{"after":1}', packet_id=99) + PING
        assert agree(whole(glued)) == agree(by_packets(glued))


@pytest.mark.parametrize("name", STREAMS_5)
def test_the_lane_and_the_session_machine_say_the_same_in_mqtt_5(name: str) -> None:
    stream = connect_5() + STREAMS_5[name]
    for way in (whole(stream), by_bytes(stream), by_packets(stream)):
        assert agree(way).sent[0].startswith(b"\x20")


def test_some_of_it_is_what_the_contract_says() -> None:
    """The two sides could agree on nonsense; and the lane could decline everything."""
    side = LaneSide()
    outcome = side.run(whole(connect() + STREAMS["QoS 1"] + STREAMS["devices"] + publish(DATA, b"{") + PING))
    assert outcome.sent == {0: b"\x20\x02\x00\x00" + b"\x40\x02\x00\x07" * 10 + b"\xd0\x00"}
    assert [row.device for row in outcome.rows] == [1, 1, 2]
    assert outcome.counts == {
        "stored": 3, "DEVICE_DISABLED": 1, "NO_MAPPED_CH": 2, "NEW_DEVICE_FOUND": 1, "DEVICE_ID_ZERO": 1, "UNKNOWN_TOPIC": 1, "BAD_JSON_FORMAT": 1,
    }  # fmt: skip
    assert side.declined == 2  # CONNECT and the topic without a device


# ---- CONNECT


@pytest.mark.parametrize(
    "first",
    [
        connect(token=b"wrong"),
        connect(user=b"U000009"),
        connect(user=OTHER_USER.encode(), token=OTHER_TOKEN.encode()),
        connect(user=OTHER_USER.encode()),
        connect(client_id=b""),
        connect(client_id=b"", flags=0xC0),
        connect(client_id=b"c" * 1_025),
        connect(protocol=b"\x00\x06MQIsdp\x03"),
        connect(protocol=b"\x00\x04MQTT\x05"),
        connect(flags=0xC3),
        connect(flags=0x02),
        connect(flags=0xC6),
        connect() + b"",
        connect()[:-1],
        b"\x12" + connect()[1:],
        packet(0x10, connect()[2:] + b"x"),
        connect(client_id=b"\xff"),
        publish(DATA, b"1" * 4_090),
        PING,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_connect_is_judged_alike(first: bytes) -> None:
    stream = first + publish(DATA, b"1") + PING
    for way in (whole(stream), by_bytes(stream), by_packets(stream)):
        agree(way)


@pytest.mark.parametrize(
    "wishes", ["00", "02 1700", "05 27 0000003c", "05 27 0000004e", "05 27 00000005", "05 27 00001000"]
)
def test_a_refused_reading_is_explained_alike(wishes: str) -> None:
    """MQTT 5: with words, without, and with a maximum packet size that lets some of them through."""
    head = b"\x00\x04MQTT\x05\xc2\x00\x3c" + bytes.fromhex(wishes)
    first = packet(0x10, head + text(b"c") + text(USER.encode()) + text(T))
    devices = (b"d", b"e", b"off", b"bare", b"new", b"new", b"0", b"d" * 129)
    readings = [publish(T + b"/json/" + device, b"\x001") for device in devices]
    readings += [
        publish(DATA, b"\x00{"),
        publish(b"x/json/d", b"\x001"),
        publish(DATA + b"/" + b"t" * 129, b"\x001"),
    ]
    outcome = agree(whole(first + b"".join(readings) + PING))
    said = (b"DEVICE_DISABLED: " in outcome.sent[0], b"NEW_DEVICE_FOUND: " in outcome.sent[0])
    assert said == {"02 1700": (False, False), "05 27 00000005": (False, False), "05 27 0000003c": (True, False),
                    "05 27 0000004e": (True, False)}.get(wishes, (True, True))  # fmt: skip


def test_a_client_that_is_taken_over_leaves_alike() -> None:
    mine = publish(DATA, b"1", packet_id=1)
    agree(
        [
            (0, connect() + mine),
            (1, connect()),
            (0, mine),
            (1, mine),
            (0, PING),
            (1, connect(b"x")),
            (2, connect()),
        ]
    )
    agree([(0, connect()), (0, mine[:-1]), (1, connect() + mine), (0, mine[-1:]), (1, PING)])


# ---- random streams

topics = st.sampled_from(
    [DATA, DATA, T + b"/json/e", DATA + b"/n", DATA + b"/n/", T + b"/binary/d", T + b"/d", T + b"/state/d", T + b"/d/subscribe",
     T + b"/json/off", T + b"/json/bare", T + b"/json/new", T + b"/json", T, b"x/json/d", OTHER_TOKEN.encode() + b"/json/d",
     T + b"/json/+", T + b"/json/d/#", T + b"/json/\0", T + b"/json/\xff", T + "/json/é".encode(), b"", b"/"]
) | st.lists(st.sampled_from([T, b"json", b"binary", b"state", b"d", b"", b"subscribe"]), max_size=5).map(b"/".join)  # fmt: skip
payloads = st.sampled_from(
    [
        b"1",
        b'{"a":1}',
        b'{"a":"x","b":[1, 2]}',
        b"{",
        b"",
        b"v=1&v2=x",
        b"v=+2",
        b"\xff\x00",
        b"null",
        b"a=1&b=2",
    ]
) | st.binary(max_size=20)
publishes = st.builds(
    publish,
    topics,
    payloads,
    st.sampled_from([0x30, 0x30, 0x32, 0x32, 0x32, 0x3A, 0x34, 0x3C, 0x31, 0x33, 0x35, 0x36, 0x38]),
    st.sampled_from([1, 2, 2, 7, 256, 65_535, 0]),
    st.sampled_from([1, 1, 1, 2, 4]),
)
plain_publishes = st.builds(publish, st.sampled_from([DATA, DATA + b"/n", T + b"/json/e"]), payloads, st.sampled_from([0x30, 0x32]))  # fmt: skip
others = st.sampled_from(
    [PING, packet(0x62, b"\x00\x02"), packet(0x62, b"\x00\x07"), packet(0x82, b"\x00\x05" + text(b"a") + b"\x01"),
     packet(0xA2, b"\x00\x06" + text(b"a")), packet(0x40, b"\x00\x01"), packet(0xC0, b"", 2)]
)  # fmt: skip
endings = st.sampled_from([packet(0xE0, b""), connect(), packet(0xC1, b""), b"\x30\xff\xff\xff\xff", b"\x32\xff\xff\x03", b"\xf0\x00"])  # fmt: skip
connects = st.sampled_from([connect(), connect(), connect(), connect(protocol=b"\x00\x06MQIsdp\x03"), connect(token=b"x"), b""])  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """CONNECT, packets, and in half of the cases one accident."""
    packets = draw(st.lists(st.one_of(publishes, publishes, plain_publishes, others), max_size=8))
    packets.insert(draw(st.integers(0, len(packets))), draw(st.just(b"") | endings))
    stream = draw(connects) + b"".join(packets)
    if draw(st.booleans()):
        begin = draw(st.integers(0, len(stream)))
        end = begin + draw(st.sampled_from([0, 1, 1, 2, 5]))
        piece = draw(st.binary(max_size=2) | st.just(stream[begin:end] * 2))
        stream = stream[:begin] + piece + stream[end:]
    return stream


def cut(stream: bytes, at: list[int], client: int = 0) -> Script:
    bounds = [0, *sorted({number % (len(stream) + 1) for number in at}), len(stream)]
    return [(client, stream[begin:end]) for begin, end in pairwise(bounds)]


@settings(max_examples=400)
@given(streams(), st.lists(st.integers(0, 2_000), max_size=5))
def test_no_stream_shows_who_reads_it(stream: bytes, at: list[int]) -> None:
    agree(cut(stream, at))


@settings(max_examples=60)
@given(streams())
def test_no_stream_shows_who_reads_it_byte_by_byte(stream: bytes) -> None:
    assert agree(by_bytes(stream)) == agree(whole(stream))


@given(
    st.lists(st.tuples(streams(), st.lists(st.integers(0, 900), max_size=4)), min_size=2, max_size=3),
    st.randoms(),
)
def test_clients_in_turn_are_served_alike(clients: list[tuple[bytes, list[int]]], random: Random) -> None:
    waiting = [cut(stream, at, client) for client, (stream, at) in enumerate(clients)]
    script: Script = []
    while waiting := [pieces for pieces in waiting if pieces]:
        script.append(random.choice(waiting).pop(0))
    agree(script)


@settings(max_examples=150)
@given(st.lists(st.one_of(plain_publishes, publishes, others), min_size=5, max_size=25), st.booleans())
def test_a_ring_without_room_delays_and_changes_nothing(packets: list[bytes], is_ring: bool) -> None:
    script = whole(connect() + b"".join(packets))
    side = LaneSide(rows=2, text_bytes=16_384) if is_ring else LaneSide(batch_bytes_max=6_200)
    assert side.run(script) == PlainSide().run(script)


def test_that_ring_is_too_small_indeed() -> None:
    side = LaneSide(rows=2, text_bytes=16_384)
    outcome = side.run(whole(connect() + publish(DATA, b"1") * 20))
    assert len(outcome.rows) == 20
    assert side.stalls > 5
