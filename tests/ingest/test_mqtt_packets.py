"""Packets against the standards: each row is named after the statement, and a frame is hex; 5.0's are in mqtt5_rows.

Every good frame is also cut at each length; a cut frame never decodes and never raises anything else.
"""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mqtt.packets import (
    NONE,
    Auth,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Properties,
    Property,
    ProtocolError,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    ReasonCode,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
    acknowledgement,
    connack,
    decode,
    decode_properties_block,
    disconnect,
    encode_properties,
    form_of,
    publish,
    suback,
    unsuback,
)
from ingest.mqtt.properties import (
    KINDS,
    OF_ACKNOWLEDGEMENT,
    OF_AUTH,
    OF_CONNECT,
    OF_DISCONNECT,
    OF_PUBLISH,
    OF_SUBSCRIBE,
    OF_UNSUBSCRIBE,
    OF_WILL,
    Kind,
)
from ingest.mqtt.reasons import CLIENT_CODES
from tests.ingest import mqtt5_rows
from tests.twins import mqtt_packets as twin


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
    ("3.1.2-2 another version", "10 0004 'MQTT' 06 02 003c 00 0001 'c'", Connect(None)),
    ("a bridge's level", "10 0004 'MQTT' 84 02 003c 0001 'c'", Connect(4, True, 60, b"c")),
    ("3.1: the lowest flag is of no use", "10 0006 'MQIsdp' 03 03 003c 0001 'c'", Connect(3, True, 60, b"c")),
    ("publish QoS 0", "30 0003 'a/b' 'x'", Publish(b"a/b", b"x", 0, 0)),
    ("publish QoS 1", "32 0001 'a' 0007 'x'", Publish(b"a", b"x", 1, 7)),
    ("publish QoS 2, dup, retain", "3d 0001 'a' 0007", Publish(b"a", b"", 2, 7, True, True)),
    ("puback", "40 0001", Puback(1)),
    ("pubrec", "50 0001", Pubrec(1)),
    ("pubrel", "62 ffff", Pubrel(65535)),
    ("pubcomp", "70 0001", Pubcomp(1)),
    ("subscribe", "82 0001 0003 'a/#' 02 0001 '+' 00", Subscribe(1, (Subscription(b"a/#", 2), Subscription(b"+", 0)))),
    ("subscribe, shared", "82 0001 000a '$share/s/#' 01", Subscribe(1, (Subscription(b"$share/s/#", 1),))),
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
    ("3.8.3-4 an option of 5.0", "82 0001 0001 'a' 04"),
    ("3.8.1-1 DUP of SUBSCRIBE", "8a 0001 0001 'a' 00"),
    ("a share without a name", "82 0001 0009 '$share//a' 00"),
    ("a share without a filter", "82 0001 0009 '$share/s/' 00"),
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


# What 3.1 sees otherwise: flags that it does not use, DUP on what is sent again, a promised user name that is not there.
GOOD_3_1 = [
    ("flags of CONNECT", "14 0006 'MQIsdp' 03 02 003c 0001 'c'", Connect(3, True, 60, b"c")),
    ("DUP of SUBSCRIBE", "8a 0001 0001 'a' 00", Subscribe(1, (Subscription(b"a", 0),))),
    ("DUP of UNSUBSCRIBE", "aa 0001 0001 'a'", Unsubscribe(1, (b"a",))),
    ("DUP of PUBREL", "6a 0001", Pubrel(1)),
    ("no user name", "10 0006 'MQIsdp' 03 c2 003c 0001 'c'", Connect(3, True, 60, b"c")),
]
GOOD_ROWS = [
    *((f"3.1.1 {name}", data, 4, packet) for name, data, packet in GOOD),
    *((f"3.1 {name}", data, 3, packet) for name, data, packet in GOOD_3_1),
    *((f"5.0 {name}", data, 5, packet) for name, data, packet in mqtt5_rows.GOOD),
]
BAD_ROWS = [
    *((f"3.1.1 {name}", data, 4, None) for name, data in BAD),
    *((f"5.0 {name}", data, 5, code) for name, data, code in mqtt5_rows.BAD),
]


@pytest.mark.parametrize(
    ("data", "protocol", "packet"), [row[1:] for row in GOOD_ROWS], ids=[row[0] for row in GOOD_ROWS]
)
def test_a_good_frame_is_read(data: str, protocol: int, packet: object) -> None:
    assert decode(frame(data), protocol) == packet


