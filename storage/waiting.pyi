from typing import NamedTuple

class Portion(NamedTuple):
    """Notes to be applied, in order, and how far the session store has come with them.

    Attributes:
        number, message: the highest numbers of notes and messages among all that waited, those that undid each other
            included.
    """

    notes: list[bytes]
    number: int
    message: int

class WaitingNotes:
    """Notes that are durable in the log and not in the session store yet; its length: how many are left, at most.

    Args:
        applied: the number of the last note that is in the session store.
    """

    def __init__(self, applied: int) -> None: ...
    number_max: int  # of the notes that came
    def __len__(self) -> int: ...
    def extend(self, notes: list[bytes]) -> None:
        """The next ones, in the log's order. What was applied already is passed over."""
    def portion(self, number: int | None = None) -> Portion:
        """What is left of the notes up to this number, of all of them for None. They stay until ``on_applied``."""
    def on_applied(self, portion: Portion) -> None:
        """These are in the session store now; nothing has come since they were asked for."""
