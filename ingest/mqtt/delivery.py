"""The last step of a message: into the sessions that it is for, into the log, and out.

Per session QoS 1 and 2 go through the outbox; what is sent at once and what waits is decided here, by the client's
window and by how far behind its socket is. Notes are written before anything is sent, so that what is sent waits for
the batch that holds its note.
"""

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from ingest.mqtt import packets
from ingest.mqtt.notebook import Notebook
from ingest.mqtt.options import BrokerOptions
from ingest.mqtt.outbox import Outbox, Outgoing
from ingest.mqtt.packets import Property, ReasonCode
from ingest.mqtt.sentences import Why, explained
from ingest.mqtt.sessions import Connection, Session
from storage import notes
from storage.notes import Message

# Unsent bytes of one client beyond which QoS 0 is dropped and QoS 1 and 2 wait. Less than limits.reply_bytes_max.
BEHIND_BYTES: Final = 256 << 10
# What a note takes beside names and payloads.
NOTE_BYTES: Final = 96
# Deliveries of one note; more sessions make more notes.
DELIVERIES_PER_NOTE: Final = 4_096


class Link(Protocol):
    """The reactor, as far as messages and sessions need it."""

    def send(self, slot: int, data: bytes) -> None: ...
    def close(self, slot: int) -> None: ...
    def backlog(self, slot: int) -> int: ...
    def call_when_drained(self, slot: int) -> None: ...
    def invalidate_routes(self) -> None: ...


@dataclass(slots=True)
class Counts:
    """Since the start."""

    relayed: int = 0
    delivered: int = 0
    dropped_behind: int = 0
    dropped_full: int = 0
    dropped_expired: int = 0
    dropped_too_large: int = 0
    taken_over: int = 0
    expired_sessions: int = 0


