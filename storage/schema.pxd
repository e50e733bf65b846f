from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef enum Space:
    STREAM = 0      # a key of an object payload
    LITERAL = 1     # the whole payload, its name is empty
    TAG = 2


cdef struct Name:
    uint64_t hash
    uint32_t channel
    uint32_t offset     # into the arena
    uint32_t length
    uint8_t space
    uint32_t id


cdef struct Stream:
    uint32_t channel
    uint32_t name       # index into names
    int32_t[5] columns  # by kind, -1: not seen yet
    uint64_t stamp      # the journal's mark against duplicate keys
    uint32_t position
    int32_t next        # the stream that followed in the last payload that broke the habit, -1: none yet


cdef class Schema:
    cdef Name* names
    cdef uint32_t names_used, names_size
    cdef int32_t* slots                 # open addressing, -1 is free
    cdef uint32_t slots_mask
    cdef char* arena
    cdef size_t arena_used, arena_size
    cdef Stream* streams
    cdef uint32_t streams_used, streams_size
    cdef uint32_t* stream_counts        # by channel
    cdef int32_t* first_streams         # by channel: what its payloads begin with, -1: not known
    cdef uint32_t stream_counts_size
    cdef uint64_t seed
    cdef readonly list columns          # Column, by id
    cdef bytearray kind_bytes           # by column id
    cdef readonly list tags             # Tag, by id; tags[0] is None
    cdef dict columns_by_channel, tags_by_channel

    cdef int32_t expected(self, uint32_t channel, int64_t previous) noexcept
    cdef void expect(self, uint32_t channel, int64_t previous, int32_t stream) noexcept
    cdef bint is_named(self, int32_t stream, Space space, const char* name, uint32_t length) noexcept
    cdef int64_t find(self, uint32_t channel, Space space, const char* name, uint32_t length) noexcept
    cdef uint32_t add(self, uint32_t channel, Space space, const char* name, uint32_t length,
                      uint32_t id) except? 0xFFFFFFFF
    cdef uint32_t add_stream(self, uint32_t channel, Space space, const char* name, uint32_t length) except? 0xFFFFFFFF
    cdef int32_t add_column(self, uint32_t stream, int kind) except -1
    cdef uint32_t streams_in(self, uint32_t channel) noexcept
    cdef uint32_t tags_in(self, uint32_t channel) except? 0xFFFFFFFF
    cdef void place(self, uint32_t index) noexcept
    cdef uint32_t tag_number(self, uint32_t channel, const char* name, uint32_t length) except? 0xFFFFFFFF
