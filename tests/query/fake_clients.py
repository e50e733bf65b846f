"""MQTT clients that are only said to be connected, and a publisher that remembers."""

from dataclasses import dataclass, field

import trio

from query.ports import LiveSession


@dataclass
class FakeClients:
    """Both ports at once.

    Attributes:
        connected: by user.
        published: (user, topic, payload, QoS).
        has_room: what the next publish will find.
        message_bytes_max: the longest message.
    """

    connected: dict[str, list[LiveSession]] = field(default_factory=dict)
    published: list[tuple[str, bytes, bytes, int]] = field(default_factory=list)
    has_room: bool = True
    message_bytes_max: int = 1_000

    def live(self, user_id: str) -> list[LiveSession]:
        return list(self.connected.get(user_id, []))

    def kick(self, user_id: str, client_id: str) -> bool:
        before = self.live(user_id)
        self.connected[user_id] = [session for session in before if session.client_id != client_id]
        return len(self.connected[user_id]) < len(before)

    async def publish(self, user_id: str, topic: bytes, payload: bytes, qos: int) -> bool:
        await trio.lowlevel.checkpoint()
        if self.has_room:
            self.published.append((user_id, topic, payload, qos))
        return self.has_room
