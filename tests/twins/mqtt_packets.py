"""Packets for the MQTT lane's differential test, good and bad, and streams of them by name."""

import struct

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
