"""Deleted tags: how the entries of one tag leave a channel.

A deletion is one synced row of the catalog: channel, tag, and the seq below which the tag's rows are no more. From then
on ring, hot files and published files are read past such rows; what comes later under the tag has higher numbers and
is there. Behind that the files follow: what waits in hot files is published without the rows, and each published file
that has some is written anew, as its next *revision*. When no file has any, the row goes.

A revision is committed while it lies beside the days under a temporary name: the daemon's readers use it there.
People's readers, who have no catalog, see the predecessor until no reader of the daemon's can still open that; then
the day's directory is exchanged, in one step, for one that has the revision instead and was made out of their sight
(``replacing/``, hard links). So whoever lists a day finds all of the old files or all of the new ones, also after a
crash: the next start makes up for an exchange that is missing.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from storage.cover import PublishedFile, published_path, waiting_path
from storage.disk import Disk

STEP: Final = """
ALTER TABLE published_file ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
CREATE TABLE deleted_tag (
    channel INTEGER NOT NULL, name TEXT NOT NULL, below_seq INTEGER NOT NULL, PRIMARY KEY (channel, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE waiting_revision (
    channel INTEGER NOT NULL, day INTEGER NOT NULL, first_seq INTEGER NOT NULL, before INTEGER NOT NULL,
    PRIMARY KEY (channel, day, first_seq)
) STRICT, WITHOUT ROWID;
"""


class Waiting(NamedTuple):
    """A revision that is not where people look: where it is, whose place it takes, and under which name."""

    channel: int
    day: int
    first_seq: int
    path: Path
    old: Path
    new: Path


# ---- in the catalog's transactions


def add(database: sqlite3.Connection, channel: int, name: str, below_seq: int) -> None:
    """The tag's rows below this seq are deleted, and none is known to be left."""
    database.execute(
        "INSERT INTO deleted_tag VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET below_seq = max(below_seq, ?3)",
        (channel, name, below_seq),
    )
    database.execute("UPDATE tag SET last_us = 0 WHERE channel = ? AND name = ?", (channel, name))


def all_of(database: sqlite3.Connection) -> dict[int, dict[str, int]]:
    """Channel -> tag -> below_seq."""
    found: dict[int, dict[str, int]] = {}
    for channel, name, below_seq in database.execute("SELECT * FROM deleted_tag"):
        found.setdefault(channel, {})[name] = below_seq
    return found


def replace_file(database: sqlite3.Connection, old: PublishedFile, new: PublishedFile) -> None:
    """The new revision counts from now on, though it is not among the day's files yet."""
    changed = database.execute(
        "UPDATE published_file SET rows = ?, bytes = ?, first_us = ?, last_us = ?, next_seq = ?, revision = ?"
        " WHERE channel = ? AND day = ? AND first_seq = ? AND revision = ?",
        (
            new.rows, new.bytes, new.first_us, new.last_us, new.next_seq, new.revision,
            old.channel, old.day, old.first_seq, old.revision,
        ),
    ).rowcount  # fmt: skip
    assert changed == 1, "a file has one next revision"
    database.execute(
        "INSERT INTO waiting_revision VALUES (?, ?, ?, ?)",
        (old.channel, old.day, old.first_seq, old.revision),
    )


def waiting(database: sqlite3.Connection, root: Path, channel: int | None = None) -> Iterator[Waiting]:
    """The revisions that wait, of one channel or of all."""
    rows = database.execute(
        "SELECT channel, directory, day, first_seq, before, revision FROM waiting_revision"
        " JOIN published_file USING (channel, day, first_seq) JOIN published_channel USING (channel)"
        " WHERE ?1 IS NULL OR channel = ?1",
        (channel,),
    ).fetchall()
    for number, directory, day, first_seq, before, revision in rows:
        yield Waiting(
            number,
            day,
            first_seq,
            waiting_path(root, directory, day, first_seq, revision),
            published_path(root, directory, day, first_seq, before),
            published_path(root, directory, day, first_seq, revision),
        )


def forget_waiting(database: sqlite3.Connection, pieces: Iterable[Waiting]) -> None:
    database.executemany(
        "DELETE FROM waiting_revision WHERE channel = ? AND day = ? AND first_seq = ?",
        (piece[:3] for piece in pieces),
    )


# ---- among the day's files


def place(piece: Waiting, replacing: Path, disk: Disk) -> None:
    """The revision takes its predecessor's place in one step, durable when this returns; again is as good as once.

    Nobody else changes the day's directory meanwhile, and no reader of ours may still open the predecessor.

    Args:
        piece: the revision.
        replacing: where directories are made.
        disk: links, exchanges and syncs.

    Raises:
        OSError: the file system has no hard links, or cannot exchange two names; everything is as it was.
    """
    day = piece.new.parent
    other = replacing / f"{piece.channel}-{piece.day}"
    if not piece.new.exists():
        _clear(other, day, disk)
        other.mkdir()
        for path in day.iterdir():
            if path != piece.old and not path.is_dir():
                disk.link(path, other / path.name)
        disk.link(piece.path, other / piece.new.name)
        for directory in (other, replacing):
            disk.sync_directory(directory)
        disk.exchange(other, day)
    for directory in (day.parent, replacing):
        disk.sync_directory(directory)
    _clear(other, day, disk)


def clear(replacing: Path, pieces: Iterable[Waiting], disk: Disk) -> None:
    """Remove what a crash has left in there, but for revisions that go on waiting."""
    wanted = {f"{piece.channel}-{piece.day}" for piece in pieces}
    for other in replacing.iterdir():
        if other.name not in wanted:
            for path in other.iterdir():
                disk.unlink(path)
            other.rmdir()


def _clear(other: Path, day: Path, disk: Disk) -> None:
    """Remove a directory that was not finished, or was exchanged; what people have made in there moves on."""
    if not other.exists():
        return
    for path in other.iterdir():
        if path.is_dir():
            disk.rename(path, day / path.name)
        else:
            disk.unlink(path)
    other.rmdir()
