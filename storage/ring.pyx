"""One global ring of rows and cells: the newest readings of all channels.

Rows (datapoints) and cells (their streams' values) are two rings of numpy arrays; a row knows the number of its first
cell. One ring for all channels costs nothing per idle channel and keeps appends sequential; a back link per row
chains the rows of a channel, so the newest ones are found without a scan.

Cursors are row numbers (``seq``), each the first one *not yet* so, and only grow:

    oldest <= sealed <= durable <= written

Rows of a tag whose entries were deleted are passed over from then on by everybody who looks for rows.

``[sealed, written)`` is protected. ``[oldest, sealed)`` stands in hot files already and stays readable until the ring
needs the room. A pin protects from its seq on while a reader copies. Text is a third ring of bytes; a text that would
wrap starts over at the beginning instead, so every text is one slice.
"""

from collections import namedtuple

import numpy as np

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from storage.block import Block

RingStatistics = namedtuple("RingStatistics", "rows_max cells_max text_bytes_max rows cells text_bytes")

# A TEXT or JSON cell's value: offset in the low 40 bits, length in the high 24; its column carries the flag.
cdef uint64_t TEXT_OFFSET = (<uint64_t>1 << 40) - 1
cdef uint32_t TEXT_FLAG = <uint32_t>1 << 31
TEXT_BYTES_MAX = (1 << 24) - 1


def is_power_of_two(number):
    return number > 0 and number & (number - 1) == 0


@cython.boundscheck(False)      # compared
cdef inline bint is_deleted(int64_t[::1] floor, uint32_t tag, int64_t seq) noexcept nogil:
    return tag < floor.shape[0] and seq < floor[tag]