@pytest.mark.parametrize(
    ("data", "protocol", "code"), [row[1:] for row in BAD_ROWS], ids=[row[0] for row in BAD_ROWS]
)
def test_a_bad_frame_is_a_protocol_error_with_its_code(
    data: str, protocol: int, code: ReasonCode | None
) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(frame(data), protocol)
    assert code is None or caught.value.code is code
    assert caught.value.reason
    assert str(caught.value) == caught.value.reason


def is_complete_when_cut(packet: Packet) -> bool:
    """What may be shorter: a payload, lists, what 5.0 lets be left out, what 3.1 does not insist on, what is refused anyway."""
    match packet:
        case (
            Publish()
            | Subscribe()
            | Unsubscribe()
            | Disconnect()
            | Puback()
            | Pubrec()
            | Pubrel()
            | Pubcomp()
        ):
            return True
        case Connect(protocol):
            return protocol in (None, 3)
    return False


@pytest.mark.parametrize(
    ("data", "protocol"), [row[1:3] for row in GOOD_ROWS], ids=[row[0] for row in GOOD_ROWS]
)
def test_a_cut_frame_is_never_read_beyond_its_end(data: str, protocol: int) -> None:
    whole = frame(data)
    for size in range(len(whole)):
        with pytest.raises(ProtocolError):
            decode(whole[:size], protocol)
        if size < 2:
            continue
        cut = bytes([whole[0], size - 2]) + whole[2:size]
        with contextlib.suppress(ProtocolError):
            assert is_complete_when_cut(decode(cut, protocol))
    for behind in (b"\0", b"\xc0\0", whole):
        with pytest.raises(ProtocolError):
            decode(whole + behind, protocol)


@given(st.binary(max_size=100), st.integers(0, 15), st.sampled_from((0, 3, 4, 5)))
def test_arbitrary_bytes_raise_nothing_but_a_protocol_error(body: bytes, kind: int, protocol: int) -> None:
    for data in (body, bytes([kind << 4 | (body[0] & 15 if body else 2), len(body)]) + body):
        with contextlib.suppress(ProtocolError):
            decode(data, protocol)
        form_of(data)


@given(st.sampled_from(GOOD_ROWS), st.data())
def test_a_good_frame_with_a_wrong_byte_raises_nothing_but_a_protocol_error(
    row: Any, data: st.DataObject
) -> None:
    wrong = bytearray(frame(row[1]))
    for _ in range(data.draw(st.integers(1, 3))):
        wrong[data.draw(st.integers(0, len(wrong) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        decode(bytes(wrong), row[2])


def test_a_long_remaining_length_is_skipped_whole() -> None:
    body = b"\x00\x01a" + b"x" * 300
    assert decode(b"\x30" + bytes([len(body) & 127 | 128, len(body) >> 7]) + body, 4) == Publish(
        b"a", b"x" * 300, 0, 0
    )


def test_a_remaining_length_with_a_needless_byte_is_wrong_in_5_0_only() -> None:
    assert decode(bytes.fromhex("c0 80 00"), 4) == Pingreq()
    for data in ("c0 80 00", "10 8d 00 0004 4d515454 05 02 0000 00 0000"):
        with pytest.raises(ProtocolError, match=r"1\.5\.5-1"):
            decode(bytes.fromhex(data), 5)


def test_before_connect_only_connect_decides_how_it_is_read() -> None:
    assert decode(frame("10 0004 'MQTT' 05 02 003c 00 0001 'c'"), 0) == Connect(5, True, 60, b"c")
    assert decode(frame("10 0004 'MQTT' 04 02 003c 0001 'c'"), 5) == Connect(4, True, 60, b"c")
    assert decode(frame("30 0001 'a' 'x'"), 0) == Publish(b"a", b"x", 0, 0)


def test_in_which_form_a_wrong_connect_is_answered_can_be_asked() -> None:
    assert form_of(frame("10 0004 'MQTT' 05 03")) == 5
    assert form_of(frame("10 0006 'MQIsdp' 03")) == 4
    assert form_of(frame("10 0004 'MQTT' 06 02 003c 00 0001 'c'")) == 4
    assert form_of(frame("10 0004 'MQTT' 85")) == 5
    assert form_of(frame("10 0004 'MQTX' 05")) is None
    assert form_of(frame("10 0004 'MQTT'")) is None
    assert form_of(frame("30 0004 'MQTT' 05")) is None
    assert form_of(b"") is None


# ---- round trips with the twin, a client's own writer

NAMES = st.text(
    st.characters(exclude_categories=("C",), exclude_characters="+#"), min_size=1, max_size=20
).map(str.encode)
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20).map(
    str.encode
)
IDS = st.integers(1, 65_535)
SHARES = st.builds(lambda share, name: b"$share/" + share.replace(b"/", b"") + b"s/" + name, NAMES, NAMES)
FILTERS = st.one_of(NAMES, SHARES, st.sampled_from((b"#", b"+", b"+/a/#", b"/", b"$share/s/+/#")))
NOT_ZERO = (Property.RECEIVE_MAXIMUM, Property.MAXIMUM_PACKET_SIZE, Property.TOPIC_ALIAS)


def values(name: Property) -> st.SearchStrategy[Any]:
    if name is Property.RESPONSE_TOPIC:
        return NAMES
    low = int(name in NOT_ZERO)
    return {
        Kind.BYTE: st.integers(0, 1),
        Kind.TWO: st.integers(low, 2**16 - 1),
        Kind.FOUR: st.integers(low, 2**32 - 1),
        Kind.VARINT: st.tuples(st.integers(1, 268_435_455)),
        Kind.TEXT: TEXTS,
        Kind.BINARY: st.binary(max_size=200),
        Kind.PAIR: st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3).map(tuple),
    }[KINDS[name]]


def properties_of(allowed: frozenset[Property], *needed: Property) -> st.SearchStrategy[Properties]:
    optional = {name: values(name) for name in sorted(allowed) if name not in needed}
    return st.fixed_dictionaries({name: values(name) for name in needed}, optional=optional)


def when_5(protocol: int, strategy: st.SearchStrategy[Properties]) -> st.SearchStrategy[Properties]:
    return strategy if protocol == 5 else st.just(NONE)


def subscriptions(protocol: int) -> st.SearchStrategy[Subscription]:
    if protocol < 5:
        return st.builds(Subscription, FILTERS, st.integers(0, 2))
    some = st.builds(
        Subscription, FILTERS, st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2)
    )
    return some.filter(lambda each: not (each.no_local and each.filter.startswith(b"$share/")))


