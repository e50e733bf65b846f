from libc.stdint cimport int64_t


cdef class Outgoing:
    cdef readonly object message
    cdef public int64_t number
    cdef readonly int qos
    cdef readonly bint retain
    cdef readonly tuple identifiers
    cdef public int packet_id
    cdef public bint is_received


cdef class Owed:
    cdef readonly int64_t inflight
    cdef readonly int64_t waiting


cdef class Outbox:
    cdef Owed owed
    cdef readonly dict inflight     # by packet id, in the order of sending
    cdef public object again        # a deque of those in flight: to be sent again to a client that came back
    cdef readonly object waiting    # a deque
    cdef readonly int64_t waiting_bytes
    cdef int last_id

    cdef bint is_full(self, int64_t size, int64_t messages_max, int64_t bytes_max)
    cpdef bint can_send(self, int window)
    cpdef bint has_next(self, int window)
    cpdef int send(self, Outgoing outgoing) except -1
    cpdef Outgoing take(self)
    cpdef int done(self, int packet_id) except -1
