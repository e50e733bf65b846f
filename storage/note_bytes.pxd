from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef struct Scan:
    # A walk over the bytes of a note; once something is not as expected, is_good is False for good.
    const uint8_t* at
    const uint8_t* end
    bint is_good


cdef class NoteBytes:
    cdef uint8_t* bytes
    cdef uint32_t used
    cdef uint32_t size

    cdef uint8_t* room(self, uint64_t more) except NULL
    cdef int short(self, int64_t number, int tag, int64_t one, int64_t two, int64_t three=*) except -1
    cdef int queued(self, int64_t number, int64_t message, content, uint32_t deliveries) except -1
    cdef int delivery(self, int64_t session, int qos, int packet_id, bint retain, tuple identifiers) except -1


cdef uint8_t* put_array(uint8_t* to, uint32_t count) noexcept
cdef int64_t scan_count(Scan* scan) noexcept
cdef int64_t scan_number(Scan* scan) noexcept
cdef int skip(Scan* scan) noexcept
