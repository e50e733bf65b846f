"""Aggregates of a channel's rows: avg, sum, min, max of each stream, as the contract nests them (3.3).

Partial results of files and of the rows that are not in files yet are put together here, so nothing is read twice and
no union is planned. Numbers and integers beyond 2**53 of one stream live in two columns; integers are added exactly.
Numbers inside nested JSON keep their nesting; they are taken out of the text row by row, which is slow (about 2 µs
each) and bounded in memory.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from query.engine import Engine, quoted
from query.plan import FILES_MAX
from query.rows import ChannelRows
from storage.kinds import Kind
from storage.wide import PhysicalColumn

TYPES: Final = ("avg", "sum", "min", "max")
NUMERIC: Final = (Kind.NUMBER, Kind.INTEGER)
NESTING_MAX: Final = 64

Path = tuple[str | None, ...]


@dataclass(slots=True)
class Partial:
    """What is known of one stream so far."""

    count: int = 0
    total: int | float = 0
    least: int | float | None = None
    most: int | float | None = None

    def add(self, count: int, total: Any, least: Any, most: Any) -> None:
        if count:
            self.count += count
            self.total += total
            self.least = least if self.least is None else min(self.least, least)
            self.most = most if self.most is None else max(self.most, most)

    def result(self, aggregate: str) -> int | float:
        """Of at least one value."""
        assert self.least is not None
        assert self.most is not None
        match aggregate:
            case "avg":
                return self.total / self.count
            case "sum":
                return self.total
            case "min":
                return self.least
            case _:
                return self.most


@dataclass(slots=True)
class Aggregation:
    """Partial results by stream; a nested number has its keys after the stream's name."""

    partials: dict[Path, Partial] = field(default_factory=dict)

    def of(self, path: Path) -> Partial:
        return self.partials.setdefault(path, Partial())

    def value(self, aggregate: str) -> Any:
        """What stands in ``value``: an object, or a number for literal payloads; None without any number."""
        found = {path: partial for path, partial in self.partials.items() if partial.count}
        if not found:
            return None
        if set(found) == {(None,)}:
            return plain(found[None,].result(aggregate))
        value: dict[str, Any] = {}
        # A stream that was a number and an object: the number stands, for it came first by its path's length.
        for path in sorted(found, key=len):
            place = value
            for key in path[:-1]:
                inner = place.setdefault(key or "value", {})
                if not isinstance(inner, dict):
                    break
                place = inner
            else:
                place.setdefault(path[-1] or "value", plain(found[path].result(aggregate)))
        return value


def plain(number: int | float) -> int | float:
    """Integral doubles without a fraction, as everywhere in results."""
    return (
        int(number) if isinstance(number, float) and number.is_integer() and abs(number) < 2**53 else number
    )


def aggregate_rows(rows: ChannelRows, engine: Engine, snapshot_files: Sequence[Any]) -> Aggregation:
    """All of a selection's rows. In a worker thread.

    Args:
        rows: the selection, its windows and its rows in the ring.
        engine: runs the sums.
        snapshot_files: the published files of the selection.
    """
    aggregation = Aggregation()
    numeric = [column for column in rows.columns if column.kind in NUMERIC]
    nested = [column for column in rows.columns if column.kind is Kind.JSON]
    for first in range(0, len(snapshot_files), FILES_MAX):
        files = snapshot_files[first : first + FILES_MAX]
        known = max(file.columns for file in files)
        here = [column for column in numeric if column in rows.columns[:known]]
        if here:
            _add(aggregation, here, engine.aggregate(files, expressions(here), rows.selection))
    for window in rows.windows:
        if nested and window.published:
            _add_nested(aggregation, nested, rows.table(window))
        for table in rows.unpublished_of(window):
            here = [column for column in numeric if column.physical in table.column_names]
            if here:
                _add(aggregation, here, engine.aggregate_table(table, expressions(here)))
            if nested and not window.published:
                _add_nested(aggregation, nested, table)
    return aggregation


def expressions(columns: Sequence[PhysicalColumn]) -> list[str]:
    """count, sum, min, max of each column; Kahan's sum for doubles, an exact one for integers."""
    made = []
    for column in columns:
        name = quoted(column.physical)
        total = f"fsum({name})" if column.kind is Kind.NUMBER else f"sum({name}::HUGEINT)"
        made += [f"count({name})", total, f"min({name})", f"max({name})"]
    return made


def _add(aggregation: Aggregation, columns: Sequence[PhysicalColumn], row: Sequence[Any]) -> None:
    for i, column in enumerate(columns):
        aggregation.of((column.name,)).add(*row[4 * i : 4 * i + 4])


def _add_nested(aggregation: Aggregation, columns: Sequence[PhysicalColumn], table: pa.Table) -> None:
    for column in columns:
        if column.physical not in table.column_names:
            continue
        for text in table.column(column.physical).drop_null().to_pylist():
            for path, number in numbers_in(json.loads(text), (column.name,)):
                aggregation.of(path).add(1, number, number, number)


def numbers_in(value: Any, path: Path) -> Iterator[tuple[Path, int | float]]:
    """Each number that is reached through objects alone, with its path."""
    if isinstance(value, dict) and len(path) < NESTING_MAX:
        for key, inner in value.items():
            yield from numbers_in(inner, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value
