"""What is owed to one session: messages in flight, and those that wait behind them.

QoS 1 and 2 messages are sent in order, at most a window of them unacknowledged. Packet ids belong to the session: they
outlive the connection, and with them every message is sent again in the order in which it was sent first
[MQTT-4.4.0-1], [MQTT-4.6.0-1].
"""

from collections import deque

from ingest.mqtt.options import BrokerOptions, WhenFull
from storage.notes import Message

PACKET_IDS = 65_535


class Outgoing:
    """One message for one session.

    Attributes:
        message: what it says.
        number: its number in the log, 0 when a crash may forget it.
        qos, retain, identifiers: as this session gets it.
        packet_id: 0 until it is sent.
        is_received: PUBREC came: only PUBREL is owed.
    """

    __slots__ = ("identifiers", "is_received", "message", "number", "packet_id", "qos", "retain")

    def __init__(
        self, message: Message, number: int, qos: int, retain: bool, identifiers: tuple[int, ...]
    ) -> None:
        self.message = message
        self.number = number
        self.qos = qos
        self.retain = retain
        self.identifiers = identifiers
        self.packet_id = 0
        self.is_received = False

    @property
    def bytes(self) -> int:
        return len(self.message.topic) + len(self.message.payload) + len(self.message.properties)


class Outbox:
    """Messages of QoS 1 and 2 that one session has not acknowledged."""

    __slots__ = ("_last_id", "again", "inflight", "waiting", "waiting_bytes")

    def __init__(self) -> None:
        self.inflight: dict[int, Outgoing] = {}  # by packet id, in the order of sending
        self.again: deque[Outgoing] = (
            deque()
        )  # of those in flight: to be sent again to a client that came back
        self.waiting: deque[Outgoing] = deque()
        self.waiting_bytes = 0
        self._last_id = 0

    def __len__(self) -> int:
        return len(self.inflight) + len(self.waiting)

    def can_send(self, window: int) -> bool:
        """Whether the next message need not wait for an acknowledgement."""
        return len(self.inflight) < window and not self.waiting and not self.again

    def has_next(self, window: int) -> bool:
        """Whether there is something to be sent, again or at last, that fits into the window."""
        if not (self.again or self.waiting):
            return False
        return len(self.inflight) - len(self.again) < window

    def send(self, outgoing: Outgoing) -> None:
        """Give it a packet id: it is in flight now."""
        while True:
            self._last_id = self._last_id % PACKET_IDS + 1
            if self._last_id not in self.inflight:
                break
        outgoing.packet_id = self._last_id
        self.inflight[outgoing.packet_id] = outgoing

    def wait(self, outgoing: Outgoing, options: BrokerOptions) -> list[Outgoing]:
        """Put it at the end; what had to go for want of room, perhaps itself."""
        gone: list[Outgoing] = []

        def is_full() -> bool:
            return (
                len(self.waiting) >= options.queued_messages_max
                or self.waiting_bytes + outgoing.bytes > options.queued_bytes_max
            )

        # What is longer than the whole queue makes no room by emptying it.
        if options.when_full is WhenFull.DROP_OLDEST and outgoing.bytes <= options.queued_bytes_max:
            while self.waiting and is_full():
                gone.append(self.take())
        if is_full():
            return [*gone, outgoing]
        self.waiting.append(outgoing)
        self.waiting_bytes += outgoing.bytes
        return gone

    def take(self) -> Outgoing:
        """The message that has waited longest."""
        outgoing = self.waiting.popleft()
        self.waiting_bytes -= outgoing.bytes
        return outgoing

    def restore(self, outgoing: Outgoing) -> None:
        """As it was before a restart; called in the order of the messages' numbers."""
        if outgoing.packet_id:
            self.inflight[outgoing.packet_id] = outgoing
            self._last_id = outgoing.packet_id
        else:
            self.waiting.append(outgoing)
            self.waiting_bytes += outgoing.bytes
