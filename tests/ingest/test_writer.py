"""Writes over REST: pieces, keys, waiting for room and for each other; the commits are the test's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ingest.durability import Durability
from ingest.mqtt.notebook import Notebook
from ingest.writer import Writer, WriterOptions
from storage.journal import Journal, Limits
from storage.kinds import PayloadKind, Refusal
from storage.notes import decode_note
from storage.ring import Ring
from storage.schema import Schema
from storage.sessions import SessionStore
from storage.writes import (
    Entry,
    Ledger,
    NoRoom,
    OtherBody,
    RowRefused,
    Stored,
    WriteOutcome,
)

DAY_US = 86_400_000_000
USER = "U000001"
BATCH_BYTES = 400


class House:
    """A writer; ``commit`` makes durable what is in the journal."""

    def __init__(self, path: Path, rows: int = 64) -> None:
        self.journal = Journal(Ring(rows, 8 * rows, 1 << 20), Schema(), Limits(), 140_000)
        self.sessions = SessionStore.open(path)
        self.ledger = Ledger(self.sessions, DAY_US)
        self.durability = Durability(self.journal, self, lambda: (0.0, 1))
        self.notebook = Notebook(self.journal, 70_000)
        self.writer = Writer(
            self.journal, self.notebook, self.durability, self.ledger, lambda: (0.0, 1),
            WriterOptions(BATCH_BYTES, wait_s=5.0),
        )  # fmt: skip
        self.notes: list[bytes] = []
        self.batches: list[int] = []

    def kick(self, now_s: float, now_us: int) -> None:
        """The test commits."""

    def commit(self) -> bool:
        batch = self.journal.take_batch()
        if batch is None:
            return False
        self.batches.append(batch.next_seq - batch.first_seq)
        self.notes += self.journal.release(batch).notes
        self.durability.on_durable(self.journal.ring.durable)
        return True

    async def commits(self, every_s: float = 0.1) -> None:
        while True:
            await trio.sleep(every_s)
            self.commit()

    async def write(self, rows: list[Entry], key: str | None = None, digest: bytes = b"d") -> WriteOutcome:
        return await self.writer.write(USER, 1, rows, key, digest)


def rows(count: int, payload: bytes = b'{"n":1}') -> list[Entry]:
    return [(None, 0, b"", payload)] * count


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "sessions.sqlite3")
    yield house
    house.sessions.close()


async def test_nothing_is_answered_before_it_is_durable(house: House, autojump_clock: object) -> None:
    outcomes: list[WriteOutcome] = []
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            outcomes.append(await house.write(rows(3)))

        nursery.start_soon(write)
        await trio.sleep(1)
        assert (outcomes, house.journal.ring.written) == ([], 3)
        house.commit()
    assert outcomes == [Stored(3)]
    assert house.batches == [3]


async def test_what_fits_is_one_batch_and_what_does_not_is_checked_first(
    house: House, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.commits)
        assert await house.write(rows(BATCH_BYTES // 31)) == Stored(12)
        assert await house.write([*rows(30), (None, 0, b"", b"{")]) == RowRefused(30, Refusal.BAD_JSON_FORMAT)
        assert house.journal.ring.written == 12
        assert await house.write(rows(30)) == Stored(30)
        nursery.cancel_scope.cancel()
    assert house.batches[0] == 12
    assert sum(house.batches) == 42


async def test_a_full_ring_is_waited_for_and_what_is_durable_is_told(
    house: House, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.commits)
        outcome = await house.write(rows(100))
        assert outcome == NoRoom(60, 60)
        assert house.journal.ring.durable == 60
        house.journal.ring.mark_sealed(60)
        house.durability.on_room()
        assert await house.write(rows(10)) == Stored(10)
        nursery.cancel_scope.cancel()


async def test_what_was_begun_and_not_committed_is_told_apart(house: House, autojump_clock: object) -> None:
    assert await house.write(rows(3)) == NoRoom(0, 3)
    assert await house.write(rows(3), "k") == NoRoom(0, 3)
    assert house.journal.ring.written == 6
    assert await house.write(rows(3), "k") == NoRoom(0, 3)  # known, and still not durable
    assert house.journal.ring.written == 6
    house.commit()
    assert await house.write(rows(3), "k") == Stored(3, is_repeated=True)


async def test_a_key_is_completed_where_it_stopped_with_the_first_times(
    house: House, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.commits)
        assert await house.write(rows(100), "k") == NoRoom(60, 60)
        house.sessions.apply(house.notes)
        house.ledger = house.writer._ledger = Ledger(house.sessions, DAY_US)
        house.journal.ring.mark_sealed(60)
        assert await house.write(rows(100), "k", b"other") == OtherBody()
        assert await house.write(rows(100), "k") == Stored(100)
        assert await house.write(rows(100), "k") == Stored(100, is_repeated=True)
        nursery.cancel_scope.cancel()
    assert house.journal.ring.written == 100
    written = [decode_note(note)[1] for note in house.notes]
    assert [(note.stored, note.rows) for note in written][-1] == (100, 100)  # type: ignore[union-attr]


async def test_two_of_a_key_at_a_time_follow_each_other(house: House, autojump_clock: object) -> None:
    outcomes: list[WriteOutcome] = []

    async def write(digest: bytes) -> None:
        outcomes.append(await house.write(rows(3), "k", digest))

    async with trio.open_nursery() as nursery:
        for digest in (b"d", b"d", b"d"):
            nursery.start_soon(write, digest)
        await trio.sleep(1)
        house.commit()
    assert sorted(outcomes, key=str) == [
        Stored(3), Stored(3, is_repeated=True), Stored(3, is_repeated=True),
    ]  # fmt: skip
    assert house.journal.ring.written == 3


async def test_a_client_that_goes_leaves_its_write_findable(house: House, autojump_clock: object) -> None:
    with trio.move_on_after(1):
        await house.write(rows(3), "k")
    house.commit()
    assert await house.write(rows(3), "k") == Stored(3, is_repeated=True)
    assert house.journal.ring.written == 3


async def test_notes_that_wait_are_not_overtaken(house: House, autojump_clock: object) -> None:
    done: list[int] = []
    while house.journal.has_room_for(65_000):
        house.journal.append(1, PayloadKind.JSON, 1, 2, b"", b'"' + b"x" * 60_000 + b'"')
    house.notebook.when_there_is_room(65_000, done.append, 1)
    assert done == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.write, rows(1), "k")
        await trio.sleep(1)
        assert house.journal.ring.newest(1, 1).tolist() == []
        house.commit()
        house.notebook.catch_up(1)
        house.durability.on_room()
        await trio.sleep(1)
        assert done == [1]
        house.commit()
    assert house.journal.ring.newest(1, 5).tolist() != []
