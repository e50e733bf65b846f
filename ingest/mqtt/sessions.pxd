from libc.stdint cimport int64_t, uint32_t

from ingest.mqtt.outbox cimport Outbox


cdef class Connection:
    cdef readonly uint32_t slot
    cdef public int protocol
    cdef public Session session
    cdef public int keepalive_s
    cdef public int64_t connected_at_us
    cdef public int window
    cdef public uint32_t packet_bytes_max
    cdef public bint explains
    cdef public object aliases_in
    cdef public object aliases_out
    cdef public int alias_max
    cdef public bint is_clean
    cdef public bytes token
    cdef public object route        # of its last topic, the relay's


cdef class Session:
    cdef readonly Namespace namespace
    cdef readonly bytes client_id
    cdef public int64_t number
    cdef public int64_t expiry_s
    cdef public Connection connection
    cdef public int64_t closed_at_us
    cdef public dict subscriptions
    cdef public Outbox outbox
    cdef public object inbound
    cdef public object will
    cdef public int64_t will_delay_s
    cdef public int64_t will_due_us

    cpdef int take_inbound(self, int packet_id) except -1
    cpdef bint release_inbound(self, int packet_id)


cdef class Namespace:
    cdef readonly str user_id
    cdef public bytes token
    cdef public tuple previous
    cdef readonly dict sessions
    cdef public Py_ssize_t connections
    cdef readonly object tree
    cdef readonly object retained
    cdef readonly dict routes       # by topic, the relay's
    cdef public uint32_t routes_version
