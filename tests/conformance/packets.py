"""What a row says: packets to send (small names) and packets to expect (capital names).

A packet to send is bytes, or waits for the run to know its version, the packet ids that the server chose and what
CONNACK said. A packet id that is a string is a name for one that the server chooses: the first ``Publish(pid="m")`` that
comes gives it its number, ``puback("m")`` sends it back, and a second ``Publish(pid="m")`` must have the same.

``T`` stands for the run's own token: six characters in every topic and client id, so that rows never meet.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.conformance.wire import PING, Props, Received, Text, packet, plain, properties, text

T = "@@@@@@"
KEEP_S = 300


class Run(Protocol):
    """What an encoder may know."""

    version: int
    ids: dict[str, int]
    said: dict[str, Any]


Encoder = Callable[[Run], bytes]
Packet = bytes | Encoder
Pid = int | str


@dataclass(frozen=True)
class Will:
    topic: Text
    payload: Text = b"gone"
    qos: int = 0
    retain: bool = False
    props: Props = field(default_factory=dict)


def raw(hexadecimal: str) -> bytes:
    """Bytes as they stand in the row; quoted text in between is ASCII."""
    out = b""
    for i, part in enumerate(hexadecimal.split('"')):
        out += part.encode() if i % 2 else bytes.fromhex(part)
    return out


def connect(
    client: Text,
    clean: bool = True,
    keepalive: int = 60,
    will: Will | None = None,
    user: Text | None = None,
    password: Text | None = None,
    props: Props | None = None,
    keep: bool = False,
    **wrong: Any,
) -> Encoder:
    """CONNECT. ``keep``: a session that outlives its connection, in the words of the version.

    Args:
        wrong: ``flags`` for other connect flags, ``name`` and ``level`` for another protocol, ``tail`` for bytes behind.
    """

    def encode(run: Run) -> bytes:
        v5 = run.version == 5
        given: Props = props if props is not None else {"session_expiry": KEEP_S} if keep else {}
        flags = 2 * (clean and not keep)
        flags |= 0 if will is None else 4 | will.qos << 3 | 32 * will.retain
        flags |= 128 * (user is not None) | 64 * (password is not None)
        body = text(wrong.get("name", "MQIsdp" if run.version == 3 else "MQTT"))
        body += bytes([wrong.get("level", run.version), wrong.get("flags", flags)]) + struct.pack(
            ">H", keepalive
        )
        body += (properties(given) if v5 else b"") + text(client)
        if will is not None:
            body += (properties(will.props) if v5 else b"") + text(will.topic) + text(will.payload)
        body += b"".join(text(part) for part in (user, password) if part is not None)
        return packet(wrong.get("first", 0x10), body + wrong.get("tail", b""))

    return encode


def publish(
    topic: Text,
    payload: Text = b"x",
    qos: int = 0,
    pid: int = 1,
    dup: bool = False,
    retain: bool = False,
    props: Props | None = None,
    length: int = 1,
) -> Encoder:
    def encode(run: Run) -> bytes:
        body = text(topic) + (struct.pack(">H", pid) if qos else b"")
        body += properties(props or {}) if run.version == 5 else b""
        return packet(0x30 | dup << 3 | qos << 1 | retain, body + plain(payload), length)

    return encode


def _numbered(first: int, pid: Pid, rest: Callable[[int], bytes]) -> Encoder:
    def encode(run: Run) -> bytes:
        number = run.ids[pid] if isinstance(pid, str) else pid
        return packet(first, struct.pack(">H", number) + rest(run.version))

    return encode


def _acknowledgement(first: int, pid: Pid, code: int | None, props: Props | None) -> Encoder:
    def rest(version: int) -> bytes:
        if version < 5 or code is None:
            return b""
        return bytes([code]) + (b"" if props is None else properties(props))

    return _numbered(first, pid, rest)


def puback(pid: Pid, code: int | None = None, props: Props | None = None) -> Encoder:
    return _acknowledgement(0x40, pid, code, props)


def pubrec(pid: Pid, code: int | None = None, props: Props | None = None) -> Encoder:
    return _acknowledgement(0x50, pid, code, props)


def pubrel(pid: Pid, code: int | None = None, props: Props | None = None) -> Encoder:
    return _acknowledgement(0x62, pid, code, props)


def pubcomp(pid: Pid, code: int | None = None, props: Props | None = None) -> Encoder:
    return _acknowledgement(0x70, pid, code, props)


def subscribe(
    pid: int, *filters: Text | tuple[Text, int], props: Props | None = None, first: int = 0x82
) -> Encoder:
    """SUBSCRIBE to filters, each with its options byte (the QoS is its low end); 0 where there is none."""

    def rest(version: int) -> bytes:
        pairs = [one if isinstance(one, tuple) else (one, 0) for one in filters]
        payload = b"".join(text(name) + bytes([options]) for name, options in pairs)
        return (properties(props or {}) if version == 5 else b"") + payload

    return _numbered(first, pid, rest)


def unsubscribe(pid: int, *filters: Text, props: Props | None = None, first: int = 0xA2) -> Encoder:
    def rest(version: int) -> bytes:
        return (properties(props or {}) if version == 5 else b"") + b"".join(map(text, filters))

    return _numbered(first, pid, rest)


def disconnect(code: int | None = None, props: Props | None = None, first: int = 0xE0) -> bytes:
    body = b"" if code is None else bytes([code]) + (b"" if props is None else properties(props))
    return packet(first, body)


def auth(code: int, props: Props) -> bytes:
    return packet(0xF0, bytes([code]) + properties(props))


ping = PING


class Absent:
    """A property that must not be there."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()