cdef class Ring:
    """See the module. Every method holds the GIL for its whole time and is atomic against the reactor."""

    def __cinit__(self):
        self.heads = NULL

    def __init__(self, rows, cells, text_bytes, first_seq=0):
        for size in (rows, cells, text_bytes):
            if not is_power_of_two(size):
                raise ValueError(f"ring sizes are powers of two, not {size}")
        for name in ("at_us", "first_cell", "first_text", "previous"):
            array = np.zeros(rows, np.int64)
            if name == "at_us":
                self.at_us = array
            elif name == "first_cell":
                self.first_cell = array
            elif name == "first_text":
                self.first_text = array
            else:
                self.previous = array
        self.channel = np.zeros(rows, np.uint32)
        self.device = np.zeros(rows, np.uint32)
        self.tag = np.zeros(rows, np.uint32)
        self.cell_count = np.zeros(rows, np.uint32)
        self.value = np.zeros(cells, np.uint64)
        self.column = np.zeros(cells, np.uint32)
        self.text = np.zeros(text_bytes, np.uint8)
        self.rows_mask = rows - 1
        self.cells_mask = cells - 1
        self.text_mask = text_bytes - 1
        self.oldest = self.sealed = self.durable = self.written = self.keep = first_seq
        self.cells_written = 0
        self.text_written = 0
        self.tag_floor = np.zeros(1, np.int64)
        self.pins = {}
        self.next_pin = 1
        self.heads_size = 256
        self.heads = <int64_t*>malloc(self.heads_size * sizeof(int64_t))
        if self.heads == NULL:
            raise MemoryError
        for i in range(self.heads_size):
            self.heads[i] = -1

    def __dealloc__(self):
        free(self.heads)

    # ---- the journal's side. An index that was masked is within its array, whose length is the mask plus one, so that
    # its bounds are not checked again.

    cdef bint make_room(self, uint32_t cells, uint32_t text_bytes) noexcept:
        """Let go of the oldest unprotected rows until a row of this size fits; False when it cannot."""
        return self.make_room_for(1, cells, text_bytes)

    @cython.boundscheck(False)      # masked
    cdef bint make_room_for(self, int64_t rows, int64_t cells, int64_t text_bytes) noexcept:
        """The same for some rows with so many cells and bytes together; then there is room for each in its turn."""
        cdef int64_t text_end = self.text_written + text_bytes
        cdef int64_t index
        if rows > self.rows_mask + 1 or cells > self.cells_mask + 1 or 2 * text_bytes > self.text_mask + 1:
            return False
        # In the worst case every byte before a wrap is skipped once.
        if (self.text_written & self.text_mask) + text_bytes > self.text_mask + 1:
            text_end += text_bytes
        while self.oldest < self.written:
            index = self.oldest & self.rows_mask
            if (self.written + rows - 1 - self.oldest <= self.rows_mask
                    and self.cells_written + cells - self.first_cell[index] <= self.cells_mask + 1
                    and text_end - self.first_text[index] <= self.text_mask + 1):
                return True
            if self.oldest >= self.keep:
                return False
            self.oldest += 1
        return True

    @cython.boundscheck(False)      # masked
    cdef int64_t begin(self, uint32_t channel) except -1:
        """Start a row; make_room() has been asked. Returns its seq."""
        cdef int64_t index = self.written & self.rows_mask
        cdef uint32_t size, i
        cdef void* grown
        if channel >= self.heads_size:
            size = 2 * channel
            grown = realloc(self.heads, size * sizeof(int64_t))
            if grown == NULL:
                raise MemoryError
            self.heads = <int64_t*>grown
            for i in range(self.heads_size, size):
                self.heads[i] = -1
            self.heads_size = size
        self.first_cell[index] = self.cells_written
        self.first_text[index] = self.text_written
        return self.written

    @cython.boundscheck(False)      # masked
    cdef uint64_t put_text(self, const char* data, uint32_t length) noexcept:
        cdef int64_t start = self.text_written & self.text_mask
        if start + length > self.text_mask + 1:
            self.text_written += self.text_mask + 1 - start
            start = 0
        if length:
            memcpy(&self.text[start], data, length)
        cdef uint64_t result = (<uint64_t>length << 40) | (<uint64_t>self.text_written & TEXT_OFFSET)
        self.text_written += length
        return result

    @cython.boundscheck(False)      # masked
    cdef void put_cell(self, uint32_t column, uint64_t value, bint is_text) noexcept:
        cdef int64_t index = self.cells_written & self.cells_mask
        self.value[index] = value
        self.column[index] = column | (TEXT_FLAG if is_text else 0)
        self.cells_written += 1

    @cython.boundscheck(False)      # masked
    cdef int64_t end(self, int64_t at_us, uint32_t channel, uint32_t device, uint32_t tag, uint32_t cells) noexcept:
        cdef int64_t seq = self.written
        cdef int64_t index = seq & self.rows_mask
        self.at_us[index] = at_us
        self.channel[index] = channel
        self.device[index] = device
        self.tag[index] = tag
        self.cell_count[index] = cells
        self.previous[index] = self.heads[channel]
        self.heads[channel] = seq
        self.written = seq + 1
        return seq

    # ---- cursors

    def mark_durable(self, int64_t seq):
        assert self.durable <= seq <= self.written
        self.durable = seq

    def mark_sealed(self, int64_t seq):
        assert self.sealed <= seq <= self.durable
        self.sealed = seq
        self.settle_keep()

    def pin(self, int64_t seq):
        """Keep rows from seq on from being overwritten until unpin(token)."""
        assert self.oldest <= seq <= self.written
        token = self.next_pin
        self.next_pin += 1
        self.pins[token] = seq
        self.settle_keep()
        return token

    def unpin(self, token):
        del self.pins[token]
        self.settle_keep()

    cdef void settle_keep(self) except *:
        self.keep = min(self.sealed, min(self.pins.values())) if self.pins else self.sealed

    # ---- what was deleted

    def delete_tag(self, uint32_t tag, int64_t below_seq):
        """Rows of this tag with a smaller seq are no more."""
        assert tag > 0 and below_seq <= self.written
        # Always another array: a seal in its thread goes on with the one that it began with.
        grown = np.zeros(max(tag + 1, self.tag_floor.shape[0]), np.int64)
        grown[: self.tag_floor.shape[0]] = self.tag_floor
        grown[tag] = max(grown[tag], below_seq)
        self.tag_floor = grown

    # ---- readers

    def newest(self, uint32_t channel, int64_t limit, int64_t tag=-1, int64_t device=-1, int64_t first=0):
        """Seqs of the channel's newest durable rows that are still here, newest first, at most limit."""
        cdef int64_t seq = self.heads[channel] if channel < self.heads_size else -1
        cdef int64_t last = max(self.oldest, first)
        cdef int64_t index
        cdef int64_t[::1] floor = self.tag_floor
        cdef list found = []
        while seq >= last and limit > 0:
            index = seq & self.rows_mask
            if (seq < self.durable and (tag < 0 or self.tag[index] == tag)
                    and (device < 0 or self.device[index] == device) and not is_deleted(floor, self.tag[index], seq)):
                found.append(seq)
                limit -= 1
            seq = self.previous[index]
        return np.array(found, np.int64)

    def unsealed(self, uint32_t channel, int64_t first, int64_t last):
        """Seqs of the channel's rows in [first, last), ascending."""
        assert self.oldest <= first and last <= self.written
        cdef int64_t head = self.heads[channel] if channel < self.heads_size else -1
        cdef int64_t seq = head
        cdef int64_t count = 0, i
        cdef int64_t[::1] floor = self.tag_floor
        with nogil:
            while seq >= first:
                if seq < last and not is_deleted(floor, self.tag[seq & self.rows_mask], seq):
                    count += 1
                seq = self.previous[seq & self.rows_mask]
        result = np.empty(count, np.int64)
        cdef int64_t[::1] out = result
        seq = head
        i = count
        with nogil:
            while seq >= first:
                if seq < last and not is_deleted(floor, self.tag[seq & self.rows_mask], seq):
                    i -= 1
                    out[i] = seq
                seq = self.previous[seq & self.rows_mask]
        return result[i:]  # a tag may have been deleted since they were counted

    def channel_range(self, int64_t first, int64_t last):
        """Seqs in [first, last) ordered by (channel, at, seq), without what was deleted."""
        assert self.oldest <= first <= last <= self.written
        cdef int64_t rows = last - first, seq, index, place, total = 0, i, begin, end
        cdef uint32_t channel
        order_out = np.empty(rows, np.int64)
        cdef int64_t[::1] order = order_out
        # Where each channel's rows begin; channels are registry ids, hence small and dense.
        cdef int64_t[::1] start = np.zeros(self.heads_size, np.int64)
        cdef int64_t[::1] newest = np.full(self.heads_size, np.iinfo(np.int64).min)
        cdef int64_t[::1] floor = self.tag_floor
        cdef bint in_time = True
        with nogil:
            for seq in range(first, last):
                index = seq & self.rows_mask
                if is_deleted(floor, self.tag[index], seq):
                    rows -= 1
                    continue
                channel = self.channel[index]
                start[channel] += 1
                in_time = in_time and self.at_us[index] >= newest[channel]
                newest[channel] = self.at_us[index]
            for channel in range(<uint32_t>start.shape[0]):
                place = start[channel]
                start[channel] = total
                total += place
            for seq in range(first, last):
                if is_deleted(floor, self.tag[seq & self.rows_mask], seq):
                    continue
                channel = self.channel[seq & self.rows_mask]
                order[start[channel]] = seq
                start[channel] += 1
        if in_time:
            return order_out[:rows]
        # Somebody gave rows times of their own, or the clock was set back: only those channels are sorted.
        begin = 0
        while begin < rows:
            channel = self.channel[order[begin] & self.rows_mask]
            end = start[channel]
            for i in range(begin + 1, end):
                if self.at_us[order[i] & self.rows_mask] < self.at_us[order[i - 1] & self.rows_mask]:
                    part = order_out[begin:end]
                    part[:] = part[np.argsort(np.asarray(self.at_us)[part & self.rows_mask], kind="stable")]
                    break
            begin = end
        return order_out[:rows]

    def block(self, int64_t[::1] seqs):
        """Copy those rows, in that order. Every seq must be in [oldest, written)."""
        cdef Py_ssize_t rows = seqs.shape[0], i
        cdef int64_t index, cells = 0, text_bytes = 0, where, cell, stop
        cdef uint64_t value, length
        cdef int64_t missing
        cdef bint is_missing = False
        with nogil:
            for i in range(rows):
                if not self.oldest <= seqs[i] < self.written:
                    missing, is_missing = seqs[i], True
                    break
                index = seqs[i] & self.rows_mask
                for cell in range(self.first_cell[index], self.first_cell[index] + self.cell_count[index]):
                    where = cell & self.cells_mask
                    if self.column[where] & TEXT_FLAG:
                        text_bytes += self.value[where] >> 40
                cells += self.cell_count[index]
        if is_missing:
            raise IndexError(f"row {missing} is not in the ring")
        seq_out, at_out = np.empty(rows, np.int64), np.empty(rows, np.int64)
        channel_out, device_out, tag_out = (np.empty(rows, np.uint32) for _ in range(3))
        start_out = np.empty(rows + 1, np.int64)
        column_out, value_out = np.empty(cells, np.uint32), np.empty(cells, np.uint64)
        text_out = PyBytes_FromStringAndSize(NULL, text_bytes)
        cdef char* text = PyBytes_AS_STRING(text_out)
        cdef int64_t[::1] seq_view = seq_out, at_view = at_out, start_view = start_out
        cdef uint32_t[::1] channel_view = channel_out, device_view = device_out, tag_view = tag_out
        cdef uint32_t[::1] column_view = column_out
        cdef uint64_t[::1] value_view = value_out
        cells = text_bytes = 0
        with nogil:
            for i in range(rows):
                index = seqs[i] & self.rows_mask
                seq_view[i] = seqs[i]
                at_view[i] = self.at_us[index]
                channel_view[i] = self.channel[index]
                device_view[i] = self.device[index]
                tag_view[i] = self.tag[index]
                start_view[i] = cells
                stop = self.first_cell[index] + self.cell_count[index]
                for cell in range(self.first_cell[index], stop):
                    where = cell & self.cells_mask
                    value = self.value[where]
                    if self.column[where] & TEXT_FLAG:
                        length = value >> 40
                        if length:
                            index = <int64_t>(value & TEXT_OFFSET) & self.text_mask
                            memcpy(text + text_bytes, &self.text[index], length)
                        value = (length << 40) | <uint64_t>text_bytes
                        text_bytes += length
                    column_view[cells] = self.column[where] & ~TEXT_FLAG
                    value_view[cells] = value
                    cells += 1
        start_view[rows] = cells
        return Block(seq_out, at_out, channel_out, device_out, tag_out, start_out, column_out, value_out, text_out)

    def statistics(self):
        cdef int64_t index = self.sealed & self.rows_mask
        cdef bint empty = self.sealed == self.written
        return RingStatistics(
            self.rows_mask + 1, self.cells_mask + 1, self.text_mask + 1, self.written - self.sealed,
            0 if empty else self.cells_written - self.first_cell[index],
            0 if empty else self.text_written - self.first_text[index],
        )
