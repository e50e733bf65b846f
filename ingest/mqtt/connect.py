"""CONNECT: what a client asks for, and what it is given.

Pure decisions: who the client is and which session it gets are others' matters. MQTT 5 carries its wishes in
properties, 3.1 and 3.1.1 in flags; both come out as the same terms.
"""

from dataclasses import dataclass
from typing import Any, Final

from ingest.mqtt import packets
from ingest.mqtt.options import CLIENT_ID_BYTES_MAX, CLIENT_ID_BYTES_STRICT, NEVER, BrokerOptions
from ingest.mqtt.packets import Property
from ingest.mqtt.sentences import Why

# What 5.0 assumes when a client says nothing (section 3.1.2.11.3).
RECEIVE_MAX_DEFAULT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Accepted:
    """The terms of a connection.

    Attributes:
        expiry_s: how long the session outlives it.
        keepalive_s: enforced; 0 is none.
        receive_max: messages that the client lets be in flight.
        alias_max: topic aliases that it takes.
        will_delay_s: between the connection's end and the will.
    """

    expiry_s: int
    keepalive_s: int
    receive_max: int
    alias_max: int
    will_delay_s: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Why not."""

    why: Why


def wishes(connect: packets.Connect) -> tuple[bool, int]:
    """Whether the client wants reason strings, and the longest packet that it takes, 0 for any; refused or not."""
    asked = connect.properties
    return bool(asked.get(Property.REQUEST_PROBLEM_INFORMATION, 1)), asked.get(
        Property.MAXIMUM_PACKET_SIZE, 0
    )


def judge(connect: packets.Connect, options: BrokerOptions) -> Accepted | Refused:
    """What the packet itself permits."""
    if connect.protocol is None:
        return Refused(Why.UNSUPPORTED_VERSION)
    asked = connect.properties
    if Property.AUTHENTICATION_METHOD in asked:
        return Refused(Why.AUTHENTICATION_METHOD)
    if not _is_client_id_good(connect, options):
        return Refused(Why.CLIENT_ID)
    if connect.will is not None:
        if connect.will.retain and not options.retained_messages_max:
            return Refused(Why.WILL_RETAIN)
        if connect.will.qos > options.qos_max:
            return Refused(Why.WILL_QOS)
    if connect.protocol == 5:
        expiry_s = asked.get(Property.SESSION_EXPIRY_INTERVAL, 0)
    else:
        expiry_s = 0 if connect.clean_session else NEVER
    will = connect.will
    return Accepted(
        expiry_s=min(expiry_s, options.session_expiry_s_max),
        keepalive_s=_keepalive_s(connect, options),
        receive_max=asked.get(Property.RECEIVE_MAXIMUM, RECEIVE_MAX_DEFAULT),
        alias_max=asked.get(Property.TOPIC_ALIAS_MAXIMUM, 0),
        will_delay_s=0 if will is None else will.properties.get(Property.WILL_DELAY_INTERVAL, 0),
    )


def _is_client_id_good(connect: packets.Connect, options: BrokerOptions) -> bool:
    most = CLIENT_ID_BYTES_STRICT if options.strict_client_ids else CLIENT_ID_BYTES_MAX
    if len(connect.client_id) > most:
        return False
    if connect.client_id:
        return True
    # An empty id needs a clean session in 3.1.1 [MQTT-3.1.3-8], and 3.1 knows no empty id at all.
    return options.empty_client_ids and (
        connect.protocol == 5 or (connect.protocol == 4 and connect.clean_session)
    )


def _keepalive_s(connect: packets.Connect, options: BrokerOptions) -> int:
    """Only MQTT 5 can be told of a cap [MQTT-3.2.2-21]; the others get what they ask for."""
    most = options.keepalive_s_max
    if connect.protocol == 5 and most and not 0 < connect.keepalive_s <= most:
        return most
    return connect.keepalive_s


def properties_of(
    connect: packets.Connect, accepted: Accepted, options: BrokerOptions, client_id: bytes
) -> packets.Properties:
    """What CONNACK says to an MQTT 5 client: our limits, and where its wishes were changed."""
    properties: dict[Property, Any] = {
        Property.RECEIVE_MAXIMUM: options.receive_max,
        Property.TOPIC_ALIAS_MAXIMUM: options.topic_alias_max,
        Property.MAXIMUM_PACKET_SIZE: options.packet_bytes_max,
    }
    if options.qos_max < 2:
        properties[Property.MAXIMUM_QOS] = options.qos_max
    if not options.retained_messages_max:
        properties[Property.RETAIN_AVAILABLE] = 0
    if not connect.client_id:
        properties[Property.ASSIGNED_CLIENT_IDENTIFIER] = client_id
    if accepted.keepalive_s != connect.keepalive_s:
        properties[Property.SERVER_KEEP_ALIVE] = accepted.keepalive_s
    if accepted.expiry_s != connect.properties.get(Property.SESSION_EXPIRY_INTERVAL, 0):
        properties[Property.SESSION_EXPIRY_INTERVAL] = accepted.expiry_s
    return properties
