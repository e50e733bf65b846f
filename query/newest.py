"""The newest rows of a channel: out of the ring by its back links, in microseconds; out of files once, then kept.

A channel whose newest rows are not all in the ring any more (after a restart, or because it is quiet) is asked for
them again and again all the same. What was found in files stays true: later rows are in the ring as long as nothing
has been overwritten since, and together with the kept ones they are the answer. What the ring had is kept likewise:
whoever asks again before something new has come is answered in a third of the time.

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
from query.plan import FILES_MAX, Selection
from query.rows import EMPTY, ChannelRows, raw
from storage.cover import TIME_MAX_US, TIME_MIN_US, HotSegment, PublishedFile
from storage.registry import Channel
from storage.snapshot import Snapshot
from storage.store import Store
from storage.wide import PhysicalColumn, physical_columns, to_record_batch

# Rows are kept for so many (channel, tag, device), if an answer has at most so many rows.
KEPT_MAX: Final = 1_024
KEPT_ROWS_MAX: Final = 1_000
KEPT_BYTES_MAX: Final = 64 << 20  # of all of them together
# The ring is walked back once for each tag and device that is asked for; beyond this files and ring are read instead.
WALKS_MAX: Final = 16

Table = tuple[tuple[PhysicalColumn, ...], pa.Table]


@dataclass(frozen=True, slots=True)
class Kept:
    """The newest rows below a seq, in order of arrival. ``asked`` says for how many, so fewer means: that was all.

    ``deletions``: as many as there had been. One more, and some of these rows may be no more.
    """

    deletions: int
    below_seq: int
    asked: int
    table: pa.Table


class Newest:
    """Answers «the newest n». ``from_memory`` in the main thread; ``from_files`` in a worker."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine
        self._kept: OrderedDict[tuple[int, Selection], Kept] = OrderedDict()
        self._kept_bytes = 0
        self._known: dict[int, tuple[PhysicalColumn, ...]] = {}

    def from_memory(self, channel: Channel, selection: Selection, count: int) -> Table | None:
        """The rows and the channel's columns, if ring and kept rows are enough to say; in no order."""
        ring = self._store.ring
        tags = [-1] if selection.tags is None else [number for _, number in selection.tags]
        devices = [-1] if selection.devices is None else [number for _, number in selection.devices]
        if len(tags) * len(devices) > WALKS_MAX:
            return None
        columns = self._columns(channel)
        key, seen = (channel.id, selection), self.seen

        def newest(first: int) -> NDArray[np.int64]:
            found = [ring.newest(channel.id, count, tag, device, first) for tag in tags for device in devices]
            return found[0] if len(found) == 1 else np.sort(np.concatenate(found))[: -count - 1 : -1].copy()

        seqs: NDArray[np.int64] | None = None
        kept = self._kept.get(key)
        if kept is not None and kept.below_seq >= ring.oldest and kept.deletions == seen[0]:
            # Of whom nothing has come for long, the ring is walked only as far back as it was not walked before.
            late = newest(kept.below_seq)
            missing = count - len(late)
            if 0 < missing <= kept.asked:
                self._kept.move_to_end(key)
                table = kept.table.slice(max(0, kept.table.num_rows - missing))
                if len(late):
                    tables = [table, self._table(late[::-1].copy(), selection, columns)]
                    table = pa.concat_tables(tables, promote_options="default").combine_chunks()
                if count >= kept.asked:
                    self.keep(channel, selection, seen, count, table)
                return columns, table
            if missing <= 0:
                seqs = late
        if seqs is None:
            seqs = newest(0)
        if len(seqs) < count:
            return None
        table = self._table(seqs[::-1].copy(), selection, columns)
        self.keep(channel, selection, seen, count, table)
        return columns, table

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

    def _table(
        self, seqs: NDArray[np.int64], selection: Selection, columns: Sequence[PhysicalColumn]
    ) -> pa.Table:
        """These rows out of the ring."""
        wanted = [column for column in columns if selection.wants(column)]
        block = self._store.ring.block(seqs)
        batch = to_record_batch(block, wanted, self._store.device_name, self._store.tag_name)
        return pa.Table.from_batches([batch])

    def keep(
        self,
        channel: Channel,
        selection: Selection,
        seen: tuple[int, int],
        count: int,
        table: pa.Table,
    ) -> None:
        """Remember an answer, in order of arrival, and what ``seen`` was before it. In the main thread."""
        if count > KEPT_ROWS_MAX:
            return
        before = self._kept.pop((channel.id, selection), None)
        self._kept_bytes += table.nbytes - (0 if before is None else before.table.nbytes)
        self._kept[channel.id, selection] = Kept(*seen, count, table)
        while len(self._kept) > KEPT_MAX or self._kept_bytes > KEPT_BYTES_MAX:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.table.nbytes

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
