"""What is owed to one session: messages in flight, and those that wait behind them.

QoS 1 and 2 messages are sent in order, at most a window of them unacknowledged. Packet ids belong to the session: they
outlive the connection, and with them every message is sent again in the order in which it was sent first
[MQTT-4.4.0-1], [MQTT-4.6.0-1].

Compiled because one message to a thousand sessions makes a thousand of these; the relay and the session machine use
the same ones.
"""

from collections import deque

cimport cython

from ingest.mqtt.options import WhenFull

PACKET_IDS = 65_535
cdef int LAST_ID = PACKET_IDS


@cython.final
@cython.no_gc
@cython.freelist(1024)
cdef class Outgoing:
    """See the stub."""

    def __cinit__(self, message, int64_t number, int qos, bint retain, tuple identifiers):
        self.message = message
        self.number = number
        self.qos = qos
        self.retain = retain
        self.identifiers = identifiers

    @property
    def bytes(self):
        return len(self.message.topic) + len(self.message.payload) + len(self.message.properties)


@cython.final
cdef class Owed:
    """See the stub."""


@cython.final
cdef class Outbox:
    """See the stub."""

    def __cinit__(self, Owed owed not None):
        self.owed = owed
        self.inflight = {}
        self.again = deque()
        self.waiting = deque()

    def __len__(self):
        return len(self.inflight) + len(self.waiting)

    cpdef bint can_send(self, int window):
        return len(self.inflight) < window and not self.waiting and not self.again

    cpdef bint has_next(self, int window):
        if not (self.again or self.waiting):
            return False
        return <Py_ssize_t>len(self.inflight) - <Py_ssize_t>len(self.again) < window

    cpdef int send(self, Outgoing outgoing) except -1:
        while True:
            self.last_id = self.last_id % LAST_ID + 1
            if self.last_id not in self.inflight:
                break
        outgoing.packet_id = self.last_id
        self.inflight[self.last_id] = outgoing
        self.owed.inflight += 1
        return self.last_id

    def wait(self, Outgoing outgoing, options):
        cdef list gone = []
        cdef int64_t size = outgoing.bytes
        cdef int64_t messages_max = options.queued_messages_max, bytes_max = options.queued_bytes_max
        # What is longer than the whole queue makes no room by emptying it.
        if options.when_full is WhenFull.DROP_OLDEST and size <= bytes_max:
            while self.waiting and self.is_full(size, messages_max, bytes_max):
                gone.append(self.take())
        if self.is_full(size, messages_max, bytes_max):
            gone.append(outgoing)
            return gone
        self.waiting.append(outgoing)
        self.waiting_bytes += size
        self.owed.waiting += 1
        return gone

    cdef bint is_full(self, int64_t size, int64_t messages_max, int64_t bytes_max):
        return <int64_t>len(self.waiting) >= messages_max or self.waiting_bytes + size > bytes_max

    cpdef Outgoing take(self):
        cdef Outgoing outgoing = self.waiting.popleft()
        self.waiting_bytes -= <int64_t>outgoing.bytes
        self.owed.waiting -= 1
        return outgoing

    cpdef int done(self, int packet_id) except -1:
        if self.inflight.pop(packet_id, None) is not None:
            self.owed.inflight -= 1
        return 0

    def forget(self):
        self.owed.inflight -= <int64_t>len(self.inflight)
        self.owed.waiting -= <int64_t>len(self.waiting)

    def restore(self, Outgoing outgoing):
        if outgoing.packet_id:
            self.inflight[outgoing.packet_id] = outgoing
            self.last_id = outgoing.packet_id
            self.owed.inflight += 1
        else:
            self.waiting.append(outgoing)
            self.waiting_bytes += outgoing.bytes
            self.owed.waiting += 1
