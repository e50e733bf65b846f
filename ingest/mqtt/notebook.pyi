from collections.abc import Callable
from typing import Final

from storage.journal import Journal
from storage.notes import Note

DELIVERIES_PER_NOTE: Final[int]
NOTE_BYTES: Final[int]

class Notebook:
    """Numbers notes and appends them to the journal.

    Attributes:
        room_max: bytes that an empty batch surely has room for.

    Args:
        journal: shared with the readings.
        next_number: one more than the last note of the log.
    """

    room_max: int
    def __init__(self, journal: Journal, room_max: int, next_number: int = 1) -> None: ...
    def has_room(self, size: int) -> bool:
        """Whether notes of so many bytes together, and a reading, fit into the batch that fills."""
    def note(self, note: Note, at_us: int) -> None:
        """Append it; room has been asked for."""
    def append_with(self, append: Callable[[int], tuple[int, int]]) -> tuple[int, int]:
        """Let somebody else append rows and one note in one step; the number is the note's.

        Args:
            append: gives what Journal.append_rows gives.

        Returns:
            Its answer; FULL while notes wait, which must not be overtaken.
        """
    def when_there_is_room(self, size: int, action: Callable[[int], None], at_us: int) -> None:
        """Do it now, or as soon as the batch has room; actions keep their order."""
    def catch_up(self, at_us: int) -> bool:
        """Do what was put off; whether nothing is left of it."""
    @property
    def is_waiting(self) -> bool:
        """Whether something waits for room: nothing may overtake it."""
    @property
    def put_off(self) -> int:
        """Actions that wait for room."""
