"""The broker as the REST services see it: who is connected, and a message for a device."""

from collections.abc import Callable
from typing import Final

from ingest.durability import Durability
from ingest.mqtt.broker import Broker
from ingest.mqtt.sentences import Why
from ingest.mqtt.sessions import Namespace
from query.ports import LiveSession
from storage.notes import Message

# A PUBLISH's first byte, remaining length, length of the topic, packet id and (no) properties, at most.
HEAD_BYTES_MAX: Final = 10


class Clients:
    """``query.ports.Sessions`` and ``Publisher``.

    Args:
        broker: sessions and messages.
        durability: waits for the notes of what was queued.
        token_of: a user's device token.
        peer: the address of a connection.
        now: monotonic seconds and UTC microseconds.
    """

    def __init__(
        self,
        broker: Broker,
        durability: Durability,
        token_of: Callable[[str], bytes],
        peer: Callable[[int], str],
        now: Callable[[], tuple[float, int]],
    ) -> None:
        self._broker = broker
        self._durability = durability
        self._token_of = token_of
        self._peer = peer
        self._now = now
        self.message_bytes_max = broker.options.packet_bytes_max - HEAD_BYTES_MAX

    def _namespace(self, user_id: str) -> Namespace:
        return self._broker.namespace(user_id, self._token_of(user_id))

    def live(self, user_id: str) -> list[LiveSession]:
        return [
            LiveSession(
                session.client_id.decode(),
                self._peer(connection.slot),
                connection.is_clean,
                connection.protocol,
                connection.keepalive_s,
                connection.connected_at_us,
            )
            for session, connection in self._namespace(user_id).live()
        ]

    def kick(self, user_id: str, client_id: str) -> bool:
        session = self._namespace(user_id).sessions.get(client_id.encode())
        if session is None or session.connection is None:
            return False
        self._broker.disconnect(session.connection, Why.SENT_AWAY.code, Why.SENT_AWAY.words)
        return True

    async def publish(self, user_id: str, topic: bytes, payload: bytes, qos: int) -> bool:
        namespace, at_us = self._namespace(user_id), self._now()[1]
        message = Message(topic, payload, qos, False, b"", 0, at_us)
        if not self._broker.notebook.has_room(self._broker.room_for(namespace, message)):
            return False
        self._broker.publish(namespace, message, None, at_us)
        await self._durability.settled()
        return True
