"""The broker's notes: what must survive a crash, into the same log batch as the readings.

Whoever notes asks for room first (``has_room``), acts, and only then sends: a reply leaves with the batch that
holds the note. What cannot wait for room where it happens (a client that went, a timer) is put off as a whole until
there is some.
"""

from collections import deque
from collections.abc import Callable

from storage.journal import FULL, Journal
from storage.kinds import PayloadKind
from storage.notes import Note, encode_note


class Notebook:
    """Numbers notes and appends them to the journal.

    Attributes:
        room_max: bytes that an empty batch surely has room for.

    Args:
        journal: shared with the readings.
        next_number: one more than the last note of the log.
    """

    def __init__(self, journal: Journal, room_max: int, next_number: int = 1) -> None:
        self._journal = journal
        self.room_max = room_max
        self._next_number = next_number
        self._put_off: deque[tuple[int, Callable[[int], None]]] = deque()
        # Notes for which less room was asked than they take. They keep their order; only a crash just now would find
        # something sent that was not noted.
        self._overflow: deque[bytes] = deque()

    def has_room(self, size: int) -> bool:
        """Whether notes of so many bytes together, and a reading, fit into the batch that fills."""
        return not self._put_off and not self._overflow and self._fits(size)

    def _fits(self, size: int) -> bool:
        return self._journal.has_room_for(min(size, self.room_max))

    def note(self, note: Note, at_us: int) -> None:
        """Append it; room has been asked for."""
        self._overflow.append(encode_note(self._next_number, note))
        self._next_number += 1
        self._append(at_us)

    def _append(self, at_us: int) -> bool:
        """Whether every note is in the journal."""
        while self._overflow:
            if self._journal.append(at_us, PayloadKind.NOTE, 0, 0, b"", self._overflow[0]) == FULL:
                return False
            self._overflow.popleft()
        return True

    def append_with(self, append: Callable[[int], tuple[int, int]]) -> tuple[int, int]:
        """Let somebody else append rows and one note in one step; the number is the note's.

        Args:
            append: gives what Journal.append_rows gives.

        Returns:
            Its answer; FULL while notes wait, which must not be overtaken.
        """
        if self.is_waiting:
            return FULL, 0
        answer = append(self._next_number)
        if answer[0] >= 0:
            self._next_number += 1
        return answer

    def when_there_is_room(self, size: int, action: Callable[[int], None], at_us: int) -> None:
        """Do it now, or as soon as the batch has room; actions keep their order."""
        self._put_off.append((size, action))
        self.catch_up(at_us)

    def catch_up(self, at_us: int) -> bool:
        """Do what was put off; whether nothing is left of it."""
        if not self._append(at_us):
            return False
        while self._put_off and not self._overflow and self._fits(self._put_off[0][0]):
            _, action = self._put_off.popleft()
            action(at_us)
        return not self._put_off and not self._overflow

    @property
    def is_waiting(self) -> bool:
        """Whether something waits for room: nothing may overtake it."""
        return bool(self._put_off or self._overflow)

    @property
    def put_off(self) -> int:
        """Actions that wait for room."""
        return len(self._put_off)
