"""The catalog: which files there are and what they cover. The truth for readers, in SQLite.

Every change is one synced transaction: a seal (a hot file appears, the sealed cursor moves), a publication (published
files appear, hot segments are done), a channel dropped. Files are made durable before the transaction that names
them and removed after the one that forgets them, so a crash leaves at most files that the catalog does not know;
``open`` removes those. For hot files that is everything else in their directory. In the published tree, which people
may browse and copy things into, only names that were announced beforehand (table ``publishing``) are touched.

``commit_*`` run in worker threads and touch only SQLite; each gives a Change, which the main thread applies to the
memory that ``files_for`` reads (storage/cover.py). Changes are applied in the order in which they were committed.
"""

import itertools
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Final, Self, TypeVar

from storage import deletions
from storage.cover import (
    DAY_US,
    TEMPORARY,
    TIME_MAX_US,
    TIME_MIN_US,
    DeletedTag,
    Files,
    Holds,
    HotCover,
    HotFile,
    HotSegment,
    PublishedCover,
    PublishedFile,
    published_path,
    waiting_path,
)
from storage.disk import Disk, RealDisk
from storage.schema import Column, Tag
from storage.sqlite import open_database, transaction

NAME: Final = "catalog.sqlite3"

Piece = TypeVar("Piece", PublishedFile, HotSegment)

SCHEMA: Final = """
CREATE TABLE cursor (lsn INTEGER NOT NULL, seq INTEGER NOT NULL) STRICT;
INSERT INTO cursor VALUES (0, 0);
CREATE TABLE hot_file (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, first_seq INTEGER NOT NULL, next_seq INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE hot_segment (
    file INTEGER NOT NULL REFERENCES hot_file, channel INTEGER NOT NULL, day INTEGER NOT NULL,
    first_cell INTEGER NOT NULL, cells INTEGER NOT NULL, rows INTEGER NOT NULL, first_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL, first_seq INTEGER NOT NULL, next_seq INTEGER NOT NULL, bytes INTEGER NOT NULL,
    published INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (file, channel, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX hot_segment_open ON hot_segment (file) WHERE published = 0;
CREATE TABLE published_channel (channel INTEGER PRIMARY KEY, directory TEXT NOT NULL) STRICT;
CREATE TABLE published_file (
    channel INTEGER NOT NULL REFERENCES published_channel, day INTEGER NOT NULL, rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, first_seq INTEGER NOT NULL,
    next_seq INTEGER NOT NULL, columns INTEGER NOT NULL, PRIMARY KEY (channel, day, first_seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE publishing (path TEXT PRIMARY KEY) STRICT;
CREATE TABLE dropped_channel (channel INTEGER PRIMARY KEY) STRICT;
CREATE TABLE column_ (
    id INTEGER PRIMARY KEY, channel INTEGER NOT NULL, stream INTEGER NOT NULL, name TEXT, kind INTEGER NOT NULL
) STRICT;
CREATE TABLE tag (
    id INTEGER PRIMARY KEY, channel INTEGER NOT NULL, name TEXT NOT NULL, last_us INTEGER NOT NULL
) STRICT;
CREATE TABLE channel_stat (
    channel INTEGER PRIMARY KEY, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, last_us INTEGER NOT NULL
) STRICT;
"""


class CatalogFormatError(Exception):
    """The file was written by another version of the daemon."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where everything is in hot files: the last LSN that is, and the first seq that is not."""

    lsn: int
    seq: int


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Of a channel's sealed rows. ``bytes`` is what they took in the ring; ``last_us`` the newest time."""

    rows: int
    bytes: int
    last_us: int


