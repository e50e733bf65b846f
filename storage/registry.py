"""The registry: users, devices and channels, in one SQLite file that the daemon and the command line share.

SQLite in WAL mode, every commit synced. Reads are inline (about 4 µs). A number tells others when to look again:
``version`` changes with every change that can alter an existing route or token, made here or, after ``poll``, by
another process. Adding a device that nobody knew changes nothing for anybody, so auto provisioning leaves it alone.

Ids of devices and channels are never used again: they stand in the log and in files. What is deleted keeps its row
with ``deleted_at_us``, so that its id still has a name; the same device id comes back to its old row, the same channel
number gets a new one (its old data is gone).

Tokens stand in clear, because GET /v2/user shows them (contract 1.2); the file is readable by its owner only.
"""

import re
import secrets
import sqlite3
import zoneinfo
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from storage.disk import sqlite_disk_errors
from storage.journal import State

SCHEMA: Final = """
CREATE TABLE user (
    user_id TEXT PRIMARY KEY, api_token TEXT NOT NULL UNIQUE, device_token TEXT NOT NULL UNIQUE,
    email1 TEXT NOT NULL, email2 TEXT NOT NULL, organization TEXT NOT NULL, locale TEXT NOT NULL,
    user_alias TEXT NOT NULL, created_at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE channel (
    id INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT NOT NULL REFERENCES user, number INTEGER NOT NULL,
    channel_name TEXT NOT NULL, deleted_at_us INTEGER
) STRICT;
CREATE UNIQUE INDEX channel_number ON channel (user_id, number) WHERE deleted_at_us IS NULL;
CREATE TABLE device (
    id INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT NOT NULL REFERENCES user, device_id TEXT NOT NULL,
    description TEXT NOT NULL, enabled INTEGER NOT NULL, channel INTEGER REFERENCES channel, device_type TEXT NOT NULL,
    location TEXT NOT NULL, manufacturer TEXT NOT NULL, activate_at_us INTEGER NOT NULL, state BLOB,
    state_at_us INTEGER, deleted_at_us INTEGER, UNIQUE (user_id, device_id)
) STRICT;
CREATE INDEX device_channel ON device (channel);
CREATE TABLE tag_name (channel INTEGER NOT NULL REFERENCES channel, tag TEXT NOT NULL, channel_name TEXT NOT NULL,
    PRIMARY KEY (channel, tag)) STRICT;
CREATE TABLE version (number INTEGER NOT NULL) STRICT;
INSERT INTO version VALUES (1);
"""

FORMAT: Final = 1  # PRAGMA user_version
BUSY_MS: Final = 5_000  # how long a write waits for the other process's
USER_TEXTS: Final = ("email1", "email2", "organization", "locale", "user_alias")
DEVICE_TEXTS: Final = ("description", "device_type", "location", "manufacturer")
TEXT_BYTES_MAX: Final = 1_024  # of one descriptive field
USER_ID: Final = re.compile(r"U(\d{6,})")
CHANNEL_NUMBER_MAX: Final = 2**31 - 1
# What else lies in a system's zone directory: this machine's own zone, and all zones again with other rules.
NOT_ZONES: Final = ("localtime", "posix", "posixrules", "right")


class RegistryFormatError(Exception):
    """The file was written by another version of the daemon."""


class RegistryBusyError(Exception):
    """Another process has kept the file locked for BUSY_MS."""


class DeviceLimitError(Exception):
    """[limits] devices_per_user_max is reached."""


class InUseError(Exception):
    """The device, channel or tag exists already."""


class UnknownError(LookupError):
    """There is no such user, device or channel."""


class FieldError(ValueError):
    """A field's value is not acceptable; the message names the field."""


