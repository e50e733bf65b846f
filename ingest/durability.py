"""Waiting for durability, for code that is not compiled into the reactor.

The connector's slow path and the REST side store a reading like the lane does: into the journal, then nothing is
answered until the log record that holds it is on disk. Whoever waits here is woken by the seq that became durable.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from storage.journal import FULL, Journal
from storage.kinds import PayloadKind, Refusal


class Kicked(Protocol):
    """The reactor, as far as it matters here."""

    def kick(self, now_s: float, now_us: int) -> None: ...


class Durability:
    """Appends readings and returns when they are durable.

    Args:
        journal: where readings go.
        reactor: told that something was appended outside of its turn.
        now: the two clocks, monotonic seconds and UTC microseconds.
    """

    def __init__(self, journal: Journal, reactor: Kicked, now: Callable[[], tuple[float, int]]) -> None:
        self._journal = journal
        self._reactor = reactor
        self._now = now
        self._waiting: deque[tuple[int, trio.Event]] = deque()
        self._room = trio.Event()
        self._completed = trio.Event()
        self._commits = 0

    async def append(
        self, kind: PayloadKind, device: int, channel: int, tag: bytes, payload: bytes
    ) -> int | Refusal:
        """The reading's seq once it is durable, or why it was refused. Waits while ring and batch are full."""
        while True:
            answer = self._journal.append(self._now()[1], kind, device, channel, tag, payload)
            if answer != FULL:
                break
            await self.room()
        if answer < 0:
            return Refusal(-answer)
        await self.until(answer)
        return answer

    async def room(self) -> None:
        """Return when ring or batch may have room."""
        room = self._room
        self._reactor.kick(*self._now())
        await room.wait()

    async def until(self, seq: int) -> None:
        """Return when this row, which was appended just now, is durable."""
        durable = trio.Event()
        self._waiting.append((seq, durable))
        self._reactor.kick(*self._now())
        await durable.wait()

    async def settled(self) -> None:
        """Return when everything that is in the journal now is durable, notes included.

        Commits are counted, because several may end before whoever waits for one of them has its turn.
        """
        last = self._commits + self._journal.out + (not self._journal.is_empty())
        while self._commits < last:
            completed = self._completed
            self._reactor.kick(*self._now())
            await completed.wait()

    def on_durable(self, next_seq: int) -> None:
        """Everything before next_seq is durable, and a batch has room again."""
        self._commits += 1
        completed, self._completed = self._completed, trio.Event()
        completed.set()
        while self._waiting and self._waiting[0][0] < next_seq:
            self._waiting.popleft()[1].set()
        self.on_room()

    def on_room(self) -> None:
        """Ring or batch may have room: those who wait for it try again."""
        room, self._room = self._room, trio.Event()
        room.set()
