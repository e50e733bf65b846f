"""What an operator may decide about the broker; thingscale/config.py has units and defaults."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from storage.notes import NEVER_EXPIRES_S

# A session expiry interval that never ends (5.0 section 3.1.2.11.2).
NEVER: Final = NEVER_EXPIRES_S
# Separators in a topic or filter. Trees are walked level by level. As many as mosquitto takes.
SEPARATORS_MAX: Final = 200
CLIENT_ID_BYTES_MAX: Final = 1_024  # contract 2.3.2
# The same where an operator wants the contract's advice to be a rule.
CLIENT_ID_BYTES_STRICT: Final = 23


class Topics(Enum):
    """Which topics a user's clients may use among themselves."""

    DEVICE = "device"
    ANY = "any"


class WhenFull(Enum):
    """Which message goes when a session's queue is full."""

    DROP_NEWEST = "drop_newest"
    DROP_OLDEST = "drop_oldest"


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Limits and policies of the broker.

    Attributes:
        topics: below the own device token only, or any.
        anonymous: the user whose clients need no credentials; empty for none.
        packet_bytes_max: announced to MQTT 5 clients; the reactor holds to it.
        keepalive_s_max: a longer keepalive, or none, becomes this one for MQTT 5; 0 is no cap.
        session_expiry_s_max: how long a session may outlive its connection.
        receive_max: QoS 2 messages of one client between PUBLISH and PUBREL.
        topic_alias_max: aliases that one client may set.
        inflight_max: QoS 1 and 2 messages to one client that are not acknowledged.
        queued_messages_max, queued_bytes_max: what waits for one session behind them.
        when_full: which message goes then.
        subscriptions_max: of one session.
        sessions_max: of one user, live or not.
        connections_per_user_max: of one user at a time; 0 is no limit.
        retained_messages_max, retained_bytes_max: of one user; the latter is of one payload. 0 messages: not available.
        qos_max: that clients may publish with.
        empty_client_ids: whether a client may leave the choice to us.
        strict_client_ids: whether ids beyond 23 bytes are refused.
    """

    topics: Topics = Topics.DEVICE
    anonymous: str = ""
    packet_bytes_max: int = 131_072
    keepalive_s_max: int = 0
    session_expiry_s_max: int = NEVER
    receive_max: int = 1_000
    topic_alias_max: int = 16
    inflight_max: int = 100
    queued_messages_max: int = 1_000
    queued_bytes_max: int = 1 << 20
    when_full: WhenFull = WhenFull.DROP_NEWEST
    subscriptions_max: int = 1_000
    sessions_max: int = 100_000
    connections_per_user_max: int = 0
    retained_messages_max: int = 100_000
    qos_max: int = 2
    empty_client_ids: bool = True
    strict_client_ids: bool = False
