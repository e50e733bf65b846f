"""Reason strings: what an MQTT 5 client is told in words, one sentence for everything that is refused.

A sentence begins with the name of what it is about, as metrics and docs/mqtt.md call it. The words for a breach of the
protocol are the ProtocolError's own. Nobody is explained anything who wants no words, or takes no packet of that
length [MQTT-3.1.2-29, MQTT-3.2.2-19, MQTT-3.4.2-2, MQTT-3.9.2-1, MQTT-3.14.2-3].
"""

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final

from ingest.mqtt.properties import NONE, Properties, Property, encode_properties
from ingest.mqtt.reasons import ReasonCode
from storage.kinds import Refusal

if TYPE_CHECKING:
    from ingest.mqtt.sessions import Connection

# On the fast lane an acknowledgement's remaining length is one byte: 127 less packet id, code, and the string's head.
WORDS_BYTES_MAX: Final = 120


class Why(Enum):
    """Why a client, a filter or an acknowledgement is refused, or a connection ended."""

    UNSUPPORTED_VERSION = ReasonCode.UNSUPPORTED_PROTOCOL_VERSION, "MQTT 3.1, 3.1.1 and 5.0 are spoken here"
    AUTHENTICATION_METHOD = ReasonCode.BAD_AUTHENTICATION_METHOD, "there is no enhanced authentication here"
    CLIENT_ID = (
        ReasonCode.CLIENT_ID_NOT_VALID,
        "the client id is longer than allowed here, or may not be empty",
    )
    CREDENTIALS = ReasonCode.BAD_CREDENTIALS, "user name is the user id, password the device token"
    WILL_RETAIN = ReasonCode.RETAIN_NOT_SUPPORTED, "the will is to be retained, which is off here"
    WILL_QOS = ReasonCode.QOS_NOT_SUPPORTED, "the will's QoS is beyond mqtt.qos_max"
    SESSIONS_MAX = ReasonCode.QUOTA_EXCEEDED, "the user has as many sessions as mqtt.sessions_max allows"
    CONNECTIONS_MAX = (
        ReasonCode.QUOTA_EXCEEDED,
        "the user has as many connections as limits.mqtt_connections_per_user_max allows",
    )
    TAKEN_OVER = ReasonCode.SESSION_TAKEN_OVER, "another connection has come with the same client id"
    SENT_AWAY = ReasonCode.ADMINISTRATIVE_ACTION, "the client was sent away over the REST interface"
    TOKEN_ENDED = ReasonCode.NOT_AUTHORIZED, "the device token that it came in with has been replaced"
    USER_GONE = ReasonCode.NOT_AUTHORIZED, "the account is disabled, or deleted"
    SHUTTING_DOWN = ReasonCode.SERVER_SHUTTING_DOWN, "the daemon stops, and will most likely be back soon"
    SILENT = ReasonCode.KEEP_ALIVE_TIMEOUT, "nothing came for one and a half times the keepalive"
    PACKET_TOO_LARGE = ReasonCode.PACKET_TOO_LARGE, "the packet is longer than limits.packet_bytes_max"
    NO_PACKET = ReasonCode.MALFORMED_PACKET, "the remaining length has no end [MQTT-1.5.5-1]"
    FOREIGN_FILTER = (
        ReasonCode.NOT_AUTHORIZED,
        "the filter is not the user's own: those begin with the device token",
    )
    FILTER_TOO_DEEP = ReasonCode.TOPIC_FILTER_INVALID, "the filter has too many levels"
    SUBSCRIPTIONS_MAX = ReasonCode.QUOTA_EXCEEDED, "the session has mqtt.subscriptions_max subscriptions"
    PACKET_ID = ReasonCode.PACKET_ID_NOT_FOUND, "no message with this packet id is under way"

    @property
    def code(self) -> ReasonCode:
        return self.value[0]

    @property
    def words(self) -> str:
        return f"{self.value[0].name}: {self.value[1]}"


READINGS: Final[dict[Refusal, str]] = {
    Refusal.AUTH_REQUIRED: "there is no user with this device token",
    Refusal.DEVICE_ID_ZERO: "the topic has no device id, or 0",
    Refusal.NEW_DEVICE_FOUND: "the device was not known; it is now, and is to be mapped to a channel",
    Refusal.MAX_DEVICE_REACH: "the device is not known, and the user has as many as allowed",
    Refusal.NO_MAPPED_CH: "the device is not mapped to a channel",
    Refusal.DEVICE_DISABLED: "the device is disabled",
    Refusal.TOO_MANY_REQUESTS: "the device posts more often than limits.connector_per_s",
    Refusal.BAD_JSON_FORMAT: "the payload is not JSON",
    Refusal.BAD_FORM_FORMAT: "the payload is not a form, as in v=1&v2=2",
    Refusal.PAYLOAD_TOO_LARGE: "the payload is longer than limits.payload_bytes_max",
    Refusal.JSON_TOO_DEEP: "more containers within containers than limits.json_depth_max",
    Refusal.KEY_TOO_LONG: "a stream's name is longer than limits.key_bytes_max",
    Refusal.TOO_MANY_STREAMS: "the channel would have more than limits.streams_per_channel_max streams",
    Refusal.NUMBER_OUT_OF_RANGE: "a number is beyond the largest double",
    Refusal.TAG_INVALID: "the tag is not printable UTF-8, or too long",
    Refusal.DEVICE_ID_INVALID: "the device id is not printable UTF-8, or too long",
    Refusal.FOREIGN_TOPIC: "the topic is not the user's own: those begin with the device token",
    Refusal.UNKNOWN_TOPIC: "nothing is stored from this topic, and nobody has subscribed to it",
    Refusal.UNAVAILABLE: "the device is not known and cannot be registered now",
    Refusal.TOO_MANY_TAGS: "the channel would have more than limits.tags_per_channel_max tags",
}


def words_of(refusal: Refusal) -> str:
    """The sentence for a reading that was refused."""
    return f"{refusal.name}: {READINGS[refusal]}"


def explained(connection: "Connection", packet: Callable[[Properties], bytes], words: str) -> bytes:
    """The packet with these words as its reason string where that is allowed, else without."""
    if words and connection.protocol == 5 and connection.explains:
        frame = packet({Property.REASON_STRING: words.encode()})
        if not connection.packet_bytes_max or len(frame) <= connection.packet_bytes_max:
            return frame
    return packet(NONE)


def puback_tails(reasons: dict[Refusal, ReasonCode]) -> list[tuple[bytes, bytes]]:
    """For the reactor: what follows the packet id of a PUBACK, by Refusal's number; (without words, with them)."""
    tails = [(b"", b"")]
    for number in range(1, len(Refusal) + 1):
        refusal = Refusal(number)
        code = bytes([reasons[refusal]])
        tails.append((code, code + encode_properties({Property.REASON_STRING: words_of(refusal).encode()})))
    return tails
