"""The last step of a message: into the sessions that it is for, into the log, and out.

Per session QoS 1 and 2 go through the outbox; what is sent at once and what waits is decided here, by the client's
window and by how far behind its socket is. Notes are written before anything is sent, so that what is sent waits for
the batch that holds its note.

The session machine and the relay both end here; the stub says what each method does.
"""

from collections import deque
from functools import partial

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy

from ingest.wire cimport wire_of

from ingest.mqtt import packets
from ingest.mqtt.notebook import DELIVERIES_PER_NOTE, DELIVERY_BYTES, NOTE_BYTES
from ingest.mqtt.packets import Property
from ingest.mqtt.sentences import Why, explained

from ingest.mqtt.outbox cimport Outbox, Owed

# Unsent bytes of one client beyond which QoS 0 is dropped and QoS 1 and 2 wait. Less than limits.reply_bytes_max.
BEHIND_BYTES = 256 << 10

cdef int64_t NOTE = NOTE_BYTES, DELIVERY = DELIVERY_BYTES
cdef uint32_t BEHIND = BEHIND_BYTES
cdef Py_ssize_t PART = DELIVERIES_PER_NOTE


@cython.final
cdef class Counts:
    """See the stub."""


@cython.final
cdef class Deliveries:
    """See the stub."""

    def __init__(self, options, Notebook notebook, Counts counts):
        self.options = options
        self.next_message = 1
        self.notebook = notebook
        self.counts = counts
        self.owed = Owed()

    @property
    def link(self):
        return self.carrier

    @link.setter
    def link(self, link):
        self.carrier = link
        self.wire = wire_of(link)

    cpdef bint is_behind(self, Connection connection) except? True:
        return self.wire.unsent(connection.slot) > BEHIND

    def deliver(self, message, list deliveries, int64_t number, int64_t at_us):
        cdef Session session
        cdef Outgoing outgoing
        cdef Connection connection
        cdef list now = [], noted = []
        cdef tuple each
        for each in deliveries:
            session, outgoing = each
            connection = session.connection
            if outgoing.qos == 0:
                if connection is not None and not self.is_dropped(connection):
                    now.append((connection, outgoing))
                continue
            if not self.take(session, outgoing, at_us):
                continue
            if connection is not None and outgoing.packet_id:
                now.append((connection, outgoing))
            if outgoing.number:
                noted.append(each)
        if noted:
            self.notebook.queued(number, message, noted, at_us)
        for connection, outgoing in now:
            if not self.transmit(connection, outgoing, at_us, False) and outgoing.qos:
                assert connection.session is not None
                self.done(connection.session, outgoing, at_us)

    cdef bint is_dropped(self, Connection connection) except? True:
        """QoS 0 to a client that is behind."""
        if not self.is_behind(connection):
            return False
        self.counts.dropped_behind += 1
        return True

    cdef bint take(self, Session session, Outgoing outgoing, int64_t at_us) except? True:
        """Into the outbox: in flight, or waiting. False when it had to be dropped."""
        cdef Connection connection = session.connection
        cdef Outgoing each
        cdef bint is_behind = connection is not None and self.is_behind(connection)
        if session.outbox is None:
            session.outbox = Outbox(self.owed)
        if connection is not None and not is_behind and session.outbox.can_send(connection.window):
            session.outbox.send(outgoing)
            return True
        if is_behind:
            self.carrier.call_when_drained(connection.slot)
        dropped = session.outbox.wait(outgoing, self.options)
        self.counts.dropped_full += <uint64_t>len(dropped)
        for each in dropped:
            if each is not outgoing and each.number:
                self.notebook.done(session, each.number, at_us)
        return outgoing not in dropped

    def resume(self, Session session, int64_t at_us):
        if session.outbox is not None:
            session.outbox.again = deque(session.outbox.inflight.values())
            self.drain(session, at_us)

    cpdef int drain(self, Session session, int64_t at_us) except -1:
        cdef Connection connection = session.connection
        cdef Outbox outbox = session.outbox
        cdef Outgoing outgoing
        if connection is None or outbox is None:
            return 0
        while outbox.has_next(connection.window):
            if self.is_behind(connection):
                self.carrier.call_when_drained(connection.slot)
                return 0
            if session.number and not self.notebook.has_room(NOTE):
                self.notebook.when_there_is_room(NOTE, partial(self.drain, session), at_us)
                return 0
            if outbox.again:
                self.send_again(session, connection, outbox.again.popleft(), at_us)
                continue
            outgoing = outbox.take()
            outbox.send(outgoing)
            if outgoing.number:
                self.notebook.sent(session, outgoing.number, outgoing.packet_id, at_us)
            if not self.transmit(connection, outgoing, at_us, False):
                self.done(session, outgoing, at_us)
        return 0

    cdef int send_again(self, Session session, Connection connection, Outgoing outgoing, int64_t at_us) except -1:
        if session.outbox.inflight.get(outgoing.packet_id) is not outgoing:
            return 0  # acknowledged meanwhile
        if outgoing.is_received:
            self.say(connection, 6, outgoing.packet_id, 0, True)
        elif not self.transmit(connection, outgoing, at_us, True):
            self.done(session, outgoing, at_us)
        return 0

    cpdef bint acknowledged(self, Session session, int kind, int packet_id, int code, int64_t at_us) except? False:
        cdef Connection connection = session.connection
        cdef Outgoing outgoing = None
        assert connection is not None
        if session.outbox is not None:
            outgoing = session.outbox.inflight.get(packet_id)
        if outgoing is None:
            if kind == 5 and code < 0x80:
                # The client is told to let go of it [MQTT-4.3.3-1].
                self.say_unknown(connection, 6, packet_id)
            return True
        if outgoing.qos != (1 if kind == 4 else 2) or (kind == 7 and not outgoing.is_received):
            return False
        if kind == 5 and code < 0x80:
            if not outgoing.is_received:
                outgoing.is_received = True
                if outgoing.number:
                    self.notebook.received(session, outgoing.number, at_us)
            self.say(connection, 6, packet_id, 0, session.number != 0)
            return True
        self.done(session, outgoing, at_us)
        self.drain(session, at_us)
        return True

    cdef int say_unknown(self, Connection connection, int kind, int packet_id) except -1:
        """PUBREL 6 or PUBCOMP 7 for an id of which nothing is known."""
        answer = partial(packets.acknowledgement, connection.protocol, kind, packet_id, Why.PACKET_ID.code)
        self.carrier.send(connection.slot, explained(connection, answer, Why.PACKET_ID.words))
        return 0

    cdef int done(self, Session session, Outgoing outgoing, int64_t at_us) except -1:
        session.outbox.done(outgoing.packet_id)
        if outgoing.number:
            self.notebook.done(session, outgoing.number, at_us)
        return 0

    cdef bint transmit(self, Connection connection, Outgoing outgoing, int64_t at_us, bint dup) except? True:
        """Send it; False when it has expired or is longer than the client takes: then it is done with."""
        cdef bytes frame
        if outgoing.message.expires_at_us and outgoing.message.expires_at_us <= at_us and not dup:
            self.counts.dropped_expired += 1
            return False
        frame = publish_frame(connection, outgoing, at_us, dup)
        if connection.packet_bytes_max and len(frame) > <Py_ssize_t>connection.packet_bytes_max:
            self.counts.dropped_too_large += 1
            return False
        self.counts.delivered += 1
        self.wire.put(connection.slot, <const uint8_t*><const char*>frame, <uint32_t>len(frame), True)
        return True

    cdef int say(self, Connection connection, int kind, int packet_id, int code, bint waits) except -1:
        """PUBACK 4, PUBREC 5, PUBREL 6, PUBCOMP 7; the shortest form that says it all."""
        cdef uint8_t[5] packet
        cdef uint32_t length = 4
        packet[0], packet[1] = <uint8_t>(kind << 4 | (2 if kind == 6 else 0)), 2
        packet[2], packet[3] = <uint8_t>(packet_id >> 8), <uint8_t>packet_id
        if code and connection.protocol == 5:
            packet[1], packet[4], length = 3, <uint8_t>code, 5
        return self.wire.put(connection.slot, packet, length, waits)


