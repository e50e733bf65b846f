"""Aggregates of a channel's rows, by buckets of time, device and tag (contract 3.3, and beyond).

Published files are aggregated where they are, by DuckDB; the rows that are not in files yet are aggregated as tables in
memory; the shares are put together here. Numbers and integers beyond 2**53 of one stream live in two columns. Numbers
inside nested JSON keep their nesting; they are taken out of the text row by row, which is slow (about 2 µs each) and
bounded in memory. What has no numbers in it for sure, like a stray ``null``, is never fetched.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from query.buckets import Buckets, Grouping, Key, Path
from query.calendar import SPAN_US, bucket_sql
from query.engine import Engine, condition, quoted, source
from query.measures import cells_of, expressions, order_key, parts_of
from query.plan import FILES_MAX, Selection
from query.rows import ChannelRows, raw
from storage.cover import PublishedFile
from storage.kinds import Kind
from storage.wide import PhysicalColumn

NUMERIC: Final = (Kind.NUMBER, Kind.INTEGER)
NESTING_MAX: Final = 64
EXACT_DIGITS_MAX: Final = 40
# No stream is called so: control characters are replaced in physical names.
BUCKET: Final = "\x01bucket"
AT_SQL: Final = 'epoch_us("at")'
# What one query over a table in memory is worth, for it costs a millisecond: 100,000 rows of some numbers.
JOINED_BYTES: Final = 8 << 20
Found = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Aggregates:
    """What is asked of a selection's numbers.

    Attributes:
        names: of aggregates, in order.
        buckets_max: buckets x groups x streams at most.
        exact_values_max: so many values of a stream are sorted at once for percentiles; of more they are estimated.
        has_nested: numbers inside JSON count.
    """

    names: tuple[str, ...]
    grouping: Grouping
    buckets_max: int
    exact_values_max: int
    has_nested: bool = True


def aggregate_rows(
    rows: ChannelRows, engine: Engine, published: Sequence[PublishedFile], asked: Aggregates
) -> Buckets:
    """All of a selection's rows, but for percentiles. In a worker thread.

    Args:
        rows: the selection, its windows and its rows in the ring.
        engine: runs the sums.
        published: the files of the selection.
        asked: what is wanted of them.

    Raises:
        ApiError: BAD_PARAMETER if there are too many results.
    """
    buckets = Buckets(asked.buckets_max)
    parts = parts_of(asked.names)
    numeric, nested = numeric_of(rows), nested_of(rows) if asked.has_nested else []
    sums: list[tuple[list[PhysicalColumn], int, Future[Found]]] = []
    try:
        for files in file_groups(published):
            if here := columns_in(files, rows, numeric):
                keys = keys_in_files(files, rows.selection, asked.grouping)
                where, parameters = condition(rows.selection, files)
                sql = _sql(keys, here, parts, source(files) + where, asked.buckets_max)
                sums.append((here, len(keys), engine.ahead.submit(engine.fetch, sql, parameters)))
        # DuckDB has its threads for these; meanwhile this one reads what is not in files of their sort.
        for table in joined(table for window in rows.windows for table in rows.unpublished_of(window)):
            if here := [column for column in numeric if column.physical in table.column_names]:
                keys = keys_in_table(asked.grouping)
                sql = _sql(keys, here, parts, "unpublished", asked.buckets_max)
                with_bucket = bucketed(table, asked.grouping)
                _merge(buckets, len(keys), here, parts, engine.fetch(sql, (), {"unpublished": with_bucket}))
            _add_nested(buckets, nested, asked.grouping, table)
        for files in file_groups(published):
            if here := columns_in(files, rows, nested):
                for batch in nested_in_files(engine, files, here, rows.selection):
                    _add_nested(buckets, here, asked.grouping, pa.Table.from_batches([batch]))
        for here, count, found in sums:
            _merge(buckets, count, here, parts, found.result())
    finally:
        # Nobody reads files of a snapshot that is closed.
        wait([found for _, _, found in sums if not found.cancel()])
    return buckets


def joined(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in fewer tables, for each costs a query."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(each.nbytes for each in waiting) >= JOINED_BYTES:
            yield pa.concat_tables(waiting, promote_options="default")
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting, promote_options="default")


def numeric_of(rows: ChannelRows) -> list[PhysicalColumn]:
    """The columns of numbers that are asked for."""
    return [each for each in rows.columns if each.kind in NUMERIC and rows.selection.wants(each)]


def nested_of(rows: ChannelRows) -> list[PhysicalColumn]:
    """The columns of JSON that are asked for."""
    return [each for each in rows.columns if each.kind is Kind.JSON and rows.selection.wants(each)]


def columns_in(
    files: Sequence[PublishedFile], rows: ChannelRows, columns: Sequence[PhysicalColumn]
) -> list[PhysicalColumn]:
    """Those that at least one of the files has."""
    known = {column.id for column in rows.columns[: max(file.columns for file in files)]}
    return [column for column in columns if column.id in known]


def file_groups(published: Sequence[PublishedFile]) -> Iterator[list[PublishedFile]]:
    """Files by the query that reads them: not too many, and not too far from each other in time."""
    group: list[PublishedFile] = []
    for file in published:
        first_us = min((each.first_us for each in group), default=file.first_us)
        if len(group) == FILES_MAX or abs(file.last_us - first_us) > SPAN_US:
            yield group
            group = []
        group.append(file)
    if group:
        yield group


def keys_in_files(files: Sequence[PublishedFile], selection: Selection, grouping: Grouping) -> list[str]:
    """A group's key, in SQL over published files."""
    keys = list(grouping.by)
    if grouping.calendar is not None:
        first = max(min(file.first_us for file in files), selection.start_us)
        last = min(max(file.last_us for file in files), selection.end_us - 1)
        keys.insert(0, bucket_sql(grouping.calendar.runs(first, max(first, last)), AT_SQL))
    return keys


