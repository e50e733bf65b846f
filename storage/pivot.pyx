"""Cells to columns, and rows picked out of blocks: the inner loops of queries over unpublished rows and of publishing.

Everything here is a pure function of its arrays and runs without the GIL, so that a worker thread never holds up the
reactor. Bounds stay checked: a block may have been read back from a damaged file.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from storage.block import Block
from storage.kinds import Kind

cdef uint8_t NUMBER = Kind.NUMBER, TEXT = Kind.TEXT, JSON = Kind.JSON

# A TEXT or JSON cell: offset in the low 40 bits, length in the high 24 (storage/block.py).
cdef uint64_t TEXT_OFFSET = (<uint64_t>1 << 40) - 1
cdef int64_t ARROW_TEXT_BYTES_MAX = (<int64_t>1 << 31) - 1


cdef tuple slot_table(column_ids):
    """(lowest id, table): which position each column id has, -1 for none; ids of a channel lie close together."""
    if len(column_ids) == 0:
        return 0, np.full(1, -1, np.int32)
    low = int(column_ids.min())
    table = np.full(int(column_ids.max()) - low + 1, -1, np.int32)
    table[column_ids - low] = np.arange(len(column_ids), dtype=np.int32)
    return low, table


cdef object marks(const uint32_t[::1] ids, uint32_t low, uint32_t span):
    """1 for each of low .. low + span - 1 that is among the ids."""
    cdef uint32_t offset
    cdef Py_ssize_t i
    place_out = np.zeros(span, np.int32)
    cdef int32_t[::1] place = place_out
    with nogil:
        for i in range(ids.shape[0]):
            offset = ids[i] - low
            if offset >= span:
                with gil:
                    raise IndexError("an id is out of the given range")
            place[offset] = 1
    return place_out


def present(const uint32_t[::1] ids, uint32_t low, uint32_t span):
    """Which ids of low .. low + span - 1 there are; see the stub."""
    return np.flatnonzero(marks(ids, low, span)).astype(np.uint32) + np.uint32(low)


def rank(const uint32_t[::1] ids, uint32_t low, uint32_t span):
    """Which ids of low .. low + span - 1 there are, and each one's position among them; see the stub."""
    cdef Py_ssize_t rows = ids.shape[0], i
    cdef int32_t found = 0
    place_out, index_out = marks(ids, low, span), np.empty(rows, np.int32)
    cdef int32_t[::1] place = place_out
    cdef int32_t[::1] index = index_out
    with nogil:
        for i in range(span):
            if place[i]:
                found += 1
                place[i] = found
        for i in range(rows):
            index[i] = place[ids[i] - low] - 1
    return np.flatnonzero(place_out).astype(np.uint32) + np.uint32(low), index_out


cdef inline int family_of(uint8_t kind) noexcept nogil:
    """Which column of a hot file a cell stands in: 0 number, 1 integer, 2 text."""
    return 0 if kind == NUMBER else 2 if kind == TEXT or kind == JSON else 1


