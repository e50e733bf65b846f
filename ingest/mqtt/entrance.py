"""The entrance: from CONNECT to a session, or to the reason why there is none.

What the packet itself permits is judged by ``connect``; here it is decided who the client is, whether there is room for
it, and which session it goes on with. The notes of all that need room in the log batch first.
"""

import secrets
from collections import Counter
from collections.abc import Callable
from typing import Final

from ingest.admission import Admission
from ingest.mqtt import packets
from ingest.mqtt.broker import Broker
from ingest.mqtt.connect import Accepted, Refused, judge, properties_of, wishes
from ingest.mqtt.link import DoorLink
from ingest.mqtt.messages import message_of
from ingest.mqtt.packets import ProtocolError, ReasonCode
from ingest.mqtt.sentences import Why, explained
from ingest.mqtt.sessions import Connection, Namespace, Session
from storage.notes import Message
from storage.registry import User

# The grace on top of the keepalive [MQTT-3.1.2-24].
KEEPALIVE_FACTOR: Final = 1.5
# Notes of a CONNECT beside those of the will: the old session's end, the new one's beginning, packet ids of a window.
CONNECT_ROOM: Final = 16_384
# For the reactor: a client that names no maximum packet size.
PACKET_BYTES_ANY: Final = 0xFFFF_FFFF
# CONNACK return codes of 3.1 and 3.1.1 (table 3.1); 5, not authorised, for everything else.
RETURN_CODES: Final = {
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: 1,
    ReasonCode.CLIENT_ID_NOT_VALID: 2,
    ReasonCode.SERVER_UNAVAILABLE: 3,
    ReasonCode.QUOTA_EXCEEDED: 3,
    ReasonCode.BAD_CREDENTIALS: 4,
}


class Entrance:
    """``link`` is set by whoever made both.

    Attributes:
        accepted: CONNECTs since the start, by protocol.
        refused: likewise, by reason and protocol, which is 0 where it is not known.

    Args:
        admission: knows users by their tokens.
        broker: has the sessions.
        may_use: whether a user's clients may publish to a topic.
    """

    link: DoorLink

    def __init__(
        self, admission: Admission, broker: Broker, may_use: Callable[[Namespace, bytes], bool]
    ) -> None:
        self._admission = admission
        self._broker = broker
        self._may_use = may_use
        self.accepted: dict[int, int] = {3: 0, 4: 0, 5: 0}
        self.refused: Counter[tuple[str, int]] = Counter()

    def open(self, connection: Connection, connect: packets.Connect, at_us: int) -> bool:
        """The first packet of a connection; False when the batch has no room for its notes, and it comes again.

        Raises ProtocolError when the client takes no CONNACK.
        """
        options = self._broker.options
        connection.explains, connection.packet_bytes_max = wishes(connect)
        verdict = judge(connect, options)
        user = None
        if isinstance(verdict, Accepted):
            user = self._user(connect)
            if user is None:
                verdict = Refused(Why.CREDENTIALS)
        if isinstance(verdict, Refused):
            return self._refuse(connection, connect, verdict.why)
        assert user is not None
        # A session whose time is over is not taken up, however soon its client comes.
        self._broker.tick(at_us)
        namespace = self._broker.namespace(user.user_id, user.device_token.encode())
        namespace.previous = self._admission.previous_tokens(user.user_id)
        client_id = connect.client_id or b"auto-" + secrets.token_hex(8).encode()
        old = namespace.sessions.get(client_id)
        if old is None and len(namespace.sessions) >= options.sessions_max:
            return self._refuse(connection, connect, Why.SESSIONS_MAX)
        if self._is_crowded(namespace, old):
            return self._refuse(connection, connect, Why.CONNECTIONS_MAX)
        room = CONNECT_ROOM + (0 if old is None else self._broker.room_to_close(old))
        will = self._will(namespace, connect.will, at_us)
        if will is not None:
            room += len(will.topic) + len(will.payload) + len(will.properties)
        if not self._broker.notebook.has_room(room):
            return False
        protocol = connect.protocol or 4
        properties = packets.NONE
        if protocol == 5:
            properties = properties_of(connect, verdict, options, client_id)
        if not _fits(packets.connack(protocol, 0, properties=properties), connection.packet_bytes_max):
            raise ProtocolError(
                "a maximum packet size that CONNACK is beyond [MQTT-3.1.2-24]", ReasonCode.PACKET_TOO_LARGE
            )
        connection.protocol = protocol
        connection.is_clean = connect.clean_session
        connection.keepalive_s = verdict.keepalive_s
        connection.connected_at_us = at_us
        connection.token = None if connect.password is None else namespace.token_in(connect.password)
        connection.window = min(verdict.receive_max, options.inflight_max)
        connection.alias_max = verdict.alias_max
        session, is_present = self._broker.open_session(
            namespace,
            connection,
            client_id,
            is_clean=connect.clean_session,
            expiry_s=verdict.expiry_s,
            at_us=at_us,
        )
        self._broker.set_will(session, will, verdict.will_delay_s, at_us)
        self.accepted[connection.protocol] += 1
        words_bytes_max = (connection.packet_bytes_max or PACKET_BYTES_ANY) if connection.explains else 0
        self.link.admit(connection.slot, connection.protocol, words_bytes_max)
        self.link.set_keepalive(connection.slot, KEEPALIVE_FACTOR * verdict.keepalive_s)
        self.link.send(
            connection.slot, packets.connack(protocol, 0, session_present=is_present, properties=properties)
        )
        self._broker.deliveries.resume(session, at_us)
        return True

    def _is_crowded(self, namespace: Namespace, old: Session | None) -> bool:
        """Whether the user has all connections that it may have; one that is taken over makes room."""
        most = self._broker.options.connections_per_user_max
        takes_over = old is not None and old.connection is not None
        return 0 < most <= namespace.connections - takes_over

    def _user(self, connect: packets.Connect) -> User | None:
        """Whose client it is (contract 2.3.2): the user id is the name, the device token the password.

        Some clients send an empty name, and an empty password, where they have none.
        """
        anonymous = self._broker.options.anonymous
        if anonymous and not connect.username and not connect.password:
            return self._admission.user(anonymous)
        user = self._admission.user_of(connect.password)
        return user if user is not None and connect.username == user.user_id.encode() else None

    def _will(self, namespace: Namespace, will: packets.Will | None, at_us: int) -> Message | None:
        """The will as a message; None when there is none, or on a topic where the client may not publish."""
        if will is None or not self._may_use(namespace, will.topic):
            return None
        return message_of(will.topic, will.payload, will.qos, will.retain, will.properties, at_us)

    def _refuse(self, connection: Connection, connect: packets.Connect, why: Why) -> bool:
        reason = why.code
        self.refused[reason.name, connect.protocol or 0] += 1
        connection.protocol = connect.protocol or connect.form
        code = int(reason) if connection.protocol == 5 else RETURN_CODES.get(reason, 5)
        self.turn_away(connection, code, why.words)
        return True

    def turn_away(self, connection: Connection, code: int, words: str) -> None:
        """Say why there is no session, and close."""

        def connack(properties: packets.Properties) -> bytes:
            return packets.connack(connection.protocol, code, properties=properties)

        answer = explained(connection, connack, words)
        if _fits(answer, connection.packet_bytes_max):
            self.link.send(connection.slot, answer)
        self.link.close(connection.slot)


def _fits(frame: bytes, bytes_max: int) -> bool:
    """Whether the client takes a packet of this length [MQTT-3.1.2-24]; 0 is no limit."""
    return not bytes_max or len(frame) <= bytes_max
