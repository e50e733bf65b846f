"""MQTT 3.1, 3.1.1 and 5.0 packets: bytes to values and back. Knows no state and no socket.

``decode`` takes one complete frame (fixed header included) and gives a frozen value, or raises ProtocolError with the
normative statement that was broken and the reason code that MQTT 5 has for it. It reads nothing behind the frame and
accepts nothing that it does not understand. Where one statement has two numbers, the first is 3.1.1's and the second
5.0's. The way back is in ``replies``, and stands here too under the same names.
"""

from dataclasses import dataclass, field
from typing import Final

from ingest.mqtt import properties as of
from ingest.mqtt.properties import (
    NONE,
    Properties,
    Property,
    Reader,
    decode_properties_block,
    encode_properties,
)
from ingest.mqtt.reasons import CLIENT_CODES, ProtocolError, ReasonCode
from ingest.mqtt.replies import PINGRESP, acknowledgement, connack, disconnect, publish, suback, unsuback

__all__ = [
    "NONE", "PINGRESP", "Auth", "Connect", "Disconnect", "Packet", "Pingreq", "Properties", "Property",
    "ProtocolError", "Puback", "Pubcomp", "Publish", "Pubrec", "Pubrel", "ReasonCode", "Subscribe", "Subscription",
    "Unsubscribe", "Will", "acknowledgement", "connack", "decode", "decode_properties_block", "disconnect",
    "encode_properties", "form_of", "publish", "suback", "unsuback",
]  # fmt: skip

PROTOCOLS: Final = {(b"MQIsdp", 3): 3, (b"MQTT", 4): 4, (b"MQTT", 5): 5}
NAMES: Final = frozenset(name for name, _ in PROTOCOLS)
# Set in the level by bridges that speak 3.1 or 3.1.1; it means nothing to us.
BRIDGE: Final = 0x80
SHARE: Final = b"$share/"


def _none() -> Properties:
    return NONE


@dataclass(frozen=True, slots=True)
class Will:
    """What is to be published when the client goes without DISCONNECT."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Connect:
    """CONNECT. ``protocol`` is 3, 4 or 5; None is one that we do not speak. ``clean_session`` is 5.0's Clean Start.

    ``form`` is the protocol whose CONNACK its sender most likely reads: 5 or 4.
    """

    protocol: int | None
    clean_session: bool = True
    keepalive_s: int = 0
    client_id: bytes = b""
    will: Will | None = None
    username: bytes | None = None
    password: bytes | None = field(default=None, repr=False)
    properties: Properties = field(default_factory=_none)
    form: int = field(default=4, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Publish:
    """PUBLISH. ``packet_id`` is 0 for QoS 0; the topic is empty only where a TOPIC_ALIAS stands for it."""

    topic: bytes
    payload: bytes
    qos: int
    packet_id: int
    dup: bool = False
    retain: bool = False
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Puback:
    """PUBACK from the client."""

    packet_id: int
    code: int = 0
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Pubrec:
    """PUBREC from the client."""

    packet_id: int
    code: int = 0
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Pubrel:
    """PUBREL from the client: the second half of its QoS 2 message."""

    packet_id: int
    code: int = 0
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Pubcomp:
    """PUBCOMP from the client."""

    packet_id: int
    code: int = 0
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Subscription:
    """One filter of a SUBSCRIBE and what is asked for it; before 5.0 only the QoS."""

    filter: bytes
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE: at least one filter."""

    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE: at least one filter."""

    packet_id: int
    filters: tuple[bytes, ...]
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Pingreq:
    """PINGREQ."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """DISCONNECT."""

    code: int = 0
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH, which only 5.0 knows."""

    code: int = 0
    properties: Properties = field(default_factory=_none)


Packet = (
    Connect
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Unsubscribe
    | Pingreq
    | Disconnect
    | Auth
)
ACKNOWLEDGEMENTS: Final[dict[int, type[Puback | Pubrec | Pubrel | Pubcomp]]] = {
    4: Puback,
    5: Pubrec,
    6: Pubrel,
    7: Pubcomp,
}


def decode(frame: bytes, protocol: int) -> Packet:
    """One complete frame of a connection that speaks ``protocol``: 3, 4, 5, or 0 while that is not known.

    A CONNECT is read as its own level wants it; everything else is 3.1.1 while nothing is known. Raises ProtocolError.
    """
    kind, flags, reader = _open(frame, protocol or 4)
    if kind == 1:
        return _connect(frame, reader, flags)
    if kind == 3:
        return _publish(reader, flags)
    _check_flags(kind, flags, protocol)
    packet: Packet
    match kind:
        case 4 | 5 | 6 | 7:
            packet_id = reader.packet_id()
            packet = ACKNOWLEDGEMENTS[kind](packet_id, *_reason(reader, kind, of.OF_ACKNOWLEDGEMENT))
        case 8:
            packet = _subscribe(reader)
        case 10:
            packet = _unsubscribe(reader)
        case 12:
            packet = Pingreq()
        case 14:
            packet = Disconnect(*_reason(reader, kind, of.OF_DISCONNECT))
        case 15 if protocol == 5:
            packet = _auth(reader)
        case _:
            raise ProtocolError(f"packet type {kind} is not for a server", ReasonCode.PROTOCOL_ERROR)
    _check_end(reader)
    return packet


