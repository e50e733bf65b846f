"""Prometheus' replies: the envelope, results as text, and times as people and programs write them."""

import datetime
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from query.prometheus.errors import BadDataError, ExecutionError
from query.prometheus.evaluate import Value, signature
from query.prometheus.labels import Labels
from query.prometheus.language import parse_duration_us
from query.prometheus.samples import Times
from storage.cover import TIME_MAX_US, TIME_MIN_US

# As in Prometheus: a chart of more than so many intervals shows no more than one of fewer.
STEPS_MAX: Final = 11_000
# A point is 35 bytes and more of text; a reply is made in one piece.
REPLY_POINTS_MAX: Final = 1_000_000
MILLISECOND_US: Final = 1_000


def success(data: Any) -> bytes:
    return json.dumps({"status": "success", "data": data}, ensure_ascii=False, separators=(",", ":")).encode()


def number_text(value: float) -> str:
    """As Prometheus writes a sample: text, because JSON has no infinity."""
    if math.isfinite(value):
        return repr(value).removesuffix(".0")
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def seconds(at_us: int) -> float | int:
    """A time as Prometheus writes it: seconds, to the millisecond."""
    milliseconds = at_us // MILLISECOND_US
    return milliseconds // 1_000 if milliseconds % 1_000 == 0 else milliseconds / 1_000


def instant(value: Value, at_us: int) -> bytes:
    """A scalar or a vector at one time."""
    at = seconds(at_us)
    if isinstance(value, np.ndarray):
        return success({"resultType": "scalar", "result": [at, number_text(float(value[0]))]})
    result = [
        {"metric": row.labels, "value": [at, number_text(float(row.values[0]))]}
        for row in sorted(value, key=lambda row: signature(row.labels))
        if row.present[0]
    ]
    return success({"resultType": "vector", "result": result})


def matrix(value: Value, steps_us: Times) -> bytes:
    """Each series' values at the steps where it has one. Raises ExecutionError: too many for a reply."""
    times = [seconds(at_us) for at_us in steps_us.tolist()]
    if isinstance(value, np.ndarray):
        values = [[at, number_text(number)] for at, number in zip(times, value.tolist(), strict=True)]
        return success({"resultType": "matrix", "result": [{"metric": {}, "values": values}]})
    if (points := sum(int(row.present.sum()) for row in value)) > REPLY_POINTS_MAX:
        raise ExecutionError(f"{points} points are more than the {REPLY_POINTS_MAX} of one reply")
    result = []
    for row in sorted(value, key=lambda row: signature(row.labels)):
        at = np.flatnonzero(row.present)
        if len(at):
            values = [
                [times[i], number_text(number)]
                for i, number in zip(at.tolist(), row.values[at].tolist(), strict=True)
            ]
            result.append({"metric": row.labels, "values": values})
    return success({"resultType": "matrix", "result": result})


def names_in(limit: int | None, series: Iterable[Labels]) -> bytes:
    """The names of the series' labels."""
    return success(sorted({name for labels in series for name in labels})[:limit])


def values_in(name: str, limit: int | None, series: Iterable[Labels]) -> bytes:
    """What the series' labels of a name are."""
    return success(sorted({labels[name] for labels in series if name in labels})[:limit])


def series_in(limit: int | None, series: Sequence[Labels]) -> bytes:
    return success(series[:limit])


def time_us(name: str, text: str) -> int:
    """Seconds since 1970, or RFC 3339; to the millisecond. Raises BadDataError."""
    try:
        at_us = float(text) * 1e6
    except ValueError:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise BadDataError(
                f"{name}: expected seconds since 1970 or a time in RFC 3339, not {text!r}"
            ) from None
        if moment.tzinfo is None:
            raise BadDataError(f"{name}: {text!r} has no zone") from None
        at_us = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) / datetime.timedelta(
            microseconds=1
        )
    if not TIME_MIN_US <= at_us <= TIME_MAX_US:
        raise BadDataError(f"{name}: {text!r} is not in the years 1 .. 9999")
    return round(at_us / MILLISECOND_US) * MILLISECOND_US


def duration_us(name: str, text: str) -> int:
    """Seconds, or as in PromQL (``15s``); to the millisecond, at least one. Raises BadDataError."""
    try:
        length_us = float(text) * 1e6
    except ValueError:
        try:
            length_us = parse_duration_us(text)
        except (ValueError, OverflowError):
            raise BadDataError(f"{name}: expected seconds or a duration such as 15s, not {text!r}") from None
    if not MILLISECOND_US <= length_us <= TIME_MAX_US:
        raise BadDataError(f"{name}: expected a millisecond or more, not {text!r}")
    return round(length_us / MILLISECOND_US) * MILLISECOND_US


def steps_between(start_us: int, end_us: int, step_us: int) -> Times:
    """The times of a range query. Raises BadDataError."""
    if end_us < start_us:
        raise BadDataError("end is before start")
    if (end_us - start_us) // step_us > STEPS_MAX:
        raise BadDataError(
            f"more than {STEPS_MAX} points for each series; ask for a longer step or a shorter range"
        )
    return np.arange(start_us, end_us + 1, step_us, dtype=np.int64)
