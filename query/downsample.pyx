"""Fewer points that look like all of them on a chart. Points come in pieces; memory is that of what is kept.

Largest-Triangle-Three-Buckets (Steinarsson 2013, «Downsampling Time Series for Visual Representation», section 4.2)
cuts a series into buckets of as many points each, and keeps of each the point that spans the largest triangle with
the one kept before and the average of the next bucket. The averages are found first, by a pass of their own: to hold a
bucket until the next one's average is known would be to hold half of a series of which three points are wanted.

Min-max cuts time into buckets, and keeps the least and the greatest of each, the earlier one if there are several: no
peak is lost. It takes one pass, in any order.

Each series has places for its points, one after the other; what is kept is said as (place, row of this piece), and a
later one takes the place of an earlier one.
"""

import numpy as np

from libc.math cimport fabs
from libc.stdint cimport INT64_MAX, int32_t, int64_t
from libc.stdlib cimport calloc, free


cdef struct Series:
    int64_t total
    int64_t first_place
    int64_t places
    int64_t seen
    int64_t bucket
    int64_t end  # the position of the next bucket's first point
    double every
    int64_t origin_us
    double kept_x  # of the bucket before
    double kept_y
    double best_x  # of this one so far
    double best_y
    double area
    bint is_new  # the bucket has no best one yet


cdef int64_t start_of(Series *series, int64_t bucket) noexcept nogil:
    """The position of a bucket's first point."""
    return min(<int64_t>(<double>bucket * series.every) + 1, series.total)


cdef void begin(Series *series, int64_t count) noexcept nogil:
    series.seen = 0
    series.bucket = 0
    series.is_new = True
    if series.total > count:
        series.end = start_of(series, 1)


cdef class Kept:
    """Which row of a piece stands in which place now."""

    cdef int32_t[::1] row_of
    cdef int64_t[::1] places
    cdef int64_t count

    def __init__(self, int64_t places):
        self.row_of = np.full(places, -1, np.int32)

    cdef start(self, int64_t most):
        self.places = np.empty(most, np.int64)
        self.count = 0

    cdef void put(self, int64_t place, int64_t row) noexcept nogil:
        if self.row_of[place] < 0:
            self.places[self.count] = place
            self.count += 1
        self.row_of[place] = <int32_t>row

    cdef taken(self):
        """The places that were put into, and the rows; then nothing is."""
        row_of, places = np.asarray(self.row_of), np.asarray(self.places)[:self.count]
        rows = row_of[places].astype(np.int64)
        row_of[places] = -1
        return places, rows


cdef are_alike(int64_t points, int64_t numbers, int64_t series):
    """Arrays of a piece have one length, and rows fit into an int32."""
    assert points == numbers == series <= 0x7FFFFFFF


cdef class LargestTriangles:
    """LTTB; see the stub."""

    cdef Series *_series
    cdef int64_t _count
    cdef int64_t _many
    cdef double[::1] _x
    cdef double[::1] _y
    cdef Kept _kept
    cdef readonly int64_t places
    cdef readonly bint needs_averages

    def __cinit__(self, const int64_t[::1] totals, int64_t count):
        cdef int64_t i
        cdef Series *series
        assert count >= 3 and totals.shape[0]
        self._count = count
        self._many = totals.shape[0]
        self._series = <Series *>calloc(self._many, sizeof(Series))
        if self._series == NULL:
            raise MemoryError
        self.places = 0
        self.needs_averages = False
        for i in range(self._many):
            series = &self._series[i]
            series.total = totals[i]
            series.first_place = self.places
            series.places = min(series.total, count)
            series.every = <double>(series.total - 2) / <double>(count - 2)
            self.places += series.places
            self.needs_averages |= series.total > count
            begin(series, count)
        self._kept = Kept(self.places)
        self._x = np.zeros(self.places)
        self._y = np.zeros(self.places)

    def __dealloc__(self):
        free(self._series)

    cdef Series *next_of(self, int64_t number) noexcept nogil:
        """The series, of which one point more is seen now; NULL if it has no more."""
        if number >= self._many or self._series[number].seen >= self._series[number].total:
            return NULL
        self._series[number].seen += 1
        return &self._series[number]

    def average(self, const int64_t[::1] at_us, const double[::1] number, const int32_t[::1] series):
        """See the stub."""
        are_alike(at_us.shape[0], number.shape[0], series.shape[0])
        cdef int64_t i, position, place, done = 0
        cdef Series *own
        with nogil:
            for i in range(at_us.shape[0]):
                if series[i] < 0:
                    continue
                own = self.next_of(series[i])
                if own == NULL:
                    break
                position = own.seen - 1
                if position == 0:
                    own.origin_us = at_us[i]
                elif own.total > self._count:
                    while position >= own.end:
                        own.bucket += 1
                        own.end = start_of(own, own.bucket + 1)
                    place = own.first_place + own.bucket
                    self._x[place] += <double>(at_us[i] - own.origin_us)
                    self._y[place] += number[i]
            else:
                done = 1
        if not done:
            raise IndexError("more points than were counted")

    def averaged(self):
        """See the stub."""
        cdef int64_t i, bucket, size
        cdef Series *own
        for i in range(self._many):
            own = &self._series[i]
            if own.total > self._count:
                for bucket in range(self._count - 1):
                    size = start_of(own, bucket + 1) - start_of(own, bucket)
                    self._x[own.first_place + bucket] /= size
                    self._y[own.first_place + bucket] /= size
            begin(own, self._count)

    def keep(self, const int64_t[::1] at_us, const double[::1] number, const int32_t[::1] series):
        """See the stub."""
        are_alike(at_us.shape[0], number.shape[0], series.shape[0])
        cdef int64_t i, position, place, done = 0
        cdef double x, y, average_x, average_y, area
        cdef Series *own
        self._kept.start(at_us.shape[0])
        with nogil:
            for i in range(at_us.shape[0]):
                if series[i] < 0:
                    continue
                own = self.next_of(series[i])
                if own == NULL:
                    break
                position = own.seen - 1
                if own.total <= self._count:
                    self._kept.put(own.first_place + position, i)
                    continue
                y = number[i]
                if position == 0:
                    own.origin_us = at_us[i]
                    own.best_x, own.best_y = 0, y
                    own.kept_x, own.kept_y = 0, y
                    self._kept.put(own.first_place, i)
                    continue
                if position == own.total - 1:
                    self._kept.put(own.first_place + self._count - 1, i)
                    continue
                while position >= own.end:
                    own.bucket += 1
                    own.end = start_of(own, own.bucket + 1)
                    own.kept_x, own.kept_y = own.best_x, own.best_y
                    own.is_new = True
                if own.bucket > self._count - 3:
                    continue  # beside the last point, if the buckets' size was rounded down
                place = own.first_place + own.bucket + 1
                x = <double>(at_us[i] - own.origin_us)
                average_x, average_y = self._x[place], self._y[place]
                area = fabs((own.kept_x - average_x) * (y - own.kept_y) - (own.kept_x - x) * (average_y - own.kept_y))
                # Infinities of huge numbers give areas that are none: the first of them counts as the largest.
                if own.is_new or area > own.area or (area != area and own.area == own.area):
                    own.is_new = False
                    own.area, own.best_x, own.best_y = area, x, y
                    self._kept.put(place, i)
            else:
                done = 1
        if not done:
            raise IndexError("more points than were counted")
        return self._kept.taken()


