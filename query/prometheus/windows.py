"""What PromQL makes of one series at each step: the last sample, or a function of a range of samples.

A range ends at the step and begins behind ``step - range``: at its beginning it is open (as since Prometheus 3).
rate, increase and delta extrapolate to the ends of the range as Prometheus does; a counter that falls has begun again.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from query.prometheus.errors import ExecutionError
from query.prometheus.samples import Floats, Series, Times

# Samples that one series' windows may add up to, one counted once for each window: numpy reads 1e9 a second.
WINDOW_SAMPLES_MAX: Final = 500_000_000
# Beyond so many mean distances to the end of the range, the series is taken to have begun or ended inside of it.
EXTRAPOLATED_MAX: Final = 1.1

Present = NDArray[np.bool_]
# By function: what folds a window, or what it is divided by.
FOLDS: Final[dict[str, Any]] = {
    "avg_over_time": np.add,
    "sum_over_time": np.add,
    "min_over_time": np.fmin,
    "max_over_time": np.fmax,
}


def last_of(series: Series, steps_us: Times, lookback_us: int) -> tuple[Floats, Present]:
    """The last sample at or before each step, not older than the look-back."""
    at = np.searchsorted(series.at_us, steps_us, "right") - 1
    is_there = (at >= 0) & (series.at_us[at] > steps_us - lookback_us)
    return np.where(is_there, series.values[at], 0.0), is_there


def over_time(function: str, series: Series, steps_us: Times, range_us: int) -> tuple[Floats, Present]:
    """A function of each step's window. Raises ExecutionError."""
    last = np.searchsorted(series.at_us, steps_us, "right")
    first = np.searchsorted(series.at_us, steps_us - range_us, "right")
    counts = last - first
    if int(counts.sum()) > WINDOW_SAMPLES_MAX:
        raise ExecutionError(
            f"{function}: the windows of a series have more than {WINDOW_SAMPLES_MAX} samples"
        )
    is_there = counts > 0
    made = np.zeros(len(steps_us))
    match function:
        case "rate" | "increase" | "delta":
            is_there = counts > 1
            chosen = first[is_there], last[is_there] - 1, steps_us[is_there]
            made[is_there] = _extrapolated(function, series, *chosen, range_us)
        case "count_over_time":
            made = counts.astype(np.float64)
        case "last_over_time":
            made[is_there] = series.values[last[is_there] - 1]
        case _:
            made[is_there] = _folded(FOLDS[function], series.values, first[is_there], last[is_there])
            if function == "avg_over_time":
                made[is_there] /= counts[is_there]
    return made, is_there


def _folded(fold: Any, values: Floats, first: NDArray[np.int64], last: NDArray[np.int64]) -> Floats:
    """Windows of at least one sample each: reduceat takes first and last in turns, and what is between is left out."""
    if not len(first):
        return np.zeros(0)
    ends = np.column_stack((first, last)).ravel()
    return np.asarray(fold.reduceat(np.append(values, 0.0), ends)[::2], np.float64)


def _extrapolated(
    function: str,
    series: Series,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    ends_us: Times,
    range_us: int,
) -> Floats:
    """The change between the first and the last sample of each window, as if it went on to the window's ends."""
    at_us, values = series.at_us, series.values
    change = values[last] - values[first]
    is_counter = function != "delta"
    if is_counter:
        before = np.where(values[1:] < values[:-1], values[:-1], 0.0)
        change = change + _folded(np.add, before, first, last)
    sampled = (at_us[last] - at_us[first]) / 1e6
    distance = sampled / (last - first)
    to_start = (at_us[first] - (ends_us - range_us)) / 1e6
    to_end = (ends_us - at_us[last]) / 1e6
    to_start = np.where(to_start >= EXTRAPOLATED_MAX * distance, distance / 2, to_start)
    to_end = np.where(to_end >= EXTRAPOLATED_MAX * distance, distance / 2, to_end)
    if is_counter:
        # A counter was never below zero.
        goes_up = (change > 0) & (values[first] >= 0)
        to_zero = sampled * values[first] / np.where(goes_up, change, 1.0)
        to_start = np.where(goes_up, np.minimum(to_start, to_zero), to_start)
    factor = (sampled + to_start + to_end) / sampled
    if function == "rate":
        factor = factor / (range_us / 1e6)
    return np.asarray(change * factor, np.float64)
