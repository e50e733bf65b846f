"""The commonest notes as bytes, without an object for each: what ``storage.notes`` would write, byte for byte.

Six of the sixteen are written for each message to a session that survives a crash: Queued, Sent, Received, Done, and
the two of inbound QoS 2. They are written here, and read as far as is needed to see which of them undo each other
(storage/waiting.pyx). MessagePack: https://github.com/msgpack/msgpack/blob/master/spec.md, every value in its
shortest form.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from storage import notes

# Longer than any integer, head of an array or head of a binary.
cdef enum:
    VALUE_BYTES = 9
    DEPTH_MAX = 4       # arrays within arrays that a note may have


cdef uint8_t* put_big(uint8_t* to, uint8_t first, uint64_t value, int size) noexcept:
    cdef int i
    to[0] = first
    for i in range(size):
        to[size - i] = <uint8_t>value
        value >>= 8
    return to + 1 + size


cdef uint8_t* put_number(uint8_t* to, int64_t value) noexcept:
    if value < 0:
        if value >= -32:
            to[0] = <uint8_t>value
            return to + 1
        if value >= -0x80:
            return put_big(to, 0xD0, <uint64_t>value, 1)
        if value >= -0x8000:
            return put_big(to, 0xD1, <uint64_t>value, 2)
        if value >= -0x80000000LL:
            return put_big(to, 0xD2, <uint64_t>value, 4)
        return put_big(to, 0xD3, <uint64_t>value, 8)
    if value < 0x80:
        to[0] = <uint8_t>value
        return to + 1
    if value < 0x100:
        return put_big(to, 0xCC, <uint64_t>value, 1)
    if value < 0x10000:
        return put_big(to, 0xCD, <uint64_t>value, 2)
    if value < 0x100000000LL:
        return put_big(to, 0xCE, <uint64_t>value, 4)
    return put_big(to, 0xCF, <uint64_t>value, 8)


cdef uint8_t* put_array(uint8_t* to, uint32_t count) noexcept:
    if count < 16:
        to[0] = <uint8_t>(0x90 | count)
        return to + 1
    return put_big(to, 0xDC, count, 2) if count < 0x10000 else put_big(to, 0xDD, count, 4)


cdef uint8_t* put_bytes(uint8_t* to, bytes data) noexcept:
    cdef uint32_t size = <uint32_t>len(data)
    if size < 0x100:
        to = put_big(to, 0xC4, size, 1)
    elif size < 0x10000:
        to = put_big(to, 0xC5, size, 2)
    else:
        to = put_big(to, 0xC6, size, 4)
    memcpy(to, <const char*>data, size)
    return to + size


cdef class NoteBytes:
    """A note that is being written; ``bytes`` and ``used`` are it."""

    def __dealloc__(self):
        free(self.bytes)

    cdef uint8_t* room(self, uint64_t more) except NULL:
        """Where the next ones of so many bytes go."""
        cdef void* grown
        if self.used + more > self.size:
            grown = realloc(self.bytes, 2 * (self.used + more))
            if grown == NULL:
                raise MemoryError
            self.bytes = <uint8_t*>grown
            self.size = <uint32_t>(2 * (self.used + more))
        return self.bytes + self.used

    cdef int short(self, int64_t number, int tag, int64_t one, int64_t two, int64_t three=-1) except -1:
        """A note of nothing but numbers; three: -1 for none."""
        cdef uint8_t* to
        self.used = 0
        to = self.room(6 * VALUE_BYTES)
        to = put_number(put_array(to, 2), number)
        to = put_number(put_array(to, 3 if three < 0 else 4), tag)
        to = put_number(put_number(to, one), two)
        if three >= 0:
            to = put_number(to, three)
        self.used = <uint32_t>(to - self.bytes)
        return 0

    cdef int queued(self, int64_t number, int64_t message, content, uint32_t deliveries) except -1:
        """The beginning of a Queued; so many of ``delivery`` must follow."""
        cdef bytes topic = content.topic, payload = content.payload, properties = content.properties
        cdef uint8_t* to
        self.used = 0
        to = self.room(14 * VALUE_BYTES + <uint64_t>len(topic) + <uint64_t>len(payload) + <uint64_t>len(properties))
        to = put_number(put_array(to, 2), number)
        to = put_number(put_number(put_array(to, 4), 6), message)
        to = put_bytes(put_bytes(put_array(to, 7), topic), payload)
        to = put_number(to, <int64_t>content.qos)
        to[0] = 0xC3 if content.retain else 0xC2
        to = put_bytes(to + 1, properties)
        to = put_number(put_number(to, <int64_t>content.expires_at_us), <int64_t>content.at_us)
        to = put_array(to, deliveries)
        self.used = <uint32_t>(to - self.bytes)
        return 0

    cdef int delivery(self, int64_t session, int qos, int packet_id, bint retain, tuple identifiers) except -1:
        cdef uint8_t* to = self.room((6 + <uint64_t>len(identifiers)) * VALUE_BYTES)
        to = put_number(put_number(put_number(put_array(to, 5), session), qos), packet_id)
        to[0] = 0xC3 if retain else 0xC2
        to = put_array(to + 1, <uint32_t>len(identifiers))
        for identifier in identifiers:
            to = put_number(to, <int64_t>identifier)
        self.used = <uint32_t>(to - self.bytes)
        return 0


# ---- reading


cdef uint64_t take_big(Scan* scan, int size) noexcept:
    cdef uint64_t value = 0
    cdef int i
    if scan.end - scan.at < size:
        scan.is_good = False
        return 0
    for i in range(size):
        value = value << 8 | scan.at[i]
    scan.at += size
    return value


cdef int64_t scan_count(Scan* scan) noexcept:
    """How many elements the array has that begins here."""
    cdef uint8_t first = <uint8_t>take_big(scan, 1)
    if first & 0xF0 == 0x90:
        return first & 0x0F
    if first == 0xDC or first == 0xDD:
        return <int64_t>take_big(scan, 2 if first == 0xDC else 4)
    scan.is_good = False
    return 0


cdef int64_t scan_number(Scan* scan) noexcept:
    """A number from 0 to 2**63 - 1."""
    cdef uint8_t first = <uint8_t>take_big(scan, 1)
    cdef uint64_t value
    if first < 0x80:
        return first
    if not 0xCC <= first <= 0xCF:
        scan.is_good = False
        return 0
    value = take_big(scan, 1 << (first - 0xCC))
    if value >> 63:
        scan.is_good = False
        return 0
    return <int64_t>value


cdef int skip(Scan* scan) noexcept:
    """One value of those that notes have: a number, a boolean, nil, a binary, a string, or an array of these."""
    return skip_within(scan, DEPTH_MAX)


cdef int skip_within(Scan* scan, int depth) noexcept:
    cdef uint8_t first = <uint8_t>take_big(scan, 1)
    cdef uint64_t size = 0
    cdef int64_t _
    if first & 0xF0 == 0x90 or first == 0xDC or first == 0xDD:
        scan.at -= 1
        if depth == 0:
            scan.is_good = False
            return 0
        for _ in range(scan_count(scan)):
            if not scan.is_good:
                return 0
            skip_within(scan, depth - 1)
        return 0
    if first & 0xE0 == 0xA0:
        size = first & 0x1F
    elif 0xC4 <= first <= 0xC6:
        size = take_big(scan, 1 << (first - 0xC4))
    elif 0xD9 <= first <= 0xDB:
        size = take_big(scan, 1 << (first - 0xD9))
    elif 0xCC <= first <= 0xCF:
        size = <uint64_t>1 << (first - 0xCC)
    elif 0xD0 <= first <= 0xD3:
        size = <uint64_t>1 << (first - 0xD0)
    elif not (first < 0x80 or first >= 0xE0 or first in (0xC0, 0xC2, 0xC3)):
        scan.is_good = False
    if <uint64_t>(scan.end - scan.at) < size:
        scan.is_good = False
        return 0
    scan.at += size
    return 0


def encode(int64_t number, note):
    """For tests: what is written of a note of one of the six sorts."""
    cdef NoteBytes found = NoteBytes()
    if isinstance(note, notes.Queued):
        found.queued(number, note.message, note.content, <uint32_t>len(note.deliveries))
        for each in note.deliveries:
            found.delivery(each.session, each.qos, each.packet_id, each.retain, each.identifiers)
    elif isinstance(note, notes.Sent):
        found.short(number, 7, note.session, note.message, note.packet_id)
    elif isinstance(note, (notes.Received, notes.Done)):
        found.short(number, 8 if isinstance(note, notes.Received) else 9, note.session, note.message)
    else:
        assert isinstance(note, (notes.InboundTaken, notes.InboundReleased))
        found.short(number, 10 if isinstance(note, notes.InboundTaken) else 11, note.session, note.packet_id)
    return <bytes>found.bytes[:found.used]
