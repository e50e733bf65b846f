"""What a list of notes leaves to be written, before a single row is.

Most of what the broker notes is gone again soon: a message is queued and acknowledged within the half second between
two transactions. So notes are first gathered in memory, where a later one undoes an earlier one; only the rest costs
table writes (storage/sessions.py writes it, deletions of whole sessions and users first).

What concerns a session that is not there is passed over. So everything can go in any order around a session's end,
and no row is left behind that nobody would ever remove. What is said of a message before it is queued is passed over,
too: how notes are divided into lists changes nothing.
"""

from collections.abc import Iterator
from typing import NamedTuple, assert_never

from storage.notes import (
    Delivery,
    Done,
    InboundReleased,
    InboundTaken,
    Message,
    Note,
    Queued,
    Received,
    Retained,
    Sent,
    SessionClosed,
    SessionEnded,
    SessionNote,
    SessionOpened,
    Subscribed,
    Unsubscribed,
    UserForgotten,
    WillCleared,
    WillSet,
    Written,
)


class Progress(NamedTuple):
    """How far a delivery came. ``packet_id`` None: unchanged."""

    packet_id: int | None
    is_received: bool


class Fresh(NamedTuple):
    """A message of this list and its deliveries by session, each with the number of the note that told it.

    One message for very many sessions comes in several notes.
    """

    content: Message
    deliveries: dict[int, tuple[int, Delivery]]


class SessionChanges:
    """The outcome of some notes, taken in order.

    Args:
        users: the sessions that the tables have, and whose they are. Only read.

    Attributes:
        ended, forgotten: sessions and users whose rows go first.
        opened, closed: the last word about a session; closing comes after opening.
        subscriptions, inbound, wills: by session; None or False: gone.
        retained: by user and topic; None: gone.
        written: the last word about a write, by (user, channel, key).
        fresh: messages that are new, by id.
        progress, done: deliveries that may be in the tables, by (message, session).
        session_max, message_max: the highest ids met, 0 for none.
    """

    def __init__(self, users: dict[int, str]) -> None:
        self._users = users
        self._ended_at: dict[int, int] = {}  # the last end of a session, by the number of its note
        self.ended: set[int] = set()
        self.forgotten: set[str] = set()
        self.opened: dict[int, SessionOpened] = {}
        self.closed: dict[int, SessionClosed] = {}
        self.subscriptions: dict[int, dict[bytes, Subscribed | None]] = {}
        self.inbound: dict[int, dict[int, bool]] = {}
        self.wills: dict[int, WillSet | None] = {}
        self.retained: dict[str, dict[bytes, Message | None]] = {}
        self.written: dict[tuple[str, int, str], Written] = {}
        self.fresh: dict[int, Fresh] = {}
        self.progress: dict[tuple[int, int], Progress] = {}
        self.done: set[tuple[int, int]] = set()
        self.session_max = self.message_max = 0

    def take(self, number: int, note: Note) -> None:
        """The next note."""
        match note:
            case Queued():
                self._queue(number, note)
            case Done(session, message):
                self._finish(message, session)
            case Sent(session, message, packet_id):
                before = self.progress.get((message, session))
                self.progress[message, session] = Progress(
                    packet_id, before is not None and before.is_received
                )
            case Received(session, message):
                before = self.progress.get((message, session))
                self.progress[message, session] = Progress(None if before is None else before.packet_id, True)
            case Retained(user_id, topic, content):
                self.retained.setdefault(user_id, {})[topic] = content
            case Written(user_id, channel, key):
                self.written[user_id, channel, key] = note
            case UserForgotten(user_id):
                self._forget(number, user_id)
            case _:
                self._take_of_session(number, note)

    def _take_of_session(self, number: int, note: SessionNote) -> None:
        session = note.session
        match note:
            case SessionOpened():
                self.opened[session] = note
                self.closed.pop(session, None)
                self.session_max = max(self.session_max, session)
            case SessionClosed():
                self.closed[session] = note
            case SessionEnded():
                self._end(number, session)
            case _ if not self._is_known(session):
                pass
            case Subscribed():
                self.subscriptions.setdefault(session, {})[note.filter] = note
            case Unsubscribed():
                self.subscriptions.setdefault(session, {})[note.filter] = None
            case InboundTaken():
                self.inbound.setdefault(session, {})[note.packet_id] = True
            case InboundReleased():
                self.inbound.setdefault(session, {})[note.packet_id] = False
            case WillSet():
                self.wills[session] = note
            case WillCleared():
                self.wills[session] = None
            case _:
                assert_never(note)

    def _is_known(self, session: int) -> bool:
        return session in self.opened or (session in self._users and session not in self.ended)

    def _queue(self, number: int, note: Queued) -> None:
        self.message_max = max(self.message_max, note.message)
        deliveries = [each for each in note.deliveries if self._is_known(each.session)]
        if not deliveries:
            return
        fresh = self.fresh.setdefault(note.message, Fresh(note.content, {}))
        for each in deliveries:
            fresh.deliveries[each.session] = number, each
            self.progress.pop((note.message, each.session), None)
            self.done.discard((note.message, each.session))

    def _finish(self, message: int, session: int) -> None:
        self.progress.pop((message, session), None)
        fresh = self.fresh.get(message)
        if fresh is None or session not in fresh.deliveries:
            self.done.add((message, session))
            return
        del fresh.deliveries[session]
        if not fresh.deliveries:
            del self.fresh[message]

    def _end(self, number: int, session: int) -> None:
        """Fresh deliveries are not looked for here: many sessions may end at once (see delivery_rows)."""
        self._ended_at[session] = number
        if session in self._users:
            self.ended.add(session)
        self.opened.pop(session, None)
        self.closed.pop(session, None)
        self.subscriptions.pop(session, None)
        self.inbound.pop(session, None)
        self.wills.pop(session, None)

    def _forget(self, number: int, user_id: str) -> None:
        opened = [session for session, note in self.opened.items() if note.user_id == user_id]
        older = [
            session
            for session, owner in self._users.items()
            if owner == user_id and session not in self.opened and session not in self.ended
        ]
        for session in opened + older:
            self._end(number, session)
        self.retained.pop(user_id, None)
        self.written = {key: note for key, note in self.written.items() if note.user_id != user_id}
        self.forgotten.add(user_id)

    # ---- what is to be written

    def delivery_rows(self) -> Iterator[tuple[int, Message, list[tuple[int, Delivery, Progress]]]]:
        """Messages that are new and still owed to somebody: id, content, and each session's delivery.

        Takes what it tells out of ``progress``; the rest there is about older messages.
        """
        unchanged = Progress(None, False)
        for message, (content, deliveries) in self.fresh.items():
            rows = [
                (session, delivery, self.progress.pop((message, session), unchanged))
                for session, (number, delivery) in deliveries.items()
                if self._ended_at.get(session, 0) < number
            ]
            if rows:
                yield message, content, rows
