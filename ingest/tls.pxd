from libc.stdint cimport int64_t, uint8_t

cdef enum:
    # The largest plaintext of one record: so much may come out beyond what is put in, if most of it came before.
    RECORD_BYTES_MAX = 16384


cdef struct Sealed:
    uint8_t* data
    size_t used
    size_t size


cdef Sealed sealed              # what the last operation gave, of whichever connection


cdef class TlsContext:
    cdef void* ctx

    cdef int check(self, long answer) except -1


cdef class TlsTransport:
    cdef void* ssl
    cdef readonly bint is_ended
    cdef bint has_parted
    cdef str broken             # what the peer did to TLS; None while all is well
    cdef bytes owed             # by receive(), until somebody takes it

    cdef int64_t unseal(self, const uint8_t* data, size_t size, uint8_t* plain, size_t room) except -1
    cdef int look_at(self, int error) except -1
    cdef bint seal(self, const uint8_t* data, size_t size) except -1
