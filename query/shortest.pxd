from libc.stdint cimport uint8_t

# The longest text that write_double makes: -1.7976931348623157e+308
cdef enum:
    DOUBLE_BYTES_MAX = 25

cdef int write_double(double value, uint8_t *out) noexcept nogil
