"""The fields that packets are made of, and MQTT 5's properties (its section 2.2.2).

``Reader`` takes fields off the front of a packet. A property is an identifier and a value whose kind follows from the
identifier; a block of them has its length in front. Which of them a packet may have is a table here, and so are the
values that the standard forbids; both are only for what clients send. In statements such as
[MQTT-1.5.3-1, MQTT-1.5.4-1] the first is 3.1.1's number, the second 5.0's.
"""

import re
from collections.abc import Mapping
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any, Final

from ingest.mqtt.reasons import ProtocolError, ReasonCode

VARINT_MAX: Final = 268_435_455
TEXT_BYTES_MAX: Final = 65_535

# Control characters and non-characters: a receiver may treat them as malformed (5.0 section 1.5.4). In names we do.
_NONCHARACTERS = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
_UNWANTED = re.compile(f"[\x01-\x1f\x7f-\x9f\ufdd0-\ufdef{_NONCHARACTERS}]")


class Property(IntEnum):
    """The identifiers (5.0 table 2-4)."""

    PAYLOAD_FORMAT_INDICATOR = 0x01
    MESSAGE_EXPIRY_INTERVAL = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY_INTERVAL = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


# Numbers are ints, strings and binary data bytes; USER_PROPERTY is a tuple of (name, value), SUBSCRIPTION_IDENTIFIER a
# tuple of ints.
Properties = Mapping[Property, Any]
NONE: Final[Properties] = MappingProxyType({})

P = Property


class Kind(Enum):
    """How a value is written; the number is its size where that is fixed."""

    BYTE = 1
    TWO = 2
    FOUR = 4
    VARINT = "variable byte integer"
    TEXT = "UTF-8 string"
    BINARY = "binary data"
    PAIR = "UTF-8 string pair"


KINDS: Final = {
    **dict.fromkeys((P.PAYLOAD_FORMAT_INDICATOR, P.REQUEST_PROBLEM_INFORMATION, P.REQUEST_RESPONSE_INFORMATION,
                     P.MAXIMUM_QOS, P.RETAIN_AVAILABLE, P.WILDCARD_SUBSCRIPTION_AVAILABLE,
                     P.SUBSCRIPTION_IDENTIFIER_AVAILABLE, P.SHARED_SUBSCRIPTION_AVAILABLE), Kind.BYTE),
    **dict.fromkeys((P.SERVER_KEEP_ALIVE, P.RECEIVE_MAXIMUM, P.TOPIC_ALIAS_MAXIMUM, P.TOPIC_ALIAS), Kind.TWO),
    **dict.fromkeys((P.MESSAGE_EXPIRY_INTERVAL, P.SESSION_EXPIRY_INTERVAL, P.WILL_DELAY_INTERVAL,
                     P.MAXIMUM_PACKET_SIZE), Kind.FOUR),
    **dict.fromkeys((P.CONTENT_TYPE, P.RESPONSE_TOPIC, P.ASSIGNED_CLIENT_IDENTIFIER, P.AUTHENTICATION_METHOD,
                     P.RESPONSE_INFORMATION, P.SERVER_REFERENCE, P.REASON_STRING), Kind.TEXT),
    **dict.fromkeys((P.CORRELATION_DATA, P.AUTHENTICATION_DATA), Kind.BINARY),
    P.SUBSCRIPTION_IDENTIFIER: Kind.VARINT,
    P.USER_PROPERTY: Kind.PAIR,
}  # fmt: skip

_MESSAGE = frozenset((P.PAYLOAD_FORMAT_INDICATOR, P.MESSAGE_EXPIRY_INTERVAL, P.CONTENT_TYPE, P.RESPONSE_TOPIC,
                      P.CORRELATION_DATA, P.USER_PROPERTY))  # fmt: skip
