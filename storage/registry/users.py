"""Users: who they are, what they may have, whether they may come in, and their end.

A user who is deleted keeps a row, without texts and with tokens that nobody can have: the id still stands in files, and
is never given to somebody else.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

from storage.registry.fields import (
    MAIL_PATTERN,
    FieldError,
    UnknownError,
    check_flag,
    check_names,
    check_pattern,
    check_texts,
    check_zone,
    is_text,
)
from storage.registry.file import RegistryFile

USER_TEXTS: Final = ("email1", "email2", "organization", "locale", "user_alias")
QUOTAS: Final = ("devices", "channels", "storage_bytes", "rest_per_s", "connector_per_s")
USER_ID: Final = re.compile(r"U(\d{6,})")
COUNT_MAX: Final = 2**62
RATE_MAX: Final = 1e9


@dataclass(frozen=True, slots=True)
class Quotas:
    """What a user may have; None: what the settings say. A rate, or an amount of bytes, of 0 is no limit."""

    devices: int | None = None
    channels: int | None = None
    storage_bytes: int | None = None
    rest_per_s: float | None = None
    connector_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class User:
    """An account. Not ``enabled``: nobody comes in with its tokens."""

    user_id: str
    api_token: str
    device_token: str
    email1: str
    email2: str
    organization: str
    locale: str
    user_alias: str
    created_at_us: int
    updated_at_us: int
    enabled: bool
    quotas: Quotas


QUOTA_COLUMNS: Final = {
    "devices": "devices_max", "channels": "channels_max", "storage_bytes": "storage_bytes_max",
    "rest_per_s": "rest_per_s", "connector_per_s": "connector_per_s",
}  # fmt: skip
USER_COLUMNS: Final = ", ".join(
    (
        "user_id", "api_token", "device_token", *USER_TEXTS, "created_at_us", "updated_at_us", "enabled",
        *QUOTA_COLUMNS.values(),
    )
)  # fmt: skip


def new_token() -> str:
    """32 hexadecimal characters, 128 random bits (contract 1.2)."""
    return secrets.token_hex(16).upper()


def user_from(row: tuple[Any, ...]) -> User:
    """Of USER_COLUMNS."""
    fields: list[Any] = [*row[:10], bool(row[10]), Quotas(*row[11:])]
    return User(*fields)


def audited(user: User) -> dict[str, Any]:
    """What the audit log says of a user: everything but tokens and times."""
    texts = {name: getattr(user, name) for name in USER_TEXTS}
    return {**texts, "enabled": user.enabled, **{name: getattr(user.quotas, name) for name in QUOTAS}}


class Users(RegistryFile):
    """The registry's users."""

    def user(self, user_id: str) -> User | None:
        if not is_text(user_id):
            return None
        row = self._database.execute(
            f"SELECT {USER_COLUMNS} FROM user WHERE user_id = ? AND deleted_at_us IS NULL", (user_id,)
        ).fetchone()
        return None if row is None else user_from(row)

    def users(self) -> list[User]:
        rows = self._database.execute(
            f"SELECT {USER_COLUMNS} FROM user WHERE deleted_at_us IS NULL ORDER BY length(user_id), user_id"
        )
        return [user_from(row) for row in rows]

    def find_users(
        self, after: str = "", limit: int = 100, *, search: str = "", enabled: bool | None = None
    ) -> list[User]:
        """A page of users, in the order in which they were made.

        Args:
            after: the last user id of the page before.
            limit: at most so many.
            search: only those with this in their id or one of their texts, capitals or not.
            enabled: only those who are, or are not.
        """
        if not (is_text(after) and is_text(search)):
            return []
        rows = self._database.execute(
            f"SELECT {USER_COLUMNS} FROM user WHERE deleted_at_us IS NULL"
            " AND (length(user_id), user_id) > (length(?1), ?1) AND (?2 IS NULL OR enabled = ?2)"
            " AND instr(lower(user_id || x'0a' || email1 || x'0a' || email2 || x'0a' || organization || x'0a'"
            " || user_alias), lower(?3)) ORDER BY length(user_id), user_id LIMIT ?4",
            (after, enabled, search, limit),
        )
        return [user_from(row) for row in rows]

    def user_ids(self) -> set[str]:
        return {
            row[0] for row in self._database.execute("SELECT user_id FROM user WHERE deleted_at_us IS NULL")
        }

    def add_user(self, at_us: int, /, **fields: Any) -> User:
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
                "INSERT INTO user (user_id, api_token, device_token, email1, email2, organization, locale,"
                " user_alias, created_at_us, updated_at_us, enabled)"
                " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10)",
                (user_id, new_token(), new_token(), *values, at_us, fields.get("enabled", True)),
            )
            self._set_user(user_id, {name: fields[name] for name in QUOTAS if name in fields})
            self._changed(users=True)
            user = self._known_user(user_id)
            self._audit("user.add", user_id, user_id, None, audited(user))
        return user

    def update_user(self, user_id: str, /, **fields: Any) -> User:
        """Change texts, ``enabled`` or quotas (None: the setting's). Raises FieldError, UnknownError."""
        self._check_user(fields)
        with self.transaction():
            before = self._known_user(user_id)
            self._set_user(user_id, fields)
            if self._author is not None:
                at_us = self._author[1]
                self._database.execute(
                    "UPDATE user SET updated_at_us = ? WHERE user_id = ?", (at_us, user_id)
                )
            self._changed(users=not fields.keys().isdisjoint({"enabled", *QUOTAS}))
            user = self._known_user(user_id)
            self._audit("user.update", user_id, user_id, audited(before), audited(user))
        return user

    def _set_user(self, user_id: str, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            column = QUOTA_COLUMNS.get(name, name)
            self._database.execute(f"UPDATE user SET {column} = ? WHERE user_id = ?", (value, user_id))

    def delete_user(self, user_id: str, at_us: int, *, keeps_data: bool) -> None:
        """The end of an account: nobody comes in any more, devices, events and names are gone.

        Args:
            user_id: whose.
            at_us: now.
            keeps_data: the files of the channels stay; otherwise the storage removes them when it gets to it.

        Raises:
            UnknownError: there is no such user.
        """
        with self.transaction():
            before = self._known_user(user_id)
            self._database.execute(
                "UPDATE device SET deleted_at_us = ?, channel = NULL, state = NULL, state_at_us = NULL"
                " WHERE user_id = ? AND deleted_at_us IS NULL",
                (at_us, user_id),
            )
            for table in ("event", "previous_token"):
                self._database.execute(f"DELETE FROM {table} WHERE user_id = ?", (user_id,))
            self._database.execute(
                "UPDATE user SET api_token = 'api of ' || user_id, device_token = 'device of ' || user_id,"
                " email1 = '', email2 = '', organization = '', user_alias = '', enabled = 0, deleted_at_us = ?"
                " WHERE user_id = ?",
                (at_us, user_id),
            )
            if not keeps_data:
                self._database.execute(
                    "UPDATE channel SET deleted_at_us = ? WHERE user_id = ? AND deleted_at_us IS NULL",
                    (at_us, user_id),
                )
            self._counts.clear()
            self._changed(users=True)
            self._changed_events()
            data = "kept" if keeps_data else "deleted"
            self._audit("user.delete", user_id, user_id, {**audited(before), "data": data}, None)

    def has_connector_rates(self) -> bool:
        """Whether a user has a rate of connectors of its own."""
        return bool(self._value("SELECT EXISTS (SELECT 1 FROM user WHERE connector_per_s > 0)"))

    def storage_quotas(self) -> dict[str, int]:
        """Users who have one of their own, and how many bytes; 0 is no limit."""
        rows = self._database.execute(
            "SELECT user_id, storage_bytes_max FROM user WHERE deleted_at_us IS NULL AND storage_bytes_max IS NOT NULL"
        )
        return dict(rows.fetchall())

    def _known_user(self, user_id: str) -> User:
        user = self.user(user_id)
        if user is None:
            raise UnknownError(f"there is no user {user_id}")
        return user

    @staticmethod
    def _check_user(fields: dict[str, Any]) -> None:
        check_names(fields, (*USER_TEXTS, "enabled", *QUOTAS), "a user")
        check_texts(fields, USER_TEXTS)
        for name in ("email1", "email2"):
            check_pattern(fields, name, MAIL_PATTERN, "one address such as a@example.com")
        check_flag(fields, "enabled")
        if "locale" in fields:
            check_zone(fields["locale"])
        for name in QUOTAS:
            check_quota(name, fields.get(name))


def check_quota(name: str, value: Any) -> None:
    """Refuse what is no amount. Raises FieldError."""
    if value is None:
        return
    is_rate = name.endswith("_per_s")
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (is_rate or isinstance(value, int))
    ):
        raise FieldError(f"{name}: expected {'a number' if is_rate else 'an integer'} or null")
    if not (0 <= value <= (RATE_MAX if is_rate else COUNT_MAX)):  # nor NaN
        raise FieldError(f"{name}: {value} is too much, or less than nothing")
