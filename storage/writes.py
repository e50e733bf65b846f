"""Writes that have a key: what was stored under it, so that repeating one stores nothing twice.

The key is noted in the log batch of the rows (storage/notes.py, Written), so after any crash both are there or neither
is. A write of more than one batch notes in each how far it has come, and a repetition goes on from there.

The ledger knows a write from the moment when its note is in the journal. Until the note is durable and applied to the
session store it is kept here; afterwards the table has it.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

from storage.kinds import Refusal
from storage.notes import Written
from storage.sessions import SessionStore

# Old writes are looked for this often.
FORGET_US: Final = 60_000_000


# Time (µs UTC, None: when it was received), registry id of the device (0: none), tag (empty: none), JSON.
Entry = tuple[int | None, int, bytes, bytes]
# The same with a time, as the journal takes it.
Row = tuple[int, int, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Stored:
    """Every row is durable; ``is_repeated``: has been before."""

    rows: int
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class RowRefused:
    """A row is not good, by its index. ``stored``: rows before it that are durable all the same."""

    index: int
    refusal: Refusal
    stored: int = 0


@dataclass(frozen=True, slots=True)
class OtherBody:
    """Something else was written under this key."""


@dataclass(frozen=True, slots=True)
class TooManyKeys:
    """As many keys of this user are remembered as may be."""


@dataclass(frozen=True, slots=True)
class NoRoom:
    """Log, ring or disk were full for too long. The first ``stored`` rows are durable, the first ``begun`` may be."""

    stored: int
    begun: int


WriteOutcome = Stored | RowRefused | OtherBody | TooManyKeys | NoRoom


class WriteKey(NamedTuple):
    """Whose write, to which channel (registry id), under which name."""

    user_id: str
    channel: int
    name: str


class Ledger:
    """See the module. The main thread's.

    Args:
        sessions: the table of writes that were applied.
        retention_us: a write is remembered for so long from when it was first received.
    """

    def __init__(self, sessions: SessionStore, retention_us: int) -> None:
        self._sessions = sessions
        self.retention_us = retention_us
        self._noted: dict[WriteKey, tuple[int, Written]] = {}  # with the seq behind its rows
        self._counts = Counter(sessions.written_counts())
        self._forgot_us = 0

    def find(self, key: WriteKey, now_us: int) -> Written | None:
        """What is known of a write; it may not be durable yet."""
        if key in self._noted:
            found: Written | None = self._noted[key][1]
        else:
            found = self._sessions.written(*key)
        return None if found is None or found.at_us + self.retention_us <= now_us else found

    def count(self, user_id: str) -> int:
        """Writes that are remembered of a user, at most."""
        return self._counts[user_id]

    def note(self, key: WriteKey, written: Written, next_seq: int, *, is_new: bool) -> None:
        """A write's note went into the journal just now.

        Args:
            key: whose.
            written: the note.
            next_seq: behind its rows: it is durable when they are.
            is_new: nothing was known of this write.
        """
        self._noted[key] = next_seq, written
        if is_new:
            self._counts[key.user_id] += 1

    def on_applied(self, durable: int) -> None:
        """Everything that is durable has been applied to the session store."""
        if self._noted:
            self._noted = {key: each for key, each in self._noted.items() if each[0] > durable}

    def forget_old(self, now_us: int) -> None:
        """Drop what has been remembered for long enough. Raises DiskFullError: later, then."""
        if 0 <= now_us - self._forgot_us < FORGET_US:
            return
        self._forgot_us = now_us
        self._sessions.forget_written(now_us - self.retention_us)
        self._counts = Counter(self._sessions.written_counts())
        for user_id, _, _ in self._noted:
            self._counts[user_id] += 1
