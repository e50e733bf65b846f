"""The fast lane's MQTT: where a packet ends, and PUBLISH without RETAIN.

Everything else about a packet is the session machine's business (ingest/mqtt). The lane declines what it does not
take; it answers nothing by itself that the machine would answer differently.
"""


cdef int64_t frame_bytes(const uint8_t* data, uint32_t length) noexcept:
    """Bytes of the whole packet at data; 0 when its length is not known yet, -1 when it is malformed.

    [MQTT-2.2.3]: the remaining length is one to four bytes, the fourth without continuation bit.
    """
    cdef int64_t remaining = 0
    cdef uint32_t i
    for i in range(1, 5):
        if i >= length:
            return 0
        remaining |= <int64_t>(data[i] & 0x7F) << (7 * (i - 1))
        if data[i] < 0x80:
            return 1 + i + remaining
    return -1


cdef bint parse_publish(const uint8_t* frame, uint32_t length, bint has_properties, Publish* publish) noexcept:
    """Split a whole PUBLISH frame; False declines. has_properties: it is MQTT 5, where the lane takes those without."""
    cdef uint8_t flags = frame[0] & 0x0F
    cdef uint32_t at = 2
    # QoS 0 without DUP [MQTT-3.3.1-2], QoS 1 and 2 with or without; no RETAIN.
    if flags not in (0x00, 0x02, 0x0A, 0x04, 0x0C):
        return False
    while frame[at - 1] & 0x80:
        at += 1
    # A length in more bytes than it needs is malformed in MQTT 5 [MQTT-1.5.5-1]; before, it is a way to write it.
    if has_properties and at > 2 and frame[at - 1] == 0:
        return False
    if length - at < 2:
        return False
    publish.topic_bytes = (<uint32_t>frame[at] << 8) | frame[at + 1]
    at += 2
    if publish.topic_bytes == 0 or length - at < publish.topic_bytes:
        return False
    publish.topic = frame + at
    at += publish.topic_bytes
    publish.qos = flags >> 1 & 3
    if publish.qos:
        if length - at < 2 or (frame[at] == 0 and frame[at + 1] == 0):
            return False
        publish.packet_id[0] = frame[at]
        publish.packet_id[1] = frame[at + 1]
        at += 2
    if has_properties:
        if at == length or frame[at] != 0:
            return False
        at += 1
    publish.payload = frame + at
    publish.payload_bytes = length - at
    return True


cdef bint is_topic_name(bytes topic, bint has_properties) except? False:
    """Whether the standard allows it: UTF-8 without U+0000 [MQTT-1.5.3-1, -2] and without wildcards [MQTT-3.3.2-2].

    In MQTT 5 names have no control or non-characters either (section 1.5.4); whatever might be one is the machine's.
    Asked once for a topic that the connection has not resolved; a resolved one is compared byte by byte.
    """
    if b"+" in topic or b"#" in topic or b"\0" in topic:
        return False
    try:
        return topic.decode().isprintable() or not has_properties
    except UnicodeDecodeError:
        return False


def split(const unsigned char[::1] frame, bint has_properties=False):
    """For tests: None (declined) or (topic, packet id or None, payload) of a whole frame."""
    cdef Publish publish
    if frame_bytes(&frame[0], <uint32_t>len(frame)) != len(frame) or frame[0] >> 4 != 3:
        return None
    if not parse_publish(&frame[0], <uint32_t>len(frame), has_properties, &publish):
        return None
    packet_id = publish.packet_id[0] << 8 | publish.packet_id[1] if publish.qos else None
    return (<bytes>publish.topic[:publish.topic_bytes], packet_id, <bytes>publish.payload[:publish.payload_bytes])


def size(const unsigned char[::1] data):
    """For tests: frame_bytes of the data."""
    return frame_bytes(&data[0] if len(data) else NULL, <uint32_t>len(data))
