"""The catalog's tables: their schema, and what transactions and the start read and write in them."""

import sqlite3
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Final

from storage import deletions
from storage.cover import HotFile, HotSegment, PublishedFile, published_path, waiting_path

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


def count_less(
    database: sqlite3.Connection, channel: int, rows: int, size: int | None = None
) -> tuple[int, int, int]:
    """So many rows are not there any more. What they took in memory is known of all rows together, or given."""
    found = database.execute("SELECT rows, bytes FROM channel_stat WHERE channel = ?", (channel,)).fetchone()
    known, known_bytes = found or (rows, 0)
    less = known_bytes * rows // known if size is None else min(size, known_bytes)
    database.execute(
        "UPDATE channel_stat SET rows = rows - ?, bytes = bytes - ? WHERE channel = ?",
        (rows, less, channel),
    )
    return channel, rows, less


def files_of(database: sqlite3.Connection, root: Path, channel: int) -> Iterator[Path]:
    """Where a channel's published files are, and what waits beside them."""
    rows = database.execute(
        "SELECT directory, day, first_seq, revision FROM published_file JOIN published_channel USING (channel)"
        " WHERE channel = ?",
        (channel,),
    ).fetchall()
    waiting = list(deletions.waiting(database, root, channel))
    yield from (published_path(root, *row) for row in rows)
    yield from (path for piece in waiting for path in (piece.path, piece.old))


def paths_of(database: sqlite3.Connection, root: Path, file: PublishedFile) -> Iterator[Path]:
    """Where a file is; of a revision that waits also its predecessor, which people see."""
    yield file.path
    for piece in deletions.waiting(database, root, file.channel):
        if piece.path == file.path:
            deletions.forget_waiting(database, [piece])
            yield piece.old


def forget_empty(database: sqlite3.Connection, hot: Path) -> tuple[Path, ...]:
    """Hot files without a segment that waits: their names go now, they themselves when nobody reads them."""
    empty = database.execute(
        "SELECT id, name FROM hot_file WHERE NOT EXISTS"
        " (SELECT 1 FROM hot_segment WHERE file = hot_file.id AND published = 0)"
    ).fetchall()
    database.executemany("DELETE FROM hot_segment WHERE file = ?", ((number,) for number, _ in empty))
    database.executemany("DELETE FROM hot_file WHERE id = ?", ((number,) for number, _ in empty))
    return tuple(hot / name for _, name in empty)


def announce(database: sqlite3.Connection, root: Path, paths: Iterable[Path]) -> None:
    """The next start removes these, unless they are named in another table by then."""
    database.executemany(
        "INSERT OR REPLACE INTO publishing VALUES (?)", ((str(path.relative_to(root)),) for path in paths)
    )


def no_longer_announced(database: sqlite3.Connection, root: Path, paths: Iterable[Path]) -> None:
    database.executemany(
        "DELETE FROM publishing WHERE path = ?", ((str(path.relative_to(root)),) for path in paths)
    )


# ---- at the start


def hot_files(database: sqlite3.Connection, hot: Path) -> Iterator[HotFile]:
    """With the segments that wait, oldest first."""
    for number, name, first_seq, next_seq, size in database.execute(
        "SELECT id, name, first_seq, next_seq, bytes FROM hot_file ORDER BY first_seq"
    ).fetchall():
        path = hot / name
        rows = database.execute(
            "SELECT channel, day, first_cell, cells, rows, first_us, last_us, first_seq, next_seq, bytes"
            " FROM hot_segment WHERE file = ? AND published = 0 ORDER BY channel, day",
            (number,),
        )
        yield HotFile(path, first_seq, next_seq, size, tuple(HotSegment(path, *row) for row in rows), {})


def published_files(
    database: sqlite3.Connection, root: Path, waiting: Container[Path]
) -> Iterator[PublishedFile]:
    """Each where it is: one of ``waiting``, or in its day's directory."""
    directories = dict(database.execute("SELECT channel, directory FROM published_channel"))
    for channel, day, *rest in database.execute(
        "SELECT * FROM published_file ORDER BY channel, day, first_seq"
    ):
        names = root, directories[channel], day, rest[4], rest[-1]
        path = waiting_path(*names)
        yield PublishedFile(path if path in waiting else published_path(*names), channel, day, *rest)
