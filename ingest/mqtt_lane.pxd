from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef struct Publish:
    int qos
    const uint8_t* topic
    uint32_t topic_bytes
    uint8_t[2] packet_id
    const uint8_t* payload
    uint32_t payload_bytes

cdef int64_t frame_bytes(const uint8_t* data, uint32_t length) noexcept
cdef bint parse_publish(const uint8_t* frame, uint32_t length, bint has_properties, Publish* publish) noexcept
cdef bint is_topic_name(bytes topic, bint has_properties) except? False
