"""The store: registry, catalog, log, ring and journal of one data directory, opened in the order that recovery needs.

    registry -> catalog (sealed cursor, columns, tags) -> ring at the sealed seq -> the log replayed into it

What is in the store after ``open`` is exactly what was acknowledged (and perhaps a last batch that was not).

Sealing and publishing have two halves. The first half runs in a worker thread (one at a time): it writes files and
commits the catalog. The second half, ``apply``, runs in the main thread and moves the cursors; a reader there sees
every row either before or after, never twice and never not at all.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from storage import deletions
from storage.block import Block
from storage.catalog import Catalog, remove_files
from storage.catalog_change import Change, Cursor
from storage.cover import TIME_MAX_US, TIME_MIN_US, DeletedTag, Files, PublishedFile
from storage.disk import Disk, DiskFullError, RealDisk, full_disk_errors
from storage.erase import Eraser
from storage.hot import DamagedFileError, hot_path, write_hot
from storage.journal import Journal, Limits, Passengers, State
from storage.publish import Publisher
from storage.recovery import Recovered, recover
from storage.registry import Channel, Registry, RegistryBusyError, RegistryLimits, UnknownError
from storage.ring import Ring
from storage.schema import Schema
from storage.sessions import SessionStore
from storage.snapshot import Snapshot
from storage.waiting import WaitingNotes
from storage.wal import Wal, WalOptions, read_log_id
from storage.wide import physical_columns
from storage.writes import Ledger

# Rows copied out of the ring in one go: about 1 ms during which nobody else runs.
SLICE_ROWS: Final = 8_192
# Notes that wait for the session store before they are applied at once: a fraction of a second's work.
NOTES_MAX: Final = 65_536
# Turns of the housekeeping (0.4 s each) that a note waits for one that undoes it. A client that has not answered within
# two seconds most likely takes longer still; a start reads what waits from the log.
HELD_TURNS: Final = 5


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Sizes and limits of a store; thingscale/config.py has units and defaults."""

    ring_rows: int
    ring_cells: int
    ring_text_bytes: int
    batch_bytes_max: int
    part_rows_max: int
    registry: RegistryLimits
    limits: Limits
    wal: WalOptions
    write_keys_us: int = 86_400_000_000


