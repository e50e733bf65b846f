"""The registry's file: one SQLite connection, its transactions, and who changes what.

SQLite in WAL mode, every commit synced. Reads are inline, and the commonest are remembered until something changes
(storage/registry/remembered.py). Three numbers tell others when to look again:
``version`` changes with every change that can alter an existing route or token, ``users_version`` with those of users
(tokens, quotas, enabled or not, gone), ``events_version`` with those of events; made here or, after ``poll``, by
another process. Adding a device that nobody knew changes nothing for anybody, so auto provisioning leaves them alone.

A change that is made inside ``by`` is somebody's change, and leaves a row in the audit log, in the same transaction.
What the daemon does by itself (an unknown device, a device's state) is nobody's.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from storage.disk import sqlite_disk_errors
from storage.registry.fields import RegistryBusyError, RegistryFormatError, RegistryOutdatedError
from storage.registry.remembered import Remembered
from storage.registry.tables import FORMAT, upgrade

BUSY_MS: Final = 5_000  # how long a write waits for the other process's


@dataclass(frozen=True, slots=True)
class RegistryLimits:
    """What a user may have where no quota of the user's own says otherwise (thingscale/config.py has the keys)."""

    devices_per_user_max: int = 100_000
    channels_per_user_max: int = 10_000
    events_per_user_max: int = 1_000
    streams_per_channel_max: int = 1_024
    tags_per_channel_max: int = 10_000
    tag_bytes_max: int = 128


class RegistryFile:
    """One connection to registry.sqlite3. Used by one thread at a time. The nouns' classes build on it.

    Args:
        path: the file; made when it is missing, mode 0600.
        limits: of one user.
        may_upgrade: whether a file of an older format is brought to this one's.

    Attributes:
        limits: as given.
        version, users_version, events_version: see the module.
        remembered: answers that are still true.

    Raises:
        RegistryOutdatedError: an older format, and it may not be upgraded.
        RegistryFormatError: a newer format, or no database.
    """

    def __init__(self, path: Path, limits: RegistryLimits | None = None, *, may_upgrade: bool = True) -> None:
        self.limits = limits or RegistryLimits()
        self.remembered = Remembered()
        self._path = path
        path.touch(0o600)
        self._database = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            self._prepare(may_upgrade)
        except BaseException:
            self._database.close()
            raise

    def _prepare(self, may_upgrade: bool) -> None:
        self._database.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        try:
            self._database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.DatabaseError as error:
            raise RegistryFormatError(f"{self._path}: {error}") from error
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA foreign_keys = ON")
        self._depth = 0
        self._author: tuple[str, int] | None = None
        self._now_us = 0
        self._counts: dict[tuple[str, str], int] = {}  # (table, user) -> rows that are not deleted
        self.version = self.users_version = self.events_version = 0
        found = self._value("PRAGMA user_version")
        if found > FORMAT:
            raise RegistryFormatError(f"{self._path} has format {found}, this daemon reads {FORMAT}")
        if found < FORMAT:
            if found and not may_upgrade:
                raise RegistryOutdatedError(
                    f"{self._path} has format {found}, which the running daemon reads, and not {FORMAT}: restart it"
                )
            with self.transaction():
                found = self._value("PRAGMA user_version")
                if found < FORMAT:
                    upgrade(self._database, found)
        self._data_version = self._value("PRAGMA data_version")
        self._see(*self._versions())

    def close(self) -> None:
        self._database.close()

    def _value(self, sql: str, *parameters: object) -> Any:
        row = self._database.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

    # ---- transactions

    @property
    def is_changing(self) -> bool:
        """Whether a transaction has begun and has not ended."""
        return self._depth > 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, and synced, when the outermost one ends.

        Raises:
            RegistryBusyError: another process writes, and does not end.
            DiskFullError: nothing has changed.
        """
        with sqlite_disk_errors(self._path), self._transaction():
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._depth == 0:
            self._begin()
            self._versions_before = self.version, self.users_version, self.events_version
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self._undo()
            raise
        self._depth -= 1
        if self._depth == 0:
            try:
                self._database.execute("COMMIT")
            except BaseException:
                self._undo()
                raise
            self.remembered.forget()

    def _begin(self) -> None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            reason = f"{self._path} has been locked by another process for {BUSY_MS / 1000:g} s"
            raise RegistryBusyError(reason) from error

    def _undo(self) -> None:
        if self._database.in_transaction:  # SQLite rolls back by itself when the disk is full
            self._database.execute("ROLLBACK")
        self._counts.clear()
        self.remembered.forget()
        # The next change gets the number of the one that was undone; nobody may take it for known.
        self._see(*self._versions_before)

    # ---- versions

    def _versions(self) -> tuple[int, int, int]:
        number, users, events = self._database.execute("SELECT number, users, events FROM version").fetchone()
        return number, users, events

    def _see(self, version: int, users: int, events: int) -> None:
        self.version, self.users_version, self.events_version = version, users, events

    def _changed(self, *, users: bool = False) -> None:
        """An existing route or token may be different now."""
        self._database.execute("UPDATE version SET number = number + 1, users = users + ?", (users,))
        self._see(*self._versions())

    def _changed_events(self) -> None:
        """An event may fire now that did not, or the other way round."""
        self._database.execute("UPDATE version SET events = events + 1")
        self.events_version += 1

    def poll(self) -> bool:
        """Look whether another process changed something; True when ``version`` moved."""
        data_version = self._value("PRAGMA data_version")
        if data_version == self._data_version:
            return False
        self._data_version = data_version
        self._counts.clear()
        self.remembered.forget()
        versions = self._versions()
        is_moved = versions[0] != self.version
        if is_moved or versions != (self.version, self.users_version, self.events_version):
            self._see(*versions)
        return is_moved

    # ---- who changes something

    @contextmanager
    def by(self, actor: str, at_us: int) -> Iterator[None]:
        """A transaction whose changes are written into the audit log.

        Args:
            actor: who makes them: a user id, ``admin:NAME`` or ``cli``.
            at_us: now.
        """
        with self.transaction():
            before, self._author = self._author, (actor, at_us)
            try:
                yield
            finally:
                self._author = before

    def _audit(
        self,
        action: str,
        user_id: str | None,
        subject: str,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
    ) -> None:
        """One row, if it is somebody's change; of a change only the keys that are different.

        Args:
            action: ``device.update``.
            user_id: whose account it concerns.
            subject: on what, as the API names it.
            before, after: without tokens; None before it was made, and after it is deleted.
        """
        if self._author is None:
            return
        if before is not None and after is not None:
            keys = [key for key in after if before.get(key) != after[key]]
            before, after = {key: before.get(key) for key in keys}, {key: after[key] for key in keys}
            if not keys:
                return
        actor, at_us = self._author
        texts = [
            None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            for value in (before, after)
        ]
        self._database.execute(
            "INSERT INTO audit (at_us, actor, user_id, action, subject, before, after)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (at_us, actor, user_id, action, subject, *texts),
        )

    # ---- how many a user has

    def count_of(self, table: str, user_id: str) -> int:
        """Rows of the user that are not deleted; remembered, because every unknown device asks."""
        key = table, user_id
        if key not in self._counts:
            alive = "" if table == "event" else " AND deleted_at_us IS NULL"
            self._counts[key] = self._value(f"SELECT count(*) FROM {table} WHERE user_id = ?{alive}", user_id)
        return self._counts[key]
