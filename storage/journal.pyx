"""Where a reading becomes cells in the ring and bytes for the log, in one step.

A batch is what one fdatasync makes durable. Two buffers alternate: while one is out being synced the other one fills.
The entry keeps the payload as the device sent it (docs/formats/log.md), so the ring is a function of the log:
``replay`` runs the very code that ``append`` ran, only without limits, because what was accepted once stays accepted.

Device states and notes are passengers: their entries take no row and touch neither ring nor schema. They travel with
their batch, and come back when it is durable.
"""

from collections import namedtuple

from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_WRITE
from libc.string cimport memcpy
from libc.stdlib cimport free, malloc

from storage.kinds import PayloadKind, Refusal

from storage.schema cimport LITERAL, STREAM, TAG, Stream

Limits = namedtuple("Limits", "payload_bytes_max json_depth_max key_bytes_max streams_per_channel_max tag_bytes_max "
                    "tags_per_channel_max", defaults=(65_536, 32, 256, 1_024, 128, 10_000))
Batch = namedtuple("Batch", "buffer body_bytes first_seq next_seq entries token")
State = namedtuple("State", "at_us device payload")
Passengers = namedtuple("Passengers", "states notes")

cdef enum:
    HEADER_BYTES = 48
    ENTRY_BYTES = 24
    TEXT = 2
    JSON = 4
    TOO_LARGE = 10
    TOO_MANY_STREAMS = 13
    TAG_INVALID = 15
    TOO_MANY_TAGS = 20
    OVERHEAD_BYTES = 512    # that has_room_for allows for beside the payloads
    CHANNEL_MAX = (1 << 24) - 1     # ids are dense, and tables have a place for each; a larger one is nobody's

assert (TOO_LARGE, TOO_MANY_STREAMS, TAG_INVALID, TOO_MANY_TAGS) == (
    Refusal.PAYLOAD_TOO_LARGE, Refusal.TOO_MANY_STREAMS, Refusal.TAG_INVALID, Refusal.TOO_MANY_TAGS)

FULL = FULL_ANSWER

cdef int PAYLOAD_JSON = PayloadKind.JSON
cdef int PAYLOAD_STATE = PayloadKind.STATE
cdef int PAYLOAD_NOTE = PayloadKind.NOTE
cdef uint32_t NO_LIMIT = 0xFFFFFFFF
cdef uint32_t DROPPED = 0xFFFFFFFF      # a member that a later one of the same name overrules


cdef packed struct Entry:
    int64_t at_us
    uint32_t device
    uint32_t channel
    uint32_t payload_bytes
    uint8_t kind
    uint8_t tag_bytes
    unsigned short reserved

assert sizeof(Entry) == ENTRY_BYTES


