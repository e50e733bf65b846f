"""Rows into the order of time: a radix sort, because a window's times differ in few bits. And columns into that order.

Files hold rows by (device, at). Sorting 330,000 rows of a day in DuckDB took 110 ms, two passes over 13 bits of the
time, and setting near neighbours right, take a tenth of it: this lets a range be streamed at its encoder's speed.

Most rows arrive in the order of their times, and their seqs have few gaps where one channel has much of the traffic:
such rows are put where their seq says, which takes a quarter of that.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *address) noexcept nogil

cdef enum:
    # The processor is told early of values to come: rows of 50 devices in turn are more than it foresees (4 of 10 ns).
    AHEAD = 64
    DIGIT_BITS = 13
    DIGITS = 1 << DIGIT_BITS
    # Seqs are looked up in a table of at most so many places per row; it takes longer than sorting beyond that.
    PLACES_PER_ROW = 8


cdef bint settle(int64_t *order, const int64_t *at, const int64_t *seq, int64_t rows) noexcept nogil:
    """Finish an order that is right but for near neighbours; False if that takes too long."""
    cdef int64_t i, j, row, left = 4 * rows
    for i in range(1, rows):
        row = order[i]
        j = i
        while j and (at[order[j - 1]] > at[row] or (at[order[j - 1]] == at[row] and seq[order[j - 1]] > seq[row])):
            order[j] = order[j - 1]
            j -= 1
        order[j] = row
        left -= i - j
        if left < 0:
            return False
    return True


cdef bint is_rising(const int64_t *order, const int64_t *at, int64_t rows) noexcept nogil:
    """Whether times never fall in this order."""
    cdef int64_t i, before = at[order[0]], now
    for i in range(1, rows):
        now = at[order[i]]
        if now < before:
            return False
        before = now
    return True


cdef void pass_over(const int64_t *source, int64_t *target, const int64_t *keys, int64_t low, int shift, int64_t rows,
                    int64_t *counts) noexcept nogil:
    """One stable pass by one digit of keys - low."""
    cdef int64_t i, total = 0, count
    memset(counts, 0, DIGITS * sizeof(int64_t))
    for i in range(rows):
        counts[<uint64_t>(keys[i] - low) >> shift & (DIGITS - 1)] += 1
    for i in range(DIGITS):
        count = counts[i]
        counts[i] = total
        total += count
    for i in range(rows):
        count = <int64_t>(<uint64_t>(keys[source[i]] - low) >> shift & (DIGITS - 1))
        target[counts[count]] = source[i]
        counts[count] += 1


cdef void sort_by(int64_t *order, int64_t *spare, const int64_t *keys, int64_t rows, int bits_max,
                  int64_t *counts) noexcept nogil:
    """Stable, by the highest bits_max bits in which keys differ; spare has room for as many rows."""
    cdef int64_t i, low = keys[0], high = keys[0]
    cdef int64_t *source = order
    cdef int64_t *target = spare
    cdef int shift = 0, bits = 0
    for i in range(1, rows):
        if keys[i] < low:
            low = keys[i]
        elif keys[i] > high:
            high = keys[i]
    while bits < 64 and <uint64_t>(high - low) >> bits:
        bits += 1
    if bits > bits_max:
        shift = bits - bits_max
    while shift < bits:
        pass_over(source, target, keys, low, shift, rows, counts)
        source, target = target, source
        shift += DIGIT_BITS
    if source != order:
        memcpy(order, source, rows * sizeof(int64_t))


cdef bint by_arrival(int64_t *order, const int64_t *seq, int64_t rows) noexcept nogil:
    """Order by seq, if there are few gaps; False if not, then the order says nothing."""
    cdef int64_t i, low = seq[0], high = seq[0], found = 0
    cdef uint64_t places, place
    for i in range(1, rows):
        if seq[i] < low:
            low = seq[i]
        elif seq[i] > high:
            high = seq[i]
    places = <uint64_t>high - <uint64_t>low
    if places >= <uint64_t>(PLACES_PER_ROW * rows) or rows > 0x7FFFFFFF:
        return False
    places += 1
    cdef int32_t *table = <int32_t *>calloc(places, sizeof(int32_t))  # the row's position, plus 1
    if table == NULL:
        return False
    for i in range(rows):
        table[seq[i] - low] = <int32_t>(i + 1)
    for place in range(places):
        if table[place]:
            order[found] = table[place] - 1
            found += 1
    free(table)
    return found == rows


def time_order(const int64_t[::1] at_us, const int64_t[::1] seq, bint descending):
    """Positions by (at, seq); see the stub."""
    cdef int64_t rows = at_us.shape[0]
    assert seq.shape[0] == rows
    if rows < 2:
        return np.zeros(rows, np.int64)
    order = np.empty(rows, np.int64)
    cdef int64_t[::1] placed = order
    cdef int64_t i
    cdef int64_t *memory = <int64_t *>malloc((rows + DIGITS) * sizeof(int64_t))
    if memory == NULL:
        raise MemoryError
    cdef int64_t *counts = memory + rows
    with nogil:
        if not (by_arrival(&placed[0], &seq[0], rows)
                and (is_rising(&placed[0], &at_us[0], rows) or settle(&placed[0], &at_us[0], &seq[0], rows))):
            for i in range(rows):
                placed[i] = i
            sort_by(&placed[0], memory, &at_us[0], rows, 2 * DIGIT_BITS, counts)
            if not settle(&placed[0], &at_us[0], &seq[0], rows):
                # Many rows of nearly one time, a batch that was written at once: every bit counts.
                sort_by(&placed[0], memory, &seq[0], rows, 64, counts)
                sort_by(&placed[0], memory, &at_us[0], rows, 64, counts)
    free(memory)
    return order[::-1].copy() if descending else order


def is_time_order(const int64_t[::1] at_us, const int64_t[::1] seq, bint descending):
    """Whether the rows are in order already; see the stub."""
    cdef int64_t i, later, earlier, rows = at_us.shape[0]
    cdef bint is_right = True
    assert seq.shape[0] == rows
    if rows < 2:
        return True
    cdef const int64_t *at = &at_us[0]
    cdef const int64_t *number = &seq[0]
    with nogil:
        for i in range(1, rows):
            later, earlier = i, i - 1
            if descending:
                later, earlier = i - 1, i
            if at[later] < at[earlier] or (at[later] == at[earlier] and number[later] < number[earlier]):
                is_right = False
                break
    return is_right


cdef bint are_inside(const int32_t *order, int64_t rows, int64_t bound) noexcept nogil:
    """Whether all positions are below the bound, and none below zero."""
    cdef int64_t i
    cdef int32_t least = order[0], greatest = order[0]
    for i in range(rows):
        least = min(least, order[i])
        greatest = max(greatest, order[i])
    return least >= 0 and greatest < bound


ctypedef fused Value:
    int32_t
    int64_t


cdef int64_t gather_values(const Value *values, const int32_t *order, int64_t rows, uint64_t bound,
                           Value *out) noexcept nogil:
    """How many are done: all of them, or those before the first position that is not there."""
    cdef int64_t i
    for i in range(rows):
        if <uint32_t>order[i] >= bound:
            return i
        if i + AHEAD < rows:
            prefetch(&values[<uint32_t>order[i + AHEAD]])
        out[i] = values[order[i]]
    return rows


def gather(const uint8_t[::1] values, const int32_t[::1] order, int width, uint8_t[::1] out):
    """Values of 4 or 8 bytes in another order; see the stub."""
    cdef int64_t rows = order.shape[0]
    assert width in (4, 8) and out.shape[0] >= rows * width
    if rows == 0:
        return
    cdef uint64_t bound = min(values.shape[0] // width, 0x80000000)  # beyond it are those below zero
    cdef int64_t done
    with nogil:
        if width == 8:
            done = gather_values(<const int64_t *>&values[0], &order[0], rows, bound, <int64_t *>&out[0])
        else:
            done = gather_values(<const int32_t *>&values[0], &order[0], rows, bound, <int32_t *>&out[0])
    if done < rows:
        raise IndexError("an order names rows that are there")


def gather_bits(const uint8_t[::1] bits, int64_t offset, const int32_t[::1] order, uint8_t[::1] out):
    """Bits in another order; see the stub."""
    cdef int64_t i, row, rows = order.shape[0]
    assert out.shape[0] * 8 >= rows and offset >= 0
    cdef int64_t bound = 8 * bits.shape[0] - offset, size = out.shape[0]
    if rows == 0:
        return
    assert bound > 0
    cdef const uint8_t *found = &bits[0]
    cdef const int32_t *source = &order[0]
    cdef uint8_t *target = &out[0]
    cdef bint is_inside = True
    with nogil:
        memset(target, 0, size)
        if are_inside(source, rows, bound):
            for i in range(rows):
                row = source[i] + offset
                target[i >> 3] |= (found[row >> 3] >> (row & 7) & 1) << (i & 7)
        else:
            is_inside = False
    if not is_inside:
        raise IndexError("an order names rows that are there")
