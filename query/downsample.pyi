import numpy as np
from numpy.typing import NDArray

Placed = tuple[NDArray[np.int64], NDArray[np.int64]]

class LargestTriangles:
    """LTTB of several series at once. Points come in order of time, twice where there are more than are kept.

    Attributes:
        places: how many points are kept of all series, one series' after the other's.
        needs_averages: ``average`` with every point, then ``averaged``, come before ``keep``.
    """

    places: int
    needs_averages: bool

    def __init__(self, totals: NDArray[np.int64], count: int) -> None:
        """Of each series, how many points there will be, exactly; and how many are kept at most, at least 3."""

    def average(
        self, at_us: NDArray[np.int64], number: NDArray[np.float64], series: NDArray[np.int32]
    ) -> None:
        """Take the next points into the averages. Releases the GIL.

        Args:
            at_us, number: shape ``(n,)``, C-contiguous.
            series: whose each one is, by position in totals; below zero, nobody's: passed over.

        Raises:
            IndexError: there are more than were counted.
        """

    def averaged(self) -> None:
        """The points have come; they will come once more."""

    def keep(
        self, at_us: NDArray[np.int64], number: NDArray[np.float64], series: NDArray[np.int32]
    ) -> Placed:
        """The next points. The places that they take, and their rows in this piece; takes and raises as ``average``."""

class MinMax:
    """The least and the greatest of each bucket of time. Points come in any order, once.

    Attributes:
        places: how many points are kept at most of all series, two of each bucket; one point may have both.
    """

    places: int

    def __init__(self, first_us: int, last_us: int, many: int, count: int) -> None:
        """The times of all points, both inclusive; how many series; how many points are kept at most of each."""

    def keep(
        self,
        at_us: NDArray[np.int64],
        seq: NDArray[np.int64],
        number: NDArray[np.float64],
        series: NDArray[np.int32],
    ) -> Placed:
        """As LargestTriangles' keep; seq says which one of a time is earlier."""
