from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef struct Member:
    # One decoded cell before it has a column. Name and text point into the payload or the decoder's scratch.
    const char* name
    uint32_t name_bytes
    uint32_t stream     # the journal's: which stream, or DROPPED
    uint8_t kind
    const char* text
    uint32_t text_bytes
    uint64_t bits       # NUMBER, INTEGER, BOOLEAN


cdef class Decoder:
    cdef Member* members
    cdef uint32_t count, members_size
    cdef bint literal           # the one member is the whole payload
    cdef char* scratch
    cdef size_t scratch_used, scratch_size
    cdef uint32_t depth_max, key_bytes_max
    cdef const uint8_t* at
    cdef const uint8_t* end

    cdef int decode(self, int kind, const uint8_t* payload, uint32_t length) except -1
    cdef int reserve(self, uint32_t length) except -1
    cdef Member* push(self) except NULL
    cdef int json(self) except -1
    cdef int json_object(self) except -1
    cdef int json_member_value(self, Member* member) except -1
    cdef int json_string(self, const char** text, uint32_t* length) except -1
    cdef int json_escaped(self, const uint8_t* start, const char** text, uint32_t* length) except -1
    cdef int json_number(self, Member* member) except -1
    cdef int nested(self, Member* member) except -1
    cdef int nested_value(self, uint32_t depth) except -1
    cdef void emit(self, const uint8_t* start, const uint8_t* stop) noexcept
    cdef void space(self) noexcept
    cdef bint word(self, const char* text, uint32_t length) noexcept
    cdef int form(self) except -1
    cdef void binary(self, const uint8_t* payload, uint32_t length) except *
