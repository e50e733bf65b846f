"""What aggregates are made of: partial results of one stream that can be put together exactly.

Each source of rows (some files, a table in memory, a number inside JSON) gives a tally its share, so nothing is read
twice. Integers stay integers, so their sums are exact. The spread is kept as mean and squared deviations and put
together after Chan, Golub and LeVeque (1983), which loses no digits where sums of squares do. Percentiles need all
values at once and are filled in by query/percentiles.py.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, Final

from query.engine import quoted
from storage.kinds import Kind
from storage.wide import PhysicalColumn

PLAIN: Final = ("avg", "sum", "min", "max")  # the contract's
NAMES: Final = (*PLAIN, "count", "first", "last", "stddev")
PERCENTILE: Final = re.compile(r"p(100|[0-9]{1,2}(?:\.[0-9]{1,6})?)", re.ASCII)
AGGREGATES_MAX: Final = 32

# What each aggregate needs to know besides the count, and how many columns of SQL that is.
NEEDS: Final = {
    "avg": "sum", "sum": "sum", "min": "min", "max": "max", "first": "first", "last": "last", "stddev": "spread",
}  # fmt: skip
CELLS: Final = {"sum": 1, "min": 1, "max": 1, "first": 2, "last": 2, "spread": 2}

Number = int | float


def parse_aggregates(text: str) -> tuple[str, ...]:
    """The names of a list with commas, each once. Raises ValueError, with words for who wrote it."""
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    for name in names:
        if name not in NAMES and PERCENTILE.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not one of {', '.join(NAMES)}, p0 .. p100")
    if len(names) > AGGREGATES_MAX:
        raise ValueError(f"{len(names)} aggregates; up to {AGGREGATES_MAX} at a time")
    return names


def percentiles_of(aggregates: Sequence[str]) -> dict[str, float]:
    """The share of values below, by name."""
    return {name: float(name[1:]) / 100 for name in aggregates if PERCENTILE.fullmatch(name)}


def parts_of(aggregates: Sequence[str]) -> tuple[str, ...]:
    """What tallies have to know for these aggregates."""
    return tuple(dict.fromkeys(NEEDS[name] for name in aggregates if name in NEEDS))


def order_key(at_us: int, seq: int) -> int:
    """First and last are decided by time, then by arrival: the key of a datapoint."""
    return (at_us << 63) + seq


ORDER_SQL: Final = '(epoch_us("at")::HUGEINT * 9223372036854775808::HUGEINT + seq)'


def expressions(column: PhysicalColumn, parts: Sequence[str]) -> list[str]:
    """A column's share of a tally, in SQL: the count, then the cells of each part."""
    name = quoted(column.physical)
    made = [f"count({name})"]
    for part in parts:
        match part:
            case "sum":
                made.append(f"sum({name})" if column.kind is Kind.NUMBER else f"sum({name}::HUGEINT)")
            case "min" | "max":
                made.append(f"{part}({name})")
            case "first" | "last":
                which = "min" if part == "first" else "max"
                made.append(f"{which}({ORDER_SQL}) FILTER (WHERE {name} IS NOT NULL)")
                made.append(f"arg_{which}({name}, {ORDER_SQL})")
            case "spread":
                made += [f"avg({name}::DOUBLE)", f"var_pop({name}::DOUBLE)"]
    return made


def cells_of(parts: Sequence[str]) -> int:
    """How many columns of SQL a column's share has."""
    return 1 + sum(CELLS[part] for part in parts)


class Tally:
    """What is known of one stream in one group so far.

    Attributes:
        quantiles: by the name of the percentile.
    """

    __slots__ = (
        "_deviations", "_first", "_greatest", "_last", "_least", "_mean", "_total", "count", "quantiles",
    )  # fmt: skip

    def __init__(self) -> None:
        self.count = 0
        self.quantiles: dict[str, float] = {}
        self._total: Number = 0
        self._least: Number = math.inf
        self._greatest: Number = -math.inf
        self._mean = self._deviations = 0.0
        self._first: tuple[int, Number] | None = None
        self._last: tuple[int, Number] | None = None

    def merge(self, parts: Sequence[str], cells: Sequence[Any]) -> None:
        """A share as ``expressions`` gives it, with at least one number."""
        count = cells[0]
        at = 1
        for part in parts:
            cell = cells[at]
            match part:
                case "sum":
                    self._total += cell
                case "min":
                    self._least = min(self._least, cell)
                case "max":
                    self._greatest = max(self._greatest, cell)
                case "first":
                    if self._first is None or cell < self._first[0]:
                        self._first = cell, cells[at + 1]
                case "last":
                    if self._last is None or cell > self._last[0]:
                        self._last = cell, cells[at + 1]
                case "spread":
                    self._spread(count, cell, cells[at + 1] * count)
            at += CELLS[part]
        self.count += count

    def add(self, number: Number, key: int) -> None:
        """One number, and when it came."""
        self._total += number
        self._least = min(self._least, number)
        self._greatest = max(self._greatest, number)
        if self._first is None or key < self._first[0]:
            self._first = key, number
        if self._last is None or key > self._last[0]:
            self._last = key, number
        self._spread(1, float(number), 0.0)
        self.count += 1

    def _spread(self, count: int, mean: float, deviations: float) -> None:
        total = self.count + count
        delta = mean - self._mean
        self._mean += delta * (count / total)
        self._deviations += deviations + delta * delta * (self.count * count / total)

    def result(self, aggregate: str) -> Number | None:
        """The aggregate, as results show numbers; None if there is none, or no double holds it."""
        match aggregate:
            case "count":
                return self.count
            case "avg":
                return plain(self._total / self.count)
            case "sum":
                return plain(self._total)
            case "min":
                return plain(self._least)
            case "max":
                return plain(self._greatest)
            case "first":
                return None if self._first is None else plain(self._first[1])
            case "last":
                return None if self._last is None else plain(self._last[1])
            case "stddev":
                return plain(math.sqrt(self._deviations / (self.count - 1))) if self.count > 1 else None
            case _:
                found = self.quantiles.get(aggregate)
                return None if found is None else plain(found)


def plain(number: Number) -> Number | None:
    """Integral doubles without a fraction, as everywhere in results; None beyond every double."""
    if isinstance(number, int):
        return number
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