@dataclass(frozen=True, slots=True)
class CatalogStatistics:
    """What stands in files now."""

    hot_files: int
    hot_bytes: int
    published_files: int
    published_bytes: int
    published_rows: int
    sealed_rows: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a transaction did, for Catalog.apply. Each attribute is empty where nothing of its sort happened.

    Attributes:
        cursor: the new sealed cursor.
        sealed: the new hot file, without segments of dropped channels.
        directories: channel -> its directory below the published files.
        published: the new published files.
        done: (name of the hot file, channel, day) of segments that are now published.
        dropped: channels whose files and segments are gone.
        forgotten: published files that are gone, of channels that stay.
        replaced: published files, each with its next revision, which is not among the day's files yet.
        placed: revisions that are now.
        erased: a channel, tags and the seqs below which no file has rows of them any more.
        less: (channel, rows, bytes) that are not to be counted any more.
        newest: (channel, time of its newest sealed row), None if there is no row any more.
        obsolete: files that nothing needs any more.
    """

    cursor: Cursor | None = None
    sealed: HotFile | None = None
    directories: dict[int, str] = field(default_factory=dict)
    published: tuple[PublishedFile, ...] = ()
    done: tuple[tuple[str, int, int], ...] = ()
    dropped: tuple[int, ...] = ()
    forgotten: tuple[PublishedFile, ...] = ()
    replaced: tuple[tuple[PublishedFile, PublishedFile], ...] = ()
    placed: tuple[deletions.Waiting, ...] = ()
    erased: tuple[int, dict[str, int]] | None = None
    less: tuple[tuple[int, int, int], ...] = ()
    newest: tuple[tuple[int, int | None], ...] = ()
    obsolete: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Published:
    """One publication's outcome: new files, complete and durable, and the segments whose rows they hold.

    ``deleted_rows``: rows of the segments that are in none of the files, because they were deleted.
    """

    directories: dict[int, str]
    files: tuple[PublishedFile, ...]
    segments: tuple[HotSegment, ...]
    deleted_rows: int = 0


class Catalog:
    """One daemon's catalog. ``commit_*`` and ``announce`` from any one worker at a time; the rest from one thread.

    Attributes:
        hot: where hot files live.
        root: where published files live.
        replacing: where directories are made that take others' places.
        column_count, tag_count: how many columns and tags the sealed rows have.
        dropped: channels whose data is gone.
        deleted: what is to be passed over in each channel's files, as the store has resolved ``deleted_tags``.
        deleted_tags: channel -> tag -> the seq below which its rows are deleted, and may still be in files.
        deletions: how many there have been since the start.
    """

    def __init__(self, directory: Path, disk: Disk) -> None:
        self.hot = directory / "hot"
        self.root = directory / "data"
        self.replacing = directory / "replacing"
        self._disk = disk
        self._lock = threading.Lock()
        self._path = directory / NAME
        self._database = open_database(self._path, (SCHEMA, deletions.STEP), CatalogFormatError)
        self._covers: dict[str, HotCover] = {}
        self._published: dict[int, PublishedCover] = {}
        self._channels: dict[int, ChannelStatistics] = {}
        self._tags: dict[int, int] = {}
        self._holds = Holds()
        self._totals = [0, 0, 0]  # published files, bytes, rows
        self.cursor = Cursor(0, 0)
        self.column_count = self.tag_count = 0
        self.dropped: set[int] = set()
        self.deleted: dict[int, tuple[DeletedTag, ...]] = {}
        self.deleted_tags: dict[int, dict[str, int]] = {}
        self.deletions = 0
        self._waiting: dict[
            deletions.Waiting, int
        ] = {}  # with the mark behind which nobody reads the predecessor

    @classmethod
    def open(cls, directory: Path, disk: Disk | None = None) -> Self:
        """The catalog of a data directory; files of interrupted seals and publications are removed.

        Raises:
            CatalogFormatError: another version wrote it.
        """
        for part in ("hot", "data", "replacing"):
            (directory / part).mkdir(exist_ok=True)
        catalog = cls(directory, disk or RealDisk())
        try:
            catalog._remove_orphans()
            catalog._place_waiting()
            catalog._load()
        except BaseException:
            catalog.close()
            raise
        return catalog

    def close(self) -> None:
        self._database.close()

    # ---- changes, in a worker thread

    def commit_seal(
        self,
        cursor: Cursor,
        file: HotFile | None,
        columns: Sequence[Column],
        tags: Sequence[Tag],
        *,
        has_deleted: bool = False,
    ) -> Change:
        """Everything before the cursor is sealed now.

        Args:
            cursor: the new one.
            file: durable hot file of the rows in between; None when there are none.
            columns: those that first occur in it, dense after the ones the catalog knows.
            tags: likewise.
            has_deleted: some rows in between were deleted, and are not in the file.
        """
        change = self._commit_seal(cursor, file, columns, tags, has_deleted=has_deleted)
        self.column_count += len(columns)
        self.tag_count += len(tags)
        return change

    def _commit_seal(
        self,
        cursor: Cursor,
        file: HotFile | None,
        columns: Sequence[Column],
        tags: Sequence[Tag],
        *,
        has_deleted: bool,
    ) -> Change:
        with self._transaction() as database:
            found = Cursor(*database.execute("SELECT lsn, seq FROM cursor").fetchone())
            assert cursor.lsn >= found.lsn, "the sealed LSN only grows"
            first, last = (cursor.seq, cursor.seq) if file is None else (file.first_seq, file.next_seq)
            assert found.seq <= first <= last <= cursor.seq, "rows are sealed once"
            assert has_deleted or (first, last) == (found.seq, cursor.seq), "rows are sealed without gaps"
            database.execute("UPDATE cursor SET lsn = ?, seq = ?", (cursor.lsn, cursor.seq))
            database.executemany("INSERT INTO column_ VALUES (?, ?, ?, ?, ?)", columns)
            database.executemany("INSERT INTO tag VALUES (?, ?, ?, 0)", tags)
            if file is None:
                return Change(cursor=cursor)
            dropped = {row[0] for row in database.execute("SELECT channel FROM dropped_channel")}
            kept = tuple(segment for segment in file.segments if segment.channel not in dropped)
            # A tag that was deleted while the file was written has no row in it that counts.
            database.executemany(
                "UPDATE tag SET last_us = max(last_us, ?2) WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM deleted_tag"
                " WHERE deleted_tag.channel = tag.channel AND deleted_tag.name = tag.name AND below_seq >= ?3)",
                ((tag, at_us, file.next_seq) for tag, at_us in file.tag_last_us.items()),
            )
            database.executemany(
                "INSERT INTO channel_stat VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET"
                " rows = rows + ?2, bytes = bytes + ?3, last_us = max(last_us, ?4)",
                ((segment.channel, segment.rows, segment.bytes, segment.last_us) for segment in kept),
            )
            if not kept:
                return Change(cursor=cursor, obsolete=(file.path,))
            number = database.execute(
                "INSERT INTO hot_file (name, first_seq, next_seq, bytes) VALUES (?, ?, ?, ?)",
                (file.path.name, file.first_seq, file.next_seq, file.bytes),
            ).lastrowid
            database.executemany(
                "INSERT INTO hot_segment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                ((number, *astuple(segment)[1:-1]) for segment in kept),
            )
        sealed = HotFile(file.path, file.first_seq, file.next_seq, file.bytes, kept, dict(file.tag_last_us))
        return Change(cursor=cursor, sealed=sealed)

    def announce(self, paths: Sequence[Path]) -> None:
        """These published files are about to get their names; if no commit follows, ``open`` removes them."""
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO publishing VALUES (?)",
                ((str(path.relative_to(self.root)),) for path in paths),
            )

    def commit_publish(self, outcome: Published) -> Change:
        """The rows of these segments are in these files now."""
        with self._transaction() as database:
            dropped = {row[0] for row in database.execute("SELECT channel FROM dropped_channel")}
            files = tuple(file for file in outcome.files if file.channel not in dropped)
            unwanted = tuple(file.path for file in outcome.files if file.channel in dropped)
            done = tuple(
                (segment.path.name, segment.channel, segment.day)
                for segment in outcome.segments
                if segment.channel not in dropped
            )
            directories = {
                channel: directory
                for channel, directory in outcome.directories.items()
                if channel not in dropped
            }
            database.executemany(
                "INSERT INTO published_channel VALUES (?, ?) ON CONFLICT DO NOTHING", directories.items()
            )
            database.executemany(
                "INSERT INTO published_file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (astuple(file)[1:-1] for file in files),
            )
            changed = database.executemany(
                "UPDATE hot_segment SET published = 1 WHERE published = 0 AND channel = ?2 AND day = ?3"
                " AND file = (SELECT id FROM hot_file WHERE name = ?1)",
                done,
            ).rowcount
            assert changed == len(done) or not done, "a segment is published once"
            database.executemany(
                "DELETE FROM publishing WHERE path = ?",
                ((str(file.path.relative_to(self.root)),) for file in files),
            )
            less: tuple[tuple[int, int, int], ...] = ()
            if outcome.deleted_rows and done:
                less = (self._count_less(database, done[0][1], outcome.deleted_rows),)
            empty = self._forget_empty(database)
        return Change(
            directories=directories, published=files, done=done, less=less, obsolete=empty + unwanted
        )

    def commit_drop(self, channel: int) -> Change:
        """A deleted channel's data is gone, also what is still to be sealed. Nothing happens the second time."""
        with self._transaction() as database:
            new = database.execute(
                "INSERT INTO dropped_channel VALUES (?) ON CONFLICT DO NOTHING", (channel,)
            )
            if new.rowcount == 0:
                return Change()
            files = tuple(self._files_of(database, channel))
            for table in ("waiting_revision", "deleted_tag", "published_file"):
                database.execute(f"DELETE FROM {table} WHERE channel = ?", (channel,))
            database.execute("DELETE FROM published_channel WHERE channel = ?", (channel,))
            database.execute("DELETE FROM channel_stat WHERE channel = ?", (channel,))
            database.execute("UPDATE hot_segment SET published = 1 WHERE channel = ?", (channel,))
            # Should the daemon end before the files are unlinked, the next start does it.
            database.executemany(
                "INSERT OR REPLACE INTO publishing VALUES (?)",
                ((str(path.relative_to(self.root)),) for path in files),
            )
            empty = self._forget_empty(database)
        return Change(dropped=(channel,), obsolete=empty + files)

    def commit_forget(self, piece: PublishedFile | HotSegment) -> Change:
        """Rows of a channel that stays are gone. Raises DiskFullError: nothing has changed."""
        channel = piece.channel
        with self._transaction() as database:
            paths: tuple[Path, ...] = ()
            if isinstance(piece, HotSegment):
                gone = database.execute(
                    "UPDATE hot_segment SET published = 1 WHERE published = 0 AND channel = ? AND day = ?"
                    " AND file = (SELECT id FROM hot_file WHERE name = ?)",
                    (channel, piece.day, piece.path.name),
                )
                counted = self._count_less(database, channel, piece.rows, piece.bytes)
            else:
                paths = tuple(self._paths_of(database, piece))
                gone = database.execute(
                    "DELETE FROM published_file WHERE channel = ? AND day = ? AND first_seq = ?",
                    (channel, piece.day, piece.first_seq),
                )
                counted = self._count_less(database, channel, piece.rows)
                database.executemany(
                    "INSERT OR REPLACE INTO publishing VALUES (?)",
                    ((str(path.relative_to(self.root)),) for path in paths),
                )
            assert gone.rowcount == 1, "a piece is forgotten once"
            empty = self._forget_empty(database)
        if isinstance(piece, HotSegment):
            return Change(done=((piece.path.name, channel, piece.day),), less=(counted,), obsolete=empty)
        return Change(forgotten=(piece,), less=(counted,), obsolete=(*empty, *paths))

    @staticmethod
    def _count_less(
        database: sqlite3.Connection, channel: int, rows: int, size: int | None = None
    ) -> tuple[int, int, int]:
        """So many rows are not there any more. What they took in memory is known of all rows together, or given."""
        found = database.execute(
            "SELECT rows, bytes FROM channel_stat WHERE channel = ?", (channel,)
        ).fetchone()
        known, known_bytes = found or (rows, 0)
        less = known_bytes * rows // known if size is None else min(size, known_bytes)
        database.execute(
            "UPDATE channel_stat SET rows = rows - ?, bytes = bytes - ? WHERE channel = ?",
            (rows, less, channel),
        )
        return channel, rows, less

    def commit_replace(self, old: PublishedFile, new: PublishedFile) -> Change:
        """A file's next revision, without rows that were deleted. Raises DiskFullError: nothing has changed."""
        with self._transaction() as database:
            deletions.replace_file(database, old, new)
            database.execute("DELETE FROM publishing WHERE path = ?", (str(new.path.relative_to(self.root)),))
            less = self._count_less(database, old.channel, old.rows - new.rows)
        return Change(replaced=((old, new),), less=(less,))

    def commit_place(self, piece: deletions.Waiting) -> Change:
        """A revision is where people look; its temporary name goes with the last reader who uses it."""
        with self._transaction() as database:
            deletions.forget_waiting(database, [piece])
            database.execute(
                "INSERT OR REPLACE INTO publishing VALUES (?)", (str(piece.path.relative_to(self.root)),)
            )
        return Change(placed=(piece,), obsolete=(piece.path,))

    def commit_erased(self, channel: int, tags: dict[str, int]) -> Change:
        """No file has rows of these tags below these seqs; a tag that was deleted again since then stays."""
        with self._transaction() as database:
            database.executemany(
                "DELETE FROM deleted_tag WHERE channel = ? AND name = ? AND below_seq = ?",
                ((channel, name, below_seq) for name, below_seq in tags.items()),
            )
            newest = database.execute(
                "SELECT max(last_us) FROM (SELECT last_us FROM published_file WHERE channel = ?1 UNION ALL"
                " SELECT last_us FROM hot_segment WHERE channel = ?1 AND published = 0)",
                (channel,),
            ).fetchone()[0]
            if newest is None:
                database.execute("DELETE FROM channel_stat WHERE channel = ?", (channel,))
            else:
                database.execute("UPDATE channel_stat SET last_us = ? WHERE channel = ?", (newest, channel))
        return Change(erased=(channel, tags), newest=((channel, newest),))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._database, self._path) as database:
            yield database

    def _files_of(self, database: sqlite3.Connection, channel: int) -> Iterator[Path]:
        rows = database.execute(
            "SELECT directory, day, first_seq, revision FROM published_file JOIN published_channel USING (channel)"
            " WHERE channel = ?",
            (channel,),
        ).fetchall()
        waiting = list(deletions.waiting(database, self.root, channel))
        yield from (published_path(self.root, *row) for row in rows)
        yield from (path for piece in waiting for path in (piece.path, piece.old))

    def _paths_of(self, database: sqlite3.Connection, file: PublishedFile) -> Iterator[Path]:
        """Where a file is; of a revision that waits also its predecessor, which people see."""
        yield file.path
        for piece in deletions.waiting(database, self.root, file.channel):
            if piece.path == file.path:
                deletions.forget_waiting(database, [piece])
                yield piece.old

    def _forget_empty(self, database: sqlite3.Connection) -> tuple[Path, ...]:
        """Hot files without a segment that waits: their names go now, they themselves when nobody reads them."""
        empty = database.execute(
            "SELECT id, name FROM hot_file WHERE NOT EXISTS"
            " (SELECT 1 FROM hot_segment WHERE file = hot_file.id AND published = 0)"
        ).fetchall()
        database.executemany("DELETE FROM hot_segment WHERE file = ?", ((number,) for number, _ in empty))
        database.executemany("DELETE FROM hot_file WHERE id = ?", ((number,) for number, _ in empty))
        return tuple(self.hot / name for _, name in empty)

    # ---- memory, in the main thread

    def apply(self, change: Change) -> None:
        """Let readers see a committed change; in the same step the caller moves the ring's cursor."""
        if change.cursor is not None:
            self.cursor = change.cursor
        if change.sealed is not None:
            self._add_hot(change.sealed)
            deleted = {
                each.id
                for channel in self.deleted.values()
                for each in channel
                if each.below_seq >= change.sealed.next_seq
            }
            for tag, at_us in change.sealed.tag_last_us.items():
                if tag not in deleted:
                    self._tags[tag] = max(at_us, self._tags.get(tag, at_us))
            for segment in change.sealed.segments:
                self._count(segment)
        for channel, directory in change.directories.items():
            self._published.setdefault(channel, PublishedCover(directory))
        for file in change.published:
            self._add_published(file)
        for name, channel, day in change.done:
            self._covers[name].close(channel, day)
        for channel in change.dropped:
            self._drop(channel)
        for file in change.forgotten:
            self._published[file.channel].remove(file)
            self._total(-1, file)
            self._waiting = {piece: mark for piece, mark in self._waiting.items() if piece.path != file.path}
        self._apply_deletions(change)
        for path in change.obsolete:
            self._covers.pop(path.name, None)
        self._holds.dismiss(change.obsolete)

    def _apply_deletions(self, change: Change) -> None:
        """What came of deleted tags, and the figures of what is left."""
        for old, new in change.replaced:
            self._published[old.channel].remove(old)
            self._total(-1, old)
            self._add_published(new, is_waiting=True)
            names = self.root, self._published[old.channel].directory, old.day, old.first_seq
            piece = deletions.Waiting(
                old.channel, old.day, old.first_seq, new.path, old.path, published_path(*names, new.revision)
            )
            self._waiting[piece] = self._holds.mark()
        for piece in change.placed:
            self._published[piece.channel].place(piece.day, piece.first_seq)
            del self._waiting[piece]
        if change.erased is not None:
            self._erased(*change.erased)
        for channel, rows, size in change.less:
            known = self._channels[channel]
            self._channels[channel] = ChannelStatistics(known.rows - rows, known.bytes - size, known.last_us)
        for channel, newest in change.newest:
            if newest is None:
                self._channels.pop(channel, None)
            elif channel in self._channels:
                self._channels[channel] = replace(self._channels[channel], last_us=newest)

    def files_for(self, channel: int, start_us: int, end_us: int) -> Files:
        """The files that may hold rows of the channel with ``start_us <= at < end_us``. Memory only.

        To open them after control went back to the main thread, take ``hold`` in the same step.
        """
        cover = self._published.get(channel)
        published = () if cover is None else tuple(cover.between(self.root, channel, start_us, end_us))
        hot = tuple(
            segment
            for file in self._covers.values()
            if file.first_us < end_us and file.last_us >= start_us
            for segment in file.of_channel(channel, start_us, end_us)
        )
        if channel in self.deleted:
            return Files(
                tuple(self._with_deleted(file) for file in published),
                tuple(self._with_deleted(segment) for segment in hot),
            )
        return Files(published, hot)

    def _with_deleted(self, piece: Piece) -> Piece:
        """The same, and what is to be passed over in it."""
        found = self.deleted.get(piece.channel, ())
        deleted = tuple(each for each in found if each.below_seq > piece.first_seq)
        return replace(piece, deleted=deleted) if deleted else piece

    # ---- what was deleted, in the main thread

    def delete_tag(self, channel: int, name: str, tag: int, below_seq: int) -> None:
        """A tag's rows below this seq are deleted; durable when this returns. Raises DiskFullError: they are not."""
        with self._transaction() as database:
            deletions.add(database, channel, name, below_seq)
        tags = self.deleted_tags.setdefault(channel, {})
        tags[name] = max(below_seq, tags.get(name, 0))
        self._tags.pop(tag, None)
        self.deletions += 1

    def _erased(self, channel: int, tags: dict[str, int]) -> None:
        left = {
            name: below_seq
            for name, below_seq in self.deleted_tags.get(channel, {}).items()
            if tags.get(name) != below_seq
        }
        deleted = tuple(each for each in self.deleted.get(channel, ()) if each.name in left)
        if left:
            self.deleted_tags[channel], self.deleted[channel] = left, deleted
        else:
            self.deleted_tags.pop(channel, None)
            self.deleted.pop(channel, None)

    def next_path(self, file: PublishedFile) -> Path:
        """Where the file's next revision will wait. Any thread."""
        directory = self._published[file.channel].directory
        return waiting_path(self.root, directory, file.day, file.first_seq, file.revision + 1)

    def is_current(self, file: PublishedFile) -> bool:
        """Whether its rows count, under this revision."""
        cover = self._published.get(file.channel)
        return cover is not None and cover.has(file)

    def is_waiting(self, file: PublishedFile) -> bool:
        """Whether it is a revision that is not among the day's files yet."""
        return any(piece.path == file.path for piece in self._waiting)

    def placeable(self) -> list[deletions.Waiting]:
        """Revisions that wait, and whose predecessors no reader can still open."""
        return [piece for piece, mark in self._waiting.items() if self._holds.is_past(mark)]

    def oldest(self, channel: int) -> PublishedFile | HotSegment | None:
        """The published file or hot segment with the channel's oldest day, and of that the oldest rows."""
        cover = self._published.get(channel)
        found: list[PublishedFile | HotSegment] = []
        if cover is not None:
            found += itertools.islice(cover.between(self.root, channel, TIME_MIN_US, TIME_MAX_US), 1)
        for file in self._covers.values():
            found += itertools.islice(file.of_channel(channel, TIME_MIN_US, TIME_MAX_US), 1)
        return min(found, key=lambda piece: (piece.day, piece.first_seq), default=None)

    def hold(self) -> int:
        """Files seen until now stay readable until ``release``."""
        return self._holds.hold()

    def release(self, hold: int) -> None:
        self._holds.release(hold)

    def take_removable(self) -> list[Path]:
        """Files that can be unlinked now (``remove_files``, in any thread); each is given out once."""
        return self._holds.take_removable()

    def unpublished(self) -> dict[tuple[int, int], int]:
        """Rows that wait for publication, by (channel, day)."""
        waiting: dict[tuple[int, int], int] = {}
        for file in self._covers.values():
            for channel, day, rows in file.unpublished():
                waiting[channel, day] = waiting.get((channel, day), 0) + rows
        return waiting

    def unpublished_segments(self, channel: int, day: int) -> tuple[HotSegment, ...]:
        """What publishing this day would read."""
        return tuple(
            self._with_deleted(segment)
            for file in self._covers.values()
            for segment in file.of_channel(channel, day * DAY_US, (day + 1) * DAY_US)
            if segment.day == day
        )

    def channel_statistics(self, channel: int) -> ChannelStatistics | None:
        """Of sealed rows; None for a channel without any."""
        return self._channels.get(channel)

    def tag_last_us(self, tag: int) -> int | None:
        """The newest sealed row's time; None for a tag that no sealed row has."""
        return self._tags.get(tag)

    def statistics(self) -> CatalogStatistics:
        hot_bytes = sum(file.bytes for file in self._covers.values())
        files, size, rows = self._totals
        return CatalogStatistics(len(self._covers), hot_bytes, files, size, rows, self.cursor.seq)

    def _add_hot(self, file: HotFile) -> None:
        self._covers[file.path.name] = HotCover(file)

    def _add_published(self, file: PublishedFile, *, is_waiting: bool = False) -> None:
        self._published[file.channel].add(file, is_waiting=is_waiting)
        self._total(1, file)

    def _total(self, sign: int, file: PublishedFile) -> None:
        for i, amount in enumerate((1, file.bytes, file.rows)):
            self._totals[i] += sign * amount

    def _count(self, segment: HotSegment) -> None:
        known = self._channels.get(segment.channel, ChannelStatistics(0, 0, segment.last_us))
        self._channels[segment.channel] = ChannelStatistics(
            known.rows + segment.rows, known.bytes + segment.bytes, max(known.last_us, segment.last_us)
        )

    def _drop(self, channel: int) -> None:
        cover = self._published.pop(channel, None)
        if cover is not None:
            for file in cover.between(self.root, channel, TIME_MIN_US, TIME_MAX_US):
                self._total(-1, file)
        for hot in self._covers.values():
            hot.close_channel(channel)
        self._channels.pop(channel, None)
        self._waiting = {piece: mark for piece, mark in self._waiting.items() if piece.channel != channel}
        self.deleted_tags.pop(channel, None)
        self.deleted.pop(channel, None)
        self.dropped.add(channel)

    # ---- opening

    def columns(self) -> list[Column]:
        """Those of sealed rows, for Schema.load."""
        rows = self._database.execute("SELECT id, channel, stream, name, kind FROM column_ ORDER BY id")
        return [Column(*row) for row in rows]

    def tags(self) -> list[Tag]:
        """Those of sealed rows, for Schema.load."""
        return [Tag(*row) for row in self._database.execute("SELECT id, channel, name FROM tag ORDER BY id")]

    def _remove_orphans(self) -> None:
        known = {row[0] for row in self._database.execute("SELECT name FROM hot_file")}
        announced = [self.root / row[0] for row in self._database.execute("SELECT path FROM publishing")]
        orphans = [self.hot / name for name in self._disk.names(self.hot) if name not in known]
        unfinished = [path.with_suffix(TEMPORARY) for path in announced]
        remove_files([*orphans, *announced, *unfinished], self._disk)
        # A removed name that came back after a power cut would not be announced any more; and a directory that was made
        # for the next day's first file is taken for durable once it is there.
        levels = {level for path in announced for level in path.parents if level.is_relative_to(self.root)}
        for level in sorted(levels):
            if level.exists():
                self._disk.sync_directory(level)
        with self._transaction() as database:
            database.execute("DELETE FROM publishing")

    def _place_waiting(self) -> None:
        """Nobody reads yet, so every revision can take its place; one that cannot goes on waiting."""
        for piece in list(deletions.waiting(self._database, self.root)):
            with suppress(OSError):
                deletions.place(piece, self.replacing, self._disk)
                self.commit_place(piece)
                remove_files([piece.path], self._disk)
        with suppress(OSError):
            deletions.clear(self.replacing, deletions.waiting(self._database, self.root), self._disk)

    def _load(self) -> None:
        database = self._database
        waiting = {piece.path: piece for piece in deletions.waiting(database, self.root)}
        self.cursor = Cursor(*database.execute("SELECT lsn, seq FROM cursor").fetchone())
        for number, name, first_seq, next_seq, size in database.execute(
            "SELECT id, name, first_seq, next_seq, bytes FROM hot_file ORDER BY first_seq"
        ).fetchall():
            path = self.hot / name
            rows = database.execute(
                "SELECT channel, day, first_cell, cells, rows, first_us, last_us, first_seq, next_seq, bytes"
                " FROM hot_segment WHERE file = ? AND published = 0 ORDER BY channel, day",
                (number,),
            )
            segments = tuple(HotSegment(path, *row) for row in rows)
            self._add_hot(HotFile(path, first_seq, next_seq, size, segments, {}))
        for channel, directory in database.execute("SELECT channel, directory FROM published_channel"):
            self._published[channel] = PublishedCover(directory)
        for channel, day, *rest in database.execute(
            "SELECT * FROM published_file ORDER BY channel, day, first_seq"
        ):
            names = self.root, self._published[channel].directory, day, rest[4], rest[-1]
            path = waiting_path(*names)
            if path not in waiting:
                path = published_path(*names)
            self._add_published(PublishedFile(path, channel, day, *rest), is_waiting=path in waiting)
        self._waiting = dict.fromkeys(waiting.values(), self._holds.mark())
        self.deleted_tags = deletions.all_of(database)
        for channel, *rest in database.execute("SELECT * FROM channel_stat"):
            self._channels[channel] = ChannelStatistics(*rest)
        self._tags = dict(database.execute("SELECT id, last_us FROM tag WHERE last_us > 0"))
        self.dropped = {row[0] for row in database.execute("SELECT channel FROM dropped_channel")}
        self.column_count = database.execute("SELECT count(*) FROM column_").fetchone()[0]
        self.tag_count = database.execute("SELECT count(*) FROM tag").fetchone()[0]


def remove_files(paths: Iterable[Path], disk: Disk) -> None:
    """Unlink them; one that is gone already is as good."""
    for path in paths:
        with suppress(FileNotFoundError):
            disk.unlink(path)
