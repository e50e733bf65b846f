"""Percentiles: between the two nearest values in order, in proportion (as Excel's PERCENTILE.INC and numpy do).

They need all values of a group at once, so the range is cut at bounds of buckets into pieces of bounded size, and
each stream is looked at on its own; its number column, its integers and its numbers inside JSON are one series of
doubles. When a single bucket has more rows than ``query.exact_values_max``, its percentiles are estimated by a
t-digest (Dunning, 2019), which is bounded in memory, and the reply says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from query import plan
from query.aggregate import (
    BUCKET,
    Aggregates,
    bucketed,
    columns_in,
    file_groups,
    keys_in_files,
    keys_in_table,
    nested_in_files,
    nested_numbers,
    nested_of,
    numeric_of,
)  # fmt: skip
from query.buckets import Buckets, Grouping, Path
from query.engine import Engine, condition, quoted, source
from query.errors import ApiError
from query.measures import percentiles_of
from query.plan import Selection
from query.rows import ChannelRows
from storage.cover import HotSegment, PublishedFile
from storage.kinds import Kind
from storage.wide import PhysicalColumn

VALUE: Final = "number"
# A number inside JSON is an object in memory until its piece is done: it counts as so many.
NESTED_COST: Final = 8


def add_percentiles(
    buckets: Buckets,
    rows: ChannelRows,
    engine: Engine,
    published: Sequence[PublishedFile],
    hot: Sequence[HotSegment],
    asked: Aggregates,
) -> None:
    """Put the percentiles into tallies that ``aggregate_rows`` has made. In a worker thread."""
    wanted = percentiles_of(asked.names)
    if not wanted:
        return

    def piece_of(start_us: int, end_us: int) -> _Piece:
        part = replace(rows.selection, start_us=start_us, end_us=end_us)
        return _Piece(
            rows, engine, part, asked,
            [file for file in published if file.first_us < end_us and file.last_us >= start_us],
            rows.unpublished([each for each in hot if each.first_us < end_us and each.last_us >= start_us], part),
        )  # fmt: skip

    left = list(_pieces(rows, asked))[::-1]
    while left:
        start, end = left.pop()
        piece = piece_of(start, end)
        is_exact = piece.values() <= asked.exact_values_max
        if not is_exact and (cut := _cut(asked.grouping, start, end)) is not None:
            left += [(cut, end), (start, cut)]
            continue
        buckets.is_approximate |= not is_exact
        piece.read_nested()
        for path in piece.paths():
            for key, quantiles in piece.quantiles(path, list(wanted.values()), is_exact=is_exact):
                buckets.tally(key, path).quantiles = dict(zip(wanted, quantiles, strict=True))


def _pieces(rows: ChannelRows, asked: Aggregates) -> Iterator[tuple[int, int]]:
    """(start, end) that together have all rows; each bucket is in one of them."""
    windows_max = max(1, asked.exact_values_max // plan.WINDOW_ROWS)
    if not rows.windows:
        return
    calendar = asked.grouping.calendar
    start = rows.windows[0].start_us
    if calendar is not None:
        for window in rows.windows[windows_max::windows_max]:
            # The bucket that the window begins in is left to the next piece.
            cut = calendar.runs(window.start_us, window.start_us)[0].start_us
            if cut > start:
                yield start, cut
                start = cut
    yield start, rows.windows[-1].end_us


def _cut(grouping: Grouping, start: int, end: int) -> int | None:
    """A bound of buckets near the middle; None if this is a single bucket. Rows may be spread unevenly."""
    if grouping.calendar is None:
        return None
    middle = (start + end) // 2
    run = grouping.calendar.runs(middle, middle)[0]
    return next((cut for cut in (run.start_us, run.start_us + run.width_us) if start < cut < end), None)


class _Piece:
    """The values of some time."""

    def __init__(
        self, rows: ChannelRows, engine: Engine, selection: Selection, asked: Aggregates,
        published: list[PublishedFile], unpublished: list[pa.Table],
    ) -> None:  # fmt: skip
        self._engine = engine
        self._grouping = asked.grouping
        self._limit = asked.buckets_max
        self._selection = selection
        self._files = published
        self._numeric = numeric_of(rows)
        self._here = [(files, columns_in(files, rows, self._numeric)) for files in file_groups(published)]
        kept = {*(column.physical for column in self._numeric), *asked.grouping.by, BUCKET}
        self._tables = [_only(kept, bucketed(table, asked.grouping)) for table in unpublished]
        self._rows = rows
        self._unpublished = unpublished
        self._nested_left = asked.exact_values_max // NESTED_COST + 1
        self._nested: dict[Path, list[tuple[Any, ...]]] = {}

    def read_nested(self) -> None:
        """Fetch the numbers inside JSON. Raises ApiError: BAD_PARAMETER if they are too many."""
        nested = nested_of(self._rows)
        for table in self._unpublished:
            self._add_nested(table, nested)
        for files in file_groups(self._files):
            if here := columns_in(files, self._rows, nested):
                for batch in nested_in_files(self._engine, files, here, self._selection):
                    self._add_nested(pa.Table.from_batches([batch]), here)

    def _add_nested(self, table: pa.Table, columns: Sequence[PhysicalColumn]) -> None:
        for key, path, value, _ in nested_numbers(table, columns, self._grouping):
            self._nested.setdefault(path, []).append((*key, float(value)))
            self._nested_left -= 1
            if not self._nested_left:
                raise ApiError(
                    "BAD_PARAMETER", "too many numbers inside objects for percentiles ([query] exact_values_max):"
                    " ask for a shorter range, or only for other streams",
                )  # fmt: skip

    def values(self) -> int:
        """How many rows there are: no stream has more values."""
        rows = sum(table.num_rows for table in self._tables)
        if self._files:
            where, parameters = condition(self._selection, self._files)
            sql = f"SELECT count(*) FROM {source(self._files)}{where}"  # noqa: S608
            rows += self._engine.fetch(sql, parameters)[0][0]
        return int(rows)

    def paths(self) -> list[Path]:
        return list(dict.fromkeys([*((column.name,) for column in self._numeric), *self._nested]))

    def quantiles(
        self, path: Path, shares: Sequence[float], *, is_exact: bool
    ) -> Iterator[tuple[tuple[Any, ...], list[float]]]:
        """Each group's percentiles of a stream."""
        columns = [column for column in self._numeric if (column.name,) == path]
        names = [f"k{i}" for i in range(len(keys_in_table(self._grouping)))]
        relations: list[str] = []
        parameters: list[str] = []
        tables: dict[str, pa.Table] = {}
        for files, known in self._here:
            if here := [column for column in columns if column in known]:
                keys = keys_in_files(files, self._selection, self._grouping)
                where, more = condition(self._selection, files)
                relations.append(_select(keys, names, here, source(files) + where))
                parameters += more
        for i, table in enumerate(self._tables):
            if here := [column for column in columns if column.physical in table.column_names]:
                tables[f"unpublished_{i}"] = table
                relations.append(_select(keys_in_table(self._grouping), names, here, f"unpublished_{i}"))
        if found := self._nested.get(path):
            cells = list(zip(*found, strict=True))
            tables["nested"] = pa.table(
                [*(pa.array(cell) for cell in cells[:-1]), pa.array(cells[-1], pa.float64())], [*names, VALUE]
            )
            relations.append(f"SELECT {', '.join([*names, VALUE])} FROM nested")  # noqa: S608
        if not relations:
            return
        function = "quantile_cont" if is_exact else "approx_quantile"
        group = f" GROUP BY {', '.join(names)} LIMIT {self._limit + 1}" if names else ""
        sql = (
            f"SELECT {', '.join([*names, f'{function}({VALUE}, {list(shares)})'])}"  # noqa: S608
            f" FROM ({' UNION ALL '.join(relations)}) WHERE {VALUE} IS NOT NULL{group}"
        )
        for row in self._engine.fetch(sql, parameters, tables):
            if row[-1] is not None:
                yield row[:-1], row[-1]


def _only(names: set[str], table: pa.Table) -> pa.Table:
    """The table with these columns alone."""
    return table.select([name for name in table.column_names if name in names])


def _select(
    keys: Sequence[str], names: Sequence[str], columns: Sequence[PhysicalColumn], relation: str
) -> str:
    """A stream's values as doubles, with the keys of their groups."""
    cells = [
        quoted(column.physical) + ("" if column.kind is Kind.NUMBER else "::DOUBLE") for column in columns
    ]
    value = cells[0] if len(cells) == 1 else f"coalesce({', '.join(cells)})"
    listed = [f"{key} AS {name}" for key, name in zip(keys, names, strict=True)]
    return f"SELECT {', '.join([*listed, f'{value} AS {VALUE}'])} FROM {relation}"  # noqa: S608
