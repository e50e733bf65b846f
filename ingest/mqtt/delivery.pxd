from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ingest.mqtt.notebook cimport Notebook
from ingest.mqtt.outbox cimport Outgoing, Owed
from ingest.mqtt.sessions cimport Connection, Session
from ingest.wire cimport Wire


cdef class Counts:
    cdef public uint64_t relayed
    cdef public uint64_t delivered
    cdef public uint64_t dropped_behind
    cdef public uint64_t dropped_full
    cdef public uint64_t dropped_expired
    cdef public uint64_t dropped_too_large
    cdef public uint64_t taken_over
    cdef public uint64_t expired_sessions


cdef class Deliveries:
    cdef readonly Counts counts
    cdef readonly Owed owed
    cdef readonly object options
    cdef readonly Notebook notebook
    cdef public int64_t next_message
    cdef object carrier
    cdef Wire wire

    cpdef bint is_behind(self, Connection connection) except? True
    cdef bint is_dropped(self, Connection connection) except? True
    cdef bint take(self, Session session, Outgoing outgoing, int64_t at_us) except? True
    cpdef int drain(self, Session session, int64_t at_us) except -1
    cdef int send_again(self, Session session, Connection connection, Outgoing outgoing, int64_t at_us) except -1
    cpdef bint acknowledged(self, Session session, int kind, int packet_id, int code, int64_t at_us) except? False
    cdef int say_unknown(self, Connection connection, int kind, int packet_id) except -1
    cdef int done(self, Session session, Outgoing outgoing, int64_t at_us) except -1
    cdef bint transmit(self, Connection connection, Outgoing outgoing, int64_t at_us, bint dup) except? True
    cdef int say(self, Connection connection, int kind, int packet_id, int code, bint waits) except -1


cpdef int64_t room_for(int64_t size, Py_ssize_t sessions, Py_ssize_t shares)
cdef uint32_t put_head(uint8_t* to, uint8_t first, uint32_t remaining) noexcept
