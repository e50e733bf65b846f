"""MQTT as a client sees it: packets to bytes, a strict reader of what a server sends, a socket with deadlines.

An independent twin: nothing here knows the broker's code. What is sent is encoded as the row asks, right or wrong. What
comes back is read strictly: reserved bits, lengths, allowed properties, reason codes; the reader of a table need not ask
for any of that.

The versions are called by their protocol levels: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0.
"""

import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

DEADLINE_S = 2.0
# So much of one send goes byte by byte; the rest of a long one tells nothing new.
BYTEWISE_MAX = 2_048
VERSIONS = {3: "3.1", 4: "3.1.1", 5: "5.0"}
PING = b"\xc0\x00"

PROPERTIES: dict[str, tuple[int, str]] = {
    "payload_format": (0x01, "byte"),
    "message_expiry": (0x02, "four"),
    "content_type": (0x03, "text"),
    "response_topic": (0x08, "text"),
    "correlation_data": (0x09, "data"),
    "subscription_id": (0x0B, "size"),
    "session_expiry": (0x11, "four"),
    "assigned_id": (0x12, "text"),
    "server_keepalive": (0x13, "two"),
    "auth_method": (0x15, "text"),
    "auth_data": (0x16, "data"),
    "request_problem": (0x17, "byte"),
    "will_delay": (0x18, "four"),
    "request_response": (0x19, "byte"),
    "response_information": (0x1A, "text"),
    "server_reference": (0x1C, "text"),
    "reason_string": (0x1F, "text"),
    "receive_maximum": (0x21, "two"),
    "topic_alias_maximum": (0x22, "two"),
    "topic_alias": (0x23, "two"),
    "maximum_qos": (0x24, "byte"),
    "retain_available": (0x25, "byte"),
    "user": (0x26, "pair"),
    "maximum_packet_size": (0x27, "four"),
    "wildcards_available": (0x28, "byte"),
    "subscription_ids_available": (0x29, "byte"),
    "shared_available": (0x2A, "byte"),
}
NAMES = {number: (name, kind) for name, (number, kind) in PROPERTIES.items()}
REPEATED = {"user", "subscription_id"}
KINDS = {
    0x20: "Connack", 0x30: "Publish", 0x40: "Puback", 0x50: "Pubrec", 0x60: "Pubrel", 0x70: "Pubcomp",
    0x90: "Suback", 0xB0: "Unsuback", 0xD0: "Pingresp", 0xE0: "Disconnect", 0xF0: "Auth",
}  # fmt: skip
EXPLAINED = {"reason_string", "user"}
# What a server may say with each packet of MQTT 5 (table 2-4).
ALLOWED: dict[str, set[str]] = {
    "Connack": EXPLAINED | {
        "session_expiry", "receive_maximum", "maximum_qos", "retain_available", "maximum_packet_size", "assigned_id",
        "topic_alias_maximum", "wildcards_available", "subscription_ids_available", "shared_available",
        "server_keepalive", "response_information", "server_reference", "auth_method", "auth_data",
    },
    "Publish": {
        "payload_format", "message_expiry", "content_type", "response_topic", "correlation_data", "subscription_id",
        "topic_alias", "user",
    },
    "Puback": EXPLAINED, "Pubrec": EXPLAINED, "Pubrel": EXPLAINED, "Pubcomp": EXPLAINED,
    "Suback": EXPLAINED, "Unsuback": EXPLAINED,
    "Disconnect": EXPLAINED | {"server_reference"},
    "Auth": EXPLAINED | {"auth_method", "auth_data"},
}  # fmt: skip
PUBLISH_CODES = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
# The reason codes of MQTT 5 that a server may use (sections 3.2.2.2, 3.4.2.1 ... 3.15.2.1).
CODES: dict[str, set[int]] = {
    "Connack": {0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    "Puback": PUBLISH_CODES, "Pubrec": PUBLISH_CODES, "Pubrel": {0x00, 0x92}, "Pubcomp": {0x00, 0x92},
    "Suback": {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    "Unsuback": {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    "Disconnect": {0x00, *range(0x80, 0x84), 0x87, 0x89, 0x8B, *range(0x8D, 0x91), *range(0x93, 0xA3)},
    "Auth": {0x00, 0x18, 0x19},
}  # fmt: skip


class WireError(Exception):
    """The server sent what no server may send."""


Text = str | bytes
Props = dict[str, Any] | bytes


def plain(content: Text) -> bytes:
    return content.encode() if isinstance(content, str) else content


def text(content: Text) -> bytes:
    return struct.pack(">H", len(plain(content))) + plain(content)


def size(number: int, length: int = 1) -> bytes:
    """A variable byte integer; a length beyond the necessary is the redundant form."""
    out = bytearray()
    while number or len(out) < length or not out:
        out.append(number % 128 | 0x80)
        number //= 128
    out[-1] &= 0x7F
    return bytes(out)


def packet(first: int, body: bytes, length: int = 1) -> bytes:
    return bytes([first]) + size(len(body), length) + body


def _value(kind: str, value: Any) -> bytes:
    match kind:
        case "byte":
            return bytes([value])
        case "two":
            return struct.pack(">H", value)
        case "four":
            return struct.pack(">I", value)
        case "size":
            return size(value)
        case "pair":
            return text(value[0]) + text(value[1])
    return text(value)


def properties(given: Props) -> bytes:
    """The property section, its length included. Bytes are taken as the properties that they are."""
    if isinstance(given, bytes):
        return size(len(given)) + given
    out = b""
    for name, value in given.items():
        number, kind = PROPERTIES[name]
        for one in value if isinstance(value, list) else [value]:
            out += bytes([number]) + _value(kind, one)
    return size(len(out)) + out


@dataclass
class Received:
    """A packet from the server. ``code`` is a list for SUBACK and UNSUBACK."""

    kind: str
    raw: bytes = field(repr=False, default=b"")
    pid: int = 0
    code: Any = 0
    present: int = 0
    topic: bytes = b""
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    props: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = {name: value for name, value in vars(self).items() if name not in ("kind", "raw") and value}
        return f"{self.kind}({', '.join(f'{name}={value!r}' for name, value in told.items())})"


class Reader:
    """The bytes of one packet, taken from the left."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        if count > len(self.data):
            raise WireError(f"a packet ends {count - len(self.data)} bytes too early")
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count))

    def size(self) -> int:
        for length in range(1, 5):
            if length > len(self.data) or not self.data[length - 1] & 0x80:
                taken = self.take(length)
                number = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(taken))
                if size(number) != taken:
                    raise WireError("a variable byte integer is longer than needed [MQTT-1.5.5-1]")
                return number
        raise WireError("a variable byte integer of five bytes")

    def string(self, kind: str = "text") -> bytes:
        content = self.take(self.number(2))
        if kind == "text" and "\0" in content.decode():
            raise WireError("U+0000 in a string")
        return content

    def props(self, kind: str) -> dict[str, Any]:
        inner, found = Reader(self.take(self.size())), {}
        while inner.data:
            name, form = NAMES[inner.size()]
            if name not in ALLOWED[kind]:
                raise WireError(f"{name} is no property of {kind}")
            match form:
                case "byte" | "two" | "four":
                    value: Any = inner.number({"byte": 1, "two": 2, "four": 4}[form])
                case "size":
                    value = inner.size()
                case "pair":
                    value = (inner.string(), inner.string())
                case _:
                    value = inner.string(form)
            if name in REPEATED:
                found.setdefault(name, []).append(value)
            elif name in found:
                raise WireError(f"{name} twice in one {kind}")
            else:
                found[name] = value
        return found


def decode(frame: bytes, version: int) -> Received:
    """One complete packet from a server: its first byte and its body, without the length in between.

    Raises:
        WireError: no server may send this.
    """
    first, reader = frame[0], Reader(frame[1:])
    kind = _kind(first, version)
    got = Received(kind, frame)
    match kind:
        case "Connack":
            got.present, got.code = reader.number(1), reader.number(1)
            if version == 5 and got.code == 1 and not reader.data:
                return got  # the old form: a server that does not know the version of the client
            if got.present > (version > 3):
                raise WireError("reserved bits of CONNACK are set")
        case "Publish":
            _decode_publish(got, first, reader)
        case "Disconnect" | "Auth":
            got.code = reader.number(1) if reader.data else 0
        case "Puback" | "Pubrec" | "Pubrel" | "Pubcomp" | "Suback" | "Unsuback":
            got.pid = reader.number(2)
            if version == 5 and reader.data and kind.startswith("Pub"):
                got.code = reader.number(1)
    if (
        version == 5
        and (reader.data or kind in ("Connack", "Publish", "Suback", "Unsuback"))
        and kind != "Pingresp"
    ):
        got.props = reader.props(kind)
    if kind == "Publish":
        got.payload, reader.data = reader.data, b""
    elif kind == "Suback" or (kind == "Unsuback" and version == 5):
        got.code, reader.data = list(reader.data), b""
    if reader.data:
        raise WireError(f"{len(reader.data)} bytes too many in {got}")
    if not set(got.code if isinstance(got.code, list) else [got.code]) <= _codes(kind, version):
        raise WireError(f"{got}: a reason code that there is not")
    return got


def _kind(first: int, version: int) -> str:
    kind = KINDS.get(first & 0xF0)
    if kind is None or (kind in ("Disconnect", "Auth") and version < 5):
        raise WireError(f"a packet that no server sends: first byte {first:#x}")
    if kind != "Publish" and first & 0x0F != (2 if kind == "Pubrel" else 0):
        raise WireError(f"reserved bits are set: first byte {first:#x}")
    return kind


def _decode_publish(got: Received, first: int, reader: Reader) -> None:
    got.qos, got.retain, got.dup = first >> 1 & 3, bool(first & 1), bool(first & 8)
    got.topic = reader.string()
    got.pid = reader.number(2) if got.qos else 0
    if got.qos == 3 or (got.dup and not got.qos) or (got.qos and not got.pid):
        raise WireError(f"PUBLISH with QoS {got.qos}, DUP {got.dup}, packet id {got.pid}")


def _codes(kind: str, version: int) -> set[int]:
    if version == 5:
        return CODES.get(kind, {0})
    return {"Connack": set(range(6)), "Suback": {0, 1, 2, 0x80}}.get(kind, {0})


class Client:
    """A socket that speaks MQTT. ``step`` is 1 for a segment for each byte, 0 for one segment."""

    def __init__(self, address: tuple[str, int], version: int, step: int = 0) -> None:
        self.version = version
        self.step = step
        self.alias_max = 0
        self.packet_max: int | None = None
        self.aliases: dict[int, bytes] = {}
        self.answer = Received("Connack")
        self._data = b""
        self._socket = socket.create_connection(address, DEADLINE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Send; a server that has closed already is noticed by the next receive."""
        slow = BYTEWISE_MAX if self.step else 0
        try:
            for at in range(0, min(slow, len(data)), self.step or 1):
                self._socket.sendall(data[at : at + self.step])
            self._socket.sendall(data[slow:])
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self, within_s: float = DEADLINE_S) -> Received | None:
        """The next packet; None when the server has closed.

        Raises:
            TimeoutError: nothing came in time.
            WireError: what came is not MQTT.
        """
        end = time.monotonic() + within_s
        while (frame := self._frame()) is None:
            self._socket.settimeout(max(0.001, end - time.monotonic()))
            try:
                data = self._socket.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                if self._data:
                    raise WireError(f"half a packet before the end: {self._data[:40].hex(' ')}")
                return None
            self._data += data
        got = decode(frame, self.version)
        if "topic_alias" in got.props:
            self._resolve(got)
        elif got.kind == "Publish" and not got.topic:
            raise WireError("PUBLISH without a topic")
        return got

    def _frame(self) -> bytes | None:
        for length in range(1, 5):
            if len(self._data) <= length:
                return None
            if not self._data[length] & 0x80:
                end = 1 + length + Reader(self._data[1:]).size()
                if len(self._data) < end:
                    return None
                if self.packet_max is not None and end > self.packet_max:
                    raise WireError(f"{end} bytes, the client takes {self.packet_max} [MQTT-3.1.2-24]")
                frame, self._data = self._data[:end], self._data[end:]
                # The fixed header's length is checked; decode sees type and body.
                return frame[:1] + frame[1 + length :]
        raise WireError("a remaining length of five bytes")

    def _resolve(self, got: Received) -> None:
        alias = got.props.pop("topic_alias")
        if not 0 < alias <= self.alias_max:
            raise WireError(f"topic alias {alias}, the client takes up to {self.alias_max} [MQTT-3.1.2-26]")
        if got.topic:
            self.aliases[alias] = got.topic
        elif alias not in self.aliases:
            raise WireError(f"topic alias {alias} stands for nothing")
        got.topic = self.aliases[alias]

    def close(self) -> None:
        self._socket.close()
