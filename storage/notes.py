"""Notes: what the MQTT broker and the writers must not forget, as numbered operations in the log.

A note is one change of one thing: a session opened, a message was queued, an acknowledgement came. It goes into the
same batch as the readings (PayloadKind.NOTE), so what was noted is durable when the batch is; behind that it is applied
to the session store (storage/sessions.py) in order, once. Notes are numbered by the broker, from
``SavedBroker.next_number`` on and without going back; the number is how a store knows what it has seen after a crash.

The bytes are MessagePack: ``[number, [tag, field, ...]]``. Tags and the order of fields stand in logs: neither may
change, and a new field goes to the end and has a default. docs/formats/sessions.md has the list.
"""

from typing import Final

import msgspec

# An expiry that never comes [MQTT 5, 3.1.2.11.2].
NEVER_EXPIRES_S: Final = 0xFFFFFFFF


class NoteFormatError(ValueError):
    """These bytes are no note that this version knows."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An application message.

    Attributes:
        properties: an encoded MQTT 5 property block, empty for none.
        expires_at_us: 0: never.
        at_us: when it was received.
    """

    topic: bytes
    payload: bytes
    qos: int
    retain: bool
    properties: bytes
    expires_at_us: int
    at_us: int


class Delivery(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message on its way to one session.

    Attributes:
        packet_id: 0: not sent yet.
        identifiers: of the subscriptions that it met [MQTT 5, 3.3.2.3.8].
    """

    session: int
    qos: int
    packet_id: int
    retain: bool
    identifiers: tuple[int, ...]


class SessionOpened(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """A new persistent session, or a connection to an old one, whose fields are renewed and which keeps what it has.

    Attributes:
        expiry_s: NEVER_EXPIRES_S: never.
    """

    session: int
    user_id: str
    client_id: bytes
    expiry_s: int
    protocol: int
    at_us: int


class SessionClosed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """The connection went; the expiry counts from at_us."""

    session: int
    expiry_s: int
    at_us: int


class SessionEnded(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """The session is gone with everything that is its: subscriptions, deliveries, inbound ids, will."""

    session: int


class Subscribed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    """A subscription; it replaces one with the same filter."""

    session: int
    filter: bytes
    options: int
    identifier: int


class Unsubscribed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=5):
    """The subscription with this filter is gone."""

    session: int
    filter: bytes


class Queued(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=6):
    """A message for these sessions, one delivery each. Message ids are never used again; their order is the queue's."""

    message: int
    content: Message
    deliveries: tuple[Delivery, ...]


class Sent(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=7):
    """A queued delivery was given its packet id."""

    session: int
    message: int
    packet_id: int


class Received(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=8):
    """PUBREC came: only PUBREL is owed."""

    session: int
    message: int


class Done(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=9):
    """A delivery was acknowledged to the end, expired, or was dropped. A message without deliveries goes."""

    session: int
    message: int


class InboundTaken(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=10):
    """A QoS 2 PUBLISH of the client was taken."""

    session: int
    packet_id: int


class InboundReleased(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=11):
    """Its PUBREL came."""

    session: int
    packet_id: int


class Retained(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=12):
    """The retained message of a topic; None removes it."""

    user_id: str
    topic: bytes
    content: Message | None


class WillSet(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=13):
    """The session's will; it replaces an older one."""

    session: int
    content: Message
    delay_s: int


class WillCleared(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=14):
    """The session has no will."""

    session: int


class UserForgotten(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=15):
    """Everything of that user is gone: sessions with all that is theirs, retained messages."""

    user_id: str


class Written(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=16):
    """How far a write over REST has come that has a key; a later one of the same key replaces it.

    Attributes:
        channel: registry id.
        digest: of what was sent: the same key with another body is a mistake.
        stored: its first rows are durable, from the beginning; this many.
        rows: how many it has.
        at_us: when it was first received; rows without a time of their own have this one.
    """

    user_id: str
    channel: int
    key: str
    digest: bytes
    stored: int
    rows: int
    at_us: int


DeliveryNote = Queued | Sent | Received | Done
SessionNote = (
    SessionOpened
    | SessionClosed
    | SessionEnded
    | Subscribed
    | Unsubscribed
    | InboundTaken
    | InboundReleased
    | WillSet
    | WillCleared
)
UserNote = Retained | UserForgotten | Written
Note = DeliveryNote | SessionNote | UserNote

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(tuple[int, Note])


def encode_note(number: int, note: Note) -> bytes:
    """The payload of a log entry; 1 <= number < 2**63."""
    return _ENCODER.encode((number, note))


def decode_note(data: bytes) -> tuple[int, Note]:
    """Number and note. Raises NoteFormatError."""
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NoteFormatError(f"a note cannot be read: {error}") from error