cdef class Journal:
    """The only writer of ring and schema. One thread.

    Args:
        ring, schema: what is filled.
        limits: for append; replay knows none.
        batch_bytes_max: entries of one log record.
    """

    def __cinit__(self, Ring ring, Schema schema, limits, batch_bytes_max):
        cdef int i
        self.ring = ring
        self.schema = schema
        self.limits = limits
        if limits.payload_bytes_max >= 1 << 23 or limits.tag_bytes_max > 255:
            raise ValueError("payload_bytes_max must be below 8 MiB and tag_bytes_max at most 255")
        if batch_bytes_max < limits.payload_bytes_max + ENTRY_BYTES + limits.tag_bytes_max:
            raise ValueError("batch_bytes_max must hold at least one payload")
        self.payload_bytes_max = limits.payload_bytes_max
        self.streams_max = limits.streams_per_channel_max
        self.tag_bytes_max = limits.tag_bytes_max
        self.tags_max = limits.tags_per_channel_max
        self.batch_bytes_max = batch_bytes_max
        self.decoder = Decoder(limits.json_depth_max, limits.key_bytes_max)
        self.replayer = Decoder()
        self.passengers = Passengers([], [])
        for i in range(2):
            self.buffers[i].bytes = <uint8_t*>malloc(HEADER_BYTES + self.batch_bytes_max + 8)
            if self.buffers[i].bytes == NULL:
                raise MemoryError
            self.buffers[i].used = 0
            self.buffers[i].entries = 0
            self.buffers[i].first_seq = ring.written

    def __dealloc__(self):
        free(self.buffers[0].bytes)
        free(self.buffers[1].bytes)

    cdef bint has_room(self, uint32_t payload_bytes) noexcept:
        """Whether a payload of this size surely fits into the filling batch (the ring may still be full)."""
        return (self.buffers[self.filling].used + ENTRY_BYTES + self.tag_bytes_max + payload_bytes
                <= self.batch_bytes_max)

    cpdef bint has_room_for(self, uint32_t bytes) noexcept:
        """Whether entries of so many payload bytes, and 512 bytes besides, surely fit into the filling batch."""
        return <uint64_t>self.buffers[self.filling].used + bytes + OVERHEAD_BYTES <= self.batch_bytes_max

    cpdef bint is_empty(self) noexcept:
        return self.buffers[self.filling].entries == 0

    cdef int64_t append_bytes(self, int64_t at_us, int kind, uint32_t device, uint32_t channel, const uint8_t* tag,
                              uint32_t tag_bytes, const uint8_t* payload, uint32_t payload_bytes) except? -2000:
        """The seq, ``-Refusal`` or FULL. A row that is refused leaves no trace."""
        cdef Filling* batch = &self.buffers[self.filling]
        cdef Entry entry
        cdef int64_t seq
        cdef uint8_t* to
        if kind == PAYLOAD_NOTE:
            if <uint64_t>payload_bytes + ENTRY_BYTES + tag_bytes > self.batch_bytes_max:
                raise ValueError(f"a note of {payload_bytes} bytes fits into no batch of {self.batch_bytes_max}")
        elif payload_bytes > self.payload_bytes_max:
            return -TOO_LARGE
        if tag_bytes > self.tag_bytes_max:
            return -TAG_INVALID
        if batch.used + ENTRY_BYTES + tag_bytes + payload_bytes > self.batch_bytes_max:
            return FULL_ANSWER
        if batch.entries == 0:
            batch.first_seq = self.ring.written
        if kind == PAYLOAD_STATE:
            seq = self.ring.written
            self.passengers.states.append(State(at_us, device, <bytes>payload[:payload_bytes]))
        elif kind == PAYLOAD_NOTE:
            seq = self.ring.written
            self.passengers.notes.append(<bytes>payload[:payload_bytes])
        else:
            seq = self.store(self.decoder, at_us, kind, device, channel, tag, tag_bytes, payload, payload_bytes,
                             self.streams_max, self.tags_max)
            if seq < 0:
                return seq
        entry.at_us = at_us
        entry.device = device
        entry.channel = channel
        entry.payload_bytes = payload_bytes
        entry.kind = kind
        entry.tag_bytes = tag_bytes
        entry.reserved = 0
        to = batch.bytes + HEADER_BYTES + batch.used
        memcpy(to, &entry, ENTRY_BYTES)
        memcpy(to + ENTRY_BYTES, tag, tag_bytes)
        memcpy(to + ENTRY_BYTES + tag_bytes, payload, payload_bytes)
        batch.used += ENTRY_BYTES + tag_bytes + payload_bytes
        batch.entries += 1
        return seq

    cdef int64_t store(self, Decoder decoder, int64_t at_us, int kind, uint32_t device, uint32_t channel,
                       const uint8_t* tag, uint32_t tag_bytes, const uint8_t* payload, uint32_t payload_bytes,
                       uint32_t streams_max, uint32_t tags_max) except? -2000:
        """Decode into the ring: all of it, or nothing."""
        cdef uint32_t cells = 0, text_bytes = 0, i, tag_id
        cdef int32_t column
        cdef Member* member
        cdef Ring ring = self.ring
        cdef int refusal
        if channel > CHANNEL_MAX:
            raise ValueError(f"channel id {channel} is beyond {CHANNEL_MAX}")
        refusal = decoder.decode(kind, payload, payload_bytes)
        if refusal == 0 and tag_bytes and self.schema.find(channel, TAG, <const char*>tag, tag_bytes) < 0:
            if self.schema.tags_in(channel) >= tags_max:
                refusal = TOO_MANY_TAGS
        if refusal == 0:
            refusal = self.resolve(decoder, channel, streams_max, &cells, &text_bytes)
        if refusal:
            return -refusal
        if not ring.make_room(cells, text_bytes):
            return FULL_ANSWER
        tag_id = self.schema.tag_number(channel, <const char*>tag, tag_bytes)
        ring.begin(channel)
        for i in range(decoder.count):
            member = &decoder.members[i]
            if member.stream == DROPPED:
                continue
            column = self.schema.streams[member.stream].columns[member.kind]
            if column < 0:
                column = self.schema.add_column(member.stream, member.kind)
            if member.kind == TEXT or member.kind == JSON:
                ring.put_cell(column, ring.put_text(member.text, member.text_bytes), True)
            else:
                ring.put_cell(column, member.bits, False)
        return ring.end(at_us, channel, device, tag_id, cells)

    cdef int resolve(self, Decoder decoder, uint32_t channel, uint32_t streams_max, uint32_t* cells,
                     uint32_t* text_bytes) except -1:
        """Give every member its stream, drop those that a later one of the same name overrules, count the rest."""
        cdef uint32_t i
        cdef int64_t found, previous = -1
        cdef int32_t expected
        cdef int refusal
        cdef Member* member
        cdef Member* overruled
        cdef Stream* stream
        cdef Space space = LITERAL if decoder.literal else STREAM
        self.stamp += 1
        for i in range(decoder.count):
            member = &decoder.members[i]
            expected = self.schema.expected(channel, previous)
            if expected >= 0 and self.schema.is_named(expected, space, member.name, member.name_bytes):
                found = expected
            else:
                found = self.schema.find(channel, space, member.name, member.name_bytes)
                if found < 0:
                    refusal = self.meet_streams(decoder, channel, streams_max)
                    if refusal:
                        return refusal
                    found = self.schema.find(channel, space, member.name, member.name_bytes)
                    assert found >= 0
                self.schema.expect(channel, previous, <int32_t>found)
            previous = found
            stream = &self.schema.streams[found]
            if stream.stamp == self.stamp:
                overruled = &decoder.members[stream.position]
                overruled.stream = DROPPED
                cells[0] -= 1
                if overruled.kind == TEXT or overruled.kind == JSON:
                    text_bytes[0] -= overruled.text_bytes
            stream.stamp = self.stamp
            stream.position = i
            member.stream = <uint32_t>found
            cells[0] += 1
            if member.kind == TEXT or member.kind == JSON:
                text_bytes[0] += member.text_bytes
        return 0

    cdef int meet_streams(self, Decoder decoder, uint32_t channel, uint32_t streams_max) except -1:
        """Make the streams of names that this channel has not seen, unless they would be too many."""
        cdef uint32_t i
        cdef Member* member
        cdef Space space = LITERAL if decoder.literal else STREAM
        missing = set()
        for i in range(decoder.count):
            member = &decoder.members[i]
            if self.schema.find(channel, space, member.name, member.name_bytes) < 0:
                missing.add(<bytes>member.name[:member.name_bytes])
        if self.schema.streams_in(channel) + <uint64_t>len(missing) > streams_max:
            return TOO_MANY_STREAMS
        for i in range(decoder.count):
            member = &decoder.members[i]
            if self.schema.find(channel, space, member.name, member.name_bytes) < 0:
                self.schema.add_stream(channel, space, member.name, member.name_bytes)
        return 0

    # ---- what everybody else may call

    def append(self, int64_t at_us, int kind, uint32_t device, uint32_t channel, const uint8_t[::1] tag,
               const uint8_t[::1] payload):
        """Decode into the ring and append the log entry: the seq, ``-Refusal`` or FULL."""
        return self.append_bytes(at_us, kind, device, channel, &tag[0] if len(tag) else NULL, <uint32_t>len(tag),
                                 &payload[0] if len(payload) else NULL, <uint32_t>len(payload))

    def check_rows(self, uint32_t channel, rows, set streams, set tags):
        """Whether payloads and tags of these rows are good together; see the stub."""
        cdef Totals totals
        return self.check(channel, rows, streams, tags, &totals)

    def append_rows(self, uint32_t channel, rows, int64_t at_us, const uint8_t[::1] note):
        """All of these rows and a note, or nothing; see the stub."""
        cdef Filling* batch = &self.buffers[self.filling]
        cdef Totals totals
        cdef int64_t answer
        cdef bytes tag, payload
        answer, index = self.check(channel, rows, set(), set(), &totals)
        if answer < 0:
            return answer, index
        if len(note):
            totals.entry_bytes += ENTRY_BYTES + <uint64_t>len(note)
        if (batch.used + totals.entry_bytes > self.batch_bytes_max
                or not self.ring.make_room_for(len(rows), <int64_t>totals.cells, <int64_t>totals.text_bytes)):
            return FULL_ANSWER, 0
        answer = self.ring.written
        for row_at_us, device, tag, payload in rows:
            answer = self.append_bytes(row_at_us, PAYLOAD_JSON, device, channel,
                                       <const uint8_t*><const char*>tag, <uint32_t>len(tag),
                                       <const uint8_t*><const char*>payload, <uint32_t>len(payload))
            assert answer >= 0      # it was checked, and there is room
        if len(note):
            assert self.append_bytes(at_us, PAYLOAD_NOTE, 0, 0, NULL, 0, &note[0], <uint32_t>len(note)) >= 0
        return answer, len(rows)

    cdef tuple check(self, uint32_t channel, rows, set streams, set tags, Totals* totals):
        """(0, rows) and what they will need at most, or (``-Refusal``, the row's index). Nothing changes."""
        cdef bytes tag, payload
        cdef uint32_t i
        cdef int refusal
        cdef Member* member
        cdef Space space
        totals.cells = totals.text_bytes = totals.entry_bytes = 0
        for index, (_, _, tag, payload) in enumerate(rows):
            if <uint64_t>len(payload) > self.payload_bytes_max:
                return -TOO_LARGE, index
            if <uint64_t>len(tag) > self.tag_bytes_max:
                return -TAG_INVALID, index
            refusal = self.decoder.decode(PAYLOAD_JSON, <const uint8_t*><const char*>payload, <uint32_t>len(payload))
            if refusal:
                return -refusal, index
            if len(tag) and self.schema.find(channel, TAG, <const char*>tag, <uint32_t>len(tag)) < 0:
                tags.add(tag)
                if self.schema.tags_in(channel) + <uint64_t>len(tags) > self.tags_max:
                    return -TOO_MANY_TAGS, index
            space = LITERAL if self.decoder.literal else STREAM
            for i in range(self.decoder.count):
                member = &self.decoder.members[i]
                if self.schema.find(channel, space, member.name, member.name_bytes) < 0:
                    streams.add((space, <bytes>member.name[:member.name_bytes]))
                if member.kind == TEXT or member.kind == JSON:
                    totals.text_bytes += member.text_bytes
            if streams and self.schema.streams_in(channel) + <uint64_t>len(streams) > self.streams_max:
                return -TOO_MANY_STREAMS, index
            totals.cells += self.decoder.count
            totals.entry_bytes += ENTRY_BYTES + <uint64_t>len(tag) + <uint64_t>len(payload)
        return 0, len(rows)

    def take_batch(self):
        """Close the filling batch; None when it is empty or the other one is still out."""
        cdef Filling* batch = &self.buffers[self.filling]
        if self.out or batch.entries == 0:
            return None
        self.out = True
        passengers, self.passengers = self.passengers, Passengers([], [])
        result = Batch(PyMemoryView_FromMemory(<char*>batch.bytes, HEADER_BYTES + batch.used + 8, PyBUF_WRITE),
                       batch.used, batch.first_seq, self.ring.written, batch.entries, passengers)
        self.filling = 1 - self.filling
        self.buffers[self.filling].used = 0
        self.buffers[self.filling].entries = 0
        self.buffers[self.filling].first_seq = self.ring.written
        return result

    def release(self, batch):
        """The record is durable: move the cursor, take the buffer back; the batch's passengers."""
        assert self.out
        self.out = False
        self.ring.mark_durable(batch.next_seq)
        return batch.token

    def replay(self, const uint8_t[::1] body, int64_t first_seq, Py_ssize_t offset=0):
        """Run a record's entries from offset into the ring; see the stub."""
        cdef Entry entry
        cdef Py_ssize_t total = body.shape[0], stop
        cdef const uint8_t* at
        cdef int64_t seq
        passengers = Passengers([], [])
        if offset == 0 and first_seq != self.ring.written:
            raise ValueError(f"the record begins with row {first_seq}, the ring with {self.ring.written}")
        while offset < total:
            if total - offset < ENTRY_BYTES:
                raise ValueError(f"half an entry at offset {offset}")
            at = &body[offset]
            memcpy(&entry, at, ENTRY_BYTES)
            stop = offset + ENTRY_BYTES + entry.tag_bytes + <Py_ssize_t>entry.payload_bytes
            if stop > total:
                raise ValueError(f"the entry at offset {offset} is longer than its record")
            at += ENTRY_BYTES
            if entry.kind == PAYLOAD_STATE:
                passengers.states.append(State(entry.at_us, entry.device,
                                               <bytes>at[entry.tag_bytes:entry.tag_bytes + entry.payload_bytes]))
            elif entry.kind == PAYLOAD_NOTE:
                passengers.notes.append(<bytes>at[entry.tag_bytes:entry.tag_bytes + entry.payload_bytes])
            else:
                if not 1 <= entry.kind <= 3:
                    raise ValueError(f"unknown payload kind {entry.kind} at offset {offset}")
                seq = self.store(self.replayer, entry.at_us, entry.kind, entry.device, entry.channel, at,
                                 entry.tag_bytes, at + entry.tag_bytes, entry.payload_bytes, NO_LIMIT, NO_LIMIT)
                if seq == FULL_ANSWER:
                    break
                if seq < 0:
                    raise ValueError(f"the entry at offset {offset} does not decode: {Refusal(-seq).name}")
            offset = stop
        self.ring.mark_durable(self.ring.written)
        self.buffers[self.filling].first_seq = self.ring.written
        return offset, passengers
