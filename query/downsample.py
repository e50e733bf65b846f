"""Fewer points that look like all of them on a chart. Points come in pieces, in order of time; memory is a few buckets.

Largest-Triangle-Three-Buckets (Steinarsson 2013, «Downsampling Time Series for Visual Representation», section 4.2)
cuts a series into buckets of as many points each, and keeps of each the point that spans the largest triangle with
the one kept before and the average of the next bucket. Min-max cuts it into buckets of as much time each and keeps
the least and the greatest of each, the earlier one if there are several: no peak is lost.
"""

from collections.abc import Iterator
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

# A point on its way: where it is in time and order, whose it is (places in lists of names), what it is.
POINT: Final = np.dtype(
    [("at_us", np.int64), ("seq", np.int64), ("device", np.int32), ("tag", np.int32),
     ("number", np.float64), ("cell", np.int64), ("column", np.int32)]
)  # fmt: skip

Points = NDArray[np.void]


class Downsampler(Protocol):
    """One series. Pieces in the order of time; what is kept comes out as soon as it is certain."""

    def feed(self, points: Points) -> Iterator[Points]: ...
    def end(self) -> Iterator[Points]: ...


class LargestTriangles:
    """LTTB.

    Args:
        total: how many points there will be, exactly.
        count: how many are kept, at least 3; all if there are no more.
    """

    def __init__(self, total: int, count: int) -> None:
        self._total = total
        self._count = count
        self._every = (total - 2) / (count - 2)
        self._bucket = 0
        self._base = 0  # the position in the series of the first point that is held
        self._held: Points = np.zeros(0, POINT)
        self._origin_us = 0
        self._kept: Points = np.zeros(0, POINT)

    def _start(self, bucket: int) -> int:
        return min(int(bucket * self._every) + 1, self._total)

    def feed(self, points: Points) -> Iterator[Points]:
        """What is certain to be kept now."""
        if not len(points):
            return
        if self._total <= self._count:
            yield points
            return
        if not len(self._kept):
            self._kept = points[:1]
            self._origin_us = int(points["at_us"][0])
            yield self._kept
        held = np.concatenate([self._held, points])
        end = self._base + len(held)
        while self._bucket < self._count - 2 and self._start(self._bucket + 2) <= end:
            first, middle, last = (self._start(self._bucket + i) - self._base for i in range(3))
            self._kept = self._largest(held[first:middle], held[middle:last])
            yield self._kept
            self._bucket += 1
        done = min(self._start(self._bucket) - self._base, len(held) - 1)
        self._held = held[done:].copy()
        self._base += done

    def _largest(self, bucket: Points, following: Points) -> Points:
        # The smallest series that is thinned out has no empty bucket: every > 1.
        with np.errstate(all="ignore"):
            x, y = (bucket["at_us"] - self._origin_us).astype(np.float64), bucket["number"]
            average_x = np.mean((following["at_us"] - self._origin_us).astype(np.float64))
            average_y = np.mean(following["number"])
            kept_x = float(self._kept["at_us"][0] - self._origin_us)
            kept_y = self._kept["number"][0]
            areas = np.abs((kept_x - average_x) * (y - kept_y) - (kept_x - x) * (average_y - kept_y))
        best = int(np.argmax(areas))
        return bucket[best : best + 1]

    def end(self) -> Iterator[Points]:
        """The last point."""
        if self._total > self._count:
            yield self._held[-1:]


class MinMax:
    """The least and the greatest of each bucket of time.

    Args:
        first_us, last_us: of all points, both inclusive.
        count: how many are kept at most, two of each bucket.
    """

    def __init__(self, first_us: int, last_us: int, count: int) -> None:
        buckets = max(count // 2, 1)
        self._first_us = first_us
        self._width_us = (last_us - first_us) // buckets + 1
        self._held: Points = np.zeros(0, POINT)  # of the last bucket that was seen: one point or two

    def feed(self, points: Points) -> Iterator[Points]:
        """What is certain to be kept now."""
        if not len(points):
            return
        points = np.concatenate([self._held, points])
        bucket = (points["at_us"] - self._first_us) // self._width_us
        starts = np.flatnonzero(np.diff(bucket, prepend=bucket[0] - 1))
        sizes = np.diff(starts, append=len(points))
        number = points["number"]
        found = []
        for extreme in (np.minimum, np.maximum):
            places = np.flatnonzero(number == np.repeat(extreme.reduceat(number, starts), sizes))
            found.append(places[np.unique(np.searchsorted(starts, places, "right"), return_index=True)[1]])
        kept = np.unique(np.concatenate(found))
        certain = kept < starts[-1]
        self._held = points[kept[~certain]].copy()
        if certain.any():
            yield points[kept[certain]]

    def end(self) -> Iterator[Points]:
        """What is left."""
        if len(self._held):
            yield self._held