def connects(protocol: int) -> st.SearchStrategy[Connect]:
    wills = st.builds(
        Will,
        NAMES,
        st.binary(max_size=200),
        st.integers(0, 2),
        st.booleans(),
        when_5(protocol, properties_of(OF_WILL)),
    )
    asked = properties_of(OF_CONNECT - {Property.AUTHENTICATION_DATA}) | properties_of(
        OF_CONNECT, Property.AUTHENTICATION_METHOD
    )
    some = st.builds(
        Connect, st.just(protocol), st.booleans(), st.integers(0, 65_535), NAMES, st.none() | wills,
        st.none() | NAMES, st.none() | st.binary(max_size=200), when_5(protocol, asked),
    )  # fmt: skip
    return (
        some
        if protocol == 5
        else some.filter(lambda each: each.username is not None or each.password is None)
    )


def publishes(protocol: int) -> st.SearchStrategy[Publish]:
    properties = when_5(protocol, properties_of(OF_PUBLISH - {Property.SUBSCRIPTION_IDENTIFIER}))
    payloads = st.binary(max_size=300)
    quiet = st.builds(
        Publish, NAMES, payloads, st.just(0), st.just(0), st.just(False), st.booleans(), properties
    )
    return quiet | st.builds(
        Publish, NAMES, payloads, st.integers(1, 2), IDS, st.booleans(), st.booleans(), properties
    )


def packets_of(protocol: int) -> st.SearchStrategy[Packet]:
    def acknowledgements(kind: int, of: Any) -> st.SearchStrategy[Packet]:
        if protocol < 5:
            return st.builds(of, IDS)
        return st.builds(
            of, IDS, st.sampled_from(sorted(CLIENT_CODES[kind])), properties_of(OF_ACKNOWLEDGEMENT)
        )

    some: list[st.SearchStrategy[Any]] = [
        connects(protocol),
        publishes(protocol),
        *(acknowledgements(kind, of) for kind, of in ((4, Puback), (5, Pubrec), (6, Pubrel), (7, Pubcomp))),
        st.builds(Subscribe, IDS, st.lists(subscriptions(protocol), min_size=1, max_size=4).map(tuple),
                  when_5(protocol, properties_of(OF_SUBSCRIBE))),
        st.builds(Unsubscribe, IDS, st.lists(FILTERS, min_size=1, max_size=4).map(tuple),
                  when_5(protocol, properties_of(OF_UNSUBSCRIBE))),
        st.just(Pingreq()),
    ]  # fmt: skip
    if protocol < 5:
        return st.one_of(*some, st.just(Disconnect()))
    codes = {kind: st.sampled_from(sorted(CLIENT_CODES[kind])) for kind in (14, 15)}
    return st.one_of(
        *some,
        st.builds(Disconnect, codes[14], properties_of(OF_DISCONNECT)),
        st.builds(Auth, codes[15], properties_of(OF_AUTH, Property.AUTHENTICATION_METHOD)),
    )


