"""Published files read whole: what a range needs that is about every device and every tag.

DuckDB is good at finding few rows among many. Where nearly all are wanted, decoding the columns straight into Arrow
takes half its time (45 ns a row of four streams against 88), because names stay dictionaries and nothing is copied. Row
groups outside of the range are passed over by their statistics.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from query.plan import Selection
from storage.cover import PublishedFile
from storage.wide import FIXED_FIELDS, NAMES_TYPE, PhysicalColumn

AT, TAG = 1, 3  # positions among the fixed columns
TIME_TYPE: Final = FIXED_FIELDS[AT].type


def read_whole(
    files: Sequence[PublishedFile], columns: Sequence[PhysicalColumn], selection: Selection
) -> list[pa.Table]:
    """The rows of these files in the selection's range: the fixed columns, and those of the others that a file has.

    Args:
        files: all of one channel.
        columns: all of the channel's, in order of registration.
        selection: neither its tags nor its devices count.
    """
    return [table for file in files for table in _tables(file, columns, selection)]


def _tables(
    file: PublishedFile, columns: Sequence[PhysicalColumn], selection: Selection
) -> Iterator[pa.Table]:
    with pq.ParquetFile(file.path, read_dictionary=["device", "tag"]) as parquet:
        metadata = parquet.metadata
        groups = [
            i
            for i in range(metadata.num_row_groups)
            if _overlaps(metadata.row_group(i).column(AT).statistics, selection)
        ]
        if not groups:
            return
        wanted = [column.physical for column in columns[: file.columns] if selection.wants(column)]
        has_tags = any(_has_values(metadata.row_group(i), TAG) for i in groups)
        fixed = [field.name for field in FIXED_FIELDS if has_tags or field.name != "tag"]
        # A name before a dot also finds the columns behind it: select takes them out again.
        table = parquet.read_row_groups(groups, [*fixed, *wanted], use_threads=False)
    if not has_tags:
        table = table.append_column("tag", pa.nulls(table.num_rows, NAMES_TYPE))
    table = table.select(["seq", "at", "device", "tag", *wanted])
    if file.first_us < selection.start_us or file.last_us >= selection.end_us:
        at = table.column("at").cast(pa.int64())
        inside = pa.compute.and_(
            pa.compute.greater_equal(at, selection.start_us), pa.compute.less(at, selection.end_us)
        )
        table = table.filter(inside)
    yield table


def _overlaps(statistics: Any, selection: Selection) -> bool:
    if statistics is None or not statistics.has_min_max:
        return True
    low, high = (
        pa.scalar(bound, TIME_TYPE).cast(pa.int64()).as_py() for bound in (statistics.min, statistics.max)
    )
    return bool(low < selection.end_us and high >= selection.start_us)


def _has_values(group: Any, column: int) -> bool:
    statistics = group.column(column).statistics
    return statistics is None or not statistics.has_null_count or statistics.null_count < group.num_rows
