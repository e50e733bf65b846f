"""Groups of datapoints and what their streams come to: buckets of time, devices, tags, or everything as one.

A group's key is the start of its bucket and the names that were asked for. Everything here is in memory, so how much
there may be of it has a limit, ``query.buckets_max``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby, pairwise
from typing import Any, Final

from query.calendar import Calendar, TooManyBucketsError
from query.errors import ApiError
from query.measures import Number, Tally, plain
from storage.naming import stream_name

Path = tuple[str | None, ...]
Key = tuple[Any, ...]
BY: Final = ("device", "tag")


class FillKind(Enum):
    """What stands where a bucket has no number of a stream."""

    NONE = "none"
    NULL = "null"
    PREVIOUS = "previous"
    LINEAR = "linear"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Fill:
    """How gaps are filled; the number counts for NUMBER only."""

    kind: FillKind
    number: Number = 0


@dataclass(frozen=True, slots=True)
class Grouping:
    """How datapoints are put together.

    Attributes:
        calendar: buckets of time, or None.
        by: further: device, tag, or both, in this order.
    """

    calendar: Calendar | None = None
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One group of a result.

    Attributes:
        start_us: of its bucket; None if there are none.
        names: of device and tag, as asked for.
        numbers: of each stream, in the order of the aggregates.
    """

    start_us: int | None
    names: tuple[str | None, ...]
    numbers: Mapping[Path, Sequence[Number | None]]


@dataclass(slots=True)
class Buckets:
    """Tallies by group and stream; a nested number has its keys after the stream's name.

    Attributes:
        limit: so many tallies at most.
        is_approximate: percentiles are.
    """

    limit: int
    tallies: dict[Key, dict[Path, Tally]] = field(default_factory=dict)
    is_approximate: bool = False
    _count: int = 0

    def tally(self, key: Key, path: Path) -> Tally:
        """The one of a group's stream. Raises ApiError: BAD_PARAMETER if there would be too many."""
        group = self.tallies.get(key)
        if group is None:
            group = self.tallies[key] = {}
        tally = group.get(path)
        if tally is None:
            self._count += 1
            if self._count > self.limit:
                raise too_many(self.limit)
            tally = group[path] = Tally()
        return tally

    def paths(self, streams: Sequence[str | None]) -> list[Path]:
        """All of the result, those of the streams in this order first."""
        found = dict.fromkeys(path for group in self.tallies.values() for path in group)
        place = {name: i for i, name in enumerate(dict.fromkeys(streams))}
        return sorted(found, key=lambda path: (len(path), place.get(path[0], len(place)), path[1:]))

    def rows(self, aggregates: Sequence[str], grouping: Grouping) -> list[Row]:
        """In the order of time, then of names; only what there is."""
        made = []
        for key, group in self.tallies.items():
            start, names = (key[0], key[1:]) if grouping.calendar else (None, key)
            numbers = {path: [tally.result(name) for name in aggregates] for path, tally in group.items()}
            made.append(Row(start, names, numbers))
        made.sort(key=lambda row: (row.start_us or 0, _names_order(row.names)))
        return made


def too_many(limit: int) -> ApiError:
    return ApiError(
        "BAD_PARAMETER",
        f"more than {limit} buckets x groups x streams ([query] buckets_max):"
        " ask for a longer interval, a shorter range, or fewer devices, tags or streams",
    )


def filled(
    rows: Sequence[Row],
    aggregates: Sequence[str],
    calendar: Calendar,
    span: tuple[int, int],
    fill: Fill,
    limit: int,
) -> list[Row]:
    """A row for every bucket of the span and each group, with all streams that the group has anywhere.

    Args:
        rows: in order.
        aggregates: of each stream. The count of nothing is 0, however the others are filled.
        calendar: the buckets.
        span: first and last time.
        fill: what stands in gaps.
        limit: buckets x groups x streams at most.

    Raises:
        ApiError: BAD_PARAMETER if there would be too many.
    """
    if not rows or fill.kind is FillKind.NONE:
        return list(rows)
    groups = [(names, list(own)) for names, own in groupby(
        sorted(rows, key=lambda row: _names_order(row.names)), key=lambda row: row.names
    )]  # fmt: skip
    streams = [list(dict.fromkeys(path for row in own for path in row.numbers)) for _, own in groups]
    try:
        starts = calendar.starts(*span, limit // sum(map(len, streams)))
    except TooManyBucketsError:
        raise too_many(limit) from None
    made = []
    for (names, own), paths in zip(groups, streams, strict=True):
        known = {row.start_us: row.numbers for row in own}
        columns: dict[Path, list[list[Number | None]]] = {
            path: [
                _column([known.get(start, {}).get(path, (None,) * len(aggregates))[i] for start in starts],
                        starts, Fill(FillKind.NUMBER) if name == "count" else fill)
                for i, name in enumerate(aggregates)
            ]
            for path in paths
        }  # fmt: skip
        for i, start in enumerate(starts):
            made.append(Row(start, names, {path: [each[i] for each in columns[path]] for path in paths}))
    made.sort(key=lambda row: (row.start_us or 0, _names_order(row.names)))
    return made


def _column(numbers: list[Number | None], starts: Sequence[int], fill: Fill) -> list[Number | None]:
    """One aggregate of one stream over all buckets, gaps filled as far as there is something to go by."""
    known = [i for i, number in enumerate(numbers) if number is not None]
    made = list(numbers)
    match fill.kind:
        case FillKind.NUMBER:
            return [fill.number if number is None else number for number in numbers]
        case FillKind.PREVIOUS:
            for i in range(known[0] if known else len(made), len(made)):
                made[i] = made[i - 1] if made[i] is None else made[i]
        case FillKind.LINEAR:
            for left, right in pairwise(known):
                made[left + 1 : right] = _line(numbers, starts, left, right)
        case _:
            pass
    return made


def _line(
    numbers: Sequence[Number | None], starts: Sequence[int], left: int, right: int
) -> Iterator[Number | None]:
    first, last = numbers[left], numbers[right]
    assert first is not None
    assert last is not None
    length = starts[right] - starts[left]
    for i in range(left + 1, right):
        share = (starts[i] - starts[left]) / length
        yield plain(first * (1 - share) + last * share)


def _names_order(names: Sequence[str | None]) -> list[tuple[bool, str]]:
    return [(name is not None, name or "") for name in names]


def nested(numbers: Mapping[Path, Any], *, is_literal: bool) -> Any:
    """What stands in ``value``: an object, or what the literal payload has if there are no others in the reply."""
    if is_literal:
        return numbers.get((None,))
    value: dict[str, Any] = {}
    # A stream that was a number and an object: the number stands, for it came first by its path's length.
    for path in sorted(numbers, key=len):
        place = value
        for key in path[:-1]:
            inner = place.setdefault(stream_name(key), _Inner())
            if not isinstance(inner, _Inner):
                break
            place = inner
        else:
            place.setdefault(stream_name(path[-1]), numbers[path])
    return value


class _Inner(dict[str, Any]):
    """An object on the way to a number; the leaf of several aggregates is a plain dict."""
