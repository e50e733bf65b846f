from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from storage.payload cimport Decoder, Member
from storage.ring cimport Ring
from storage.schema cimport Schema, Space

cdef enum:
    FULL_ANSWER = -1000


cdef struct Filling:
    uint8_t* bytes      # HEADER_BYTES of room, then the entries
    uint32_t used       # of the entries
    uint32_t entries
    int64_t first_seq


cdef struct Totals:
    # What some rows need at most, together.
    uint64_t cells
    uint64_t text_bytes
    uint64_t entry_bytes


cdef class Journal:
    cdef readonly Ring ring
    cdef readonly Schema schema
    cdef readonly object limits
    cdef Decoder decoder, replayer
    cdef Filling[2] buffers
    cdef int filling            # which of the two; the other one may be out
    cdef readonly bint out
    cdef uint32_t batch_bytes_max, payload_bytes_max, streams_max, tag_bytes_max, tags_max
    cdef uint64_t stamp
    cdef object passengers      # of the filling batch
    cdef readonly uint64_t text_bytes_total

    cdef int64_t append_bytes(self, int64_t at_us, int kind, uint32_t device, uint32_t channel, const uint8_t* tag,
                              uint32_t tag_bytes, const uint8_t* payload, uint32_t payload_bytes) except? -2000
    cdef tuple check(self, uint32_t channel, rows, set streams, set tags, Totals* totals)
    cdef bint has_room(self, uint32_t payload_bytes) noexcept
    cpdef bint has_room_for(self, uint32_t bytes) noexcept
    cpdef bint is_empty(self) noexcept
    cdef int64_t store(self, Decoder decoder, int64_t at_us, int kind, uint32_t device, uint32_t channel,
                       const uint8_t* tag, uint32_t tag_bytes, const uint8_t* payload, uint32_t payload_bytes,
                       uint32_t streams_max, uint32_t tags_max) except? -2000
    cdef int resolve(self, Decoder decoder, uint32_t channel, uint32_t streams_max, uint32_t* cells,
                     uint32_t* text_bytes) except -1
    cdef int meet_streams(self, Decoder decoder, uint32_t channel, uint32_t streams_max) except -1
