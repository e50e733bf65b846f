"""Packets as clients send them: the lane's differential test has streams of them, good and bad, by name; ``encode`` writes
any of the codec's values. Nothing here uses the codec's own writing.
"""

import struct
from typing import Any

from ingest.mqtt import packets
from tests.twins.storing import OTHER_TOKEN, TOKEN, USER

T = TOKEN.encode()


def text(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def packet(first: int, body: bytes, length_bytes: int = 1) -> bytes:
    """The frame; length_bytes beyond the necessary are the standard's redundant form."""
    size, length = len(body), bytearray()
    while size or len(length) < length_bytes or not length:
        length.append(size % 128 | 0x80)
        size //= 128
    length[-1] &= 0x7F
    return bytes([first]) + bytes(length) + body


def connect(
    client_id: bytes = b"c",
    user: bytes = USER.encode(),
    token: bytes = T,
    protocol: bytes = b"\x00\x04MQTT\x04",
    flags: int = 0xC2,
) -> bytes:
    return packet(0x10, protocol + bytes([flags]) + b"\x00\x3c" + text(client_id) + text(user) + text(token))


def publish(
    topic: bytes, payload: bytes, first: int = 0x32, packet_id: int = 7, length_bytes: int = 1
) -> bytes:
    number = struct.pack(">H", packet_id) if first & 0x06 else b""
    return packet(first, text(topic) + number + payload, length_bytes)


# How 5.0 writes its properties (table 2-4): numbers by struct's letters, v variable, s string or binary, p pair.
PROPERTIES = {
    0x01: "B", 0x02: "I", 0x03: "s", 0x08: "s", 0x09: "s", 0x0B: "v", 0x11: "I", 0x12: "s", 0x13: "H", 0x15: "s",
    0x16: "s", 0x17: "B", 0x18: "I", 0x19: "B", 0x1A: "s", 0x1C: "s", 0x1F: "s", 0x21: "H", 0x22: "H", 0x23: "H",
    0x24: "B", 0x25: "B", 0x26: "p", 0x27: "I", 0x28: "B", 0x29: "B", 0x2A: "B",
}  # fmt: skip


def varint(number: int) -> bytes:
    digits = [number >> shift & 0x7F for shift in (0, 7, 14, 21) if shift == 0 or number >> shift]
    return bytes(digit | 0x80 for digit in digits[:-1]) + bytes(digits[-1:])


def properties(values: packets.Properties) -> bytes:
    block = b""
    for name, value in values.items():
        form = PROPERTIES[name]
        for each in value if form in "vp" else (value,):
            if form == "v":
                block += bytes([name]) + varint(each)
            elif form == "s":
                block += bytes([name]) + text(each)
            elif form == "p":
                block += bytes([name]) + text(each[0]) + text(each[1])
            else:
                block += bytes([name]) + struct.pack(">" + form, each)
    return varint(len(block)) + block


def encode(value: Any, protocol: int) -> bytes:
    """What a client sends; ``value`` is one of the codec's."""

    def block(of: packets.Properties) -> bytes:
        return properties(of) if protocol == 5 else b""

    match value:
        case packets.Connect():
            name = b"\x00\x06MQIsdp" if protocol == 3 else b"\x00\x04MQTT"
            flags = (
                2 * value.clean_session
                | 0x80 * (value.username is not None)
                | 0x40 * (value.password is not None)
            )
            payload = text(value.client_id)
            if will := value.will:
                flags |= 0x04 | will.qos << 3 | will.retain << 5
                payload += block(will.properties) + text(will.topic) + text(will.payload)
            payload += b"".join(
                text(field) for field in (value.username, value.password) if field is not None
            )
            head = name + bytes([protocol, flags]) + struct.pack(">H", value.keepalive_s)
            return packet(0x10, head + block(value.properties) + payload)
        case packets.Publish():
            number = struct.pack(">H", value.packet_id) if value.qos else b""
            body = text(value.topic) + number + block(value.properties) + value.payload
            return packet(0x30 | value.dup << 3 | value.qos << 1 | value.retain, body)
        case packets.Subscribe():
            body = struct.pack(">H", value.packet_id) + block(value.properties)
            for each in value.subscriptions:
                options = (
                    each.qos | each.no_local << 2 | each.retain_as_published << 3 | each.retain_handling << 4
                )
                body += text(each.filter) + bytes([options])
            return packet(0x82, body)
        case packets.Unsubscribe():
            head = struct.pack(">H", value.packet_id) + block(value.properties)
            return packet(0xA2, head + b"".join(map(text, value.filters)))
        case packets.Pingreq():
            return PING
        case packets.Disconnect() | packets.Auth():
            first = 0xE0 if isinstance(value, packets.Disconnect) else 0xF0
            return packet(first, bytes([value.code]) + block(value.properties) if protocol == 5 else b"")
    kinds = {packets.Puback: 0x40, packets.Pubrec: 0x50, packets.Pubrel: 0x62, packets.Pubcomp: 0x70}
    more = bytes([value.code]) + block(value.properties) if protocol == 5 else b""
    return packet(kinds[type(value)], struct.pack(">H", value.packet_id) + more)


DATA = T + b"/json/d"
PING = b"\xc0\x00"

STREAMS = {
    "QoS 0": publish(DATA, b"1", 0x30),
    "QoS 1": publish(DATA, b"1"),
    "QoS 1 again": publish(DATA, b"1") + publish(DATA, b"1", 0x3A),
    "QoS 2": publish(DATA, b"1", 0x34) * 2 + packet(0x62, b"\x00\x07") + publish(DATA, b"2", 0x34),
    "QoS 3": publish(DATA, b"1", 0x36),
    "QoS 0 with DUP": publish(DATA, b"1", 0x38),
    "retained": publish(DATA, b"1", 0x31) + publish(DATA, b"1", 0x33),
    "packet id 0": publish(DATA, b"1", packet_id=0),
    "no packet id": packet(0x32, text(DATA)),
    "half a packet id": packet(0x32, text(DATA) + b"\x00"),
    "no payload": publish(DATA, b""),
    "no topic": packet(0x30, b""),
    "an empty topic": publish(b"", b"1"),
    "a topic longer than its packet": packet(0x30, b"\x00\x09ab"),
    "a redundant length": publish(DATA, b"1", length_bytes=4) + packet(0xC0, b"", 3),
    "a length of five bytes": b"\x30\xff\xff\xff\xff\x01",
    "too long a packet": publish(DATA, b"1" * 8_000),
    "too long a payload": publish(DATA, b'"' + b"1" * 6_000 + b'"'),
    "a wildcard +": publish(T + b"/json/+", b"1"),
    "a wildcard #": publish(T + b"/json/#", b"1", 0x30),
    "a wildcard in a tag": publish(DATA + b"/a#", b"1"),
    "a wildcard in a foreign topic": publish(b"x/+", b"1"),
    "a wildcard in a form topic": publish(T + b"/d+", b"v=1"),
    "U+0000 in a topic": publish(T + b"/json/d\x00", b"1"),
    "U+0000 in a tag": publish(DATA + b"/\x00", b"1"),
    "a topic that is not UTF-8": publish(T + b"/json/\xff", b"1"),
    "a tag that is not UTF-8": publish(DATA + b"/\xed\xa0\x80", b"1"),
    "a topic beyond ASCII": publish(T + "/json/Größe".encode(), b"1") + publish(DATA + "/Größe".encode(), b"1") * 2,
    "a control character in a topic": publish(T + b"/json/d\x01", b"1"),
    "a tag": publish(DATA + b"/north", b"1") * 2 + publish(DATA + b"/north/", b"1") * 2,
    "an empty tag": publish(DATA + b"/", b"1") * 2 + publish(DATA + b"//", b"1") * 2,
    "a long tag": publish(DATA + b"/" + b"n" * 129, b"1"),
    "a form": publish(T + b"/d", b"v=1&v2=x") * 2 + publish(T + b"/d/", b"v=2"),
    "binary": publish(T + b"/binary/d", b"\x00\xff") * 2 + publish(T + b"/binary/d/t", b""),
    "state": publish(T + b"/state/d", b"a=1&b=x") + publish(T + b"/state/d/t", b'{"a":1}') + publish(T + b"/state/d", b"x"),
    "a state of a long number": publish(T + b"/state/d", b"a=" + b"9" * 5_000) + PING,
    "a state of odd numbers": publish(T + b"/state/d", b'{"a":NaN}') + publish(T + b"/state/d", b"a=1e999&b=%ff&c=%D9%A1"),
    "a command": publish(T + b"/d/subscribe", b"led:on") + publish(T + b"/json/subscribe", b"1"),
    "reserved words": publish(T + b"/json", b"1") + publish(T + b"/state/", b"1") + publish(T, b"1") + publish(T + b"/", b"1"),
    "a foreign topic": publish(OTHER_TOKEN.encode() + b"/json/d", b"1"),
    "devices": b"".join(publish(T + b"/json/" + name, b"1") for name in (b"d", b"e", b"off", b"bare", b"new", b"new", b"0", b"")),
    "too many devices": b"".join(publish(T + b"/json/n%d" % i, b"1") for i in range(8)),
    "a long device": publish(T + b"/json/" + b"d" * 129, b"1"),
    "no JSON": publish(DATA, b"{") + publish(DATA, b"temp=1") + publish(DATA, b'{"a":1e999}'),
    "pings": PING * 3 + b"\xc1\x00" + PING,
    "a ping with a body": packet(0xC0, b"x"),
    "a disconnect and more": packet(0xE0, b"") + publish(DATA, b"1"),
    "a disconnect with flags": packet(0xE1, b""),
    "a second connect": connect(),
    "subscribe": packet(0x82, b"\x00\x05" + text(b"a/#") + b"\x01") + packet(0xA2, b"\x00\x06" + text(b"a")),
    "subscribe to nothing": packet(0x82, b"\x00\x05"),
    "acknowledgements of nothing": b"".join(packet(first, b"\x00\x01") for first in (0x40, 0x50, 0x62, 0x70)),
    "packets of a server": packet(0x20, b"\x00\x00"),
    "packet type 0": packet(0x00, b""),
    "packet type 15": packet(0xF0, b""),
    "half a packet": publish(DATA, b"1")[:-1],
}  # fmt: skip


def connect_5() -> bytes:
    """CONNECT of MQTT 5, without properties."""
    head = b"\x00\x04MQTT\x05\xc2\x00\x3c\x00"
    return packet(0x10, head + text(b"c") + text(USER.encode()) + text(T))


def publish_5(
    topic: bytes,
    payload: bytes,
    first: int = 0x32,
    block: bytes = b"\0",
    packet_id: int = 7,
    length_bytes: int = 1,
) -> bytes:
    """PUBLISH of MQTT 5; ``block`` is its properties, their length in front."""
    return publish(topic, block + payload, first, packet_id, length_bytes)


# Readings of MQTT 5, which the lane takes when they have no properties.
STREAMS_5 = {
    "QoS 0": publish_5(DATA, b"1", 0x30),
    "QoS 1": publish_5(DATA, b"1") + publish_5(DATA, b"1", 0x3A) + publish_5(DATA + b"/tag", b"2"),
    "QoS 2": publish_5(DATA, b"1", 0x34) + packet(0x62, b"\x00\x07"),
    "a length with more bytes than it needs": publish_5(DATA, b"1", length_bytes=2) + PING,
    "a length of four bytes, QoS 0": publish_5(DATA, b"1", 0x30, length_bytes=4) + PING,
    "no length of the properties": packet(0x32, text(DATA) + b"\x00\x07"),
    "properties longer than the packet": publish_5(DATA, b"1", block=b"\x7f"),
    "a length of the properties with more bytes than it needs": publish_5(DATA, b"1", block=b"\x80\x00"),
    "properties": publish_5(DATA, b"1", block=b"\x07\x01\x01\x02\x00\x00\x00\x3c") * 2,
    "a topic alias": publish_5(DATA, b"1", block=b"\x03\x23\x00\x01") + publish_5(b"", b"2", block=b"\x03\x23\x00\x01"),
    "an alias of nothing": publish_5(b"", b"1", block=b"\x03\x23\x00\x02"),
    "a subscription identifier": publish_5(DATA, b"1", block=b"\x02\x0b\x01"),
    "no topic": publish_5(b"", b"1"),
    "retained": publish_5(DATA, b"1", 0x33),
    "a control character in a topic": publish_5(DATA + b"/\x01", b"1"),
    "refused ones": publish_5(DATA, b"{") + publish_5(T + b"/json/new", b"1") + publish_5(b"x/y", b"1"),
    "a disconnect with a will": publish_5(DATA, b"1") + packet(0xE0, b"\x04"),
}  # fmt: skip
