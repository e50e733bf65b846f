from libc.stdint cimport int64_t, uint8_t, uint32_t

from ingest.mqtt.sessions cimport Session
from storage.journal cimport Journal
from storage.note_bytes cimport NoteBytes


cdef class Notebook:
    cdef Journal journal
    cdef NoteBytes bytes
    cdef readonly int64_t room_max
    cdef int64_t next_number
    cdef object put_off_actions     # a deque
    cdef object overflow            # a deque

    cpdef bint has_room(self, int64_t size) except? True
    cdef bint fits(self, int64_t size) noexcept
    cdef bint is_late(self) except? True
    cdef int put(self, int64_t at_us) except -1
    cdef bint append(self, int64_t at_us) except? True
    cdef int queued(self, int64_t message, content, list deliveries, int64_t at_us) except -1
    cdef Py_ssize_t end_of_part(self, list deliveries, Py_ssize_t first) except -1
    cdef int sent(self, Session session, int64_t message, int packet_id, int64_t at_us) except -1
    cdef int received(self, Session session, int64_t message, int64_t at_us) except -1
    cdef int done(self, Session session, int64_t message, int64_t at_us) except -1
    cdef int inbound_taken(self, Session session, int packet_id, int64_t at_us) except -1
    cdef int inbound_released(self, Session session, int packet_id, int64_t at_us) except -1