class Deliveries:
    """Gives messages to sessions. ``link`` is set by whoever made both.

    Args:
        options: limits and policies.
        notebook: where what must survive is written.
        counts: what is counted.
    """

    link: Link

    def __init__(self, options: BrokerOptions, notebook: Notebook, counts: Counts) -> None:
        self._options = options
        self._notebook = notebook
        self._counts = counts

    def is_behind(self, connection: Connection) -> bool:
        """Whether the client's socket has more to take than it should."""
        return self.link.backlog(connection.slot) > BEHIND_BYTES

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
        now: list[tuple[Connection, Outgoing]] = []
        noted: list[notes.Delivery] = []
        for session, outgoing in deliveries:
            connection = session.connection
            if outgoing.qos == 0:
                if connection is not None and not self._is_dropped(connection):
                    now.append((connection, outgoing))
                continue
            if not self._take(session, outgoing, at_us):
                continue
            if connection is not None and outgoing.packet_id:
                now.append((connection, outgoing))
            if outgoing.number:
                noted.append(
                    notes.Delivery(
                        session.number,
                        outgoing.qos,
                        outgoing.packet_id,
                        outgoing.retain,
                        outgoing.identifiers,
                    )
                )
        for first in range(0, len(noted), DELIVERIES_PER_NOTE):
            part = tuple(noted[first : first + DELIVERIES_PER_NOTE])
            self._notebook.note(notes.Queued(number, message, part), at_us)
        self._send_all(now, at_us)

    def _is_dropped(self, connection: Connection) -> bool:
        """QoS 0 to a client that is behind."""
        if not self.is_behind(connection):
            return False
        self._counts.dropped_behind += 1
        return True

    def _take(self, session: Session, outgoing: Outgoing, at_us: int) -> bool:
        """Into the outbox: in flight, or waiting. False when it had to be dropped."""
        connection = session.connection
        if session.outbox is None:
            session.outbox = Outbox()
        is_behind = connection is not None and self.is_behind(connection)
        if connection is not None and not is_behind and session.outbox.can_send(connection.window):
            session.outbox.send(outgoing)
            return True
        if connection is not None and is_behind:
            self.link.call_when_drained(connection.slot)
        dropped = session.outbox.wait(outgoing, self._options)
        self._counts.dropped_full += len(dropped)
        for each in dropped:
            if each is not outgoing and each.number:
                self._notebook.note(notes.Done(session.number, each.number), at_us)
        return outgoing not in dropped

    def _send_all(self, now: list[tuple[Connection, Outgoing]], at_us: int) -> None:
        """The same bytes for all who get the same, which in a fan-out of QoS 0 is nearly everybody."""
        frames: dict[tuple[bool, bool], bytes] = {}
        for connection, outgoing in now:
            is_common = outgoing.qos == 0 and not outgoing.identifiers and not connection.alias_max
            if is_common and not connection.packet_bytes_max:
                key = connection.protocol == 5, outgoing.retain
                if key not in frames:
                    frames[key] = self._frame(connection, outgoing, at_us, dup=False)
                self._counts.delivered += 1
                self.link.send(connection.slot, frames[key])
            elif not self._transmit(connection, outgoing, at_us) and outgoing.qos:
                assert connection.session is not None
                self._done(connection.session, outgoing, at_us)

    def resume(self, session: Session, at_us: int) -> None:
        """Send again what a returning client has not acknowledged, then what waits [MQTT-4.4.0-1]."""
        if session.outbox is not None:
            session.outbox.again = deque(session.outbox.inflight.values())
            self.drain(session, at_us)

    def drain(self, session: Session, at_us: int) -> None:
        """Send what waits, as far as the window and the client's socket allow."""
        connection, outbox = session.connection, session.outbox
        if connection is None or outbox is None:
            return
        while outbox.has_next(connection.window):
            if self.is_behind(connection):
                self.link.call_when_drained(connection.slot)
                return
            if session.number and not self._notebook.has_room(NOTE_BYTES):
                self._notebook.when_there_is_room(
                    NOTE_BYTES, lambda now_us: self.drain(session, now_us), at_us
                )
                return
            if outbox.again:
                self._send_again(session, connection, outbox.again.popleft(), at_us)
                continue
            outgoing = outbox.take()
            outbox.send(outgoing)
            if outgoing.number:
                self._notebook.note(notes.Sent(session.number, outgoing.number, outgoing.packet_id), at_us)
            if not self._transmit(connection, outgoing, at_us):
                self._done(session, outgoing, at_us)

    def _send_again(self, session: Session, connection: Connection, outgoing: Outgoing, at_us: int) -> None:
        assert session.outbox is not None
        if session.outbox.inflight.get(outgoing.packet_id) is not outgoing:
            return  # acknowledged meanwhile
        if outgoing.is_received:
            self._send(connection, packets.acknowledgement(connection.protocol, 6, outgoing.packet_id))
        elif not self._transmit(connection, outgoing, at_us, dup=True):
            self._done(session, outgoing, at_us)

    def acknowledged(self, session: Session, kind: int, packet_id: int, code: int, at_us: int) -> bool:
        """PUBACK 4, PUBREC 5 or PUBCOMP 7 from the subscriber.

        False when it cannot be the answer to the message in flight: another kind, or out of order. Ids of which nothing
        is known are let go.
        """
        connection = session.connection
        assert connection is not None
        outgoing = session.outbox.inflight.get(packet_id) if session.outbox is not None else None
        if outgoing is None:
            if kind == 5 and code < 0x80:
                # The client is told to let go of it [MQTT-4.3.3-1].
                self._release(connection, packet_id, Why.PACKET_ID)
            return True
        if outgoing.qos != (1 if kind == 4 else 2) or (kind == 7 and not outgoing.is_received):
            return False
        if kind == 5 and code < 0x80:
            if not outgoing.is_received:
                outgoing.is_received = True
                if outgoing.number:
                    self._notebook.note(notes.Received(session.number, outgoing.number), at_us)
            self._release(connection, packet_id)
            return True
        self._done(session, outgoing, at_us)
        self.drain(session, at_us)
        return True

    def _release(self, connection: Connection, packet_id: int, why: Why | None = None) -> None:
        code = ReasonCode.SUCCESS if why is None else why.code
        answer = partial(packets.acknowledgement, connection.protocol, 6, packet_id, code)
        self._send(connection, explained(connection, answer, "" if why is None else why.words))

    def _done(self, session: Session, outgoing: Outgoing, at_us: int) -> None:
        assert session.outbox is not None
        session.outbox.inflight.pop(outgoing.packet_id, None)
        if outgoing.number:
            self._notebook.note(notes.Done(session.number, outgoing.number), at_us)

    def _transmit(self, connection: Connection, outgoing: Outgoing, at_us: int, *, dup: bool = False) -> bool:
        """Send it; False when it has expired or is longer than the client takes: then it is done with."""
        if outgoing.message.expires_at_us and outgoing.message.expires_at_us <= at_us and not dup:
            self._counts.dropped_expired += 1
            return False
        frame = self._frame(connection, outgoing, at_us, dup=dup)
        if connection.packet_bytes_max and len(frame) > connection.packet_bytes_max:
            self._counts.dropped_too_large += 1
            return False
        self._counts.delivered += 1
        self._send(connection, frame)
        return True

    def _send(self, connection: Connection, frame: bytes) -> None:
        self.link.send(connection.slot, frame)

    def _frame(self, connection: Connection, outgoing: Outgoing, at_us: int, *, dup: bool) -> bytes:
        message = outgoing.message
        topic, properties = message.topic, packets.NONE
        if connection.protocol == 5:
            found: dict[Property, Any] = {}
            if message.properties:
                found.update(packets.decode_properties_block(message.properties))
            if message.expires_at_us:
                # What is left of it, at least a second [MQTT-3.3.2-6].
                left_us = max(0, message.expires_at_us - at_us)
                found[Property.MESSAGE_EXPIRY_INTERVAL] = max(1, -(-left_us // 1_000_000))
            if outgoing.identifiers:
                found[Property.SUBSCRIPTION_IDENTIFIER] = outgoing.identifiers
            # Not with a limit on packets: an alias would be set by a packet that is then not sent.
            if connection.alias_max and not connection.packet_bytes_max:
                topic, alias = _alias(connection, topic)
                if alias:
                    found[Property.TOPIC_ALIAS] = alias
            properties = found
        packet = packets.Publish(
            topic, message.payload, outgoing.qos, outgoing.packet_id, dup, outgoing.retain, properties
        )
        return packets.publish(connection.protocol, packet)


def _alias(connection: Connection, topic: bytes) -> tuple[bytes, int]:
    """The topic to send and its alias: the topic itself once, then the alias alone (5.0 section 3.3.2.3.4)."""
    if connection.aliases_out is None:
        connection.aliases_out = {}
    aliases = connection.aliases_out
    if topic in aliases:
        return b"", aliases[topic]
    if len(aliases) < connection.alias_max:
        aliases[topic] = len(aliases) + 1
        return topic, aliases[topic]
    return topic, 0
