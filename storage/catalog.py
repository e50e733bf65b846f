"""The catalog: which files there are and what they cover. The truth for readers, in SQLite.

Every change is one synced transaction: a seal (a hot file appears, the sealed cursor moves), a publication (published
files appear, hot segments are done), a channel dropped. Files are made durable before the transaction that names
them and removed after the one that forgets them, so a crash leaves at most files that the catalog does not know;
``open`` removes those. For hot files that is everything else in their directory. In the published tree, which people
may browse and copy things into, only names that were announced beforehand (table ``publishing``) are touched.

``commit_*`` run in worker threads and touch only SQLite; each gives a Change, which the main thread applies to the
memory that ``files_for`` reads (storage/catalog_view.py), in the order in which they were committed.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from pathlib import Path
from typing import Final, Self

from storage import catalog_tables as tables
from storage import deletions
from storage.catalog_change import Change, Cursor, Published
from storage.catalog_view import CatalogView, ChannelStatistics
from storage.cover import TEMPORARY, HotFile, HotSegment, PublishedCover, PublishedFile
from storage.disk import Disk, RealDisk
from storage.schema import Column, Tag
from storage.sqlite import open_database, transaction

NAME: Final = "catalog.sqlite3"


class CatalogFormatError(Exception):
    """The file was written by another version of the daemon."""


class Catalog(CatalogView):
    """One daemon's catalog. ``commit_*`` and ``announce`` from any one worker at a time; the rest from one thread.

    Attributes:
        hot: where hot files live.
        replacing: where directories are made that take others' places.
        column_count, tag_count: how many columns and tags the sealed rows have.
        deletions: how many there have been since the start.
    """

    def __init__(self, directory: Path, disk: Disk) -> None:
        super().__init__(directory / "data")
        self.hot = directory / "hot"
        self.replacing = directory / "replacing"
        self._disk = disk
        self._lock = threading.Lock()
        self._path = directory / NAME
        self._database = open_database(self._path, (tables.SCHEMA, deletions.STEP), CatalogFormatError)
        self.column_count = self.tag_count = 0
        self.deletions = 0

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
            tables.announce(database, self.root, paths)

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
            tables.no_longer_announced(database, self.root, (file.path for file in files))
            less: tuple[tuple[int, int, int], ...] = ()
            if outcome.deleted_rows and done:
                less = (tables.count_less(database, done[0][1], outcome.deleted_rows),)
            empty = tables.forget_empty(database, self.hot)
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
            files = tuple(tables.files_of(database, self.root, channel))
            for table in ("waiting_revision", "deleted_tag", "published_file"):
                database.execute(f"DELETE FROM {table} WHERE channel = ?", (channel,))
            database.execute("DELETE FROM published_channel WHERE channel = ?", (channel,))
            database.execute("DELETE FROM channel_stat WHERE channel = ?", (channel,))
            database.execute("UPDATE hot_segment SET published = 1 WHERE channel = ?", (channel,))
            # Should the daemon end before the files are unlinked, the next start does it.
            tables.announce(database, self.root, files)
            empty = tables.forget_empty(database, self.hot)
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
                counted = tables.count_less(database, channel, piece.rows, piece.bytes)
            else:
                paths = tuple(tables.paths_of(database, self.root, piece))
                gone = database.execute(
                    "DELETE FROM published_file WHERE channel = ? AND day = ? AND first_seq = ?",
                    (channel, piece.day, piece.first_seq),
                )
                counted = tables.count_less(database, channel, piece.rows)
                tables.announce(database, self.root, paths)
            assert gone.rowcount == 1, "a piece is forgotten once"
            empty = tables.forget_empty(database, self.hot)
        if isinstance(piece, HotSegment):
            return Change(done=((piece.path.name, channel, piece.day),), less=(counted,), obsolete=empty)
        return Change(forgotten=(piece,), less=(counted,), obsolete=(*empty, *paths))

    def commit_replace(self, old: PublishedFile, new: PublishedFile) -> Change:
        """A file's next revision, without rows that were deleted. Raises DiskFullError: nothing has changed."""
        with self._transaction() as database:
            deletions.replace_file(database, old, new)
            tables.no_longer_announced(database, self.root, [new.path])
            less = tables.count_less(database, old.channel, old.rows - new.rows)
        return Change(replaced=((old, new),), less=(less,))

    def commit_place(self, piece: deletions.Waiting) -> Change:
        """A revision is where people look; its temporary name goes with the last reader who uses it."""
        with self._transaction() as database:
            deletions.forget_waiting(database, [piece])
            tables.announce(database, self.root, [piece.path])
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

    # ---- in the main thread

    def delete_tag(self, channel: int, name: str, tag: int, below_seq: int) -> None:
        """A tag's rows below this seq are deleted; durable when this returns. Raises DiskFullError: they are not."""
        with self._transaction() as database:
            deletions.add(database, channel, name, below_seq)
        tags = self.deleted_tags.setdefault(channel, {})
        tags[name] = max(below_seq, tags.get(name, 0))
        self._tags.pop(tag, None)
        self.deletions += 1

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
        for hot in tables.hot_files(database, self.hot):
            self._add_hot(hot)
        for channel, directory in database.execute("SELECT channel, directory FROM published_channel"):
            self._published[channel] = PublishedCover(directory)
        for file in tables.published_files(database, self.root, waiting):
            self._add_published(file, is_waiting=file.path in waiting)
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
