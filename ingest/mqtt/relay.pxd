from libc.stdint cimport int64_t, uint8_t, uint32_t

from ingest.mqtt.delivery cimport Deliveries
from ingest.mqtt.notebook cimport Notebook
from ingest.mqtt.sessions cimport Connection, Session
from ingest.mqtt_lane cimport Publish


cdef class Target:
    cdef Session session
    cdef int qos
    cdef bint no_local
    cdef tuple identifiers


cdef class Group:
    cdef object share
    cdef list members


cdef class Route:
    cdef tuple reading
    cdef list targets
    cdef list groups
    cdef bint is_foreign
    cdef bint is_noted
    cdef bint is_tangled
    cdef bint has_no_local


cdef struct Frame:
    uint8_t* bytes
    uint32_t length
    uint32_t size
    uint32_t id_at


cdef class Relay:
    cdef readonly Deliveries deliveries
    cdef dict connections
    cdef Notebook notebook
    cdef object admission, may_use
    cdef int qos_max
    cdef Py_ssize_t receive_max
    cdef Frame[6] frames
    cdef uint32_t built
    cdef object message

    cdef tuple find(self, uint32_t slot, bytes topic)
    cdef tuple resolve(self, uint32_t slot, bytes topic)
    cdef Route build(self, namespace, bytes topic)
    cdef int begin(self, uint32_t slot, Publish* packet) except -2
    cdef int publish(self, uint32_t slot, Publish* packet, bint is_stored, int64_t at_us) except -2
    cdef Target choose(self, Group group)
    cdef int give_noted(self, list targets, Publish* packet, int64_t at_us) except -1
    cdef int give(self, Target target, Publish* packet, bint waits, int64_t at_us) except -1
    cdef object message_of(self, Publish* packet, int64_t at_us)
    cdef bint transmit(self, Connection connection, int qos, int packet_id, Publish* packet, bint waits) except? True
    cdef int acknowledged(self, uint32_t slot, int kind, int packet_id, int64_t at_us) except -2
