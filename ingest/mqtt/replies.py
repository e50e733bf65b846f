"""What the server says, as bytes. ``protocol`` is the client's: 3 for MQTT 3.1, 4 for 3.1.1, 5 for 5.0.

What a version has no field for is left out: properties and most reason codes exist in 5.0 only. Nothing is checked
here but our own invariants; whether a packet fits the client's maximum is its session's business.
"""

from typing import TYPE_CHECKING, Final

from ingest.mqtt.properties import NONE, Properties, encode_properties, encode_text, encode_varint

if TYPE_CHECKING:
    from ingest.mqtt.packets import Publish

PINGRESP: Final = b"\xd0\x00"


def frame(first: int, body: bytes) -> bytes:
    """A packet: first byte, remaining length, body."""
    return bytes([first]) + encode_varint(len(body)) + body


def connack(
    protocol: int, code: int, *, session_present: bool = False, properties: Properties = NONE
) -> bytes:
    """CONNACK. ``code`` is of 3.1.1's table 3.1, or a ReasonCode in 5.0; a refusal has no session [MQTT-3.2.2-4]."""
    head = bytes([session_present and code == 0 and protocol > 3, code])
    return frame(0x20, head + encode_properties(properties) if protocol == 5 else head)


def publish(protocol: int, packet: "Publish") -> bytes:
    """PUBLISH to a subscriber."""
    first = 0x30 | packet.dup << 3 | packet.qos << 1 | packet.retain
    packet_id = packet.packet_id.to_bytes(2, "big") if packet.qos else b""
    properties = encode_properties(packet.properties) if protocol == 5 else b""
    return frame(first, encode_text(packet.topic) + packet_id + properties + packet.payload)


def acknowledgement(
    protocol: int, kind: int, packet_id: int, code: int = 0, properties: Properties = NONE
) -> bytes:
    """PUBACK 4, PUBREC 5, PUBREL 6, PUBCOMP 7; the shortest form that says it all."""
    body = packet_id.to_bytes(2, "big")
    if protocol == 5:
        body += _reason(code, properties)
    return frame(kind << 4 | (2 if kind == 6 else 0), body)


def suback(protocol: int, packet_id: int, codes: bytes, properties: Properties = NONE) -> bytes:
    """SUBACK with a code per filter, in their order [MQTT-3.8.4-5, MQTT-3.9.3-1]; before 5.0 0, 1, 2 or 0x80."""
    block = encode_properties(properties) if protocol == 5 else b""
    return frame(0x90, packet_id.to_bytes(2, "big") + block + codes)


def unsuback(protocol: int, packet_id: int, codes: bytes, properties: Properties = NONE) -> bytes:
    """UNSUBACK; the codes, one per filter, are said in 5.0 only."""
    body = packet_id.to_bytes(2, "big")
    return frame(0xB0, body + encode_properties(properties) + codes if protocol == 5 else body)


def disconnect(code: int, properties: Properties = NONE) -> bytes:
    """DISCONNECT from the server, which only 5.0 knows."""
    return frame(0xE0, _reason(code, properties))


def _reason(code: int, properties: Properties) -> bytes:
    """Reason code and properties, which may be left out from the end while they say nothing."""
    if properties:
        return bytes([code]) + encode_properties(properties)
    return bytes([code]) if code else b""
