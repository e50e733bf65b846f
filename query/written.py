"""A reply that is being written: its first bytes, and how the others are made, in this process or in a worker.

What is asked becomes a ``Work``: a value that can be pickled and, when it is called, reads and writes. Called in a
thread of the daemon or in a worker (query/readers.py), it makes the same bytes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from query.formats import Piece, compressed
from query.work.wire import Frame
from query.work.worker import Port

# What is made before a reply begins, and then in one go: a hop to the worker and back costs as much as making some
# 100 KB of it.
FIRST_BYTES: Final = 1 << 19
STEP_BYTES: Final = 1 << 22
# Below this a packet holds it anyway.
CODED_BYTES_MIN: Final = 1_024


@dataclass(frozen=True, slots=True)
class Written:
    """A reply as it is made.

    Attributes:
        pieces: its content, not compressed.
        coding: what the client would like it to be compressed with; small replies leave as they are.
        is_whole: it is made at once and sent with its length: it is small, or its rows are in memory in any case.
        told: header fields.
        status: of HTTP.
    """

    pieces: Iterator[Piece]
    coding: str | None = None
    is_whole: bool = True
    told: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


Work = Callable[[], Written]


@dataclass(frozen=True, slots=True)
class Begun:
    """A reply's beginning.

    Attributes:
        first: what is made already.
        is_whole: that was all.
        coding: the content coding that it has.
        told, status: as in Written.
    """

    first: list[Piece]
    is_whole: bool
    coding: str | None
    told: Mapping[str, str]
    status: int

    @property
    def fields(self) -> dict[str, str]:
        """Header fields."""
        return dict(self.told) | ({} if self.coding is None else {"Content-Encoding": self.coding})


def step_of(pieces: Iterator[Piece], step_bytes: int | None = None) -> list[Piece]:
    """The next pieces: so many bytes of them, or what there is left; none at the end."""
    step_bytes = STEP_BYTES if step_bytes is None else step_bytes
    taken: list[Piece] = []
    size = 0
    for piece in pieces:
        if piece:
            taken.append(piece)
            size += len(piece)
            if size >= step_bytes:
                break
    return taken


def begin(work: Work) -> tuple[Begun, Iterator[Piece]]:
    """Do the work, as far as the first steps of the reply; and what makes the others. Not in the main thread."""
    written = work()
    first, rest, coding = (_begin_whole if written.is_whole else _begin)(written.pieces, written.coding)
    return Begun(first, rest is None, coding, written.told, written.status), iter(
        ()
    ) if rest is None else rest


Steps = tuple[list[Piece], Iterator[Piece] | None, str | None]


def _begin_whole(pieces: Iterator[Piece], coding: str | None) -> Steps:
    whole = b"".join(pieces)
    if coding is None or len(whole) < CODED_BYTES_MIN:
        return [whole], None, None
    return [b"".join(compressed(iter([whole]), coding))], None, coding


def _begin(pieces: Iterator[Piece], coding: str | None) -> Steps:
    size = min(FIRST_BYTES, STEP_BYTES)
    first = step_of(pieces, size)
    second = step_of(pieces, size) if first else []
    taken = [*first, *second]
    if not second:
        return _begin_whole(iter(taken), coding)
    if coding is None:
        return taken, pieces, None
    rest = compressed(chain(taken, pieces), coding)
    return step_of(rest), rest, coding


def write(port: Port, work: Work) -> None:
    """The job of a worker: the reply, a step at a time, as it is asked for."""
    begun, rest = begin(work)
    port.say(
        Frame.HEAD,
        is_whole=begun.is_whole,
        coding=begun.coding,
        told=dict(begun.told),
        status=begun.status,
    )
    port.data(*begun.first)
    if not begun.is_whole:
        port.say(Frame.PAUSE)
        port.receive(Frame.GO)
        while step := step_of(rest):
            port.data(*step)
            port.say(Frame.PAUSE)
            port.receive(Frame.GO)
    port.say(Frame.END)
