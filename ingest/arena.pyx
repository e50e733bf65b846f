"""The arena: replies to many connections, kept until they may leave, and then one run of bytes for each of them.

A reply is copied to the end, and a connection's replies are a chain in their order, however many others' lie between.
``gather`` gives what one connection gets as one piece: a ``send`` costs more than all the copying.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

# Every filling of every arena has its own number, so that a connection knows whether its chain is of this one.
cdef uint64_t last_serial = 0


cdef class Arena:
    """Replies in the order in which they were made. The reactor's; one thread."""

    def __cinit__(self):
        self.clear()

    def __dealloc__(self):
        free(self.bytes)
        free(self.replies)
        free(self.gathered)

    cdef void clear(self) noexcept:
        """Forget everything; the memory stays."""
        global last_serial
        last_serial += 1
        self.serial = last_serial
        self.used = self.count = 0

    cdef int add(self, uint32_t connection, uint32_t generation, Chain* chain, const uint8_t* data,
                 uint32_t length) except -1:
        """Copy a reply to the end; 1 if it is one more, 0 if it was put to the one before it."""
        cdef uint32_t size
        cdef void* grown
        cdef Reply* reply
        if self.used + length > self.size:
            size = max(2 * self.size, self.used + length, 65536)
            grown = realloc(self.bytes, size)
            if grown == NULL:
                raise MemoryError
            self.bytes = <uint8_t*>grown
            self.size = size
        memcpy(self.bytes + self.used, data, length)
        self.used += length
        if chain.serial == self.serial and chain.last == self.count - 1:
            self.replies[chain.last].length += length
            return 0
        if self.count == self.replies_size:
            size = max(2 * self.replies_size, 1024)
            grown = realloc(self.replies, size * sizeof(Reply))
            if grown == NULL:
                raise MemoryError
            self.replies = <Reply*>grown
            self.replies_size = size
        reply = &self.replies[self.count]
        reply.connection = connection
        reply.generation = generation
        reply.offset = self.used - length
        reply.length = length
        reply.next = 0
        reply.is_first = chain.serial != self.serial
        if not reply.is_first:
            self.replies[chain.last].next = self.count
        chain.serial = self.serial
        chain.last = self.count
        self.count += 1
        return 1

    cdef const uint8_t* gather(self, uint32_t first, uint32_t* length, uint32_t* count) except NULL:
        """All of the chain that begins here, and how many replies that is; good until the next call."""
        cdef Reply* reply = &self.replies[first]
        cdef uint32_t total = reply.length, number = 1, at = 0
        cdef void* grown
        while reply.next:
            reply = &self.replies[reply.next]
            total += reply.length
            number += 1
        length[0] = total
        count[0] = number
        reply = &self.replies[first]
        if number == 1:
            return self.bytes + reply.offset
        if total > self.gathered_size:
            grown = realloc(self.gathered, total)
            if grown == NULL:
                raise MemoryError
            self.gathered = <uint8_t*>grown
            self.gathered_size = total
        while True:
            memcpy(self.gathered + at, self.bytes + reply.offset, reply.length)
            at += reply.length
            if reply.next == 0:
                return self.gathered
            reply = &self.replies[reply.next]