@dataclass(frozen=True, slots=True)
class User:
    """An account."""

    user_id: str
    api_token: str
    device_token: str
    email1: str
    email2: str
    organization: str
    locale: str
    user_alias: str
    created_at_us: int


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel; ``number`` is what the API calls channel, ``id`` is what log and files say."""

    id: int
    user_id: str
    number: int
    channel_name: str


@dataclass(frozen=True, slots=True)
class Device:
    """A device. ``channel`` is the channel's id, ``mapped_ch`` its number; both None while it is unmapped."""

    id: int
    user_id: str
    device_id: str
    description: str
    enabled: bool
    channel: int | None
    mapped_ch: int | None
    device_type: str
    location: str
    manufacturer: str
    activate_at_us: int
    state: bytes | None
    state_at_us: int | None


DEVICE_COLUMNS: Final = (
    "device.id, device.user_id, device_id, description, enabled, channel, channel.number, device_type, location, "
    "manufacturer, activate_at_us, state, state_at_us"
)
DEVICE_FROM: Final = "FROM device LEFT JOIN channel ON channel.id = device.channel"


def new_token() -> str:
    """32 hexadecimal characters, 128 random bits (contract 1.2)."""
    return secrets.token_hex(16).upper()


def is_text(value: str) -> bool:
    """Whether it can be stored: JSON's escapes and the command line may hold half a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_zone(name: str) -> None:
    """Refuse what is not an IANA time zone. Raises FieldError."""
    if name.partition("/")[0] in NOT_ZONES:
        raise FieldError(f"locale: {name!r} is not an IANA time zone")
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise FieldError(f"locale: {name!r} is not an IANA time zone") from error


def check_texts(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        value = fields.get(name, "")
        if not isinstance(value, str):
            raise FieldError(f"{name}: expected a string")
        if not is_text(value):
            raise FieldError(f"{name}: not Unicode text")
        if len(value.encode()) > TEXT_BYTES_MAX:
            raise FieldError(f"{name}: longer than {TEXT_BYTES_MAX} bytes")


class Registry:
    """One connection to registry.sqlite3. Used by one thread at a time.

    Args:
        path: the file; made when it is missing, mode 0600.
        devices_per_user_max: beyond it DeviceLimitError.
    """

    def __init__(self, path: Path, devices_per_user_max: int = 100_000) -> None:
        self.devices_per_user_max = devices_per_user_max
        self._path = path
        self._path = path
        path.touch(0o600)
        self._database = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        self._database.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        try:
            self._database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise RegistryFormatError(f"{path}: {error}") from error
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA foreign_keys = ON")
        self._depth = 0
        self._users_by_api_token: dict[str, User] = {}
        self._device_counts: dict[str, int] = {}
        self._users_by_device_token: dict[str, User] = {}
        self.version = 0
        found = self._value("PRAGMA user_version")
        if found == 0:
            with self.transaction():
                if self._value("PRAGMA user_version") == 0:
                    for statement in SCHEMA.split(";\n"):
                        self._database.execute(statement)
                    self._database.execute(f"PRAGMA user_version = {FORMAT}")
        elif found != FORMAT:
            raise RegistryFormatError(f"{path} has format {found}, this daemon reads {FORMAT}")
        self._data_version = self._value("PRAGMA data_version")
        self.version = self._value("SELECT number FROM version")

    def close(self) -> None:
        self._database.close()

    def _value(self, sql: str, *parameters: object) -> Any:
        row = self._database.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

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
            self._version_before = self.version
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
        self._device_counts.clear()
        # The next change gets the number of the one that was undone; nobody may take it for known.
        self._see(self._version_before)

    def _see(self, version: int) -> None:
        self.version = version
        self._users_by_api_token.clear()
        self._users_by_device_token.clear()

    def _changed(self) -> None:
        """An existing route or token may be different now."""
        self._database.execute("UPDATE version SET number = number + 1")
        self._see(self._value("SELECT number FROM version"))

    def poll(self) -> bool:
        """Look whether another process changed something; True when ``version`` moved."""
        data_version = self._value("PRAGMA data_version")
        if data_version == self._data_version:
            return False
        self._data_version = data_version
        self._device_counts.clear()
        version = self._value("SELECT number FROM version")
        if version == self.version:
            return False
        self._see(version)
        return True

    # ---- users

    def _user(self, where: str, value: str) -> User | None:
        if not is_text(value):
            return None
        row = self._database.execute(f"SELECT * FROM user WHERE {where} = ?", (value,)).fetchone()
        return None if row is None else User(*row)

    def user(self, user_id: str) -> User | None:
        return self._user("user_id", user_id)

    def user_by_api_token(self, token: str) -> User | None:
        if token not in self._users_by_api_token:
            user = self._user("api_token", token)
            if user is None:
                return None
            self._users_by_api_token[token] = user
        return self._users_by_api_token[token]

    def user_by_device_token(self, token: str) -> User | None:
        if token not in self._users_by_device_token:
            user = self._user("device_token", token)
            if user is None:
                return None
            self._users_by_device_token[token] = user
        return self._users_by_device_token[token]

    def users(self) -> list[User]:
        return [User(*row) for row in self._database.execute("SELECT * FROM user ORDER BY user_id")]

    def add_user(self, at_us: int, /, **fields: str) -> User:
        """A new account with new tokens. Raises FieldError."""
        self._check_user(fields)
        with self.transaction():
            newest = self._value(
                "SELECT user_id FROM user ORDER BY length(user_id) DESC, user_id DESC LIMIT 1"
            )
            match = USER_ID.fullmatch(newest or "U000000")
            user_id = f"U{int(match[1]) + 1 if match else 1:06d}"
            values = [fields.get(name, "UTC" if name == "locale" else "") for name in USER_TEXTS]
            self._database.execute(
                "INSERT INTO user VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (user_id, new_token(), new_token(), *values, at_us),
            )
            self._changed()
        user = self.user(user_id)
        assert user is not None
        return user

    def update_user(self, user_id: str, /, **fields: str) -> User:
        """Change descriptive fields. Raises FieldError, UnknownError."""
        self._check_user(fields)
        with self.transaction():
            self._known_user(user_id)
            for name, value in fields.items():
                self._database.execute(f"UPDATE user SET {name} = ? WHERE user_id = ?", (value, user_id))
            self._changed()
        return self._known_user(user_id)

    def rotate(self, user_id: str, which: str) -> User:
        """A new ``api_token`` or ``device_token``; the old one is worth nothing from now on."""
        assert which in ("api_token", "device_token")
        with self.transaction():
            self._known_user(user_id)
            self._database.execute(f"UPDATE user SET {which} = ? WHERE user_id = ?", (new_token(), user_id))
            self._changed()
        return self._known_user(user_id)

    def _known_user(self, user_id: str) -> User:
        user = self.user(user_id)
        if user is None:
            raise UnknownError(f"there is no user {user_id}")
        return user

    @staticmethod
    def _check_user(fields: dict[str, str]) -> None:
        unknown = set(fields) - set(USER_TEXTS)
        if unknown:
            raise FieldError(f"{min(unknown)}: not a field of a user that can be set")
        check_texts(fields, USER_TEXTS)
        if "locale" in fields:
            check_zone(fields["locale"])

    # ---- channels

    def channel(self, user_id: str, number: int) -> Channel | None:
        row = self._database.execute(
            "SELECT id, user_id, number, channel_name FROM channel"
            " WHERE user_id = ? AND number = ? AND deleted_at_us IS NULL",
            (user_id, number),
        ).fetchone()
        return None if row is None else Channel(*row)

    def channels(self, user_id: str) -> list[Channel]:
        rows = self._database.execute(
            "SELECT id, user_id, number, channel_name FROM channel"
            " WHERE user_id = ? AND deleted_at_us IS NULL ORDER BY number",
            (user_id,),
        )
        return [Channel(*row) for row in rows]

    def channel_by_id(self, channel: int) -> Channel:
        """Also of a deleted one: its id still stands in files. Raises UnknownError."""
        row = self._database.execute(
            "SELECT id, user_id, number, channel_name FROM channel WHERE id = ?", (channel,)
        ).fetchone()
        if row is None:
            raise UnknownError(f"there is no channel with the id {channel}")
        return Channel(*row)

    def deleted_channels(self) -> list[int]:
        """Ids of channels whose data is to go."""
        return [
            row[0] for row in self._database.execute("SELECT id FROM channel WHERE deleted_at_us IS NOT NULL")
        ]

    def add_channel(self, user_id: str, number: int, channel_name: str | None = None) -> Channel:
        """Raises InUseError, FieldError."""
        name = f"NEW_CH{number}" if channel_name is None else channel_name
        check_texts({"channel_name": name}, ("channel_name",))
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= CHANNEL_NUMBER_MAX:
            raise FieldError(f"channel: {number} is not in 0 .. {CHANNEL_NUMBER_MAX}")
        with self.transaction():
            if self.channel(user_id, number) is not None:
                raise InUseError(f"channel {number} exists")
            self._database.execute(
                "INSERT INTO channel (user_id, number, channel_name) VALUES (?, ?, ?)",
                (user_id, number, name),
            )
            self._changed()
        channel = self.channel(user_id, number)
        assert channel is not None
        return channel

    def rename_channel(self, channel: int, channel_name: str) -> None:
        """Raises FieldError."""
        check_texts({"channel_name": channel_name}, ("channel_name",))
        with self.transaction():
            self._database.execute(
                "UPDATE channel SET channel_name = ? WHERE id = ?", (channel_name, channel)
            )

    def delete_channel(self, channel: int, at_us: int) -> None:
        """Unmap its devices and bury it; its data goes when the storage gets to it."""
        with self.transaction():
            self._database.execute("UPDATE device SET channel = NULL WHERE channel = ?", (channel,))
            self._database.execute("UPDATE channel SET deleted_at_us = ? WHERE id = ?", (at_us, channel))
            self._changed()

    # ---- devices

    def _devices(self, where: str, *parameters: object) -> list[Device]:
        rows = self._database.execute(f"SELECT {DEVICE_COLUMNS} {DEVICE_FROM} WHERE {where}", parameters)
        found: list[list[Any]] = [[*row[:4], bool(row[4]), *row[5:]] for row in rows]
        return [Device(*fields) for fields in found]

    def device(self, user_id: str, device_id: str) -> Device | None:
        if not is_text(device_id):
            return None
        found = self._devices(
            "device.user_id = ? AND device_id = ? AND device.deleted_at_us IS NULL", user_id, device_id
        )
        return found[0] if found else None

    def devices(self, user_id: str) -> list[Device]:
        return self._devices(
            "device.user_id = ? AND device.deleted_at_us IS NULL ORDER BY device_id", user_id
        )

    def device_name(self, device: int) -> str:
        """The device_id of a registry id, deleted or not. Raises UnknownError."""
        name = self._value("SELECT device_id FROM device WHERE id = ?", device)
        if name is None:
            raise UnknownError(f"there is no device with the id {device}")
        return str(name)

    def device_by_name(self, user_id: str, device_id: str) -> int | None:
        """The registry id that this device_id has or had; what a deleted device sent is still there."""
        if not is_text(device_id):
            return None
        number = self._value("SELECT id FROM device WHERE user_id = ? AND device_id = ?", user_id, device_id)
        return None if number is None else int(number)

    def add_device(self, user_id: str, device_id: str, at_us: int, /, **fields: Any) -> Device:
        """Raises InUseError, DeviceLimitError, FieldError."""
        if not is_text(device_id):
            raise FieldError("device_id: not Unicode text")
        self._check_device(fields)
        if self.device(user_id, device_id) is None:
            self._check_device_limit(user_id)  # costs nothing: devices beyond it may come back all the time
        with self.transaction():
            if self.device(user_id, device_id) is not None:
                raise InUseError(f"device {device_id} exists")
            self._check_device_limit(user_id)
            self._device_counts[user_id] += 1
            self._database.execute(
                "INSERT INTO device (user_id, device_id, description, enabled, device_type, location, manufacturer,"
                " activate_at_us) VALUES (?, ?, '', 0, '', '', '', ?)"
                " ON CONFLICT (user_id, device_id) DO UPDATE SET description = '', enabled = 0, channel = NULL,"
                " device_type = '', location = '', manufacturer = '', activate_at_us = excluded.activate_at_us,"
                " state = NULL, state_at_us = NULL, deleted_at_us = NULL",
                (user_id, device_id, at_us),
            )
            if fields:
                return self.update_device(user_id, device_id, **fields)
        device = self.device(user_id, device_id)
        assert device is not None
        return device

    def _check_device_limit(self, user_id: str) -> None:
        if user_id not in self._device_counts:
            self._device_counts[user_id] = self._value(
                "SELECT count(*) FROM device WHERE user_id = ? AND deleted_at_us IS NULL", user_id
            )
        if self._device_counts[user_id] >= self.devices_per_user_max:
            count = self._device_counts[user_id]
            raise DeviceLimitError(f"the user has {count} devices, which is the limit")

    def provision_device(self, user_id: str, device_id: str, at_us: int) -> Device:
        """What the connectors do with a device that nobody knows: registered, not enabled, not mapped."""
        return self.add_device(user_id, device_id, at_us)

    def update_device(self, user_id: str, device_id: str, /, **fields: Any) -> Device:
        """Change fields; ``channel`` is a channel's id or None. Raises UnknownError, FieldError."""
        self._check_device(fields)
        with self.transaction():
            if self.device(user_id, device_id) is None:
                raise UnknownError(f"there is no device {device_id}")
            self._check_channel(user_id, fields.get("channel"))
            for name, value in fields.items():
                self._database.execute(
                    f"UPDATE device SET {name} = ? WHERE user_id = ? AND device_id = ?",
                    (value, user_id, device_id),
                )
            if not fields.keys().isdisjoint({"enabled", "channel"}):
                self._changed()
        device = self.device(user_id, device_id)
        assert device is not None
        return device

    def delete_device(self, user_id: str, device_id: str, at_us: int) -> None:
        """Raises UnknownError. What the device sent stays."""
        with self.transaction():
            if self.device(user_id, device_id) is None:
                raise UnknownError(f"there is no device {device_id}")
            self._database.execute(
                "UPDATE device SET deleted_at_us = ?, channel = NULL WHERE user_id = ? AND device_id = ?",
                (at_us, user_id, device_id),
            )
            self._device_counts.pop(user_id, None)
            self._changed()

    @staticmethod
    def _check_device(fields: dict[str, Any]) -> None:
        unknown = set(fields) - {*DEVICE_TEXTS, "enabled", "channel"}
        if unknown:
            raise FieldError(f"{min(unknown)}: not a field of a device that can be set")
        check_texts(fields, DEVICE_TEXTS)
        if not isinstance(fields.get("enabled", False), bool):
            raise FieldError("enabled: expected true or false")

    def _check_channel(self, user_id: str, channel: Any) -> None:
        """Refuse what is not the id of one of the user's channels, nor None. Raises FieldError."""
        known = [each.id for each in self.channels(user_id)]
        if channel is not None and (isinstance(channel, bool) or channel not in known):
            raise FieldError(f"channel: there is no channel with the id {channel!r}")

    def put_states(self, states: list[State]) -> None:
        """Device states out of the log, in its order: the last one stands, also when the wall clock was set back."""
        with self.transaction():
            self._database.executemany(
                "UPDATE device SET state = ?, state_at_us = ? WHERE id = ?",
                ((state.payload, state.at_us, state.device) for state in states),
            )

    # ---- names that a tag was given

    def tag_names(self, channel: int) -> dict[str, str]:
        """Tags of the channel that were made or renamed through the API, with their channel_name."""
        rows = self._database.execute("SELECT tag, channel_name FROM tag_name WHERE channel = ?", (channel,))
        return dict(rows.fetchall())

    def put_tag_name(self, channel: int, tag: str, channel_name: str) -> None:
        """Raises FieldError."""
        check_texts({"channel_name": channel_name, "tag": tag}, ("channel_name", "tag"))
        with self.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO tag_name VALUES (?, ?, ?)", (channel, tag, channel_name)
            )

    def delete_tag_name(self, channel: int, tag: str) -> None:
        if is_text(tag):
            with self.transaction():
                self._database.execute("DELETE FROM tag_name WHERE channel = ? AND tag = ?", (channel, tag))