def keys_in_table(grouping: Grouping) -> list[str]:
    """A group's key, in SQL over what ``bucketed`` gives."""
    return [quoted(BUCKET)] * (grouping.calendar is not None) + list(grouping.by)


def bucketed(table: pa.Table, grouping: Grouping) -> pa.Table:
    """The table with each row's bucket, if there are any."""
    if grouping.calendar is None:
        return table
    return table.append_column(BUCKET, pa.array(grouping.calendar.floor(raw(table, "at"))))


def _sql(
    keys: Sequence[str], columns: Sequence[PhysicalColumn], parts: Sequence[str], relation: str, limit: int
) -> str:
    shares = [each for column in columns for each in expressions(column, parts)]
    group = f" GROUP BY ALL LIMIT {limit + 1}" if keys else ""
    return f"SELECT {', '.join([*keys, *shares])} FROM {relation}{group}"  # noqa: S608


def _merge(
    buckets: Buckets, keys: int, columns: Sequence[PhysicalColumn], parts: Sequence[str],
    found: Sequence[tuple[Any, ...]],
) -> None:  # fmt: skip
    width = cells_of(parts)
    places = [((column.name,), keys + i * width) for i, column in enumerate(columns)]
    for row in found:
        key = row[:keys]
        for path, at in places:
            if row[at]:
                buckets.tally(key, path).merge(parts, row[at : at + width])


# ---- nested JSON


def nested_in_files(
    engine: Engine, files: Sequence[PublishedFile], columns: Sequence[PhysicalColumn], selection: Selection
) -> Iterator[pa.RecordBatch]:
    """Rows that may have numbers inside these columns of JSON."""
    where, parameters = condition(selection, files)
    names = [quoted(column.physical) for column in columns]
    # A number is reached through objects alone, or is a large integer.
    filled = " OR ".join(f"regexp_matches({name}, '^[-0-9{{]')" for name in names)
    sql = (
        f'SELECT seq, "at", device, tag, {", ".join(names)} FROM {source(files)}'  # noqa: S608
        f"{where}{' AND' if where else ' WHERE'} ({filled})"
    )
    return engine.batches(sql, parameters)


def nested_numbers(
    table: pa.Table, columns: Sequence[PhysicalColumn], grouping: Grouping
) -> Iterator[tuple[Key, Path, int | float, int]]:
    """Each number inside JSON: its group, its path, itself, and its place in the order of time and arrival."""
    for column in columns:
        if column.physical not in table.column_names:
            continue
        part = table.filter(table.column(column.physical).is_valid())
        if not part.num_rows:
            continue
        at_us, seq = raw(part, "at"), raw(part, "seq")
        keys: list[list[Any]] = [part.column(name).to_pylist() for name in grouping.by]
        if grouping.calendar is not None:
            keys.insert(0, grouping.calendar.floor(at_us).tolist())
        groups = list(zip(*keys, strict=True)) if keys else [()] * part.num_rows
        texts = part.column(column.physical).to_pylist()
        for key, text, at, number in zip(groups, texts, at_us.tolist(), seq.tolist(), strict=True):
            for path, value in numbers_in(json.loads(text, parse_int=integer), (column.name,)):
                yield key, path, value, order_key(at, number)


def _add_nested(
    buckets: Buckets, columns: Sequence[PhysicalColumn], grouping: Grouping, table: pa.Table
) -> None:
    for key, path, value, order in nested_numbers(table, columns, grouping):
        buckets.tally(key, path).add(value, order)


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
