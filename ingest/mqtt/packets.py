"""MQTT 3.1 and 3.1.1 packets: bytes to values and back. Knows no state and no socket.

``decode`` takes one complete frame (fixed header included) and gives a frozen value, or raises ProtocolError with the
normative statement that was broken. It reads nothing behind the frame and accepts nothing that it does not understand.
"""

from dataclasses import dataclass, field
from typing import Final

PROTOCOLS: Final = {(b"MQIsdp", 3): 3, (b"MQTT", 4): 4}


class ProtocolError(Exception):
    """The peer broke the protocol; its connection is closed (3.1.1 section 4.8)."""


@dataclass(frozen=True, slots=True)
class Will:
    """What is to be published when the client goes without DISCONNECT."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Connect:
    """CONNECT. ``protocol`` is 3 or 4; None is a protocol or version that we do not speak."""

    protocol: int | None
    clean_session: bool = True
    keepalive_s: int = 0
    client_id: bytes = b""
    will: Will | None = None
    username: bytes | None = None
    password: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Publish:
    """PUBLISH. ``packet_id`` is 0 for QoS 0."""

    topic: bytes
    payload: bytes
    qos: int
    packet_id: int
    dup: bool = False
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Puback:
    """PUBACK from the client."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pubrec:
    """PUBREC from the client."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pubrel:
    """PUBREL from the client: the second half of its QoS 2 message."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pubcomp:
    """PUBCOMP from the client."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE: filters with the QoS asked for."""

    packet_id: int
    filters: tuple[tuple[bytes, int], ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE."""

    packet_id: int
    filters: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Pingreq:
    """PINGREQ."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """DISCONNECT."""


Packet = (
    Connect | Publish | Puback | Pubrec | Pubrel | Pubcomp | Subscribe | Unsubscribe | Pingreq | Disconnect
)


class Reader:
    """Takes fields off the front of a frame's body."""

    def __init__(self, frame: bytes) -> None:
        self._data = frame
        self._at = 2
        while frame[self._at - 1] & 0x80:
            self._at += 1

    def byte(self) -> int:
        return self.raw(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.raw(2), "big")

    def raw(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise ProtocolError("a field is longer than its packet")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def binary(self) -> bytes:
        return self.raw(self.number())

    def text(self) -> bytes:
        """A UTF-8 string: well formed, without U+0000 [MQTT-1.5.3-1], [MQTT-1.5.3-2]."""
        raw = self.binary()
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("a string is not UTF-8 [MQTT-1.5.3-1]") from error
        if b"\0" in raw:
            raise ProtocolError("a string has U+0000 [MQTT-1.5.3-2]")
        return raw

    def packet_id(self) -> int:
        number = self.number()
        if number == 0:
            raise ProtocolError("packet identifier 0 [MQTT-2.3.1-1]")
        return number

    def rest(self) -> bytes:
        return self.raw(len(self._data) - self._at)

    @property
    def has_more(self) -> bool:
        return self._at < len(self._data)


def decode(frame: bytes) -> Packet:
    """One complete frame. Raises ProtocolError."""
    kind, flags = frame[0] >> 4, frame[0] & 0x0F
    reader = Reader(frame)
    if kind == 3:
        return _publish(reader, flags)
    if flags != (2 if kind in (6, 8, 10) else 0) and not (kind in (6, 8, 10) and flags == 10):
        # 3.1 let clients set DUP on these; 3.1.1 calls every other value malformed.
        raise ProtocolError("reserved flags [MQTT-2.2.2-2]")
    packet: Packet
    match kind:
        case 1:
            packet = _connect(reader)
            if packet.protocol is None:
                return packet
        case 4:
            packet = Puback(reader.packet_id())
        case 5:
            packet = Pubrec(reader.packet_id())
        case 6:
            packet = Pubrel(reader.packet_id())
        case 7:
            packet = Pubcomp(reader.packet_id())
        case 8:
            packet = _subscribe(reader)
        case 10:
            packet = _unsubscribe(reader)
        case 12:
            packet = Pingreq()
        case 14:
            packet = Disconnect()
        case _:
            raise ProtocolError(f"packet type {kind} is not for a server")
    if reader.has_more:
        raise ProtocolError("bytes behind the packet's end")
    return packet


def _connect(reader: Reader) -> Connect:
    name, level = reader.binary(), reader.byte()
    protocol = PROTOCOLS.get((name, level & 0x7F))
    if protocol is None:
        return Connect(None)
    flags, keepalive_s = reader.byte(), reader.number()
    if flags & 1:
        raise ProtocolError("the reserved connect flag is set [MQTT-3.1.2-3]")
    client_id = reader.text()
    will = None
    if flags & 0x04:
        topic, payload, qos = reader.text(), reader.binary(), flags >> 3 & 3
        if qos == 3:
            raise ProtocolError("will QoS 3 [MQTT-3.1.2-14]")
        if not topic or b"+" in topic or b"#" in topic:
            raise ProtocolError("the will's topic is no topic name")
        will = Will(topic, payload, qos, bool(flags & 0x20))
    elif flags & 0x38:
        raise ProtocolError("will flags without a will [MQTT-3.1.2-11]")
    # 3.1 allows the flags to promise more than there is (its section 3.1); 3.1.1 does not.
    username = reader.text() if flags & 0x80 and (reader.has_more or protocol == 4) else None
    password = reader.binary() if flags & 0x40 and (reader.has_more or protocol == 4) else None
    if protocol == 4 and flags & 0x40 and not flags & 0x80:
        raise ProtocolError("a password without a user name [MQTT-3.1.2-22]")
    return Connect(protocol, bool(flags & 2), keepalive_s, client_id, will, username, password)


def _publish(reader: Reader, flags: int) -> Publish:
    qos = flags >> 1 & 3
    if qos == 3:
        raise ProtocolError("QoS 3 [MQTT-3.3.1-4]")
    if qos == 0 and flags & 8:
        raise ProtocolError("DUP with QoS 0 [MQTT-3.3.1-2]")
    topic = reader.text()
    if not topic:
        raise ProtocolError("an empty topic name [MQTT-4.7.3-1]")
    if b"+" in topic or b"#" in topic:
        raise ProtocolError("a wildcard in a topic name [MQTT-3.3.2-2]")
    packet_id = reader.packet_id() if qos else 0
    return Publish(topic, reader.rest(), qos, packet_id, bool(flags & 8), bool(flags & 1))


def _filter(reader: Reader) -> bytes:
    text = reader.text()
    if not text:
        raise ProtocolError("an empty topic filter [MQTT-4.7.3-1]")
    levels = text.split(b"/")
    for number, level in enumerate(levels):
        if b"#" in level and (level != b"#" or number != len(levels) - 1):
            raise ProtocolError("# is not a last level of its own [MQTT-4.7.1-2]")
        if b"+" in level and level != b"+":
            raise ProtocolError("+ is not a level of its own [MQTT-4.7.1-3]")
    return text


def _subscribe(reader: Reader) -> Subscribe:
    packet_id = reader.packet_id()
    filters = []
    while reader.has_more:
        text, qos = _filter(reader), reader.byte()
        if qos > 2:
            raise ProtocolError("a subscription QoS that is not 0, 1 or 2 [MQTT-3.8.3-4]")
        filters.append((text, qos))
    if not filters:
        raise ProtocolError("SUBSCRIBE without a filter [MQTT-3.8.3-3]")
    return Subscribe(packet_id, tuple(filters))


def _unsubscribe(reader: Reader) -> Unsubscribe:
    packet_id = reader.packet_id()
    filters = []
    while reader.has_more:
        filters.append(_filter(reader))
    if not filters:
        raise ProtocolError("UNSUBSCRIBE without a filter [MQTT-3.10.3-2]")
    return Unsubscribe(packet_id, tuple(filters))


def connack(code: int, *, session_present: bool = False) -> bytes:
    """CONNACK; codes of 3.1.1 table 3.1."""
    return bytes([0x20, 2, session_present and code == 0, code])


def acknowledgement(kind: int, packet_id: int) -> bytes:
    """PUBACK 4, PUBREC 5, PUBREL 6, PUBCOMP 7, UNSUBACK 11."""
    return bytes([kind << 4 | (2 if kind == 6 else 0), 2]) + packet_id.to_bytes(2, "big")


def suback(packet_id: int, codes: bytes) -> bytes:
    """SUBACK with a return code per filter [MQTT-3.8.4-5]."""
    size = 2 + len(codes)
    length = bytearray()
    while True:
        size, digit = size >> 7, size & 0x7F
        length.append(digit | (0x80 if size else 0))
        if not size:
            return b"\x90" + bytes(length) + packet_id.to_bytes(2, "big") + codes


PINGRESP: Final = b"\xd0\x00"
