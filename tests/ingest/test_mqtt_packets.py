"""Packets against the standard: each row is named after the statement (MQTT 3.1.1), and a frame is hex.

Every good frame is also cut at each length; a cut frame never decodes and never raises anything else.
"""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mqtt.packets import (
    Connect,
    Disconnect,
    Pingreq,
    ProtocolError,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
    Will,
    acknowledgement,
    connack,
    decode,
    suback,
)


def frame(text: str) -> bytes:
    """Hex with spaces; 'text' in quotes is taken as it is; the second byte is filled in."""
    out = bytearray()
    for piece in text.split(" "):
        out += piece[1:-1].encode() if piece.startswith("'") else bytes.fromhex(piece)
    body = bytes(out[1:])
    assert len(body) < 128
    return bytes([out[0], len(body)]) + body


GOOD = [
    ("connect 3.1.1", "10 0004 'MQTT' 04 02 003c 0001 'c'", Connect(4, True, 60, b"c")),
    ("connect 3.1", "10 0006 'MQIsdp' 03 02 003c 0001 'c'", Connect(3, True, 60, b"c")),
    ("user name and password", "10 0004 'MQTT' 04 c0 0000 0001 'c' 0001 'u' 0001 'p'", Connect(4, False, 0, b"c", None, b"u", b"p")),
    ("user name alone", "10 0004 'MQTT' 04 82 0000 0000 0001 'u'", Connect(4, True, 0, b"", None, b"u")),
    ("a will", "10 0004 'MQTT' 04 2e 0000 0000 0001 't' 0002 'xy'", Connect(4, True, 0, b"", Will(b"t", b"xy", 1, True))),
    ("3.1.2-2 another version", "10 0004 'MQTT' 05 02 003c 00 0001 'c'", Connect(None)),
    ("another protocol", "10 0004 'AMQP' 04 02 003c 0001 'c'", Connect(None)),
    ("publish QoS 0", "30 0003 'a/b' 'x'", Publish(b"a/b", b"x", 0, 0)),
    ("publish QoS 1", "32 0001 'a' 0007 'x'", Publish(b"a", b"x", 1, 7)),
    ("publish QoS 2, dup, retain", "3d 0001 'a' 0007", Publish(b"a", b"", 2, 7, True, True)),
    ("puback", "40 0001", Puback(1)),
    ("pubrec", "50 0001", Pubrec(1)),
    ("pubrel", "62 ffff", Pubrel(65535)),
    ("pubcomp", "70 0001", Pubcomp(1)),
    ("subscribe", "82 0001 0003 'a/#' 02 0001 '+' 00", Subscribe(1, ((b"a/#", 2), (b"+", 0)))),
    ("unsubscribe", "a2 0001 0001 'a'", Unsubscribe(1, (b"a",))),
    ("pingreq", "c0", Pingreq()),
    ("disconnect", "e0", Disconnect()),
]  # fmt: skip

