"""Published files read whole: what a range needs that is about every device and every tag.

DuckDB is good at finding few rows among many. Where nearly all are wanted, decoding the columns straight into Arrow
takes half its time (45 ns a row of four streams against 88), because names stay dictionaries and nothing is copied. Row
groups outside of the range are passed over by their statistics.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from query.plan import ROW_BYTES, Selection
from storage.cover import PublishedFile
from storage.wide import BATCH_ROWS_MAX, FIXED_FIELDS, NAMES_TYPE, PhysicalColumn

SEQ, AT, TAG = 0, 1, 3  # positions among the fixed columns
NAMED: Final = ["device", "tag"]
# A column of names that nobody has given: the same memory for all of them.
NO_NAMES: Final = pa.nulls(BATCH_ROWS_MAX, NAMES_TYPE)


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of a published file.

    Attributes:
        footer: pyarrow's, of the whole file.
        index: the group's position in it.
        rows: what it weighs: its rows, more if they are long.
        first_us, last_us, first_seq, last_seq: what its rows are between, all inclusive.
        has_tags: some row has one.
    """

    file: PublishedFile
    footer: Any
    index: int
    rows: int
    first_us: int
    last_us: int
    first_seq: int
    last_seq: int
    has_tags: bool


def groups_of(file: PublishedFile, selection: Selection) -> list[RowGroup]:
    """The file's row groups that may have rows in the selection's range."""
    footer = pq.read_metadata(file.path)
    found = []
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        first_us, last_us = _bounds(group, AT, file.first_us, file.last_us)
        if first_us < selection.end_us and last_us >= selection.start_us:
            first_seq, last_seq = _bounds(group, SEQ, file.first_seq, file.next_seq - 1)
            rows = max(group.num_rows, group.total_byte_size // ROW_BYTES)
            found.append(
                RowGroup(
                    file, footer, index, rows, first_us, last_us, first_seq, last_seq, _has_values(group, TAG)
                )
            )
    return found


def read_whole(
    files: Sequence[PublishedFile], columns: Sequence[PhysicalColumn], selection: Selection
) -> list[pa.Table]:
    """The rows of these files in the selection's range: the fixed columns, and those of the others that a file has.

    Args:
        files: all of one channel.
        columns: all of the channel's, in order of registration.
        selection: neither its tags nor its devices count.
    """
    return read_groups((group for file in files for group in groups_of(file, selection)), columns, selection)


def read_groups(
    groups: Iterable[RowGroup], columns: Sequence[PhysicalColumn], selection: Selection
) -> list[pa.Table]:
    """As ``read_whole``, of these row groups; those of a file follow each other."""
    return [
        _read(file, list(taken), columns, selection) for file, taken in groupby(groups, attrgetter("file"))
    ]


def _read(
    file: PublishedFile, groups: Sequence[RowGroup], columns: Sequence[PhysicalColumn], selection: Selection
) -> pa.Table:
    wanted = [column.physical for column in columns[: file.columns] if selection.wants(column)]
    has_tags = any(group.has_tags for group in groups)
    fixed = [field.name for field in FIXED_FIELDS if has_tags or field.name != "tag"]
    # Without pre_buffer: a thread of pyarrow's for the reading alone takes a tenth more, and these run in parallel.
    with pq.ParquetFile(
        file.path, metadata=groups[0].footer, read_dictionary=NAMED, pre_buffer=False
    ) as parquet:
        # A name before a dot also finds the columns behind it: select takes them out again.
        indices = [group.index for group in groups]
        table = parquet.read_row_groups(indices, [*fixed, *wanted], use_threads=False)
    if not has_tags:
        table = table.append_column("tag", _no_names(table.num_rows))
    table = table.select(["seq", "at", "device", "tag", *wanted])
    if any(group.first_us < selection.start_us or group.last_us >= selection.end_us for group in groups):
        at = table.column("at").cast(pa.int64())
        inside = pa.compute.and_(
            pa.compute.greater_equal(at, selection.start_us), pa.compute.less(at, selection.end_us)
        )
        table = table.filter(inside)
    return table


def _no_names(rows: int) -> pa.Array:
    return NO_NAMES.slice(0, rows) if rows <= len(NO_NAMES) else pa.nulls(rows, NAMES_TYPE)


def _bounds(group: Any, column: int, lowest: int, highest: int) -> tuple[int, int]:
    """The least and the greatest value of an integer column; the file's where the group does not say."""
    statistics = group.column(column).statistics
    if statistics is None or not statistics.has_min_max:
        return lowest, highest
    return statistics.min_raw, statistics.max_raw


def _has_values(group: Any, column: int) -> bool:
    statistics = group.column(column).statistics
    return statistics is None or not statistics.has_null_count or statistics.null_count < group.num_rows
