"""Writes over REST: many rows of one channel, into the journal like everybody's, and durable when this answers.

A write that fits into one log batch is there as a whole or not at all, also after a crash. A larger one goes in pieces,
small enough that devices are not kept waiting; all of its rows are checked before the first one is stored.

A write with a key notes in every batch how far it has come (storage/writes.py), so its repetition goes on from there,
and is answered like the first one when nothing is left to do. Two at the same time follow each other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from ingest.durability import Durability
from ingest.mqtt.notebook import Notebook
from storage.journal import FULL, Journal
from storage.kinds import Refusal
from storage.notes import Written, encode_note
from storage.writes import (
    Entry,
    Ledger,
    NoRoom,
    OtherBody,
    Row,
    RowRefused,
    Stored,
    TooManyKeys,
    WriteKey,
    WriteOutcome,
)

# What an entry of the log has beside tag and payload.
ENTRY_BYTES: Final = 24
# A piece of a write that does not fit into one batch: about a millisecond of nobody else's turn.
PIECE_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """Limits of writes.

    Attributes:
        batch_bytes: log entries of a write that are stored in one batch.
        wait_s: how long a write waits for room, or for another one with its key.
        keys_per_user_max: keys that are remembered.
    """

    batch_bytes: int
    wait_s: float = 10.0
    keys_per_user_max: int = 100_000


@dataclass(frozen=True, slots=True)
class _Work:
    """A write that is under way: what of it is to be stored."""

    channel: int
    entries: Sequence[Entry]
    first: int
    at_us: int
    key: WriteKey | None
    digest: bytes

    def rows(self, begin: int, end: int) -> list[Row]:
        """With times."""
        return [
            (self.at_us if at_us is None else at_us, device, tag, payload)
            for at_us, device, tag, payload in self.entries[begin:end]
        ]

    def size(self) -> int:
        """Bytes in the log."""
        return sum(ENTRY_BYTES + len(tag) + len(payload) for _, _, tag, payload in self.entries[self.first :])

    def pieces(self, bytes_max: int) -> Iterator[tuple[int, int]]:
        """Runs of rows of about so many bytes, at least one row each."""
        begin, size = self.first, 0
        for index in range(self.first, len(self.entries)):
            row = ENTRY_BYTES + len(self.entries[index][2]) + len(self.entries[index][3])
            if size + row > bytes_max and index > begin:
                yield begin, index
                begin, size = index, 0
            size += row
        yield begin, len(self.entries)


class Writer:
    """Stores writes. The main thread's.

    Args:
        journal: where rows go.
        notebook: numbers the notes of keys among the broker's.
        durability: waits.
        ledger: what was written under which key.
        now: monotonic seconds, UTC microseconds.
        options: limits.
    """

    def __init__(
        self,
        journal: Journal,
        notebook: Notebook,
        durability: Durability,
        ledger: Ledger,
        now: Callable[[], tuple[float, int]],
        options: WriterOptions,
    ) -> None:
        self._journal = journal
        self._notebook = notebook
        self._durability = durability
        self._ledger = ledger
        self._now = now
        self._options = options
        self._under_way: dict[WriteKey, trio.Event] = {}

    async def write(
        self, user_id: str, channel: int, entries: Sequence[Entry], key: str | None, digest: bytes
    ) -> WriteOutcome:
        """Store the rows; see the module.

        Args:
            user_id: whose channel it is.
            channel: registry id.
            entries: the rows, at least one.
            key: the same one stores the same thing once; None: every write is new.
            digest: of all that decides what is stored.
        """
        at_us = self._now()[1]
        if key is None:
            return await self._store(_Work(channel, entries, 0, at_us, None, b""))
        whole = WriteKey(user_id, channel, key)
        with trio.move_on_after(self._options.wait_s) as waiting:
            while whole in self._under_way:
                await self._under_way[whole].wait()
        if waiting.cancelled_caught:
            return NoRoom(0, 0)
        done = self._under_way[whole] = trio.Event()
        try:
            return await self._store_once(_Work(channel, entries, 0, at_us, whole, digest))
        finally:
            del self._under_way[whole]
            done.set()

    async def _store_once(self, work: _Work) -> WriteOutcome:
        key = work.key
        assert key is not None
        known = self._ledger.find(key, work.at_us)
        if known is None:
            if self._ledger.count(key.user_id) >= self._options.keys_per_user_max:
                return TooManyKeys()
            return await self._store(work)
        if known.digest != work.digest:
            return OtherBody()
        if known.stored == known.rows:
            with trio.move_on_after(self._options.wait_s) as waiting:
                await self._durability.settled()
            return NoRoom(0, known.rows) if waiting.cancelled_caught else Stored(known.rows, is_repeated=True)
        return await self._store(
            _Work(work.channel, work.entries, known.stored, known.at_us, key, work.digest)
        )

    async def _store(self, work: _Work) -> WriteOutcome:
        batch_bytes = self._options.batch_bytes
        fits = work.size() <= batch_bytes
        if not fits:
            refused = await self._check(work)
            if refused is not None:
                return refused
        begun = [(work.first, -1)]  # rows so far, and the last one's seq
        with trio.move_on_after(self._options.wait_s) as waiting:
            for begin, end in work.pieces(batch_bytes if fits else min(PIECE_BYTES, batch_bytes)):
                answer, index = await self._append(work, begin, end)
                if answer < 0:
                    if begin > work.first:  # limits were met meanwhile, by somebody else's streams or tags
                        await self._durability.until(begun[-1][1])
                    return RowRefused(begin + index, Refusal(-answer), begin)
                begun.append((end, answer))
                waiting.deadline = trio.current_time() + self._options.wait_s
                if end < len(work.entries):
                    await trio.lowlevel.checkpoint()  # devices have their turn
            await self._durability.until(begun[-1][1])
        if waiting.cancelled_caught:
            durable = self._journal.ring.durable
            return NoRoom(max(rows for rows, seq in begun if seq < durable), begun[-1][0])
        return Stored(len(work.entries))

    async def _check(self, work: _Work) -> RowRefused | None:
        """All rows, some at a time."""
        streams: set[object] = set()
        tags: set[object] = set()
        for begin, end in work.pieces(PIECE_BYTES):
            answer, index = self._journal.check_rows(work.channel, work.rows(begin, end), streams, tags)
            if answer < 0:
                return RowRefused(begin + index, Refusal(-answer))
            await trio.lowlevel.checkpoint()
        return None

    async def _append(self, work: _Work, begin: int, end: int) -> tuple[int, int]:
        """One batch's worth, as soon as there is room; what Journal.append_rows says."""
        rows = work.rows(begin, end)
        while True:
            answer = self._append_nowait(work, rows, begin, end)
            if answer[0] != FULL:
                return answer
            await self._durability.room()

    def _append_nowait(self, work: _Work, rows: list[Row], begin: int, end: int) -> tuple[int, int]:
        if work.key is None:
            return self._journal.append_rows(work.channel, rows, work.at_us, b"")
        written = Written(*work.key[:2], work.key.name, work.digest, end, len(work.entries), work.at_us)
        answer = self._notebook.append_with(
            lambda number: self._journal.append_rows(
                work.channel, rows, work.at_us, encode_note(number, written)
            )
        )
        if answer[0] >= 0:
            self._ledger.note(work.key, written, answer[0] + 1, is_new=begin == 0)
        return answer
