"""Pages of a range: at most n rows at a time, and where the next page begins.

A cursor names the last row of its page by channel, time and seq, and the seq below which rows were durable when the
first page was asked for. Rows never move and never change, so each of those comes exactly once, whatever arrives
meanwhile, and whether it lies in the ring or in a file by then. What retention removes in between is gone.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from query.cursors import place_of
from query.errors import ApiError
from query.order import time_order
from query.plan import Selection
from query.rows import ChannelRows, raw
from query.stream_request import StreamRequest
from storage.cover import TIME_MAX_US, TIME_MIN_US

# A page reads windows of a few times its rows, and no fewer than a file's row groups are worth.
WINDOW_PAGES: Final = 4
WINDOW_ROWS_MIN: Final = 32_768
DIGEST_BYTES: Final = 8


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page begins.

    Attributes:
        digest: of the request: another one's pages are elsewhere.
        below_seq: rows from here on came after the first page.
        part: position among the request's channels.
        at_us, seq: the last row before the page; both None at the beginning of a part.
    """

    digest: bytes
    below_seq: int
    part: int = 0
    at_us: int | None = None
    seq: int | None = None

    @property
    def order(self) -> tuple[int, int] | None:
        return None if self.at_us is None or self.seq is None else (self.at_us, self.seq)


def digest_of(asked: StreamRequest, channels: Sequence[int]) -> bytes:
    """What must be the same on every page."""
    same = (
        list(channels), asked.start_us, asked.end_us, asked.descending, sorted(asked.tags), sorted(asked.devices),
    )  # fmt: skip
    return hashlib.blake2b(msgspec.msgpack.encode(same), digest_size=DIGEST_BYTES).digest()


def cursor_of(asked: StreamRequest, channels: Sequence[int], durable: int) -> Cursor:
    """The one that the request carries, or the first. Raises ApiError: BAD_PARAMETER."""
    digest = digest_of(asked, channels)
    if asked.cursor is None:
        return Cursor(digest, durable)
    cursor = place_of(asked.cursor, Cursor)
    if cursor.digest != digest:
        raise ApiError("BAD_PARAMETER", "cursor: it belongs to another request; begin again without it")
    if (
        not (0 <= cursor.part < len(channels) and 0 <= cursor.below_seq <= durable)
        or (cursor.at_us is None) != (cursor.seq is None)
        or not TIME_MIN_US <= (cursor.at_us or 0) < TIME_MAX_US
        or not 0 <= (cursor.seq or 0) < durable
    ):
        raise ApiError("BAD_PARAMETER", "cursor: not one that an earlier page gave")
    return cursor


def window_rows(limit: int) -> int:
    return max(WINDOW_ROWS_MIN, WINDOW_PAGES * limit)


def rest_of(selection: Selection, cursor: Cursor, *, descending: bool) -> Selection:
    """The selection without what lies before the cursor; for the cursor's own part."""
    if cursor.at_us is None:
        return selection
    if descending:
        return replace(selection, end_us=min(selection.end_us, cursor.at_us + 1))
    return replace(selection, start_us=max(selection.start_us, cursor.at_us))


@dataclass(frozen=True, slots=True)
class Page:
    """Rows by part, in order; and the next page's cursor, if there is one."""

    tables: dict[int, pa.Table]
    following: Cursor | None


def read_page(
    cursor: Cursor,
    parts: int,
    rows_of: Callable[[int], ChannelRows | None],
    limit: int,
    *,
    descending: bool,
) -> Page:
    """The page that begins at the cursor.

    Args:
        cursor: where.
        parts: how many the request has.
        rows_of: a part's rows from the cursor on; None if it has none.
        limit: rows of the page.
        descending: newest first.
    """
    tables: dict[int, pa.Table] = {}
    left = limit
    last: Cursor = cursor
    for part in range(cursor.part, parts):
        rows = rows_of(part)
        if rows is None:
            continue
        after = cursor.order if part == cursor.part else None
        found: list[pa.Table] = []
        for table in _in_order(rows, cursor.below_seq, after, descending=descending):
            if left == 0 and table.num_rows:
                return Page(tables | _joined(part, found), last)
            table = table.slice(0, left + 1)
            kept = table.slice(0, left)
            if kept.num_rows:
                found.append(kept)
                left -= kept.num_rows
                at_us, seq = int(raw(kept, "at")[-1]), int(raw(kept, "seq")[-1])
                last = replace_position(cursor, part, at_us, seq)
            if table.num_rows > kept.num_rows:
                return Page(tables | _joined(part, found), last)
        tables |= _joined(part, found)
    return Page(tables, None)


def replace_position(cursor: Cursor, part: int, at_us: int, seq: int) -> Cursor:
    return Cursor(cursor.digest, cursor.below_seq, part, at_us, seq)


def _joined(part: int, found: Sequence[pa.Table]) -> dict[int, pa.Table]:
    return {part: pa.concat_tables(found, promote_options="default")} if found else {}


def _in_order(
    rows: ChannelRows, below_seq: int, after: tuple[int, int] | None, *, descending: bool
) -> Iterator[pa.Table]:
    """Each window's rows that belong to the pages, in order."""
    for window in rows.windows[::-1] if descending else rows.windows:
        table = rows.table(window)
        at_us, seq = raw(table, "at"), raw(table, "seq")
        mask = seq < below_seq
        if after is not None:
            same = at_us == after[0]
            mask &= (at_us < after[0]) | (same & (seq < after[1])) if descending else (
                (at_us > after[0]) | (same & (seq > after[1]))
            )  # fmt: skip
        kept = np.flatnonzero(mask)
        order = time_order(np.ascontiguousarray(at_us[kept]), np.ascontiguousarray(seq[kept]), descending)
        yield table.take(kept[order])
