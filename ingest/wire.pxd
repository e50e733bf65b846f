from libc.stdint cimport uint8_t, uint32_t


cdef class Wire:
    cdef readonly uint32_t route_version    # what was resolved under another one is to be resolved again

    cdef int put(self, uint32_t slot, const uint8_t* data, uint32_t length, bint waits) except -1
    cdef uint32_t unsent(self, uint32_t slot) except? 0xFFFFFFFF


cdef class LinkWire(Wire):
    cdef object link


cdef Wire wire_of(link)
