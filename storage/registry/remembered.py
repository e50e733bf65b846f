"""What the registry was asked before: answers that stay true until its file changes.

Every request asks whose token it has and which channel, device or stream it means, and each look-up in SQLite costs as
much as parsing the request. Nothing changes between two transactions, so an answer is remembered until one ends,
whatever it was about and however it ended, or until another process has changed the file (``poll``). Inside a
transaction nothing is remembered and nothing is taken from memory.
"""

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, cast

# Of all answers together; one that takes more than a small part of it is looked up again each time.
REMEMBERED_BYTES_MAX: Final = 32 << 20
PART_OF_BYTES_MAX: Final = 64
# What Python adds to an answer's texts.
ANSWER_BYTES: Final = 1_024

P = ParamSpec("P")
T = TypeVar("T")


class Remembered:
    """Answers by question. The oldest ones go when there are too many bytes.

    Attributes:
        answers: to be looked into, not changed.
    """

    __slots__ = ("_bytes", "_bytes_max", "_sizes", "answers")

    def __init__(self, bytes_max: int = REMEMBERED_BYTES_MAX) -> None:
        self.answers: dict[Hashable, Any] = {}
        self._sizes: dict[Hashable, int] = {}
        self._bytes = 0
        self._bytes_max = bytes_max

    def keep(self, question: Hashable, answer: Any) -> None:
        """A question that has no answer yet."""
        size = ANSWER_BYTES + len(repr(question)) + len(repr(answer))
        if size > self._bytes_max // PART_OF_BYTES_MAX:
            return
        self.answers[question] = answer
        self._sizes[question] = size
        self._bytes += size
        while self._bytes > self._bytes_max:
            oldest = next(iter(self.answers))
            del self.answers[oldest]
            self._bytes -= self._sizes.pop(oldest)

    def forget(self) -> None:
        """Something may be different now."""
        self.answers.clear()
        self._sizes.clear()
        self._bytes = 0


class Rememberer(Protocol):
    """Whose methods are remembered.

    Attributes:
        remembered: what they answered.
        is_changing: a transaction has begun and has not ended.
    """

    remembered: Remembered

    @property
    def is_changing(self) -> bool: ...


S = TypeVar("S", bound=Rememberer)


def remembered(look_up: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A method that only reads. What it gives belongs to everybody, so nobody changes it.

    None is not remembered: who asks for what is not there must not make others' answers go.
    """
    name = look_up.__name__

    @wraps(look_up)
    def ask(self: S, *arguments: P.args, **named: P.kwargs) -> T:
        assert not named, "questions are asked by position"
        question = (name, *arguments)
        known = self.remembered.answers.get(question)
        if known is not None and not self.is_changing:
            return cast("T", known)
        answer = look_up(self, *arguments, **named)
        if answer is not None and not self.is_changing:
            self.remembered.keep(question, answer)
        return answer

    return cast("Callable[Concatenate[S, P], T]", ask)
