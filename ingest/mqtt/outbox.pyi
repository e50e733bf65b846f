from collections import deque

from ingest.mqtt.options import BrokerOptions
from storage.notes import Message

PACKET_IDS: int

class Outgoing:
    """One message for one session.

    Attributes:
        message: what it says.
        number: its number in the log, 0 when a crash may forget it.
        qos, retain, identifiers: as this session gets it.
        packet_id: 0 until it is sent.
        is_received: PUBREC came: only PUBREL is owed.
    """

    message: Message
    number: int
    qos: int
    retain: bool
    identifiers: tuple[int, ...]
    packet_id: int
    is_received: bool
    def __init__(
        self, message: Message, number: int, qos: int, retain: bool, identifiers: tuple[int, ...]
    ) -> None: ...
    @property
    def bytes(self) -> int: ...

class Owed:
    """What all outboxes of a broker have together, so that nobody needs to walk them to know."""

    inflight: int
    waiting: int

class Outbox:
    """Messages of QoS 1 and 2 that one session has not acknowledged.

    Args:
        owed: where they are counted, too.

    Attributes:
        inflight: by packet id, in the order of sending.
        again: of those in flight: to be sent again to a client that came back.
        waiting: behind them.
    """

    inflight: dict[int, Outgoing]
    again: deque[Outgoing]
    waiting: deque[Outgoing]
    waiting_bytes: int
    def __init__(self, owed: Owed) -> None: ...
    def __len__(self) -> int: ...
    def can_send(self, window: int) -> bool:
        """Whether the next message need not wait for an acknowledgement."""
    def has_next(self, window: int) -> bool:
        """Whether there is something to be sent, again or at last, that fits into the window."""
    def send(self, outgoing: Outgoing) -> int:
        """Give it a packet id: it is in flight now."""
    def wait(self, outgoing: Outgoing, options: BrokerOptions) -> list[Outgoing]:
        """Put it at the end; what had to go for want of room, perhaps itself."""
    def take(self) -> Outgoing:
        """The message that has waited longest."""
    def done(self, packet_id: int) -> int:
        """What has this packet id is owed no more."""
    def forget(self) -> None:
        """The session has ended; the outbox is not used again."""
    def restore(self, outgoing: Outgoing) -> None:
        """As it was before a restart; called in the order of the messages' numbers."""
