"""Aggregates of a channel's rows: avg, sum, min, max of each stream, as the contract nests them (3.3).

Partial results of files and of the rows that are not in files yet are put together here, so nothing is read twice and
no union is planned. Numbers and integers beyond 2**53 of one stream live in two columns; integers are added exactly.
Numbers inside nested JSON keep their nesting; they are taken out of the text row by row, which is slow (about 2 µs
each) and bounded in memory.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from query.engine import Engine, quoted
from query.plan import FILES_MAX
from query.rows import ChannelRows
from storage.cover import PublishedFile
from storage.kinds import Kind
from storage.wide import PhysicalColumn

TYPES: Final = ("avg", "sum", "min", "max")
NUMERIC: Final = (Kind.NUMBER, Kind.INTEGER)
NESTING_MAX: Final = 64
EXACT_DIGITS_MAX: Final = 40

Path = tuple[str | None, ...]


@dataclass(slots=True)
class Partial:
    """What is known of one stream so far: how many numbers, and their sum, least or greatest."""

    count: int = 0
    value: int | float = 0


@dataclass(slots=True)
class Aggregation:
    """Partial results by stream; a nested number has its keys after the stream's name."""

    aggregate: str
    partials: dict[Path, Partial] = field(default_factory=dict)

    def add(self, path: Path, count: int, value: int | float | None) -> None:
        """Further numbers of a stream: how many, and their sum, least or greatest."""
        if not count or value is None:
            return
        partial = self.partials.setdefault(path, Partial())
        match self.aggregate:
            case _ if not partial.count:
                partial.value = value
            case "min":
                partial.value = min(partial.value, value)
            case "max":
                partial.value = max(partial.value, value)
            case _:
                partial.value += value
        partial.count += count

    def _result(self, path: Path) -> int | float | None:
        partial = self.partials[path]
        return plain(partial.value / partial.count if self.aggregate == "avg" else partial.value)

    def value(self) -> Any:
        """What stands in ``value``: an object, or a number for literal payloads. There is at least one number."""
        found = self.partials
        if set(found) == {(None,)}:
            return self._result((None,))
        value: dict[str, Any] = {}
        # A stream that was a number and an object: the number stands, for it came first by its path's length.
        for path in sorted(found, key=len):
            place = value
            for key in path[:-1]:
                inner = place.setdefault(shown(key), {})
                if not isinstance(inner, dict):
                    break
                place = inner
            else:
                place.setdefault(shown(path[-1]), self._result(path))
        return value


def shown(key: str | None) -> str:
    """A stream's name; the literal payload's beside others is ``value``."""
    return "value" if key is None else key


def plain(number: int | float) -> int | float | None:
    """Integral doubles without a fraction, as everywhere in results; None beyond every double."""
    if isinstance(number, int):
        return number
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def aggregate_rows(
    rows: ChannelRows, engine: Engine, published: Sequence[PublishedFile], aggregate: str
) -> Aggregation:
    """All of a selection's rows. In a worker thread.

    Args:
        rows: the selection, its windows and its rows in the ring.
        engine: runs the sums.
        published: the files of the selection.
        aggregate: one of TYPES.
    """
    aggregation = Aggregation(aggregate)
    numeric = [column for column in rows.columns if column.kind in NUMERIC]
    nested = [column for column in rows.columns if column.kind is Kind.JSON]
    for first in range(0, len(published), FILES_MAX):
        files = published[first : first + FILES_MAX]
        known = max(file.columns for file in files)
        here = [column for column in numeric if column in rows.columns[:known]]
        if here:
            _add(aggregation, here, engine.aggregate(files, expressions(here, aggregate), rows.selection))
    for window in rows.windows:
        if nested and window.published:
            _add_nested(aggregation, nested, rows.table(window))
        for table in rows.unpublished_of(window):
            here = [column for column in numeric if column.physical in table.column_names]
            if here:
                _add(aggregation, here, engine.aggregate_table(table, expressions(here, aggregate)))
            if nested and not window.published:
                _add_nested(aggregation, nested, table)
    return aggregation


def expressions(columns: Sequence[PhysicalColumn], aggregate: str) -> list[str]:
    """Count and aggregate of each column; integers are added exactly."""
    made = []
    for column in columns:
        name = quoted(column.physical)
        if aggregate in ("min", "max"):
            value = f"{aggregate}({name})"
        else:
            value = f"sum({name})" if column.kind is Kind.NUMBER else f"sum({name}::HUGEINT)"
        made += [f"count({name})", value]
    return made


def _add(aggregation: Aggregation, columns: Sequence[PhysicalColumn], row: Sequence[Any]) -> None:
    for i, column in enumerate(columns):
        aggregation.add((column.name,), *row[2 * i : 2 * i + 2])


def _add_nested(aggregation: Aggregation, columns: Sequence[PhysicalColumn], table: pa.Table) -> None:
    for column in columns:
        if column.physical not in table.column_names:
            continue
        for text in table.column(column.physical).drop_null().to_pylist():
            for path, number in numbers_in(json.loads(text, parse_int=integer), (column.name,)):
                aggregation.add(path, 1, number)


def numbers_in(value: Any, path: Path) -> Iterator[tuple[Path, int | float]]:
    """Each number that is reached through objects alone, with its path."""
    if isinstance(value, dict) and len(path) < NESTING_MAX:
        for key, inner in value.items():
            yield from numbers_in(inner, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield path, value


def integer(digits: str) -> int | float:
    """Exact as far as sums of it can be added to doubles; infinite, and thus left out, if no double holds it."""
    return int(digits) if len(digits) <= EXACT_DIGITS_MAX else float(digits)
