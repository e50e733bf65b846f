"""What compiled code of the broker needs of whoever carries its bytes: the reactor, or any link of Python's."""


cdef class Wire:
    """The reactor is one."""

    cdef int put(self, uint32_t slot, const uint8_t* data, uint32_t length, bint waits) except -1:
        """Queue bytes; waits: not before the batch that fills is durable."""
        raise NotImplementedError

    cdef uint32_t unsent(self, uint32_t slot) except? 0xFFFFFFFF:
        """Bytes for the connection that its socket has not taken yet, or that wait for a batch."""
        raise NotImplementedError


cdef class LinkWire(Wire):
    """A link that is not compiled."""

    def __init__(self, link):
        self.link = link

    cdef int put(self, uint32_t slot, const uint8_t* data, uint32_t length, bint waits) except -1:
        self.link.send(slot, <bytes>data[:length])
        return 0

    cdef uint32_t unsent(self, uint32_t slot) except? 0xFFFFFFFF:
        return self.link.backlog(slot)


cdef Wire wire_of(link):
    return <Wire>link if isinstance(link, Wire) else LinkWire(link)
