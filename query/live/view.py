"""A view: what some viewers watch alike, and the last events of it.

Events are made once and shared by all viewers of a view; each viewer has its place in them and nothing else. What all
of them have taken is let go; what one of them has not taken when the view is full is let go, too, and that one has
lagged.
"""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import trio

if TYPE_CHECKING:
    from query.http.pipe import Pipe


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched.

    Attributes:
        channels: registry ids; None: all of the user's, also those that come.
        devices, tags: only these, by name; empty: all.
    """

    user_id: str
    channels: frozenset[int] | None
    devices: frozenset[str]
    tags: frozenset[str]


class Chunk(NamedTuple):
    """Events of rows below ``next_seq``; behind those of the chunk before."""

    next_seq: int
    data: bytes


class View:
    """See the module.

    Attributes:
        watch: what is watched.
        viewers: who watches.
    """

    def __init__(self, watch: Watch, bytes_max: int) -> None:
        self.watch = watch
        self.viewers: set[Viewer] = set()
        self._bytes_max = bytes_max
        self._chunks: deque[Chunk] = deque()
        self._first = 0  # the number of the oldest chunk
        self._bytes = 0

    @property
    def end(self) -> int:
        """The number of the chunk that comes next."""
        return self._first + len(self._chunks)

    def add(self, next_seq: int, data: bytes) -> None:
        """Events that are new; the viewers are to be woken."""
        taken = min((viewer.place for viewer in self.viewers), default=self.end)
        while self._chunks and (self._first < taken or self._bytes + len(data) > self._bytes_max):
            self._bytes -= len(self._chunks.popleft().data)
            self._first += 1
        self._chunks.append(Chunk(next_seq, data))
        self._bytes += len(data)

    def lose(self) -> None:
        """Rows went before they could be seen: everybody has lagged, and is to be woken."""
        self._first = self.end + 1
        self._chunks.clear()
        self._bytes = 0

    def take(self, place: int) -> list[Chunk] | None:
        """The chunks from this place on; None: some of them are gone."""
        if place < self._first:
            return None
        return [self._chunks[i] for i in range(place - self._first, len(self._chunks))]


class Viewer:
    """One who watches.

    Attributes:
        place: the chunk that is next.
        next_seq: everything below has been taken.
        scope: of the task that writes to the client.
        is_writing: the client has not taken what was written yet.
        is_idle: its task waits for ``changed``, and everything that it wrote has been taken.
        pipe: what may be written through while it is idle (query/live/pump.py); None: only its task writes.
        rest: the end of what was written through it, which the task is to write before anything else.
        served_at: when anything was last written to the client.
        changed: set, and replaced, when there is something to do.
    """

    def __init__(self, view: View, next_seq: int) -> None:
        self.view = view
        self.place = view.end
        self.next_seq = next_seq
        self.scope = trio.CancelScope()
        self.is_writing = self.is_idle = False
        self.served_at = 0.0
        self.pipe: Pipe | None = None
        self.rest: bytes | memoryview = b""
        self.changed = trio.Event()

    def wake(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    def take(self) -> bytes | None:
        """What is new, at most what a view holds; None: too much was missed."""
        chunks = self.view.take(self.place)
        if chunks is None:
            return None
        if not chunks:
            return b""
        self.place += len(chunks)
        self.next_seq = chunks[-1].next_seq
        return chunks[0].data if len(chunks) == 1 else b"".join(chunk.data for chunk in chunks)