cdef class MinMax:
    """The least and the greatest of each bucket of time; see the stub."""

    cdef int64_t _first_us
    cdef int64_t _width_us
    cdef int64_t _buckets
    cdef int64_t _many
    cdef double[::1] _number
    cdef int64_t[::1] _at_us
    cdef int64_t[::1] _seq
    cdef Kept _kept
    cdef readonly int64_t places

    def __init__(self, int64_t first_us, int64_t last_us, int64_t many, int64_t count):
        assert first_us <= last_us and many >= 1
        self._buckets = max(count // 2, 1)
        self._first_us = first_us
        self._width_us = (last_us - first_us) // self._buckets + 1
        self._many = many
        self.places = 2 * self._buckets * many
        self._kept = Kept(self.places)
        self._number = np.tile([np.inf, -np.inf], self._buckets * many)
        self._at_us = np.full(self.places, INT64_MAX)
        self._seq = np.full(self.places, INT64_MAX)

    cdef bint is_earlier(self, int64_t place, int64_t at_us, int64_t seq) noexcept nogil:
        return at_us < self._at_us[place] or (at_us == self._at_us[place] and seq < self._seq[place])

    cdef void put(self, int64_t place, int64_t row, double number, int64_t at_us, int64_t seq) noexcept nogil:
        self._number[place] = number
        self._at_us[place] = at_us
        self._seq[place] = seq
        self._kept.put(place, row)

    def keep(
        self, const int64_t[::1] at_us, const int64_t[::1] seq, const double[::1] number, const int32_t[::1] series
    ):
        """See the stub."""
        are_alike(at_us.shape[0], number.shape[0], series.shape[0])
        assert seq.shape[0] == at_us.shape[0]
        cdef int64_t i, now, place, done = 0, low = 0, high = 0, bucket = 0
        cdef double y
        self._kept.start(min(2 * at_us.shape[0], self.places))
        with nogil:
            for i in range(at_us.shape[0]):
                if series[i] < 0:
                    continue
                now = at_us[i] - self._first_us
                if not low <= now < high:
                    if now < 0 or now // self._width_us >= self._buckets:
                        break
                    bucket = now // self._width_us
                    low = bucket * self._width_us
                    high = low + self._width_us
                if series[i] >= self._many:
                    break
                place = 2 * (series[i] * self._buckets + bucket)
                y = number[i]
                if y < self._number[place] or (y == self._number[place] and self.is_earlier(place, at_us[i], seq[i])):
                    self.put(place, i, y, at_us[i], seq[i])
                place += 1
                if y > self._number[place] or (y == self._number[place] and self.is_earlier(place, at_us[i], seq[i])):
                    self.put(place, i, y, at_us[i], seq[i])
            else:
                done = 1
        if not done:
            raise IndexError("a point outside of the range")
        return self._kept.taken()