@pytest.mark.parametrize("protocol", [3, 4, 5])
@given(data=st.data())
def test_what_a_client_writes_is_read(protocol: int, data: st.DataObject) -> None:
    packet = data.draw(packets_of(protocol))
    assert decode(twin.encode(packet, protocol), protocol) == packet


@given(properties_of(frozenset(Property)), st.lists(st.integers(1, 268_435_455), max_size=3))
def test_properties_are_written_and_read_back(some: dict[Property, Any], identifiers: list[int]) -> None:
    some.pop(Property.SUBSCRIPTION_IDENTIFIER, None)
    if identifiers:
        some[Property.SUBSCRIPTION_IDENTIFIER] = tuple(identifiers)
    block = encode_properties(some)
    assert block == twin.properties(some)
    assert decode_properties_block(block) == some
    for size in range(len(block)):
        with pytest.raises(ProtocolError):
            decode_properties_block(block[:size])
    with pytest.raises(ProtocolError):
        decode_properties_block(block + b"\0")


@pytest.mark.parametrize("protocol", [3, 4, 5])
@given(data=st.data())
def test_a_publish_is_written_as_a_client_writes_it(protocol: int, data: st.DataObject) -> None:
    packet = data.draw(publishes(protocol))
    assert publish(protocol, packet) == twin.encode(packet, protocol)


# ---- what the server says


def test_answers_before_5_0_are_encoded() -> None:
    reason = {Property.REASON_STRING: b"never said"}
    for protocol in (3, 4):
        assert connack(protocol, 0) == b"\x20\x02\x00\x00"
        assert connack(protocol, 4, session_present=True, properties=reason) == b"\x20\x02\x00\x04"
        assert acknowledgement(protocol, 6, 258, 0x92, reason) == b"\x62\x02\x01\x02"
        assert suback(protocol, 1, b"\x80" * 200, reason)[:5] == b"\x90\xca\x01\x00\x01"
        assert unsuback(protocol, 1, b"\x11", reason) == b"\xb0\x02\x00\x01"
    assert connack(3, 0, session_present=True) == b"\x20\x02\x00\x00"
    assert connack(4, 0, session_present=True) == b"\x20\x02\x01\x00"


REASON = {Property.REASON_STRING: b"r"}
ANSWERS = [
    ("3.2 CONNACK", connack(5, 0), "20 00 00 00"),
    ("3.2.2-3 session present", connack(5, 0, session_present=True), "20 01 00 00"),
    ("3.2.2-6 no session when refused", connack(5, 0x86, session_present=True), "20 00 86 00"),
    ("3.2.2.3 properties", connack(5, 0, properties={Property.RECEIVE_MAXIMUM: 20, Property.ASSIGNED_CLIENT_IDENTIFIER: b"a"}),
     "20 00 00 07 21 0014 12 0001 'a'"),
    ("3.4.2.1 the short form", acknowledgement(5, 4, 1), "40 0001"),
    ("3.4.2.1 a code alone", acknowledgement(5, 4, 1, 0x10), "40 0001 10"),
    ("3.5 PUBREC", acknowledgement(5, 5, 1, 0x87, REASON), "50 0001 87 04 1f 0001 'r'"),
    ("3.6 PUBREL", acknowledgement(5, 6, 1, 0, REASON), "62 0001 00 04 1f 0001 'r'"),
    ("3.7 PUBCOMP", acknowledgement(5, 7, 1, 0x92), "70 0001 92"),
    ("3.9 SUBACK", suback(5, 1, b"\x01\x8f"), "90 0001 00 01 8f"),
    ("3.9.2.1 SUBACK", suback(5, 1, b"\x87", REASON), "90 0001 04 1f 0001 'r' 87"),
    ("3.11 UNSUBACK", unsuback(5, 1, b"\x00\x11"), "b0 0001 00 00 11"),
    ("3.14 DISCONNECT, the short form", disconnect(0), "e0"),
    ("3.14 DISCONNECT", disconnect(0x8E), "e0 8e"),
    ("3.14.2.2 DISCONNECT", disconnect(0x8E, REASON), "e0 8e 04 1f 0001 'r'"),
    ("3.3.4-3 subscription identifiers", publish(5, Publish(b"a", b"x", 1, 7, properties={Property.SUBSCRIPTION_IDENTIFIER: (1, 200)})),
     "32 0001 'a' 0007 05 0b 01 0b c801 'x'"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "wanted"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_answers_of_5_0_are_encoded(said: bytes, wanted: str) -> None:
    assert said == frame(wanted)


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Connect(4, password=b"secret"))
