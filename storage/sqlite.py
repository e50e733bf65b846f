"""How the daemon keeps its own SQLite files: opened, prepared and changed in one way.

WAL mode, every commit synced; nobody but the daemon writes them. What a kill left in SQLite's log unsynced is made
durable when a file is opened, because others act on it at once. Each file has a format (``PRAGMA user_version``); each
format has a script of statements that makes it out of the one before, the first one out of nothing.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.disk import DiskFullError, sqlite_disk_errors


def open_database(path: Path, steps: Sequence[str], format_error: type[Exception]) -> sqlite3.Connection:
    """The database in this file, which is made when it is missing.

    Args:
        path: of the file.
        steps: of each format the statements that lead to it, divided by semicolons at the ends of lines; the last
            one is what this daemon reads and writes.
        format_error: raised when another version wrote the file, or it is no database.

    Raises:
        DiskFullError: there is no room for it.
    """
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        _prepare(database, path, steps, format_error)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(
    database: sqlite3.Connection, path: Path, steps: Sequence[str], format_error: type[Exception]
) -> None:
    with sqlite_disk_errors(path):
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise format_error(f"{path}: {error}") from error
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        with suppress(DiskFullError), sqlite_disk_errors(path):  # it syncs before it needs room
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    found = database.execute("PRAGMA user_version").fetchone()[0]
    if found > len(steps):
        raise format_error(f"{path} has format {found}, this daemon reads {len(steps)}")
    if found < len(steps):
        with transaction(database, path):
            for step in steps[found:]:
                for statement in step.split(";\n"):
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {len(steps)}")


@contextmanager
def transaction(database: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """All or nothing, and durable. Raises DiskFullError."""
    with sqlite_disk_errors(path):
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:  # SQLite rolls back by itself when the disk is full
                database.execute("ROLLBACK")
            raise
