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
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Final, Self

from storage.cover import (
    DAY_US,
    TEMPORARY,
    TIME_MAX_US,
    TIME_MIN_US,
    Files,
    Holds,
    HotCover,
    HotFile,
    HotSegment,
    PublishedCover,
    PublishedFile,
    published_path,
)
from storage.disk import Disk, RealDisk
from storage.schema import Column, Tag
from storage.sqlite import open_database, transaction

NAME: Final = "catalog.sqlite3"

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
        less: (channel, rows, bytes) that are not to be counted any more.
        obsolete: files that nothing needs any more.
    """

    cursor: Cursor | None = None
    sealed: HotFile | None = None
    directories: dict[int, str] = field(default_factory=dict)
    published: tuple[PublishedFile, ...] = ()
    done: tuple[tuple[str, int, int], ...] = ()
    dropped: tuple[int, ...] = ()
    forgotten: tuple[PublishedFile, ...] = ()
    less: tuple[tuple[int, int, int], ...] = ()
    obsolete: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Published:
    """One publication's outcome: new files, complete and durable, and the segments whose rows they hold."""

    directories: dict[int, str]
    files: tuple[PublishedFile, ...]
    segments: tuple[HotSegment, ...]


class Catalog:
    """One daemon's catalog. ``commit_*`` and ``announce`` from any one worker at a time; the rest from one thread.

    Attributes:
        hot: where hot files live.
        root: where published files live.
        column_count, tag_count: how many columns and tags the sealed rows have.
        dropped: channels whose data is gone.
    """

    def __init__(self, directory: Path, disk: Disk) -> None:
        self.hot = directory / "hot"
        self.root = directory / "data"
        self._disk = disk
        self._lock = threading.Lock()
        self._path = directory / NAME
        self._database = open_database(self._path, (SCHEMA,), CatalogFormatError)
        self._covers: dict[str, HotCover] = {}
        self._published: dict[int, PublishedCover] = {}
        self._channels: dict[int, ChannelStatistics] = {}
        self._tags: dict[int, int] = {}
        self._holds = Holds()
        self._totals = [0, 0, 0]  # published files, bytes, rows
        self.cursor = Cursor(0, 0)
        self.column_count = self.tag_count = 0
        self.dropped: set[int] = set()

    @classmethod
    def open(cls, directory: Path, disk: Disk | None = None) -> Self:
        """The catalog of a data directory; files of interrupted seals and publications are removed.

        Raises:
            CatalogFormatError: another version wrote it.
        """
        for part in ("hot", "data"):
            (directory / part).mkdir(exist_ok=True)
        catalog = cls(directory, disk or RealDisk())
        try:
            catalog._remove_orphans()
            catalog._load()
        except BaseException:
            catalog.close()
            raise
        return catalog

    def close(self) -> None:
        self._database.close()

    # ---- changes, in a worker thread

    def commit_seal(
        self, cursor: Cursor, file: HotFile | None, columns: Sequence[Column], tags: Sequence[Tag]
    ) -> Change:
        """Everything before the cursor is sealed now.

        Args:
            cursor: the new one.
            file: durable hot file of the rows in between; None when there are none.
            columns: those that first occur in it, dense after the ones the catalog knows.
            tags: likewise.
        """
        change = self._commit_seal(cursor, file, columns, tags)
        self.column_count += len(columns)
        self.tag_count += len(tags)
        return change

    def _commit_seal(
        self, cursor: Cursor, file: HotFile | None, columns: Sequence[Column], tags: Sequence[Tag]
    ) -> Change:
        with self._transaction() as database:
            found = Cursor(*database.execute("SELECT lsn, seq FROM cursor").fetchone())
            assert cursor.lsn >= found.lsn, "the sealed LSN only grows"
            assert found.seq == (cursor.seq if file is None else file.first_seq), "rows are sealed once"
            assert file is None or file.next_seq == cursor.seq
            database.execute("UPDATE cursor SET lsn = ?, seq = ?", (cursor.lsn, cursor.seq))
            if file is None:
                return Change(cursor=cursor)
            dropped = {row[0] for row in database.execute("SELECT channel FROM dropped_channel")}
            kept = tuple(segment for segment in file.segments if segment.channel not in dropped)
            database.executemany("INSERT INTO column_ VALUES (?, ?, ?, ?, ?)", columns)
            database.executemany("INSERT INTO tag VALUES (?, ?, ?, 0)", tags)
            database.executemany(
                "UPDATE tag SET last_us = max(last_us, ?2) WHERE id = ?1", file.tag_last_us.items()
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
                ((number, *astuple(segment)[1:]) for segment in kept),
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
                "INSERT INTO published_file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (astuple(file)[1:] for file in files),
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
            empty = self._forget_empty(database)
        return Change(directories=directories, published=files, done=done, obsolete=empty + unwanted)

    def commit_drop(self, channel: int) -> Change:
        """A deleted channel's data is gone, also what is still to be sealed. Nothing happens the second time."""
        with self._transaction() as database:
            new = database.execute(
                "INSERT INTO dropped_channel VALUES (?) ON CONFLICT DO NOTHING", (channel,)
            )
            if new.rowcount == 0:
                return Change()
            files = tuple(self._files_of(database, channel))
            database.execute("DELETE FROM published_file WHERE channel = ?", (channel,))
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
            found = database.execute(
                "SELECT rows, bytes FROM channel_stat WHERE channel = ?", (channel,)
            ).fetchone()
            rows, size = found or (piece.rows, 0)
            if isinstance(piece, HotSegment):
                gone = database.execute(
                    "UPDATE hot_segment SET published = 1 WHERE published = 0 AND channel = ? AND day = ?"
                    " AND file = (SELECT id FROM hot_file WHERE name = ?)",
                    (channel, piece.day, piece.path.name),
                )
                less = min(piece.bytes, size)
            else:
                gone = database.execute(
                    "DELETE FROM published_file WHERE channel = ? AND day = ? AND first_seq = ?",
                    (channel, piece.day, piece.first_seq),
                )
                less = size * piece.rows // rows  # what they took in memory is known of all rows together
                database.execute(
                    "INSERT OR REPLACE INTO publishing VALUES (?)", (str(piece.path.relative_to(self.root)),)
                )
            assert gone.rowcount == 1, "a piece is forgotten once"
            database.execute(
                "UPDATE channel_stat SET rows = rows - ?, bytes = bytes - ? WHERE channel = ?",
                (piece.rows, less, channel),
            )
            empty = self._forget_empty(database)
        counted = ((channel, piece.rows, less),)
        if isinstance(piece, HotSegment):
            return Change(done=((piece.path.name, channel, piece.day),), less=counted, obsolete=empty)
        return Change(forgotten=(piece,), less=counted, obsolete=(*empty, piece.path))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._database, self._path) as database:
            yield database

    def _files_of(self, database: sqlite3.Connection, channel: int) -> Iterator[Path]:
        rows = database.execute(
            "SELECT directory, day, first_seq FROM published_file JOIN published_channel USING (channel)"
            " WHERE channel = ?",
            (channel,),
        )
        return (published_path(self.root, *row) for row in rows)

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
            for tag, at_us in change.sealed.tag_last_us.items():
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
        for channel, rows, size in change.less:
            known = self._channels[channel]
            self._channels[channel] = ChannelStatistics(known.rows - rows, known.bytes - size, known.last_us)
        for path in change.obsolete:
            self._covers.pop(path.name, None)
        self._holds.dismiss(change.obsolete)

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
        return Files(published, hot)

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
            segment
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

    def _add_published(self, file: PublishedFile) -> None:
        self._published[file.channel].add(file)
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

    def _load(self) -> None:
        database = self._database
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
            path = published_path(self.root, self._published[channel].directory, day, rest[4])
            self._add_published(PublishedFile(path, channel, day, *rest))
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
