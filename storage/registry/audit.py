"""The audit log: who changed what, and when. Rows are written with the change itself (storage/registry/file.py)."""

import json
from dataclasses import dataclass
from typing import Any, Final

from storage.registry.file import RegistryFile

FORGET_ROWS_MAX: Final = 10_000  # in one transaction


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A change.

    Attributes:
        id: in the order in which they were made.
        actor: a user id, ``admin:NAME`` or ``cli``.
        user_id: whose account it concerns; None for admins' tokens.
        action: ``device.update``.
        subject: on what.
        before, after: the keys that changed; before is None when it was made, after when it was deleted.
    """

    id: int
    at_us: int
    actor: str
    user_id: str | None
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Audit(RegistryFile):
    """The registry's audit log."""

    def audit(
        self, user_id: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[AuditRow]:
        """A page, the newest first.

        Args:
            user_id: only what concerns this account.
            before: only rows with a smaller id: the last one of the page before.
            limit: at most so many.
        """
        rows = self._database.execute(
            "SELECT * FROM audit WHERE (?1 IS NULL OR user_id = ?1) AND (?2 IS NULL OR id < ?2)"
            " ORDER BY id DESC LIMIT ?3",
            (user_id, before, limit),
        )
        return [
            AuditRow(*row, *(None if text is None else json.loads(text) for text in texts))
            for *row, texts in ((*row[:6], row[6:]) for row in rows)
        ]

    def forget_audit(self, until_us: int) -> int:
        """Forget rows that are older, a bounded number of them; how many."""
        oldest = self._value("SELECT min(at_us) FROM audit")
        if oldest is None or oldest >= until_us:
            return 0
        with self.transaction():
            return self._database.execute(
                "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at_us < ? ORDER BY at_us LIMIT ?)",
                (until_us, FORGET_ROWS_MAX),
            ).rowcount
