"""What the ring's small integers mean: streams, columns and tags, numbered in order of first appearance.

A *stream* is one key of one channel's object payloads, or the channel's literal payload. A *column* is a stream
together with the physical kind of its values, so a column has one type for ever. Both are found on the hot path by
one hash look-up over (channel, space, name bytes); the table is seeded at random so that a hostile device cannot
choose colliding keys. Payloads of a channel mostly name the same streams in the same order, so the stream that
followed last time is compared first, and most look-ups need no hash.

Numbers stay the same across a restart without a write per new name: the catalog holds what sealed rows use, and
replaying the log meets the others again in the same order.
"""

import os
from collections import namedtuple

import numpy as np

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

Column = namedtuple("Column", "id channel stream name kind")
Tag = namedtuple("Tag", "id channel name")

Column.__doc__ = "One (stream, kind): a physical column. ``name`` is None for a literal payload."
Tag.__doc__ = "One tag of one channel. Tag id 0 means «no tag» and is never listed."


cdef inline uint64_t mix(uint64_t value) noexcept:
    # The finaliser of splitmix64 (Steele, Lea, Flood 2014).
    value ^= value >> 30
    value *= <uint64_t>0xBF58476D1CE4E5B9
    value ^= value >> 27
    value *= <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)


cdef inline uint64_t hash_name(uint64_t seed, uint32_t channel, int space, const char* name, uint32_t length) noexcept:
    cdef uint64_t result = mix(seed ^ (<uint64_t>channel << 34) ^ (<uint64_t>space << 32) ^ length)
    cdef uint64_t word
    while length >= 8:
        memcpy(&word, name, 8)
        result = mix(result ^ word)
        name += 8
        length -= 8
    if length:
        word = 0
        memcpy(&word, name, length)
        result = mix(result ^ word)
    return result


