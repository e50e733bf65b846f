"""The session store: what broker and writers must find again, in one SQLite file that only the daemon writes.

Notes come in the order of the log, some time after they became durable there, and are written behind: nobody waits for
this file. One list is one synced transaction, in which the table ``applied`` moves to the list's highest number. A list
that comes again after a crash is passed over by number, so every note counts exactly once.

SQLite in WAL mode, every commit synced: the log's cursor may pass a note as soon as ``apply`` returns. For the same
reason ``open`` checkpoints: what a kill left written and unsynced must be durable before it is taken for applied.

The file is readable by its owner only, because payloads stand in it. docs/formats/sessions.md has the tables.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from storage.notes import Message, Written, decode_note
from storage.session_changes import SessionChanges
from storage.session_tables import STEPS, message_of, write
from storage.sqlite import open_database, transaction


class SessionsFormatError(Exception):
    """The file was written by another version of the daemon, or is no database."""


class SavedSubscription(NamedTuple):
    """A subscription as Subscribed told it."""

    filter: bytes
    options: int
    identifier: int


class SavedDelivery(NamedTuple):
    """A message that is owed. ``packet_id`` 0: not sent yet. ``received``: only PUBREL is owed."""

    message: int
    content: Message
    qos: int
    packet_id: int
    received: bool
    retain: bool
    identifiers: tuple[int, ...]


class SavedRetained(NamedTuple):
    """A user's retained message of a topic."""

    user_id: str
    topic: bytes
    content: Message


@dataclass(frozen=True, slots=True)
class SavedSession:
    """A session and all that is its.

    Attributes:
        connected: it was when the last note was written; ``closed_at_us`` is 0 then.
        deliveries: in the queue's order.
        will: with its delay in seconds.
    """

    session: int
    user_id: str
    client_id: bytes
    expiry_s: int
    protocol: int
    connected: bool
    opened_at_us: int
    closed_at_us: int
    will: tuple[Message, int] | None
    subscriptions: list[SavedSubscription] = field(default_factory=list)
    deliveries: list[SavedDelivery] = field(default_factory=list)
    inbound: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class SavedBroker:
    """Everything that was applied. Each ``next_*`` is one more than the highest ever met, of what is gone too."""

    next_number: int
    next_session: int
    next_message: int
    sessions: list[SavedSession]
    retained: list[SavedRetained]


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """Sessions now; notes applied and transactions since the start; the file's size."""

    sessions: int
    notes: int
    commits: int
    bytes: int


class SessionStore:
    """One connection to sessions.sqlite3. One thread at a time."""

    def __init__(self, path: Path) -> None:
        """Use ``SessionStore.open``."""
        self._path = path
        path.touch(0o600)
        self._database = open_database(path, STEPS, SessionsFormatError)
        self._applied = self._session_max = self._message_max = 0
        self._users: dict[int, str] = {}  # of each session
        self._notes = self._commits = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """The store in this file, which is made when it is missing, mode 0600.

        Raises:
            SessionsFormatError: another version wrote it.
            DiskFullError: there is no room for it.
        """
        store = cls(path)
        try:
            store._read()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        self._database.close()

    def _read(self) -> None:
        database = self._database
        (highest,) = database.execute("SELECT note, session, message FROM applied")
        self._applied, self._session_max, self._message_max = highest
        self._users = dict(database.execute("SELECT session, user_id FROM session"))

    # ---- in

    @property
    def applied(self) -> int:
        """The number of the last note that is here."""
        return self._applied

    def apply(self, notes: list[bytes], number: int = 0, message: int = 0) -> None:
        """Make these notes durable here, in order, in one transaction; those that were applied before are passed over.

        Args:
            notes: as they stand in the log.
            number, message: the highest ones of notes and messages that came with these and undid each other.

        Raises:
            DiskFullError: nothing has changed.
            NoteFormatError: nothing has changed; another version of the daemon wrote the log.
        """
        changes = SessionChanges(self._users)
        applied = self._applied
        count = 0
        for data in notes:
            each, note = decode_note(data)
            if each > applied:
                applied = each
                count += 1
                changes.take(each, note)
        applied = max(applied, number)
        if applied == self._applied:
            return
        session_max = max(self._session_max, changes.session_max)
        message_max = max(self._message_max, changes.message_max, message)
        with transaction(self._database, self._path) as database:
            write(database, changes)
            database.execute(
                "UPDATE applied SET note = ?, session = ?, message = ?", (applied, session_max, message_max)
            )
        self._applied, self._session_max, self._message_max = applied, session_max, message_max
        for session in changes.ended:
            del self._users[session]
        self._users.update((session, note.user_id) for session, note in changes.opened.items())
        self._notes += count
        self._commits += 1

    def forget_written(self, before_us: int) -> None:
        """Writes that were first received before then. Raises DiskFullError: nothing has changed."""
        old = self._database.execute("SELECT 1 FROM written WHERE at_us < ? LIMIT 1", (before_us,)).fetchone()
        if old is not None:
            with transaction(self._database, self._path) as database:
                database.execute("DELETE FROM written WHERE at_us < ?", (before_us,))

    # ---- out

    def written(self, user_id: str, channel: int, key: str) -> Written | None:
        """What is known of a write."""
        row = self._database.execute(
            "SELECT digest, stored, rows, at_us FROM written WHERE user_id = ? AND channel = ? AND key = ?",
            (user_id, channel, key),
        ).fetchone()
        return None if row is None else Written(user_id, channel, key, *row)

    def written_counts(self) -> dict[str, int]:
        """How many writes are known of each user."""
        return dict(self._database.execute("SELECT user_id, count(*) FROM written GROUP BY user_id"))

    def load(self) -> SavedBroker:
        """Everything, for the broker's memory."""
        database = self._database
        wills = {
            session: (message_of(tuple(row)), delay_s)
            for session, *row, delay_s in database.execute("SELECT * FROM will")
        }
        sessions = {}
        for (
            session,
            user,
            client,
            expiry_s,
            protocol,
            connected,
            opened_at_us,
            closed_at_us,
        ) in database.execute("SELECT * FROM session ORDER BY session"):
            sessions[session] = SavedSession(
                session,
                user,
                client,
                expiry_s,
                protocol,
                bool(connected),
                opened_at_us,
                closed_at_us,
                wills.get(session),
            )
        for session, *row in database.execute("SELECT * FROM subscription ORDER BY session, filter"):
            sessions[session].subscriptions.append(SavedSubscription(*row))
        for session, packet_id in database.execute("SELECT session, packet_id FROM inbound"):
            sessions[session].inbound.add(packet_id)
        messages = {
            message: message_of(tuple(row)) for message, *row in database.execute("SELECT * FROM message")
        }
        for message, session, qos, packet_id, received, retain, identifiers in database.execute(
            "SELECT * FROM delivery ORDER BY message"
        ):
            numbers = tuple(map(int, identifiers.split(","))) if identifiers else ()
            sessions[session].deliveries.append(
                SavedDelivery(
                    message, messages[message], qos, packet_id, bool(received), bool(retain), numbers
                )
            )
        retained = [
            SavedRetained(user, place, message_of(tuple(row)))
            for user, place, *row in database.execute("SELECT * FROM retained ORDER BY user_id, place")
        ]
        return SavedBroker(
            self._applied + 1, self._session_max + 1, self._message_max + 1, list(sessions.values()), retained
        )

    def statistics(self) -> SessionStatistics:
        return SessionStatistics(len(self._users), self._notes, self._commits, self._path.stat().st_size)