def form_of(frame: bytes) -> int | None:
    """``Connect.form`` however wrong the rest of the packet is; None for anything but a CONNECT. Never raises."""
    try:
        kind, _, reader = _open(frame, 4)
        return _level(reader)[1] if kind == 1 else None
    except ProtocolError:
        return None


def _open(frame: bytes, protocol: int) -> tuple[int, int, Reader]:
    """Type, flags, and a reader of what is behind the fixed header."""
    reader = Reader(frame, protocol)
    first, size = reader.byte(), reader.varint()
    if size != reader.left:
        raise ProtocolError("the remaining length is not the packet's length [MQTT-2.2.3, section 2.1.4]")
    return first >> 4, first & 0x0F, reader


def _check_flags(kind: int, flags: int, protocol: int) -> None:
    wanted = 2 if kind in (6, 8, 10) else 0
    # 3.1 lets clients set DUP on the three that are sent again.
    if flags != wanted and not (wanted and protocol == 3 and flags == wanted | 8):
        raise ProtocolError("reserved flags [MQTT-2.2.2-2, MQTT-2.1.3-1]")


def _check_end(reader: Reader) -> None:
    if reader.left:
        raise ProtocolError("bytes behind the packet's end")


def _level(reader: Reader) -> tuple[int | None, int]:
    """What a CONNECT speaks, and the form of its CONNACK: who says 5 reads 5.0's, whatever else it says."""
    name = reader.binary()
    if name not in NAMES:
        raise ProtocolError(
            "no protocol of this name [MQTT-3.1.2-1]", ReasonCode.UNSUPPORTED_PROTOCOL_VERSION
        )
    level = reader.byte()
    protocol, form = PROTOCOLS.get((name, level & ~BRIDGE)), 5 if level & ~BRIDGE == 5 else 4
    return None if protocol == 5 and level & BRIDGE else protocol, form


def _connect(frame: bytes, reader: Reader, header_flags: int) -> Connect:
    protocol, form = _level(reader)
    # In 3.1 nobody uses the header's flags of a CONNECT; later they are reserved.
    if header_flags and protocol != 3:
        raise ProtocolError("reserved flags [MQTT-2.2.2-2, MQTT-2.1.3-1]")
    if protocol is None:
        return Connect(None, form=form)
    reader.protocol = protocol
    flags, keepalive_s = reader.byte(), reader.number()
    # Neither has 3.1 a use for the lowest of these.
    if flags & 1 and protocol != 3:
        raise ProtocolError("the reserved connect flag is set [MQTT-3.1.2-3]")
    properties = NONE
    if protocol == 5:
        Reader(frame, 5, 1).varint()  # the remaining length once more: 5.0 is stricter
        properties = reader.properties(of.OF_CONNECT)
        if Property.AUTHENTICATION_DATA in properties and Property.AUTHENTICATION_METHOD not in properties:
            raise ProtocolError(
                "authentication data without a method (section 3.1.2.11.10)", ReasonCode.PROTOCOL_ERROR
            )
    client_id = reader.text(is_name=True)
    will = _will(reader, flags) if flags & 0x04 else None
    if will is None and flags & 0x38:
        raise ProtocolError("will flags without a will [MQTT-3.1.2-11, MQTT-3.1.2-13]")
    # 3.1 allows the flags to promise more than there is (its section 3.1); the others do not [MQTT-3.1.2-19, -17].
    username = reader.text(is_name=True) if flags & 0x80 and (reader.left or protocol > 3) else None
    password = reader.binary() if flags & 0x40 and (reader.left or protocol > 3) else None
    if protocol == 4 and flags & 0x40 and not flags & 0x80:
        raise ProtocolError("a password without a user name [MQTT-3.1.2-22]")
    _check_end(reader)
    return Connect(
        protocol, bool(flags & 2), keepalive_s, client_id, will, username, password, properties, form
    )


def _will(reader: Reader, flags: int) -> Will:
    properties = reader.properties(of.OF_WILL) if reader.protocol == 5 else NONE
    topic, payload, qos = reader.text(is_name=True), reader.binary(), flags >> 3 & 3
    if qos == 3:
        raise ProtocolError("will QoS 3 [MQTT-3.1.2-14, MQTT-3.1.2-12]")
    if not topic or b"+" in topic or b"#" in topic:
        raise ProtocolError("the will's topic is no topic name [MQTT-4.7.3-1, MQTT-4.7.1-1]")
    return Will(topic, payload, qos, bool(flags & 0x20), properties)


