from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef enum Verdict:
    COMPLETE = 1        # a plain post; the fields of Post are set
    NEED_MORE = 0       # so far it may become one
    DECLINE = -1        # not for the lane: h11 decides


cdef struct Post:
    uint8_t version             # 1: post_v1 and post, 2: post_v2
    bint close                  # Connection: close
    const uint8_t* token        # NULL when the header is missing
    const uint8_t* device
    const uint8_t* tag
    uint32_t token_bytes
    uint32_t device_bytes
    uint32_t tag_bytes
    const uint8_t* body
    uint32_t body_bytes
    uint32_t consumed           # bytes of the whole request


cdef Verdict parse_post(const uint8_t* data, uint32_t length, uint32_t body_bytes_max, Post* post) noexcept