# What a client may send, by the packet's name. SUBSCRIPTION_IDENTIFIER belongs to PUBLISH, but not to a client's.
OF_CONNECT: Final = frozenset((P.SESSION_EXPIRY_INTERVAL, P.AUTHENTICATION_METHOD, P.AUTHENTICATION_DATA,
                               P.REQUEST_PROBLEM_INFORMATION, P.REQUEST_RESPONSE_INFORMATION, P.RECEIVE_MAXIMUM,
                               P.TOPIC_ALIAS_MAXIMUM, P.USER_PROPERTY, P.MAXIMUM_PACKET_SIZE))  # fmt: skip
OF_WILL: Final = _MESSAGE | {P.WILL_DELAY_INTERVAL}
OF_PUBLISH: Final = _MESSAGE | {P.SUBSCRIPTION_IDENTIFIER, P.TOPIC_ALIAS}
OF_ACKNOWLEDGEMENT: Final = frozenset((P.REASON_STRING, P.USER_PROPERTY))
OF_SUBSCRIBE: Final = frozenset((P.SUBSCRIPTION_IDENTIFIER, P.USER_PROPERTY))
OF_UNSUBSCRIBE: Final = frozenset((P.USER_PROPERTY,))
OF_DISCONNECT: Final = OF_ACKNOWLEDGEMENT | {P.SESSION_EXPIRY_INTERVAL, P.SERVER_REFERENCE}
OF_AUTH: Final = OF_ACKNOWLEDGEMENT | {P.AUTHENTICATION_METHOD, P.AUTHENTICATION_DATA}
_EVERYTHING: Final = frozenset(Property)

_BY_NUMBER: Final = {int(name): name for name in Property}
_FLAGS: Final = (P.PAYLOAD_FORMAT_INDICATOR, P.REQUEST_PROBLEM_INFORMATION, P.REQUEST_RESPONSE_INFORMATION)
_NEVER_ZERO: Final = (P.RECEIVE_MAXIMUM, P.MAXIMUM_PACKET_SIZE, P.SUBSCRIPTION_IDENTIFIER)


