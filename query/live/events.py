"""Datapoints as Server-Sent Events (WHATWG HTML, 9.2): ``id`` is the seq, ``data`` the line that NDJSON would have."""

from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from query.formats.layout import Layout
from query.formats.texts import TextRows
from query.rows import raw
from query.rowtext import LINES
from storage.wide import PhysicalColumn


def events_of(
    table: pa.Table, columns: Sequence[PhysicalColumn], zone: ZoneInfo, channel: int
) -> Iterator[tuple[int, bytes]]:
    """Each row's seq and event, in the table's order.

    Args:
        table: rows of one channel.
        columns: of the channel.
        zone: of times.
        channel: its number.
    """
    own = [(column.physical, column.name, column.kind) for column in columns]
    lines = b"".join(TextRows(own, Layout(zone, descending=None), LINES, channel).pieces(table)).split(b"\n")
    seqs: NDArray[np.int64] = raw(table, "seq")
    for seq, line in zip(seqs.tolist(), lines, strict=False):
        yield seq, b"event: datapoint\nid: %d\ndata: %b\n\n" % (seq, line)


def gap_event(first_seq: int, next_seq: int) -> bytes:
    """Datapoints with ``first_seq <= seq < next_seq`` are not shown: more came than are given after the fact."""
    return b'event: gap\ndata: {"from":%d,"to":%d}\n\n' % (first_seq, next_seq - 1)


def lagged_event(last_seq: int) -> bytes:
    """The reader was too slow; everything up to last_seq was sent."""
    return b'event: lagged\ndata: {"since":%d}\n\n' % last_seq


HEARTBEAT = b":\n\n"
