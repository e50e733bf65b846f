"""Tokens: what opens which door, and what an old one is still worth.

An account's tokens stand in clear, because GET /v2/user shows them (contract 1.2); the file is readable by its owner
only. A token that is replaced may go on working for a while beside the new one, until ``end_tokens`` is told a time
that is later. Admins' tokens are shown once and stored as SHA-256: they are random, so nothing slower is needed.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from storage.registry.fields import FieldError, LimitError, UnknownError, check_texts, is_text
from storage.registry.remembered import remembered
from storage.registry.users import USER_COLUMNS, User, Users, new_token, user_from

WHICH: Final = ("api_token", "device_token")
OVERLAP_S_MAX: Final = 90 * 86_400
PREVIOUS_MAX: Final = 8  # of one user and kind; beyond it the one that would end first goes
ADMIN_TOKENS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class PreviousToken:
    """A token that was replaced and still works."""

    token: str
    ends_at_us: int


@dataclass(frozen=True, slots=True)
class AdminToken:
    """What is known of an admin's token."""

    id: int
    name: str
    created_at_us: int


def hash_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens(Users):
    """The registry's tokens."""

    # ---- of users

    @remembered
    def user_by_api_token(self, token: str) -> User | None:
        return self._user_by_token("api_token", token)

    @remembered
    def user_by_device_token(self, token: str) -> User | None:
        return self._user_by_token("device_token", token)

    def _user_by_token(self, which: str, token: str) -> User | None:
        """Also of a token that was replaced and still works; also a user who is not enabled."""
        if not is_text(token):
            return None
        row = self._database.execute(
            f"SELECT {USER_COLUMNS} FROM user WHERE {which} = ? AND deleted_at_us IS NULL", (token,)
        ).fetchone()
        if row is not None:
            return user_from(row)
        user_id = self._value(
            "SELECT user_id FROM previous_token WHERE token = ? AND which = ? AND ends_at_us > ?",
            token,
            which,
            self._now_us,
        )
        return None if user_id is None else self.user(user_id)

    def previous_tokens(self, user_id: str, which: str) -> list[PreviousToken]:
        """Those that still work, the one that ends last first."""
        rows = self._database.execute(
            "SELECT token, ends_at_us FROM previous_token WHERE user_id = ? AND which = ? AND ends_at_us > ?"
            " ORDER BY ends_at_us DESC, token",
            (user_id, which, self._now_us),
        )
        return [PreviousToken(*row) for row in rows]

    def rotate(self, user_id: str, which: str, ends_at_us: int = 0) -> User:
        """A new ``api_token`` or ``device_token``.

        Args:
            user_id: whose.
            which: of the two.
            ends_at_us: until when the old one works, too; 0: it, and those before it, are worth nothing from now on.

        Raises:
            UnknownError: there is no such user.
        """
        assert which in WHICH
        with self.transaction():
            old = self._known_user(user_id)
            if ends_at_us:
                self._database.execute(
                    "INSERT INTO previous_token VALUES (?, ?, ?, ?)",
                    (getattr(old, which), user_id, which, ends_at_us),
                )
            self._database.execute(
                "DELETE FROM previous_token WHERE user_id = ?1 AND which = ?2 AND token NOT IN"
                " (SELECT token FROM previous_token WHERE user_id = ?1 AND which = ?2"
                " ORDER BY ends_at_us DESC LIMIT ?3)",
                (user_id, which, PREVIOUS_MAX if ends_at_us else 0),
            )
            self._database.execute(f"UPDATE user SET {which} = ? WHERE user_id = ?", (new_token(), user_id))
            self._changed(users=True)
            self._audit("user.rotate", user_id, which, None, {"previous_ends_at_us": ends_at_us or None})
        return self._known_user(user_id)

    def end_tokens(self, at_us: int) -> bool:
        """It is this late: what was to end before is worth nothing from now on, also if the file cannot be written.

        Returns:
            Whether there was one.

        Raises:
            RegistryBusyError, DiskFullError: it stands in the file a little longer.
        """
        self._now_us = at_us
        if self._value("SELECT 1 FROM previous_token WHERE ends_at_us <= ? LIMIT 1", at_us) is None:
            return False
        self.remembered.forget()
        with self.transaction():
            self._database.execute("DELETE FROM previous_token WHERE ends_at_us <= ?", (at_us,))
            self._changed(users=True)
        return True

    # ---- of admins

    def add_admin_token(self, at_us: int, name: str) -> tuple[AdminToken, str]:
        """A new one, and its text, which nobody can ask for again. Raises FieldError, LimitError."""
        check_texts({"name": name}, ("name",))
        if not name or not name.isprintable():
            raise FieldError("name: expected a printable text")
        token = "ADMIN" + secrets.token_hex(20).upper()
        with self.transaction():
            if self._value("SELECT count(*) FROM admin_token") >= ADMIN_TOKENS_MAX:
                raise LimitError(f"there are {ADMIN_TOKENS_MAX} admin tokens, which is the limit")
            number = self._database.execute(
                "INSERT INTO admin_token (name, hash, created_at_us) VALUES (?, ?, ?)",
                (name, hash_of(token), at_us),
            ).lastrowid
            assert number is not None
            self._audit("admin_token.add", None, str(number), None, {"name": name})
        return AdminToken(number, name, at_us), token

    def admin_tokens(self) -> list[AdminToken]:
        rows = self._database.execute("SELECT id, name, created_at_us FROM admin_token ORDER BY id")
        return [AdminToken(*row) for row in rows]

    def admin_by_token(self, token: str) -> AdminToken | None:
        """The admin whose token this is."""
        if not is_text(token):
            return None
        row = self._database.execute(
            "SELECT id, name, created_at_us FROM admin_token WHERE hash = ?", (hash_of(token),)
        ).fetchone()
        return None if row is None else AdminToken(*row)

    def revoke_admin_token(self, number: int) -> AdminToken:
        """It is worth nothing from now on. Raises UnknownError."""
        with self.transaction():
            found = next((each for each in self.admin_tokens() if each.id == number), None)
            if found is None:
                raise UnknownError(f"there is no admin token {number}")
            self._database.execute("DELETE FROM admin_token WHERE id = ?", (number,))
            self._audit("admin_token.revoke", None, str(number), {"name": found.name}, None)
        return found