class Reader:
    """Takes fields off the front of a frame's body. Every method raises ProtocolError when there is too little."""

    __slots__ = ("_at", "_data", "protocol")

    def __init__(self, data: bytes, protocol: int, at: int = 0) -> None:
        self._data = data
        self._at = at
        self.protocol = protocol

    def byte(self) -> int:
        return self.raw(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.raw(2), "big")

    def varint(self) -> int:
        """A variable byte integer: at most four bytes, and no more than it needs [MQTT-1.5.5-1]."""
        value = 0
        for shift in (0, 7, 14, 21):
            digit = self.raw(1)[0]
            value |= (digit & 0x7F) << shift
            if digit < 0x80:
                if digit == 0 and shift and self.protocol == 5:
                    raise ProtocolError(
                        "a variable byte integer with more bytes than it needs [MQTT-1.5.5-1]"
                    )
                return value
        raise ProtocolError("a variable byte integer of more than four bytes [MQTT-2.2.3, section 1.5.5]")

    def raw(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise ProtocolError("a field is longer than its packet")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def binary(self) -> bytes:
        return self.raw(self.number())

    def text(self, *, is_name: bool = False) -> bytes:
        """A UTF-8 string: well formed, without U+0000. A name has no control or non-characters in 5.0 either."""
        raw = self.binary()
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("a string is not UTF-8 [MQTT-1.5.3-1, MQTT-1.5.4-1]") from error
        if b"\0" in raw:
            raise ProtocolError("a string has U+0000 [MQTT-1.5.3-2, MQTT-1.5.4-2]")
        if is_name and self.protocol == 5 and not text.isprintable() and _UNWANTED.search(text):
            raise ProtocolError("a name has a control character or a non-character (section 1.5.4)")
        return raw

    def packet_id(self, code: ReasonCode = ReasonCode.PROTOCOL_ERROR) -> int:
        """Never 0. The standard leaves the code open; what SUBSCRIBE and UNSUBSCRIBE get is what others answer."""
        number = self.number()
        if number == 0:
            raise ProtocolError("packet identifier 0 [MQTT-2.3.1-1, MQTT-2.2.1-3, MQTT-2.2.1-4]", code)
        return number

    def properties(self, allowed: frozenset[Property] = _EVERYTHING) -> Properties:
        """A block of properties of which only some may be there."""
        size = self.varint()
        if not size:
            return NONE
        return _properties(Reader(self.raw(size), self.protocol), allowed)

    def rest(self) -> bytes:
        return self.raw(len(self._data) - self._at)

    @property
    def left(self) -> int:
        """Bytes that have not been read."""
        return len(self._data) - self._at


def _properties(reader: Reader, allowed: frozenset[Property]) -> Properties:
    found: dict[Property, Any] = {}
    while reader.left:
        number = reader.varint()
        name = _BY_NUMBER.get(number)
        if name is None:
            raise ProtocolError(f"there is no property {number:#04x} (section 2.2.2.2)")
        if name not in allowed:
            raise ProtocolError(f"{name.name} does not belong to this packet (section 2.2.2.2)")
        value = _value(reader, KINDS[name])
        if allowed is not _EVERYTHING:
            _check(name, value)
        if name is P.USER_PROPERTY or (name is P.SUBSCRIPTION_IDENTIFIER and allowed is not OF_SUBSCRIBE):
            found[name] = (*found.get(name, ()), value)
        elif name in found:
            raise ProtocolError(f"{name.name} twice (section 2.2.2.2)", ReasonCode.PROTOCOL_ERROR)
        else:
            found[name] = (value,) if name is P.SUBSCRIPTION_IDENTIFIER else value
    return found


def _value(reader: Reader, kind: Kind) -> Any:
    match kind:
        case Kind.BYTE | Kind.TWO | Kind.FOUR:
            return int.from_bytes(reader.raw(kind.value), "big")
        case Kind.VARINT:
            return reader.varint()
        case Kind.TEXT:
            return reader.text()
        case Kind.BINARY:
            return reader.binary()
        case Kind.PAIR:
            return reader.text(), reader.text()  # [MQTT-1.5.7-1]


def _check(name: Property, value: Any) -> None:
    """The values that the standard forbids to clients."""
    if name is P.TOPIC_ALIAS and value == 0:
        raise ProtocolError("topic alias 0 [MQTT-3.3.2-8]", ReasonCode.TOPIC_ALIAS_INVALID)
    if name in _NEVER_ZERO and value == 0:
        raise ProtocolError(f"{name.name} 0 (sections 3.1.2.11, 3.8.2.1.2)", ReasonCode.PROTOCOL_ERROR)
    if name in _FLAGS and value > 1:
        raise ProtocolError(f"{name.name} is neither 0 nor 1", ReasonCode.PROTOCOL_ERROR)
    if name is P.RESPONSE_TOPIC and (not value or b"+" in value or b"#" in value):
        raise ProtocolError("the response topic is no topic name [MQTT-3.3.2-14]", ReasonCode.PROTOCOL_ERROR)


def encode_varint(value: int) -> bytes:
    assert 0 <= value <= VARINT_MAX
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def encode_text(text: bytes) -> bytes:
    """A string or binary data, its length in front."""
    return len(text).to_bytes(2, "big") + text


def encode_properties(properties: Properties) -> bytes:
    """The block with its length in front, in the mapping's order."""
    if not properties:
        return b"\0"
    block = b"".join(_encode(name, value) for name, value in properties.items())
    return encode_varint(len(block)) + block


def _encode(name: Property, value: Any) -> bytes:
    head = bytes([name])
    kind = KINDS[name]
    match kind:
        case Kind.BYTE | Kind.TWO | Kind.FOUR:
            return head + int.to_bytes(value, kind.value, "big")
        case Kind.VARINT:
            return b"".join(head + encode_varint(each) for each in value)
        case Kind.TEXT | Kind.BINARY:
            return head + encode_text(value)
        case Kind.PAIR:
            return b"".join(head + encode_text(key) + encode_text(text) for key, text in value)


def decode_properties_block(data: bytes) -> Properties:
    """The inverse of ``encode_properties``, for what was stored with a message. Raises ProtocolError."""
    reader = Reader(data, 5)
    properties = reader.properties()
    if reader.left:
        raise ProtocolError("bytes behind the properties")
    return properties