def spread(block, const uint8_t[::1] kinds):
    """One row per cell; see the stub."""
    cdef Py_ssize_t rows = len(block.seq), cells = len(kinds), i
    cdef const int64_t[::1] start = block.cell_start
    cdef const uint32_t[::1] column = block.column
    cdef const uint64_t[::1] value = block.value
    cdef const uint32_t[::1] channel = block.channel
    cdef const uint32_t[::1] device = block.device
    cdef const uint32_t[::1] tag = block.tag
    cdef const int64_t[::1] seq = block.seq
    cdef const int64_t[::1] at = block.at_us
    cdef int64_t total = cells, stop, cell, k = 0
    cdef int64_t[4] counts
    cdef uint8_t bit
    assert cells == len(block.column)
    counts[0] = counts[1] = counts[2] = 0
    counts[3] = cells
    with nogil:
        for i in range(cells):
            counts[family_of(kinds[i])] += 1
        for i in range(rows):
            total += start[i] == start[i + 1]
    wide = [np.empty(total, kind) for kind in (np.uint32, np.int64, np.int64, np.uint32, np.uint32)]
    cdef uint32_t[::1] channels = wide[0]
    cdef int64_t[::1] seqs = wide[1]
    cdef int64_t[::1] times = wide[2]
    cdef uint32_t[::1] devices = wide[3]
    cdef uint32_t[::1] tags = wide[4]
    with nogil:
        for i in range(rows):
            stop = k + max(start[i + 1] - start[i], 1)  # a datapoint without cells takes a row, too
            while k < stop:
                channels[k] = channel[i]
                seqs[k] = seq[i]
                times[k] = at[i]
                devices[k] = device[i]
                tags[k] = tag[i]
                k += 1
    assert k == total
    bitmaps_all = np.zeros((4, (total + 7) // 8), np.uint8)  # numbers, integers and booleans, texts, any
    if total in (counts[0], counts[1], counts[2]):
        # Every value of one family, as a rule: the cells are the rows, and no bitmap is looked at.
        bitmaps_all[:] = 0xFF
        return [*wide, np.asarray(block.column), np.asarray(block.value)], bitmaps_all, list(counts)
    columns_all, values_all = np.zeros(total, np.uint32), np.zeros(total, np.uint64)
    cdef uint32_t[::1] columns = columns_all
    cdef uint64_t[::1] values = values_all
    cdef uint8_t[:, ::1] bitmaps = bitmaps_all
    k = 0
    with nogil:
        for i in range(rows):
            for cell in range(start[i], start[i + 1]):
                columns[k] = column[cell]
                values[k] = value[cell]
                bit = <uint8_t>(1 << (k & 7))
                bitmaps[family_of(kinds[cell]), k >> 3] |= bit
                bitmaps[3, k >> 3] |= bit
                k += 1
            k += start[i] == start[i + 1]
    return [*wide, columns_all, values_all], bitmaps_all, list(counts)


def pivot(block, column_ids):
    """Cells to columns; see the stub."""
    cdef Py_ssize_t rows = len(block.seq), i
    cdef int64_t cell
    cdef const int64_t[::1] start = block.cell_start
    cdef const uint32_t[::1] column = block.column
    cdef const uint64_t[::1] value = block.value
    lowest, slots = slot_table(column_ids)
    cdef uint32_t low = lowest, offset
    cdef const int32_t[::1] slot = slots
    cdef uint32_t slots_size = <uint32_t>slot.shape[0]
    cdef int32_t at
    width = (rows + 7) // 8
    values_all = np.zeros((len(column_ids), rows), np.uint64)
    validity_all = np.zeros((len(column_ids), width), np.uint8)
    counts_all = np.zeros(len(column_ids), np.int64)
    cdef uint64_t[:, ::1] values = values_all
    cdef uint8_t[:, ::1] validity = validity_all
    cdef int64_t[::1] counts = counts_all
    with nogil:
        for i in range(rows):
            for cell in range(start[i], start[i + 1]):
                offset = column[cell] - low
                if offset >= slots_size:
                    continue
                at = slot[offset]
                if at >= 0:
                    values[at, i] = value[cell]
                    counts[at] += 1 - (validity[at, i >> 3] >> (i & 7) & 1)
                    validity[at, i >> 3] |= <uint8_t>(1 << (i & 7))
    return [(values_all[k], validity_all[k], int(counts_all[k])) for k in range(len(column_ids))]


def gather_text(const uint64_t[::1] values, const uint8_t[::1] validity, const uint8_t[::1] text):
    """Texts back to back; see the stub."""
    cdef Py_ssize_t rows = values.shape[0], i
    cdef int64_t total = 0, size = text.shape[0], length, offset
    offsets_out = np.empty(rows + 1, np.int32)
    cdef int32_t[::1] offsets = offsets_out
    cdef bint outside = False
    with nogil:
        for i in range(rows):
            offsets[i] = <int32_t>total
            if validity[i >> 3] >> (i & 7) & 1:
                total += <int64_t>(values[i] >> 40)
                if <int64_t>((values[i] & TEXT_OFFSET) + (values[i] >> 40)) > size:
                    outside = True
                    break
                if total > ARROW_TEXT_BYTES_MAX:
                    break
    if outside:
        raise IndexError("a cell points outside its block's text")
    if total > ARROW_TEXT_BYTES_MAX:
        raise OverflowError("more than 2 GiB of text in one column of one block")
    offsets[rows] = <int32_t>total
    data_out = np.empty(total, np.uint8)
    cdef uint8_t[::1] data = data_out
    with nogil:
        for i in range(rows):
            length = offsets[i + 1] - offsets[i]
            if length:
                offset = <int64_t>(values[i] & TEXT_OFFSET)
                memcpy(&data[offsets[i]], &text[offset], length)
    return offsets_out, data_out


def take(block, const int64_t[::1] rows, text_columns):
    """Those rows, in that order; see the stub."""
    cdef Py_ssize_t count = rows.shape[0], i
    cdef const int64_t[::1] start = block.cell_start
    cdef const uint32_t[::1] column = block.column
    cdef const uint64_t[::1] value = block.value
    cdef const uint8_t[::1] text = block.text
    lowest, slots = slot_table(text_columns)
    cdef uint32_t low = lowest, place
    cdef const int32_t[::1] slot = slots
    cdef uint32_t slots_size = <uint32_t>slot.shape[0]
    cdef int64_t cells = 0, text_bytes = 0, cell, length, offset
    cdef uint64_t word
    picked = np.asarray(rows)
    starts = np.empty(count + 1, np.int64)
    np.cumsum(np.diff(block.cell_start)[picked], out=starts[1:])
    starts[0] = 0
    columns_out, values_out = np.empty(starts[count], np.uint32), np.empty(starts[count], np.uint64)
    cdef uint32_t[::1] columns = columns_out
    cdef uint64_t[::1] values = values_out
    with nogil:
        for i in range(count):
            for cell in range(start[rows[i]], start[rows[i] + 1]):
                place = column[cell] - low
                if place < slots_size and slot[place] >= 0:
                    text_bytes += <int64_t>(value[cell] >> 40)
    data_out = np.empty(text_bytes, np.uint8)
    cdef uint8_t[::1] data = data_out
    text_bytes = 0
    with nogil:
        for i in range(count):
            for cell in range(start[rows[i]], start[rows[i] + 1]):
                word = value[cell]
                place = column[cell] - low
                if place < slots_size and slot[place] >= 0:
                    length = <int64_t>(word >> 40)
                    offset = <int64_t>(word & TEXT_OFFSET)
                    if length:
                        if offset + length > text.shape[0]:
                            with gil:
                                raise IndexError("a cell points outside its block's text")
                        memcpy(&data[text_bytes], &text[offset], length)
                    word = (<uint64_t>length << 40) | <uint64_t>text_bytes
                    text_bytes += length
                columns[cells] = column[cell]
                values[cells] = word
                cells += 1
    return Block(block.seq[picked], block.at_us[picked], block.channel[picked], block.device[picked],
                 block.tag[picked], starts, columns_out, values_out, data_out.tobytes())


def concatenate(blocks, text_columns):
    """The blocks' rows one after the other; see the stub."""
    if len(blocks) == 1:
        return blocks[0]
    starts, values = [np.zeros(1, np.int64)], []
    cells = text_bytes = 0
    for block in blocks:
        starts.append(block.cell_start[1:] + cells)
        is_text = np.isin(block.column, text_columns) if text_bytes else np.False_
        values.append(block.value + np.where(is_text, np.uint64(text_bytes), np.uint64(0)))
        cells += len(block.column)
        text_bytes += len(block.text)
    return Block(
        *(np.concatenate([getattr(block, name) for block in blocks])
          for name in ("seq", "at_us", "channel", "device", "tag")),
        np.concatenate(starts), np.concatenate([block.column for block in blocks]), np.concatenate(values),
        b"".join([block.text for block in blocks]))
