from typing import Final

from ingest.mqtt.link import Link
from ingest.mqtt.notebook import Notebook
from ingest.mqtt.options import BrokerOptions
from ingest.mqtt.outbox import Outgoing, Owed
from ingest.mqtt.sessions import Connection, Session
from storage.notes import Message

BEHIND_BYTES: Final[int]

def room_for(size: int, sessions: int, shares: int) -> int:
    """Bytes of the notes of a message of this size, at most; every share may be a note of its own."""

class Counts:
    """Since the start."""

    relayed: int
    delivered: int
    dropped_behind: int
    dropped_full: int
    dropped_expired: int
    dropped_too_large: int
    taken_over: int
    expired_sessions: int

class Deliveries:
    """Gives messages to sessions. ``link`` is set by whoever made both.

    Attributes:
        next_message: the number in the log of the next message that a session gets which survives a crash.

    Args:
        options: limits and policies.
        notebook: where what must survive is written.
        counts: what is counted.

    Attributes:
        owed: by all sessions' outboxes.
    """

    link: Link
    owed: Owed
    next_message: int
    def __init__(self, options: BrokerOptions, notebook: Notebook, counts: Counts) -> None: ...
    def is_behind(self, connection: Connection) -> bool:
        """Whether the client's socket has more to take than it should."""
    def deliver(
        self, message: Message, deliveries: list[tuple[Session, Outgoing]], number: int, at_us: int
    ) -> None:
        """Queue, note, then send.

        Args:
            message: what they are about.
            deliveries: for each session its own; room for their notes has been asked for.
            number: the message's in the log, for those deliveries that have one.
            at_us: now.
        """
    def resume(self, session: Session, at_us: int) -> None:
        """Send again what a returning client has not acknowledged, then what waits [MQTT-4.4.0-1]."""
    def drain(self, session: Session, at_us: int) -> int:
        """Send what waits, as far as the window and the client's socket allow."""
    def acknowledged(self, session: Session, kind: int, packet_id: int, code: int, at_us: int) -> bool:
        """PUBACK 4, PUBREC 5 or PUBCOMP 7 from the subscriber.

        False when it cannot be the answer to the message in flight: another kind, or out of order. Ids of which nothing
        is known are let go.
        """