BAD = [
    ("1.5.3-1 string not UTF-8", "30 0001 ff"),
    ("1.5.3-1 surrogate", "30 0003 eda080"),
    ("1.5.3-2 U+0000", "30 0001 00"),
    ("2.2.2-2 flags of CONNECT", "11 0004 'MQTT' 04 02 003c 0001 'c'"),
    ("2.2.2-2 flags of PUBACK", "41 0001"),
    ("2.2.2-2 flags of PINGREQ", "c1"),
    ("2.2.2-2 flags of DISCONNECT", "e2"),
    ("2.3.1-1 packet id 0 in PUBLISH", "32 0001 'a' 0000"),
    ("2.3.1-1 packet id 0 in SUBSCRIBE", "82 0000 0001 'a' 00"),
    ("3.1.2-3 reserved connect flag", "10 0004 'MQTT' 04 03 003c 0001 'c'"),
    ("3.1.2-11 will QoS without will", "10 0004 'MQTT' 04 0a 003c 0001 'c'"),
    ("3.1.2-13 will retain without will", "10 0004 'MQTT' 04 22 003c 0001 'c'"),
    ("3.1.2-14 will QoS 3", "10 0004 'MQTT' 04 1e 0000 0000 0001 't' 0000"),
    ("3.1.2-22 password without user name", "10 0004 'MQTT' 04 42 0000 0001 'c' 0001 'p'"),
    ("3.1.2 user name flag without user name", "10 0004 'MQTT' 04 82 0000 0001 'c'"),
    ("3.1 bytes behind", "10 0004 'MQTT' 04 02 003c 0001 'c' 00"),
    ("3.3.1-2 dup with QoS 0", "38 0001 'a'"),
    ("3.3.1-4 QoS 3", "36 0001 'a' 0001"),
    ("3.3.2-2 wildcard +", "30 0001 '+'"),
    ("3.3.2-2 wildcard #", "30 0003 'a/#'"),
    ("4.7.3-1 empty topic", "30 0000"),
    ("3.6.1-1 flags of PUBREL", "60 0001"),
    ("3.8.1-1 flags of SUBSCRIBE", "80 0001 0001 'a' 00"),
    ("3.8.3-3 no filter", "82 0001"),
    ("3.8.3-4 QoS 3", "82 0001 0001 'a' 03"),
    ("3.8.3-4 reserved bits of QoS", "82 0001 0001 'a' 41"),
    ("3.8.3 filter without QoS", "82 0001 0001 'a'"),
    ("3.10.1-1 flags of UNSUBSCRIBE", "a0 0001 0001 'a'"),
    ("3.10.3-2 no filter", "a2 0001"),
    ("4.7.1-2 # not last", "82 0001 0003 '#/a' 00"),
    ("4.7.1-2 # beside text", "82 0001 0002 'a#' 00"),
    ("4.7.1-3 + beside text", "82 0001 0002 'a+' 00"),
    ("4.7.3-1 empty filter", "82 0001 0000 00"),
    ("2.2.1 type 0", "00"),
    ("2.2.1 type 15", "f0"),
    ("server to client only: CONNACK", "20 0000"),
    ("server to client only: SUBACK", "90 0001 00"),
    ("server to client only: PINGRESP", "d0"),
    ("bytes behind PUBACK", "40 0001 00"),
    ("bytes behind PINGREQ", "c0 00"),
    ("half a packet id", "40 00"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "packet"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_a_good_frame_is_read(data: str, packet: object) -> None:
    assert decode(frame(data)) == packet


@pytest.mark.parametrize("data", [row[1] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_frame_is_a_protocol_error(data: str) -> None:
    with pytest.raises(ProtocolError):
        decode(frame(data))


@pytest.mark.parametrize("data", [row[1] for row in GOOD if row[1] not in ("c0", "e0")])
def test_a_cut_frame_is_never_read_beyond_its_end(data: str) -> None:
    whole = frame(data)
    for size in range(2, len(whole)):
        cut = bytes([whole[0], size - 2]) + whole[2:size]
        try:
            decode(cut)
        except ProtocolError:
            continue
        # Only what may be shorter is: a payload, a list of filters, or a protocol that is refused anyway.
        assert whole[0] >> 4 in (3, 8) or decode(cut) == Connect(None)


@given(st.binary(min_size=1, max_size=100), st.integers(0, 15))
def test_arbitrary_bytes_raise_nothing_but_a_protocol_error(body: bytes, kind: int) -> None:
    with contextlib.suppress(ProtocolError):
        decode(bytes([kind << 4 | body[0] & 15, len(body)]) + body)


def test_a_long_remaining_length_is_skipped_whole() -> None:
    body = b"\x00\x01a" + b"x" * 300
    assert decode(b"\x30" + bytes([len(body) & 127 | 128, len(body) >> 7]) + body) == Publish(
        b"a", b"x" * 300, 0, 0
    )


def test_answers_are_encoded() -> None:
    assert connack(0) == b"\x20\x02\x00\x00"
    assert connack(0, session_present=True) == b"\x20\x02\x01\x00"
    assert connack(4, session_present=True) == b"\x20\x02\x00\x04"
    assert acknowledgement(6, 258) == b"\x62\x02\x01\x02"
    assert suback(1, b"\x80" * 200)[:4] == b"\x90\xca\x01\x00"


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Connect(4, password=b"secret"))
