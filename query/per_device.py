"""The newest rows of each device of a channel.

Which devices a channel has ever heard of nobody keeps, so files are looked through for them: only the columns seq and
device, except for the rows that are wanted. Fewer files are read when the devices are named, or a start is.
"""

from typing import Final

import numpy as np
import pyarrow as pa

from query.engine import Engine
from query.errors import ApiError
from query.plan import FILES_MAX
from query.rows import EMPTY, ChannelRows, one_chunk, raw
from storage.cover import HotSegment, PublishedFile
from storage.snapshot import Snapshot

# Rows of one answer: they are in memory together.
ROWS_MAX: Final = 1_000_000


def newest_of_each(snapshot: Snapshot, rows: ChannelRows, engine: Engine, count: int) -> pa.Table:
    """The newest rows of each device, at most ``count`` of one, in no order. In a worker thread.

    Args:
        snapshot: of the selection's range.
        rows: the selection's, of this snapshot.
        engine: looks through published files.
        count: how many of each device.

    Raises:
        ApiError: BAD_PARAMETER if these are more than ROWS_MAX rows.
    """
    selection = rows.selection
    files: list[PublishedFile | HotSegment] = [*snapshot.published, *snapshot.hot]
    files.sort(key=lambda file: file.next_seq)
    found = _trim([*rows.in_ring(selection)], count)
    wanted = None if selection.devices is None else len(selection.devices)
    while files and not _is_complete(found, count, wanted, files[-1].next_seq):
        taken, files = files[-FILES_MAX:], files[:-FILES_MAX]
        tables = [found]
        for segment in taken:
            if isinstance(segment, HotSegment):
                tables = [_trim([*tables, *rows.in_hot([segment], selection)], count)]
        published = [file for file in taken if isinstance(file, PublishedFile)]
        if published:
            tables.append(engine.scan(published, rows.columns, selection, newest=count, per_device=True))
        found = _trim(tables, count)
    return found


def _trim(tables: list[pa.Table], count: int) -> pa.Table:
    """Only the newest of each device."""
    table = pa.concat_tables([EMPTY, *tables], promote_options="default").combine_chunks()
    device = one_chunk(table.column("device")).indices.to_numpy(zero_copy_only=False)
    order = np.lexsort((-raw(table, "seq"), device))
    sorted_device = device[order]
    first = np.flatnonzero(np.diff(sorted_device, prepend=-1))
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    kept = table.take(order[rank < count])
    if kept.num_rows > ROWS_MAX:
        raise ApiError("BAD_PARAMETER", f"limit: more than {ROWS_MAX} rows; ask for fewer of each device")
    return kept


def _is_complete(found: pa.Table, count: int, devices: int | None, next_seq: int) -> bool:
    """Whether older files cannot change anything: every device has all its rows, and no file has a later one."""
    return (
        devices is not None and found.num_rows == devices * count and int(raw(found, "seq").min()) >= next_seq
    )
