"""The slow path's waiting: nothing returns before its record is durable, and a full ring only delays."""

import pytest
import trio
import trio.testing

from ingest.durability import Durability
from storage.journal import Journal, Limits
from storage.kinds import PayloadKind, Refusal
from storage.ring import Ring
from storage.schema import Schema


class Kicks:
    """Counts kicks; commits when the test says so."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.count = 0

    def kick(self, now_s: float, now_us: int) -> None:
        self.count += 1

    def commit(self, durability: Durability) -> None:
        batch = self.journal.take_batch()
        if batch is not None:
            self.journal.release(batch)
        durability.on_durable(self.journal.ring.durable)


@pytest.fixture
def parts() -> tuple[Journal, Kicks, Durability]:
    journal = Journal(Ring(4, 64, 1024), Schema(), Limits(), 70_000)
    kicks = Kicks(journal)
    return journal, kicks, Durability(journal, kicks, lambda: (0.0, 1))


async def test_append_returns_after_the_commit(
    parts: tuple[Journal, Kicks, Durability], autojump_clock: object
) -> None:
    _, kicks, durability = parts
    done: list[int | Refusal] = []

    async def append() -> None:
        done.append(await durability.append(PayloadKind.JSON, 1, 1, b"", b"5"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(append)
        await trio.sleep(1)
        assert done == []
        assert kicks.count == 1
        kicks.commit(durability)
    assert done == [0]


async def test_a_refusal_returns_at_once(parts: tuple[Journal, Kicks, Durability]) -> None:
    _, kicks, durability = parts
    assert await durability.append(PayloadKind.JSON, 1, 1, b"", b"{") is Refusal.BAD_JSON_FORMAT
    assert kicks.count == 0


async def test_a_full_ring_delays_and_loses_nothing(
    parts: tuple[Journal, Kicks, Durability], autojump_clock: object
) -> None:
    journal, kicks, durability = parts
    done: list[int | Refusal] = []

    async def append() -> None:
        done.append(await durability.append(PayloadKind.JSON, 1, 1, b"", b"5"))

    async with trio.open_nursery() as nursery:
        for _ in range(7):
            nursery.start_soon(append)
        await trio.sleep(1)
        kicks.commit(durability)
        await trio.sleep(1)
        assert len(done) == 4
        journal.ring.mark_sealed(4)
        durability.on_room()
        await trio.sleep(1)
        kicks.commit(durability)
    assert sorted(done) == list(range(7))


async def test_settled_counts_commits_that_end_before_it_has_its_turn(
    parts: tuple[Journal, Kicks, Durability], autojump_clock: object
) -> None:
    journal, kicks, durability = parts
    journal.append(1, PayloadKind.NOTE, 0, 0, b"", b"the first")
    first = journal.take_batch()
    journal.append(1, PayloadKind.NOTE, 0, 0, b"", b"the second")
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(durability.settled)
            await trio.testing.wait_all_tasks_blocked()
            journal.release(first)
            durability.on_durable(journal.ring.durable)
            kicks.commit(durability)