def _publish(reader: Reader, flags: int) -> Publish:
    qos = flags >> 1 & 3
    if qos == 3:
        raise ProtocolError("QoS 3 [MQTT-3.3.1-4]")
    if qos == 0 and flags & 8:
        raise ProtocolError("DUP with QoS 0 [MQTT-3.3.1-2]")
    topic = reader.text(is_name=True)
    if b"+" in topic or b"#" in topic:
        raise ProtocolError("a wildcard in a topic name [MQTT-3.3.2-2]")
    packet_id = reader.packet_id() if qos else 0
    properties = reader.properties(of.OF_PUBLISH) if reader.protocol == 5 else NONE
    if properties and Property.SUBSCRIPTION_IDENTIFIER in properties:
        raise ProtocolError(
            "a subscription identifier from a client [MQTT-3.3.4-6]", ReasonCode.PROTOCOL_ERROR
        )
    if not topic and Property.TOPIC_ALIAS not in properties:
        raise ProtocolError(
            "an empty topic name without an alias [MQTT-4.7.3-1, section 3.3.2.1]", ReasonCode.PROTOCOL_ERROR
        )
    return Publish(topic, reader.rest(), qos, packet_id, bool(flags & 8), bool(flags & 1), properties)


def _filter(reader: Reader) -> bytes:
    text = reader.text(is_name=True)
    if not text:
        raise ProtocolError("an empty topic filter [MQTT-4.7.3-1]")
    if text.startswith(SHARE):
        name, _, rest = text[len(SHARE) :].partition(b"/")
        if not name or not rest or b"+" in name or b"#" in name:
            raise ProtocolError(
                "a shared subscription without a share name and a filter [MQTT-4.8.2-1, MQTT-4.8.2-2]",
                ReasonCode.TOPIC_FILTER_INVALID,
            )
    levels = text.split(b"/")
    for number, level in enumerate(levels):
        if b"#" in level and (level != b"#" or number != len(levels) - 1):
            raise ProtocolError("# is not a last level of its own [MQTT-4.7.1-2, MQTT-4.7.1-1]")
        if b"+" in level and level != b"+":
            raise ProtocolError("+ is not a level of its own [MQTT-4.7.1-3, MQTT-4.7.1-2]")
    return text


def _subscription(reader: Reader) -> Subscription:
    text, options = _filter(reader), reader.byte()
    if options & (0xC0 if reader.protocol == 5 else 0xFC):
        raise ProtocolError("reserved bits in the subscription's options [MQTT-3.8.3-4, MQTT-3.8.3-5]")
    subscription = Subscription(
        text, options & 3, bool(options & 0x04), bool(options & 0x08), options >> 4 & 3
    )
    if subscription.qos == 3:
        raise ProtocolError(
            "a subscription's QoS is not 0, 1 or 2 [MQTT-3.8.3-4, section 3.8.3.1]", ReasonCode.PROTOCOL_ERROR
        )
    if subscription.retain_handling == 3:
        raise ProtocolError("retain handling 3 (section 3.8.3.1)", ReasonCode.PROTOCOL_ERROR)
    if subscription.no_local and text.startswith(SHARE):
        raise ProtocolError("no local on a shared subscription [MQTT-3.8.3-4]", ReasonCode.PROTOCOL_ERROR)
    return subscription


def _subscribe(reader: Reader) -> Subscribe:
    packet_id = reader.packet_id(ReasonCode.MALFORMED_PACKET)
    properties = reader.properties(of.OF_SUBSCRIBE) if reader.protocol == 5 else NONE
    subscriptions = []
    while reader.left:
        subscriptions.append(_subscription(reader))
    if not subscriptions:
        raise ProtocolError(
            "SUBSCRIBE without a filter [MQTT-3.8.3-3, MQTT-3.8.3-2]", ReasonCode.PROTOCOL_ERROR
        )
    return Subscribe(packet_id, tuple(subscriptions), properties)


def _unsubscribe(reader: Reader) -> Unsubscribe:
    packet_id = reader.packet_id(ReasonCode.MALFORMED_PACKET)
    properties = reader.properties(of.OF_UNSUBSCRIBE) if reader.protocol == 5 else NONE
    filters = []
    while reader.left:
        filters.append(_filter(reader))
    if not filters:
        raise ProtocolError("UNSUBSCRIBE without a filter [MQTT-3.10.3-2]", ReasonCode.PROTOCOL_ERROR)
    return Unsubscribe(packet_id, tuple(filters), properties)


def _reason(reader: Reader, kind: int, allowed: frozenset[Property]) -> tuple[int, Properties]:
    """Reason code and properties; each may be left out from the end (sections 3.4.2.1, 3.14.2.1)."""
    if reader.protocol != 5 or not reader.left:
        return 0, NONE
    code = reader.byte()
    if code not in CLIENT_CODES[kind]:
        raise ProtocolError(
            f"reason code {code:#04x} is not a client's in packet type {kind}"
            " [MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.6.2-1, MQTT-3.7.2-1, MQTT-3.14.2-1, MQTT-3.15.2-1]",
            ReasonCode.PROTOCOL_ERROR,
        )
    return code, reader.properties(allowed) if reader.left else NONE


def _auth(reader: Reader) -> Auth:
    code, properties = _reason(reader, 15, of.OF_AUTH)
    if Property.AUTHENTICATION_METHOD not in properties:
        raise ProtocolError("AUTH without a method (section 3.15.2.2.2)", ReasonCode.PROTOCOL_ERROR)
    return Auth(code, properties)
