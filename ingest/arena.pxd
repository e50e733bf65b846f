from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef struct Reply:
    uint32_t connection
    uint32_t generation
    uint32_t offset
    uint32_t length
    uint32_t next           # the connection's next reply in this arena, 0 for none
    bint is_first           # of its connection


cdef struct Chain:
    uint64_t serial         # of the arena and its filling
    uint32_t last           # the connection's last reply there


cdef class Arena:
    cdef uint8_t* bytes
    cdef Reply* replies
    cdef uint8_t* gathered
    cdef uint32_t used, size, count, replies_size, gathered_size
    cdef uint64_t serial

    cdef int add(self, uint32_t connection, uint32_t generation, Chain* chain, const uint8_t* data,
                 uint32_t length) except -1
    cdef const uint8_t* gather(self, uint32_t first, uint32_t* length, uint32_t* count) except NULL
    cdef void clear(self) noexcept
