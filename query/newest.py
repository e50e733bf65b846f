"""The newest rows of a channel: out of the ring by its back links, in microseconds; out of files once, then kept.

A channel whose newest rows are not all in the ring any more (after a restart, or because it is quiet) is asked for
them again and again all the same. What was found in files stays true: later rows are in the ring as long as nothing
has been overwritten since, and together with the kept ones they are the answer. What the ring had is kept likewise:
whoever asks again before something new has come gets the same rows, and those know their text.

«Newest» is by arrival (seq), which is by time unless the wall clock was set back; files are searched in that order.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from query.engine import Engine
from query.newest_rows import NewestRows
from query.plan import FILES_MAX, Selection
from query.rows import EMPTY, ChannelRows, raw
from storage.cover import TIME_MAX_US, TIME_MIN_US, HotSegment, PublishedFile
from storage.registry import Channel
from storage.snapshot import Snapshot
from storage.store import Store
from storage.wide import PhysicalColumn, physical_columns

# Rows are kept for so many (channel, tag, device, count), if an answer has at most so many rows.
KEPT_MAX: Final = 1_024
KEPT_ROWS_MAX: Final = 1_000
KEPT_BYTES_MAX: Final = 64 << 20  # of all of them together
# The ring is walked back once for each tag and device that is asked for; beyond this files and ring are read instead.
WALKS_MAX: Final = 16

Found = tuple[tuple[PhysicalColumn, ...], NewestRows]


@dataclass(frozen=True, slots=True)
class Kept:
    """The newest rows below a seq. Fewer than were asked for means: that was all.

    ``deletions``: as many as there had been. One more, and some of these rows may be no more.
    """

    deletions: int
    below_seq: int
    rows: NewestRows


class Newest:
    """Answers «the newest n». ``from_memory`` in the main thread; ``from_files`` in a worker."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine
        self._kept: OrderedDict[tuple[int, Selection, int], Kept] = OrderedDict()
        self._kept_bytes = 0
        self._known: dict[int, tuple[PhysicalColumn, ...]] = {}
        self._names = store.device_name, store.tag_name

    def from_memory(self, channel: Channel, selection: Selection, count: int) -> Found | None:
        """The rows and the channel's columns, if ring and kept rows are enough to say."""
        ring = self._store.ring
        tags = [-1] if selection.tags is None else [number for _, number in selection.tags]
        devices = [-1] if selection.devices is None else [number for _, number in selection.devices]
        if len(tags) * len(devices) > WALKS_MAX:
            return None
        columns = self._columns(channel)
        seen = self.seen

        def newest(first: int) -> NDArray[np.int64]:
            found = [ring.newest(channel.id, count, tag, device, first) for tag in tags for device in devices]
            return found[0] if len(found) == 1 else np.sort(np.concatenate(found))[: -count - 1 : -1].copy()

        kept = self._kept.get((channel.id, selection, count))
        if kept is not None and kept.below_seq >= ring.oldest and kept.deletions == seen[0]:
            # Of whom nothing has come for long, the ring is walked only as far back as it was not walked before.
            rows = self._continued(kept.rows, newest(kept.below_seq), count, selection, columns)
        else:
            seqs = newest(0)
            if len(seqs) < count:
                return None
            rows = self._in_ring(seqs, selection, columns)
        self.keep(channel, selection, seen, count, rows)
        return columns, rows

    def _continued(
        self, kept: NewestRows, late: NDArray[np.int64], count: int, selection: Selection,
        columns: Sequence[PhysicalColumn],
    ) -> NewestRows:  # fmt: skip
        """The newest of the late ones, and of those before them that are known."""
        missing = max(0, count - len(late))
        before = kept.seq[max(0, len(kept.seq) - missing) :]
        if not len(late) and len(before) == len(kept.seq):
            return kept
        if not len(before) or before[0] >= self._store.ring.oldest:
            return self._in_ring(np.concatenate([late, before[::-1]]), selection, columns)
        tables = [kept.table().slice(len(kept.seq) - len(before))]
        if len(late):
            tables.append(self._in_ring(late, selection, columns).table())
        table = pa.concat_tables(tables, promote_options="default").combine_chunks()
        return self.out_of_files(table, columns)

    @property
    def seen(self) -> tuple[int, int]:
        """How many deletions there have been, and the seq below which everything is durable."""
        return self._store.catalog.deletions, self._store.ring.durable

    def _columns(self, channel: Channel) -> tuple[PhysicalColumn, ...]:
        """The channel's; they only ever become more."""
        columns = self._store.schema.columns_of(channel.id)
        known = self._known.get(channel.id, ())
        if len(known) != len(columns):
            known = self._known[channel.id] = physical_columns(columns)
        return known

    def _in_ring(
        self, seqs: NDArray[np.int64], selection: Selection, columns: Sequence[PhysicalColumn]
    ) -> NewestRows:
        """These rows, newest first, out of the ring."""
        wanted = [column for column in columns if selection.wants(column)]
        return NewestRows(self._store.ring.block(seqs[::-1].copy()), wanted, self._names)

    def out_of_files(self, table: pa.Table, columns: Sequence[PhysicalColumn]) -> NewestRows:
        """A table's rows, which are in order of arrival."""
        return NewestRows(table, columns, self._names)

    def keep(
        self,
        channel: Channel,
        selection: Selection,
        seen: tuple[int, int],
        count: int,
        rows: NewestRows,
    ) -> None:
        """Remember an answer, and what ``seen`` was before it. In the main thread."""
        if count > KEPT_ROWS_MAX:
            return
        key = channel.id, selection, count
        before = self._kept.pop(key, None)
        self._kept_bytes += rows.nbytes - (0 if before is None else before.rows.nbytes)
        self._kept[key] = Kept(*seen, rows)
        while len(self._kept) > KEPT_MAX or self._kept_bytes > KEPT_BYTES_MAX:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.rows.nbytes

    def from_files(self, snapshot: Snapshot, rows: ChannelRows, count: int, after_seq: int = -1) -> pa.Table:
        """The newest rows of a snapshot, in order of arrival. In a worker.

        Args:
            snapshot: what there is.
            rows: has its rows in the ring.
            count: so many, or all.
            after_seq: files with nothing behind it are not opened; what they have may be missing.
        """
        selection = rows.selection
        files: list[PublishedFile | HotSegment] = [*snapshot.published, *snapshot.hot]
        files = [file for file in files if file.next_seq > after_seq + 1]
        files.sort(key=lambda file: file.next_seq)
        found = newest_of(rows.in_ring(selection), count)
        step = 1
        # Most often the last file has them all; a rare tag or device takes more and more files at a time.
        while files and (found.num_rows < count or files[-1].next_seq > int(raw(found, "seq")[0])):
            taken, files = files[-step:], files[:-step]
            step = min(2 * step, FILES_MAX)
            published = [file for file in taken if isinstance(file, PublishedFile)]
            tables = rows.in_hot([file for file in taken if isinstance(file, HotSegment)], selection)
            if published:
                tables.append(self._engine.scan(published, rows.columns, selection, newest=count))
            found = newest_of([found, *tables], count)
        return found.combine_chunks()


def newest_of(tables: Sequence[pa.Table], count: int) -> pa.Table:
    """The rows that came last, in order of arrival."""
    table = pa.concat_tables([EMPTY, *tables], promote_options="default")
    order = np.argsort(raw(table, "seq"))
    return table.take(order[max(0, len(order) - count) :])


EVERYTHING: Final = Selection(TIME_MIN_US, TIME_MAX_US)
