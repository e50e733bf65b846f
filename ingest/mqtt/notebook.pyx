"""The broker's notes: what must survive a crash, into the same log batch as the readings.

Whoever notes asks for room first (``has_room``), acts, and only then sends: a reply leaves with the batch that
holds the note. What cannot wait for room where it happens (a client that went, a timer) is put off as a whole until
there is some.

The notes that each message costs are written here as bytes at once; every other one is a value of storage.notes.
"""

from collections import deque

cimport cython

from storage.kinds import PayloadKind
from storage.notes import encode_note

from ingest.mqtt.outbox cimport Outgoing
from storage.journal cimport FULL_ANSWER

# Deliveries of one note; more sessions make more notes.
DELIVERIES_PER_NOTE = 4_096
# What a note takes beside names and payloads, a delivery within one, and each of its subscription identifiers.
NOTE_BYTES = 96
DELIVERY_BYTES = 40
IDENTIFIER_BYTES = 5

cdef enum:
    PART = 4096
    SENT = 7
    RECEIVED = 8
    DONE = 9
    INBOUND_TAKEN = 10
    INBOUND_RELEASED = 11

assert DELIVERIES_PER_NOTE == PART

cdef int64_t NOTE = NOTE_BYTES, DELIVERY = DELIVERY_BYTES, IDENTIFIER = IDENTIFIER_BYTES
cdef int KIND = PayloadKind.NOTE


@cython.final
cdef class Notebook:
    """See the stub."""

    def __init__(self, Journal journal, int64_t room_max, int64_t next_number=1):
        self.journal = journal
        self.bytes = NoteBytes()
        self.room_max = room_max
        self.next_number = next_number
        self.put_off_actions = deque()
        # Notes for which less room was asked than they take. They keep their order; only a crash just now would find
        # something sent that was not noted.
        self.overflow = deque()

    cpdef bint has_room(self, int64_t size) except? True:
        return not self.is_late() and self.fits(size)

    cdef bint fits(self, int64_t size) noexcept:
        return self.journal.has_room_for(<uint32_t>min(size, self.room_max))

    cdef bint is_late(self) except? True:
        return bool(self.put_off_actions) or bool(self.overflow)

    def note(self, note, int64_t at_us):
        self.overflow.append(encode_note(self.next_number, note))
        self.next_number += 1
        self.append(at_us)

    cdef int put(self, int64_t at_us) except -1:
        """The note that ``bytes`` holds."""
        self.next_number += 1
        if self.overflow or self.journal.append_bytes(
                at_us, KIND, 0, 0, NULL, 0, self.bytes.bytes, self.bytes.used) == FULL_ANSWER:
            self.overflow.append(<bytes>self.bytes.bytes[:self.bytes.used])
            self.append(at_us)
        return 0

    cdef bint append(self, int64_t at_us) except? True:
        """Whether every note is in the journal."""
        cdef bytes note
        while self.overflow:
            note = self.overflow[0]
            if self.journal.append_bytes(at_us, KIND, 0, 0, NULL, 0, <const uint8_t*><const char*>note,
                                         <uint32_t>len(note)) == FULL_ANSWER:
                return False
            self.overflow.popleft()
        return True

    # ---- of a message

    cdef int queued(self, int64_t message, content, list deliveries, int64_t at_us) except -1:
        """deliveries: (session, outgoing). None of the notes has more bytes of them than half a batch, whose other
        half is the message's."""
        cdef Py_ssize_t first = 0, last, i
        cdef Session session
        cdef Outgoing outgoing
        while first < len(deliveries):
            last = self.end_of_part(deliveries, first)
            self.bytes.queued(self.next_number, message, content, <uint32_t>(last - first))
            for i in range(first, last):
                session, outgoing = <tuple>deliveries[i]
                self.bytes.delivery(
                    session.number, outgoing.qos, outgoing.packet_id, outgoing.retain, outgoing.identifiers)
            self.put(at_us)
            first = last
        return 0

    cdef Py_ssize_t end_of_part(self, list deliveries, Py_ssize_t first) except -1:
        cdef int64_t left = self.room_max - NOTE
        cdef Py_ssize_t last
        for last in range(first, min(first + PART, <Py_ssize_t>len(deliveries))):
            left -= DELIVERY + IDENTIFIER * <int64_t>len((<Outgoing>(<tuple>deliveries[last])[1]).identifiers)
            if left < 0 and last > first:
                return last
        return min(first + PART, <Py_ssize_t>len(deliveries))

    cdef int sent(self, Session session, int64_t message, int packet_id, int64_t at_us) except -1:
        self.bytes.short(self.next_number, SENT, session.number, message, packet_id)
        return self.put(at_us)

    cdef int received(self, Session session, int64_t message, int64_t at_us) except -1:
        self.bytes.short(self.next_number, RECEIVED, session.number, message)
        return self.put(at_us)

    cdef int done(self, Session session, int64_t message, int64_t at_us) except -1:
        self.bytes.short(self.next_number, DONE, session.number, message)
        return self.put(at_us)

    cdef int inbound_taken(self, Session session, int packet_id, int64_t at_us) except -1:
        self.bytes.short(self.next_number, INBOUND_TAKEN, session.number, packet_id)
        return self.put(at_us)

    cdef int inbound_released(self, Session session, int packet_id, int64_t at_us) except -1:
        self.bytes.short(self.next_number, INBOUND_RELEASED, session.number, packet_id)
        return self.put(at_us)

    # ---- what has to wait

    def append_with(self, append):
        if self.is_waiting:
            return FULL_ANSWER, 0
        answer = append(self.next_number)
        if answer[0] >= 0:
            self.next_number += 1
        return answer

    def when_there_is_room(self, int64_t size, action, int64_t at_us):
        self.put_off_actions.append((size, action))
        self.catch_up(at_us)

    def catch_up(self, int64_t at_us):
        if not self.append(at_us):
            return False
        while self.put_off_actions and not self.overflow and self.fits(self.put_off_actions[0][0]):
            _, action = self.put_off_actions.popleft()
            action(at_us)
        return not self.is_late()

    @property
    def is_waiting(self):
        return self.is_late()

    @property
    def put_off(self):
        return len(self.put_off_actions)
