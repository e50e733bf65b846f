"""What a request wants made of its datapoints: aggregates, or fewer points for a chart."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from query.buckets import BY, Fill, FillKind
from query.calendar import Interval, parse_interval
from query.errors import ApiError
from query.measures import parse_aggregates
from query.points import METHODS, POINTS_MIN

NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
NUMBER_CHARACTERS_MAX: Final = 40

Ask = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class AggregateRequest:
    """Aggregates.

    Attributes:
        names: at least one.
        interval: of buckets of time, or None.
        fill: what stands in gaps between them.
        by: device, tag or both, in this order.
    """

    names: tuple[str, ...]
    interval: Interval | None
    fill: Fill
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PointsRequest:
    """Points for a chart.

    Attributes:
        count: of each series.
        method: one of query/points.METHODS.
        by: what makes a series of its own besides the stream.
    """

    count: int
    method: str
    by: tuple[str, ...]


def parse_aggregate_request(ask: Ask) -> AggregateRequest | None:
    """None if nothing is asked for. Raises ApiError: BAD_AGGREGATE, BAD_PARAMETER."""
    text = ask("aggregate")
    if text is None:
        for name in ("interval", "fill"):
            if ask(name) is not None:
                raise ApiError("BAD_PARAMETER", f"{name}: is for aggregates; aggregate= says which")
        return None
    try:
        names = parse_aggregates(text)
    except ValueError as error:
        raise ApiError("BAD_AGGREGATE", str(error)) from None
    interval = _interval(ask("interval"))
    fill = _fill(ask("fill"))
    if interval is None and fill.kind is not FillKind.NONE:
        raise ApiError("BAD_PARAMETER", "fill: is for gaps between buckets; interval= says which")
    return AggregateRequest(names, interval, fill, _by(ask("by")))


def parse_points_request(ask: Ask, points_max: int) -> PointsRequest | None:
    """None if nothing is asked for. Raises ApiError: BAD_PARAMETER."""
    count = ask("points")
    if count is None:
        for name in ("method",) if ask("aggregate") else ("method", "by"):
            if ask(name) is not None:
                raise ApiError("BAD_PARAMETER", f"{name}: is for charts; points= says how many")
        return None
    if ask("aggregate") is not None:
        raise ApiError(
            "BAD_PARAMETER", "points: are datapoints, aggregates are none; ask for one or the other"
        )
    if re.fullmatch(r"0*[1-9][0-9]{0,8}", count) is None or not POINTS_MIN <= int(count) <= points_max:
        raise ApiError(
            "BAD_PARAMETER", f"points: expected {POINTS_MIN} .. {points_max} ([query] page_rows_max)"
        )
    method = (ask("method") or METHODS[0]).strip().lower()
    if method not in METHODS:
        raise ApiError("BAD_PARAMETER", f"method: expected {' or '.join(METHODS)}")
    return PointsRequest(int(count), method, _by(ask("by")))


def _interval(text: str | None) -> Interval | None:
    if text is None:
        return None
    try:
        return parse_interval(text)
    except ValueError as error:
        raise ApiError("BAD_PARAMETER", f"interval: {error}") from None


def _fill(text: str | None) -> Fill:
    word = (text or FillKind.NONE.value).strip().lower()
    if word != FillKind.NUMBER.value and word in [kind.value for kind in FillKind]:
        return Fill(FillKind(word))
    if NUMBER.fullmatch(word) and len(word) <= NUMBER_CHARACTERS_MAX and math.isfinite(float(word)):
        return Fill(FillKind.NUMBER, float(word) if set(word) & set(".e") else int(word))
    raise ApiError("BAD_PARAMETER", "fill: expected none, null, previous, linear or a number")


def _by(text: str | None) -> tuple[str, ...]:
    words: Sequence[str] = [] if text is None else [word.strip().lower() for word in text.split(",")]
    if not set(words) <= set(BY):
        raise ApiError("BAD_PARAMETER", f"by: expected {', '.join(BY)} or both")
    return tuple(name for name in BY if name in words)