cdef class Schema:
    """Streams, columns and tags by number and by name. One writer (the journal), used by one thread at a time."""

    def __cinit__(self):
        self.slots_mask = 1023
        self.slots = <int32_t*>malloc((self.slots_mask + 1) * sizeof(int32_t))
        self.names_size = 512
        self.names = <Name*>malloc(self.names_size * sizeof(Name))
        self.arena_size = 8192
        self.arena = <char*>malloc(self.arena_size)
        self.streams_size = 256
        self.streams = <Stream*>malloc(self.streams_size * sizeof(Stream))
        self.stream_counts_size = 256
        self.stream_counts = <uint32_t*>calloc(self.stream_counts_size, sizeof(uint32_t))
        self.first_streams = <int32_t*>malloc(self.stream_counts_size * sizeof(int32_t))
        if (self.slots == NULL or self.names == NULL or self.arena == NULL or self.streams == NULL
                or self.stream_counts == NULL or self.first_streams == NULL):
            raise MemoryError
        memset(self.first_streams, 0xFF, self.stream_counts_size * sizeof(int32_t))
        memset(self.slots, 0xFF, (self.slots_mask + 1) * sizeof(int32_t))

    def __init__(self):
        self.seed = int.from_bytes(os.urandom(8), "little")
        self.columns = []
        self.tags = [None]
        self.kind_bytes = bytearray()
        self.columns_by_channel = {}
        self.tags_by_channel = {}

    def __dealloc__(self):
        free(self.slots)
        free(self.names)
        free(self.arena)
        free(self.streams)
        free(self.stream_counts)
        free(self.first_streams)

    cdef int32_t expected(self, uint32_t channel, int64_t previous) noexcept:
        """The stream that came after this one (-1: came first) in the channel's payloads; -1 is not known."""
        if previous >= 0:
            return self.streams[previous].next
        return self.first_streams[channel] if channel < self.stream_counts_size else -1

    cdef void expect(self, uint32_t channel, int64_t previous, int32_t stream) noexcept:
        """Remember it for next time."""
        if previous >= 0:
            self.streams[previous].next = stream
        else:
            self.first_streams[channel] = stream

    cdef bint is_named(self, int32_t stream, Space space, const char* name, uint32_t length) noexcept:
        cdef Name* entry = &self.names[self.streams[stream].name]
        return (entry.length == length and entry.space == space
                and memcmp(self.arena + entry.offset, name, length) == 0)

    cdef int64_t find(self, uint32_t channel, Space space, const char* name, uint32_t length) noexcept:
        cdef uint64_t hash = hash_name(self.seed, channel, space, name, length)
        cdef uint32_t slot = hash & self.slots_mask
        cdef Name* entry
        while self.slots[slot] >= 0:
            entry = &self.names[self.slots[slot]]
            if (entry.hash == hash and entry.channel == channel and entry.space == space and entry.length == length
                    and memcmp(self.arena + entry.offset, name, length) == 0):
                return entry.id
            slot = (slot + 1) & self.slots_mask
        return -1

    cdef uint32_t add(self, uint32_t channel, Space space, const char* name, uint32_t length,
                      uint32_t id) except? 0xFFFFFFFF:
        cdef void* grown
        cdef uint32_t i
        cdef Name* entry
        assert self.arena_used + length < 0xFFFFFFFF
        if self.names_used == self.names_size:
            grown = realloc(self.names, 2 * self.names_size * sizeof(Name))
            if grown == NULL:
                raise MemoryError
            self.names = <Name*>grown
            self.names_size *= 2
        while self.arena_used + length > self.arena_size:
            grown = realloc(self.arena, 2 * self.arena_size)
            if grown == NULL:
                raise MemoryError
            self.arena = <char*>grown
            self.arena_size *= 2
        if 2 * (self.names_used + 1) > self.slots_mask:
            grown = malloc(2 * (<size_t>self.slots_mask + 1) * sizeof(int32_t))
            if grown == NULL:
                raise MemoryError
            free(self.slots)
            self.slots = <int32_t*>grown
            self.slots_mask = 2 * self.slots_mask + 1
            memset(self.slots, 0xFF, (<size_t>self.slots_mask + 1) * sizeof(int32_t))
            for i in range(self.names_used):
                self.place(i)
        entry = &self.names[self.names_used]
        entry.hash = hash_name(self.seed, channel, space, name, length)
        entry.channel = channel
        entry.space = space
        entry.offset = <uint32_t>self.arena_used
        entry.length = length
        entry.id = id
        memcpy(self.arena + self.arena_used, name, length)
        self.arena_used += length
        self.place(self.names_used)
        self.names_used += 1
        return self.names_used - 1

    cdef void place(self, uint32_t index) noexcept:
        cdef uint32_t slot = self.names[index].hash & self.slots_mask
        while self.slots[slot] >= 0:
            slot = (slot + 1) & self.slots_mask
        self.slots[slot] = index

    cdef uint32_t add_stream(self, uint32_t channel, Space space, const char* name, uint32_t length) except? 0xFFFFFFFF:
        cdef void* grown
        cdef uint32_t size
        cdef int kind
        cdef Stream* stream
        if self.streams_used == self.streams_size:
            grown = realloc(self.streams, 2 * self.streams_size * sizeof(Stream))
            if grown == NULL:
                raise MemoryError
            self.streams = <Stream*>grown
            self.streams_size *= 2
        if channel >= self.stream_counts_size:
            size = 2 * channel
            grown = realloc(self.stream_counts, size * sizeof(uint32_t))
            if grown == NULL:
                raise MemoryError
            self.stream_counts = <uint32_t*>grown
            memset(self.stream_counts + self.stream_counts_size, 0,
                   (size - self.stream_counts_size) * sizeof(uint32_t))
            grown = realloc(self.first_streams, size * sizeof(int32_t))
            if grown == NULL:
                raise MemoryError
            self.first_streams = <int32_t*>grown
            memset(self.first_streams + self.stream_counts_size, 0xFF,
                   (size - self.stream_counts_size) * sizeof(int32_t))
            self.stream_counts_size = size
        stream = &self.streams[self.streams_used]
        stream.name = self.add(channel, space, name, length, self.streams_used)
        stream.channel = channel
        stream.stamp = 0
        stream.position = 0
        stream.next = -1
        for kind in range(5):
            stream.columns[kind] = -1
        self.stream_counts[channel] += 1
        self.streams_used += 1
        return self.streams_used - 1

    cdef int32_t add_column(self, uint32_t stream, int kind) except -1:
        cdef Stream* owner = &self.streams[stream]
        cdef Name* name = &self.names[owner.name]
        cdef int32_t number = <int32_t>len(self.columns)
        text = None if name.space == LITERAL else self.arena[name.offset:name.offset + name.length].decode()
        column = Column(number, owner.channel, stream, text, kind)
        self.columns.append(column)
        self.kind_bytes.append(kind)
        self.columns_by_channel.setdefault(owner.channel, []).append(column)
        owner.columns[kind] = number
        return number

    cdef uint32_t streams_in(self, uint32_t channel) noexcept:
        return self.stream_counts[channel] if channel < self.stream_counts_size else 0

    cdef uint32_t tags_in(self, uint32_t channel) except? 0xFFFFFFFF:
        """How many tags a channel has. Asked once per new tag."""
        return <uint32_t>len(self.tags_by_channel.get(channel, ()))

    cdef uint32_t tag_number(self, uint32_t channel, const char* name, uint32_t length) except? 0xFFFFFFFF:
        if length == 0:
            return 0
        cdef int64_t found = self.find(channel, TAG, name, length)
        if found >= 0:
            return <uint32_t>found
        tag = Tag(len(self.tags), channel, name[:length].decode())
        self.add(channel, TAG, name, length, <uint32_t>len(self.tags))
        self.tags.append(tag)
        self.tags_by_channel.setdefault(channel, []).append(tag)
        return <uint32_t>tag.id

    # ---- what everybody else may ask

    def load(self, columns, tags):
        """Take over what the catalog remembers; only on an empty schema. Ids must be dense and in order."""
        cdef bytes name
        cdef uint32_t stream
        cdef int64_t found
        assert not self.columns and len(self.tags) == 1
        for column in columns:
            assert column.id == len(self.columns)
            name = b"" if column.name is None else column.name.encode()
            space = LITERAL if column.name is None else STREAM
            found = self.find(column.channel, space, name, <uint32_t>len(name))
            if found < 0:
                found = self.add_stream(column.channel, space, name, <uint32_t>len(name))
            stream = <uint32_t>found
            assert self.streams[stream].columns[<int>column.kind] < 0
            self.add_column(stream, column.kind)
        for tag in tags:
            assert tag.id == len(self.tags)
            name = tag.name.encode()
            self.tag_number(tag.channel, name, <uint32_t>len(name))

    @property
    def column_count(self):
        return len(self.columns)

    @property
    def tag_count(self):
        return len(self.tags) - 1

    def kinds(self):
        """A copy of every column's Kind, by id; any thread may ask."""
        return np.frombuffer(bytes(self.kind_bytes), np.uint8)

    def column(self, column_id):
        return self.columns[column_id]

    def columns_of(self, channel):
        """The channel's columns in order of first appearance."""
        return list(self.columns_by_channel.get(channel, ()))

    def columns_from(self, first_id):
        return self.columns[first_id:]

    def stream_count(self, channel):
        return self.streams_in(channel)

    def tag(self, tag_id):
        assert tag_id > 0
        return self.tags[tag_id]

    def tag_id(self, channel, str name):
        """The tag's number, 0 when this channel has no such tag."""
        cdef bytes raw = name.encode()
        cdef int64_t found = self.find(channel, TAG, raw, <uint32_t>len(raw))
        return found if found > 0 else 0

    def tags_of(self, channel):
        return list(self.tags_by_channel.get(channel, ()))

    def tags_from(self, first_id):
        """Tags with this number or a higher one; numbers start at 1."""
        return self.tags[max(first_id, 1):]