cpdef int64_t room_for(int64_t size, Py_ssize_t sessions, Py_ssize_t shares):
    """Bytes of the notes of a message of this size, at most; every share may be a note of its own."""
    return DELIVERY * (sessions + shares) + (1 + shares + (sessions + shares) // PART) * (NOTE + size)


cdef uint32_t put_head(uint8_t* to, uint8_t first, uint32_t remaining) noexcept:
    """The fixed header, at most five bytes; how many."""
    cdef uint32_t at = 1
    to[0] = first
    while remaining > 0x7F:
        to[at] = <uint8_t>(remaining | 0x80)
        remaining >>= 7
        at += 1
    to[at] = <uint8_t>remaining
    return at + 1


cdef bytes plain_frame(uint8_t first, int packet_id, bint has_properties, bytes topic, bytes payload):
    """A PUBLISH without properties."""
    cdef uint32_t topic_bytes = <uint32_t>len(topic), payload_bytes = <uint32_t>len(payload), at
    cdef uint32_t remaining = 2 + topic_bytes + (2 if packet_id else 0) + has_properties + payload_bytes
    cdef uint8_t[5] head
    cdef uint32_t head_bytes = put_head(head, first, remaining)
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, head_bytes + remaining)
    cdef uint8_t* to = <uint8_t*>PyBytes_AS_STRING(frame)
    memcpy(to, head, head_bytes)
    at = head_bytes
    to[at], to[at + 1] = <uint8_t>(topic_bytes >> 8), <uint8_t>topic_bytes
    memcpy(to + at + 2, <const char*>topic, topic_bytes)
    at += 2 + topic_bytes
    if packet_id:
        to[at], to[at + 1] = <uint8_t>(packet_id >> 8), <uint8_t>packet_id
        at += 2
    if has_properties:
        to[at] = 0
        at += 1
    memcpy(to + at, <const char*>payload, payload_bytes)
    return frame


cdef bytes publish_frame(Connection connection, Outgoing outgoing, int64_t at_us, bint dup):
    """The PUBLISH as this client gets it."""
    cdef bint is_5 = connection.protocol == 5
    message = outgoing.message
    if not is_5 or not (message.properties or message.expires_at_us or outgoing.identifiers
                        or connection.alias_max):
        return plain_frame(<uint8_t>(0x30 | dup << 3 | outgoing.qos << 1 | outgoing.retain), outgoing.packet_id, is_5,
                           message.topic, message.payload)
    topic, found = message.topic, {}
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
        topic, alias = next_alias(connection, topic)
        if alias:
            found[Property.TOPIC_ALIAS] = alias
    packet = packets.Publish(
        topic, message.payload, outgoing.qos, outgoing.packet_id, dup, outgoing.retain, found)
    return packets.publish(connection.protocol, packet)


cdef tuple next_alias(Connection connection, topic):
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