class Store:
    """Everything that is remembered, of one data directory. See the module for who may call what.

    Attributes:
        registry: users, devices, channels.
        sessions: the broker's sessions, messages and retained messages.
        writes: what was written over REST under which key.
        catalog: the files.
        schema, ring, journal: the newest rows and what their numbers mean.
        wal: the log, ready to be written.
        recovered: what replay found.
        states: device states that became durable and are not in the registry yet.
        damaged: published files that cannot be read back or replaced, and (channel, day) that cannot be published
            without their deleted rows; with the reason.
        notes: what the broker noted, durable and not in the session store yet, in the log's order.
    """

    def __init__(self, data: Path, options: StoreOptions, disk: Disk) -> None:
        """Use ``Store.open``."""
        self._disk = disk
        self.registry = Registry(data / "registry.sqlite3", options.registry)
        # The worker's own connection: SQLite's belong to one thread at a time.
        self._names = Registry(data / "registry.sqlite3", options.registry)
        self.sessions = SessionStore.open(data / "sessions.sqlite3")
        self.writes: Ledger
        self.catalog = Catalog.open(data, self._disk)
        self.schema = Schema()
        self.schema.load(self.catalog.columns(), self.catalog.tags())
        self.ring = Ring(
            options.ring_rows, options.ring_cells, options.ring_text_bytes, self.catalog.cursor.seq
        )
        self.journal = Journal(self.ring, self.schema, options.limits, options.batch_bytes_max)
        directory = data / "log"
        if not directory.exists():
            directory.mkdir()
            self._disk.sync_directory(data)
        self.wal = Wal.open(directory, self._disk, options.wal, read_log_id(directory, self._disk))
        self.publisher = Publisher(
            self.catalog, self.schema, self, self._disk, part_rows_max=options.part_rows_max
        )
        self.eraser = Eraser(self.catalog, self._disk)
        self.states: list[State] = []
        self.notes = WaitingNotes(self.sessions.applied)
        self._turns: deque[tuple[int, int]] = deque()  # the last note and the durable seq at each
        self.damaged: dict[Path | tuple[int, int], Exception] = {}
        self._device_names: dict[int, str] = {}
        self.recovered: Recovered

    @classmethod
    def open(cls, data: Path, options: StoreOptions, disk: Disk | None = None) -> Self:
        """Open and recover. The caller holds the directory's lock.

        Args:
            data: the directory; it exists.
            options: sizes and limits.
            disk: for log and Parquet files; SQLite writes its own.

        Raises:
            CorruptRecordError, RingTooSmallError: see storage/recovery.py.
        """
        store = cls(data, options, disk or RealDisk())
        try:
            store.recovered = recover(
                store.wal, store.journal, store.catalog.cursor.lsn, store._seal_while_recovering, store._keep
            )
            store._resolve_deleted()
            store.flush_states()
            store._apply_notes()
            store.writes = Ledger(store.sessions, options.write_keys_us)
        except BaseException:
            store.close()
            raise
        return store

    def _seal_while_recovering(self, lsn: int, seq: int) -> None:
        self.flush_states()  # the cursor passes their records
        self._apply_notes()
        self._resolve_deleted()
        self.apply(self.seal(Cursor(lsn, seq)))

    def _keep(self, passengers: Passengers) -> None:
        if len(self.notes) > NOTES_MAX:
            self._apply_notes()  # of earlier records only: this one may be the last one, see storage/recovery.py
        self.states += passengers.states
        self.notes.extend(passengers.notes)

    def close(self) -> None:
        self.wal.close()
        self.catalog.close()
        self.registry.close()
        self._names.close()
        self.sessions.close()

    # ---- in the main thread

    def end_tokens(self, at_us: int) -> None:
        """Replaced tokens whose time is over are worth nothing; the file may say so later."""
        with suppress(DiskFullError, RegistryBusyError):
            self.registry.end_tokens(at_us)

    def flush_states(self) -> None:
        """Put the device states that became durable into the registry. Raises DiskFullError: they are kept."""
        if self.states:
            self.registry.put_states(self.states)
            self.states = []

    def flush_notes(self) -> None:
        """Apply the notes that became durable to the session store. Raises DiskFullError: they are kept."""
        self._apply_notes()
        self._turns.clear()
        self.writes.on_applied(self.ring.durable)

    def flush_old_notes(self) -> None:
        """The same with those that have waited for HELD_TURNS calls. Raises DiskFullError: they are kept."""
        if len(self._turns) >= HELD_TURNS:
            number, durable = self._turns[0]
            self._apply_notes(number)
            self._turns.popleft()
            self.writes.on_applied(durable)
        self._turns.append((self.notes.number_max, self.ring.durable))

    def _apply_notes(self, number: int | None = None) -> None:
        portion = self.notes.portion(number)
        if portion.number > self.sessions.applied:
            self.sessions.apply(*portion)
            self.notes.on_applied(portion)

    def apply(self, change: Change) -> None:
        """The second half of a seal, a publication or a drop."""
        self.catalog.apply(change)
        if change.cursor is not None:
            self.ring.mark_sealed(change.cursor.seq)
            self.wal.recycle(change.cursor.lsn)
        self.remove_files()

    def delete_tag(self, channel: Channel, name: str) -> None:
        """The tag's entries are no more: in no answer from now on, in no file soon. Raises DiskFullError.

        What is not durable yet counts as coming later.
        """
        tag = self.schema.tag_id(channel.id, name)
        if tag:
            self.catalog.delete_tag(channel.id, name, tag, self.ring.durable)
            self._resolve_deleted()

    def _resolve_deleted(self) -> None:
        """Deleted tags by their ids, for the ring and for whoever reads files."""
        for channel, tags in self.catalog.deleted_tags.items():
            found = tuple(
                DeletedTag(name, self.schema.tag_id(channel, name), below_seq)
                for name, below_seq in tags.items()
            )
            self.catalog.deleted[channel] = found
            for _, tag, below_seq in found:
                if tag:
                    self.ring.delete_tag(tag, below_seq)

    def has_entries(self, channel: Channel, tag: str) -> bool:
        """Whether the channel has a datapoint with this tag."""
        number = self.schema.tag_id(channel.id, tag)
        return number > 0 and self.last_update_us(channel, number) is not None

    def remove_files(self) -> None:
        """Unlink files that nothing needs and no reader may still open."""
        remove_files(self.catalog.take_removable(), self._disk)

    def snapshot(self, channel: Channel, start_us: int, end_us: int) -> Snapshot:
        """What there is of a channel in [start_us, end_us), for a reader in another thread; it must be closed."""
        files = self.catalog.files_for(channel.id, start_us, end_us)
        columns = physical_columns(self.schema.columns_of(channel.id))
        names = self.device_name, self.tag_name
        return Snapshot(self.catalog, self.ring, channel.id, columns, files, names)

    def last_update_us(self, channel: Channel, tag: int = -1) -> int | None:
        """The time of the newest datapoint of the channel, or of one of its tags."""
        newest = self.ring.newest(channel.id, 1, tag)
        if len(newest):
            return int(self.ring.block(newest).at_us[0])
        if tag >= 0:
            return self.catalog.tag_last_us(tag)
        statistics = self.catalog.channel_statistics(channel.id)
        return None if statistics is None else statistics.last_us

    def channels_of(self, user_id: str | None, number: int | None) -> list[Channel]:
        """The channels of a user (or of all), with this number (or all numbers); also archived ones.

        Raises:
            UnknownError: there is no such user, or no such channel.
        """
        users = [user.user_id for user in self.registry.users() if user_id in (None, user.user_id)]
        if user_id is not None and not users:
            raise UnknownError(f"there is no user {user_id}")
        channels = [channel for user in users for channel in self.registry.stored_channels(user)]
        found = [channel for channel in channels if number in (None, channel.number)]
        if number is not None and not found:
            raise UnknownError(f"there is no channel {number}")
        return found

    def publish_all(self, user_id: str | None, number: int | None) -> int:
        """Seal and publish in this thread, with nobody else at work; how many files were made.

        Raises:
            UnknownError: there is no such user, or no such channel.
        """
        channels = [each.id for each in self.channels_of(user_id, number)]
        self.flush_states()
        self.flush_notes()
        if self.ring.durable > self.catalog.cursor.seq:
            self.apply(self.seal(Cursor(self.wal.next_lsn - 1, self.ring.durable)))
        files = 0
        for channel, day in self.publisher.waiting(channels):
            change = self.publisher.publish(channel, day)
            self.apply(change)
            files += len(change.published)
        for step in self.erasing():
            self.apply(step())
        return files

    def erasing(self) -> Iterator[Callable[[], Change]]:
        """What is to be done so that no file has deleted rows: steps for the worker, applied one before the next.

        A file that cannot be read back is passed over (``damaged``), and its rows go on being passed over.
        """
        catalog = self.catalog
        for piece in catalog.placeable():
            if piece.new not in self.damaged:
                yield partial(self._place, piece)
        for channel, current in list(catalog.deleted_tags.items()):
            tags, done = dict(current), set()
            for day in sorted({segment.day for segment in self._deleted_in(channel).hot}):
                if (channel, day) not in self.damaged:
                    yield partial(self._publish, channel, day)
            for file in self._deleted_in(channel).published:
                if file.path in self.damaged or catalog.is_waiting(file) or not catalog.is_current(file):
                    continue
                done.add((file.day, file.first_seq))
                yield partial(self._erase, file)
            left = self._deleted_in(channel)
            is_done = all(
                (file.day, file.first_seq) in done and file.path not in self.damaged
                for file in left.published
            )
            if is_done and not left.hot and catalog.cursor.seq >= max(tags.values()):
                yield partial(catalog.commit_erased, channel, tags)
        for piece in catalog.placeable():
            if piece.new not in self.damaged:
                yield partial(self._place, piece)

    def _deleted_in(self, channel: int) -> Files:
        """The files that may have deleted rows."""
        files = self.catalog.files_for(channel, TIME_MIN_US, TIME_MAX_US)
        return Files(
            tuple(file for file in files.published if file.deleted),
            tuple(segment for segment in files.hot if segment.deleted),
        )

    # ---- names, in any thread

    def device_name(self, device: int) -> str:
        """The device_id of a registry id; "" for 0, which is no device."""
        if device == 0:
            return ""
        if device not in self._device_names:
            self._device_names[device] = self._names.device_name(device)
        return self._device_names[device]

    def channel_by_id(self, channel: int) -> Channel:
        """A channel by its registry id, deleted or not."""
        return self._names.channel_by_id(channel)

    def tag_name(self, tag: int) -> str:
        return self.schema.tag(tag).name

    # ---- in a worker thread, one at a time

    def seal(self, target: Cursor) -> Change:
        """Write the ring's rows up to the target into a hot file and commit the catalog.

        Raises:
            DiskFullError: nothing has changed.
        """
        first = self.catalog.cursor.seq
        if target.seq == first:
            return self.catalog.commit_seal(target, None, [], [])
        order = self.ring.channel_range(first, target.seq)
        path = hot_path(self.catalog.hot, first, target.seq)
        file = write_hot(path, self._blocks(order), self.schema, self, self._disk) if len(order) else None
        columns = self.schema.columns_from(self.catalog.column_count)
        tags = self.schema.tags_from(self.catalog.tag_count + 1)
        try:
            return self.catalog.commit_seal(
                target, file, columns, tags, has_deleted=len(order) < target.seq - first
            )
        except DiskFullError:
            # Rolled back for sure. After any other error the commit may be on disk, and the file is needed then.
            remove_files([] if file is None else [file.path], self._disk)
            raise

    def _publish(self, channel: int, day: int) -> Change:
        try:
            return self.publisher.publish(channel, day)
        except DamagedFileError as error:
            self.damaged[channel, day] = error
            return Change()

    def _erase(self, file: PublishedFile) -> Change:
        try:
            return self.eraser.erase(file)
        except DamagedFileError as error:
            self.damaged[file.path] = error
            return Change()

    def _place(self, piece: deletions.Waiting) -> Change:
        try:
            with full_disk_errors(piece.new):
                deletions.place(piece, self.catalog.replacing, self._disk)
        except DiskFullError:
            raise
        except OSError as error:
            self.damaged[piece.new] = error
            return Change()
        return self.catalog.commit_place(piece)

    def _blocks(self, order: NDArray[np.int64]) -> Iterator[Block]:
        for at in range(0, len(order), SLICE_ROWS):
            yield self.ring.block(order[at : at + SLICE_ROWS])

    def deleted_channels(self) -> list[int]:
        """Channels whose data is still there."""
        return [channel for channel in self._names.deleted_channels() if channel not in self.catalog.dropped]

    def drop(self, channel: int) -> Change:
        """Forget a deleted channel's data. Raises DiskFullError: nothing has changed."""
        return self.catalog.commit_drop(channel)
