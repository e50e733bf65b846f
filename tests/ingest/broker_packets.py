"""MQTT packets of all versions for the broker's model, written once more: what clients send, and how they read answers."""

import struct
from collections.abc import Iterator

from tests.crash.broker_clients import packet, text
from tests.ingest.broker_model import Line, Message, Other, Publish, Subscription, Will

# Bytes of a property's value by its number (5.0 table 2-4); the others are texts, and 0x0B is a variable integer.
SIZES = {
    0x01: 1,
    0x02: 4,
    0x11: 4,
    0x13: 2,
    0x17: 1,
    0x18: 4,
    0x19: 1,
    0x21: 2,
    0x22: 2,
    0x23: 2,
    0x24: 1,
    0x25: 1,
    0x27: 4,
}
SIZES |= {0x28: 1, 0x29: 1, 0x2A: 1}


def prop(number: int, value: int) -> bytes:
    """A property, or nothing for 0."""
    return bytes([number]) + value.to_bytes(SIZES.get(number, 1), "big") if value else b""


def block(protocol: int, *properties: bytes) -> bytes:
    """The properties of a packet, which before 5.0 has none."""
    joined = b"".join(properties)
    return bytes([len(joined)]) + joined if protocol == 5 else b""


def connect(
    line: Line, name: bytes, expiry_s: int, *, is_clean: bool, will: Will | None, alias_max: int, tail: bytes
) -> bytes:
    flags = 0xC0 | is_clean << 1
    will_part = b""
    if will is not None:
        message = will.message
        flags |= 4 | message.qos << 3 | message.retain << 5
        will_part = block(
            line.protocol, prop(0x18, will.delay_s), prop(0x02, will.life_s), content_type(message)
        )
        will_part += text(message.topic) + text(message.payload)
    properties = block(
        line.protocol,
        prop(0x11, expiry_s),
        prop(0x21, line.window),
        prop(0x27, line.packet_max),
        prop(0x22, alias_max),
    )
    level = text(b"MQIsdp" if line.protocol == 3 else b"MQTT") + bytes([line.protocol, flags, 0, 0])
    return packet(0x10, level + properties + text(name) + will_part + tail)


def content_type(message: Message) -> bytes:
    return b"\x03" + text(message.content_type) if message.content_type else b""


def publish(protocol: int, message: Message, packet_id: int, topic: bytes, life_s: int, alias: int) -> bytes:
    properties = block(protocol, prop(0x02, life_s), prop(0x23, alias), content_type(message))
    id_part = struct.pack(">H", packet_id) if message.qos else b""
    first = 0x30 | message.qos << 1 | message.retain
    return packet(first, text(topic) + id_part + properties + message.payload)


def subscribe(protocol: int, asked: list[tuple[bytes, Subscription]], identifier: int) -> bytes:
    filters = b"".join(
        text(name) + bytes([each.qos | each.no_local << 2 | each.as_published << 3 | each.handling << 4])
        for name, each in asked
    )
    return packet(0x82, b"\x00\x07" + block(protocol, prop(0x0B, identifier)) + filters)


def unsubscribe(protocol: int, name: bytes) -> bytes:
    return packet(0xA2, b"\x00\x08" + block(protocol) + text(name))


def acknowledgement(protocol: int, kind: int, packet_id: int, code: int = 0) -> bytes:
    body = struct.pack(">H", packet_id) + (bytes([code]) if code and protocol == 5 else b"")
    return packet(kind << 4 | 2 * (kind == 6), body)


def disconnect(protocol: int, code: int, expiry_s: int | None) -> bytes:
    if protocol < 5 or (not code and expiry_s is None):
        return packet(0xE0, b"")
    given = b"" if expiry_s is None else b"\x11" + expiry_s.to_bytes(4, "big")
    return packet(0xE0, bytes([code]) + block(5, given))


class Ears:
    """A client's reading of what it is sent: topics by alias, as its broker set them."""

    def __init__(self, protocol: int, alias_max: int, packet_max: int) -> None:
        self.protocol = protocol
        self.alias_max = alias_max
        self.packet_max = packet_max
        self.topics: dict[int, bytes] = {}

    def read(self, first: int, body: bytes) -> tuple[int, Publish] | Other:
        """A PUBLISH with its packet id, or what else it is."""
        assert not self.packet_max or 2 + len(body) <= self.packet_max
        kind = first >> 4
        if kind == 3:
            return self._publish(first, body)
        assert first & 15 == (2 if kind == 6 else 0)
        if kind == 2:
            return Other(2, 0, tuple(body[:2]))
        packet_id, body = (0, body) if kind == 14 else (int.from_bytes(body[:2], "big"), body[2:])
        if kind in (9, 11):
            codes = body if self.protocol < 5 else body[1 + body[0] :]
        else:
            assert self.protocol == 5 or not body
            codes = body[:1] or b"\x00"
        return Other(kind, packet_id, tuple(codes))

    def _publish(self, first: int, body: bytes) -> tuple[int, Publish]:
        topic, body = split_text(body)
        packet_id = 0
        if first & 6:
            packet_id, body = int.from_bytes(body[:2], "big"), body[2:]
            assert packet_id
        left_s, kind_of_content = 0, b""
        identifiers = []
        if self.protocol == 5:
            size, body = body[0], body[1:]
            for number, value in properties(body[:size]):
                if number == 0x02:
                    left_s = int.from_bytes(value, "big")
                    assert left_s
                elif number == 0x0B:
                    identifiers.append(value[0])
                elif number == 0x23:
                    alias = int.from_bytes(value, "big")
                    assert 0 < alias <= self.alias_max
                    topic = self.topics[alias] = topic or self.topics[alias]
                else:
                    assert number == 0x03, hex(number)
                    kind_of_content = value
            body = body[size:]
        assert topic
        dup, qos, retain = bool(first & 8), first >> 1 & 3, bool(first & 1)
        ids = tuple(sorted(identifiers))
        return packet_id, Publish(dup, qos, retain, topic, body, left_s, ids, kind_of_content)


def split_text(data: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(data[:2], "big")
    return data[2:end], data[end:]


def properties(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbers and values; a subscription identifier has one byte here."""
    while data:
        number, data = data[0], data[1:]
        size = 1 if number == 0x0B else SIZES.get(number, 0)
        value, data = (data[:size], data[size:]) if size else split_text(data)
        yield number, value