@dataclass(frozen=True)
class Expected:
    """A packet that must come. Values may be predicates; ``only`` refuses properties that are not mentioned."""

    kind: str
    fields: dict[str, Any]
    props: dict[str, Any] = field(default_factory=dict)
    only: bool = False

    def problem(self, got: Received, ids: dict[str, int]) -> str | None:
        """What is wrong with the packet; the names of packet ids are looked up, or given."""
        if got.kind != self.kind:
            return f"not a {self.kind}"
        for name, wanted in self.fields.items():
            value = getattr(got, name)
            if isinstance(wanted, str) and name == "pid":
                wanted = ids.get(wanted, value)
            if not (wanted(value) if callable(wanted) else wanted == value):
                return f"{name} is {value!r}"
        for name, wanted in self.props.items():
            value = got.props.get(name, ABSENT)
            if not (wanted(value) if callable(wanted) else wanted == value):
                return f"{name} is {value!r}"
        if self.only and (more := got.props.keys() - self.props.keys()):
            return f"{', '.join(sorted(more))} was not asked for"
        for wanted in self.fields.values():
            if isinstance(wanted, str):
                ids[wanted] = got.pid
        return None


def one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value in values


def between(low: int, high: int, *, optional: bool = False) -> Callable[[Any], bool]:
    return lambda value: value is ABSENT and optional if isinstance(value, Absent) else low <= value <= high


# Success, and "no matching subscribers": a server may say either.
TAKEN = one_of(0x00, 0x10)


def _in_bytes(props: dict[str, Any]) -> dict[str, Any]:
    """What was written as text, as it comes over the wire."""

    def convert(value: Any) -> Any:
        match value:
            case str():
                return value.encode()
            case tuple():
                return tuple(map(convert, value))
            case list():
                return list(map(convert, value))
        return value

    return {name: convert(value) for name, value in props.items()}


def Connack(present: int | None = 0, code: Any = 0, **props: Any) -> Expected:
    fields = {"code": code} if present is None else {"present": present, "code": code}
    return Expected("Connack", fields, _in_bytes(props))


def Publish(
    topic: Text,
    payload: Text = b"x",
    qos: int = 0,
    pid: Pid | None = None,
    dup: bool = False,
    retain: bool = False,
    **props: Any,
) -> Expected:
    fields: dict[str, Any] = {
        "topic": plain(topic), "payload": plain(payload), "qos": qos, "dup": dup, "retain": retain,
    }  # fmt: skip
    return Expected(
        "Publish", {**fields, **({} if pid is None else {"pid": pid})}, _in_bytes(props), only=True
    )


def Puback(pid: Pid, code: Any = TAKEN) -> Expected:
    return Expected("Puback", {"pid": pid, "code": code})


def Pubrec(pid: Pid, code: Any = TAKEN) -> Expected:
    return Expected("Pubrec", {"pid": pid, "code": code})


def Pubrel(pid: Pid, code: Any = 0) -> Expected:
    return Expected("Pubrel", {"pid": pid, "code": code})


def Pubcomp(pid: Pid, code: Any = 0) -> Expected:
    return Expected("Pubcomp", {"pid": pid, "code": code})


def Suback(pid: int, *codes: int) -> Expected:
    return Expected("Suback", {"pid": pid, "code": list(codes)})


def Unsuback(pid: int, *codes: int) -> Expected:
    """UNSUBACK; its reason codes are there in MQTT 5 only."""
    return Expected("Unsuback", {"pid": pid, "code": lambda got: got in (0, list(codes))})


def Disconnect(code: Any) -> Expected:
    return Expected("Disconnect", {"code": code})


Pong = Expected("Pingresp", {})
