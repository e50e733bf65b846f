from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef class Ring:
    # rows, by seq & rows_mask
    cdef int64_t[::1] at_us, first_cell, first_text, previous
    cdef uint32_t[::1] channel, device, tag, cell_count
    # cells, by number & cells_mask
    cdef uint64_t[::1] value
    cdef uint32_t[::1] column
    # text bytes, by offset & text_mask; a text never wraps
    cdef uint8_t[::1] text
    cdef int64_t rows_mask, cells_mask, text_mask
    cdef readonly int64_t oldest, sealed, durable, written
    cdef int64_t keep, cells_written, text_written
    cdef int64_t* heads
    cdef uint32_t heads_size
    # by tag id: rows with a smaller seq are deleted; ids from the array's end on have none
    cdef int64_t[::1] tag_floor
    cdef dict pins
    cdef int next_pin

    cdef bint make_room(self, uint32_t cells, uint32_t text_bytes) noexcept
    cdef bint make_room_for(self, int64_t rows, int64_t cells, int64_t text_bytes) noexcept
    cdef int64_t begin(self, uint32_t channel) except -1
    cdef uint64_t put_text(self, const char* data, uint32_t length) noexcept
    cdef void put_cell(self, uint32_t column, uint64_t value, bint is_text) noexcept
    cdef int64_t end(self, int64_t at_us, uint32_t channel, uint32_t device, uint32_t tag, uint32_t cells) noexcept
    cdef void settle_keep(self) except *
