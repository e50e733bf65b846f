"""Snapshots: every durable row of a channel exactly once, whatever else goes on, and readable until they are closed."""

import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.catalog_change import Change, Cursor
from storage.cover import DAY_US
from storage.snapshot import Snapshot
from tests.storage.rows import NOON_US, Row
from tests.storage.store_house import CHANNELS, DROPPED, StoreHouse, empty, fast_place, rows_of


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with fast_place() as place:
        yield place


@pytest.fixture
def house(place: Path) -> Iterator[StoreHouse]:
    house = StoreHouse(empty(place), [], 0)
    yield house
    house.close()
    shutil.rmtree(house.disk.data)


class Busy:
    """A store in the middle of things: halves of seals and publications, snapshots that are still open."""

    def __init__(self, house: StoreHouse) -> None:
        self.house = house
        self.change: Change | None = None
        self.opened = list[tuple[Snapshot, list[Row], tuple[int, int]]]()
        self.is_deleted = False

    def begin_seal(self) -> None:
        target = Cursor(self.house.commits.durable_lsn, self.house.store.ring.durable)
        if self.change is None and target != self.house.store.catalog.cursor:
            self.change = self.house.store.seal(target)

    def begin_publish(self) -> None:
        waiting = self.house.store.publisher.waiting(CHANNELS)
        if self.change is None and waiting:
            self.change = self.house.store.publisher.publish(*waiting[len(self.house.rows) % len(waiting)])

    def begin_drop(self) -> None:
        if self.change is None and not self.is_deleted:
            self.house.store.registry.delete_channel(DROPPED, 0)
            (channel,) = self.house.store.deleted_channels()
            self.change = self.house.store.drop(channel)

    def apply(self) -> None:
        if self.change is not None:
            self.is_deleted |= DROPPED in self.change.dropped
            self.house.store.apply(self.change)
            self.change = None

    def move_on(self) -> None:
        """What is in the ring goes into a hot file, what is in hot files into published ones."""
        self.apply()
        self.house.publish()
        self.house.commit()
        self.house.seal()

    def snapshot(self, channel: int, start_us: int, end_us: int) -> None:
        snapshot = self.house.snapshot(channel, start_us, end_us)
        expected = [row for row in self.house.durable(channel) if start_us <= row.at_us < end_us]
        self.opened.append((snapshot, expected, (start_us, end_us)))

    def read(self) -> None:
        """The oldest open snapshot, and close it."""
        if self.opened:
            snapshot, expected, (start_us, end_us) = self.opened.pop(0)
            found = rows_of(self.house.store, snapshot)
            assert len({row.seq for row in found}) == len(found)
            found = [row for row in found if start_us <= row.at_us < end_us]
            if self.is_deleted and snapshot.channel == DROPPED:
                assert found == expected[len(expected) - len(found) :]
            else:
                assert found == expected
            snapshot.close()
            snapshot.close()  # twice is as good
            self.house.store.remove_files()


MOMENTS = st.sampled_from([0, NOON_US, NOON_US + DAY_US // 2, NOON_US + DAY_US + 50, NOON_US + 9 * DAY_US])
MOMENTS |= st.integers(NOON_US, NOON_US + 100)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["append", "commit", "seal", "publish", "apply", "apply", "read", "drop"])),
    st.tuples(st.sampled_from(["fill", "move on"])),
    st.tuples(st.just("snapshot"), st.sampled_from(CHANNELS), MOMENTS, MOMENTS),
)


@settings(max_examples=50)
@given(st.lists(STEPS, min_size=10, max_size=60))
def test_a_snapshot_shows_what_was_durable_when_it_was_taken_whenever_it_is_read(
    place: Path, steps: list[tuple[str] | tuple[str, int, int, int]]
) -> None:
    house = StoreHouse(empty(place), [], 0)
    busy = Busy(house)
    try:
        for step in steps:
            match step:
                case ("append",):
                    for _ in range(3):
                        house.append()
                case ("commit",):
                    house.commit()
                case ("seal",):
                    busy.begin_seal()
                case ("publish",):
                    busy.begin_publish()
                case ("drop",):
                    busy.begin_drop()
                case ("apply",):
                    busy.apply()
                case ("fill",):
                    house.fill()
                case ("move on",):
                    busy.move_on()
                case ("read",):
                    busy.read()
                case ("snapshot", channel, start_us, end_us):
                    busy.snapshot(channel, start_us, end_us)
        busy.apply()
        while busy.opened:
            busy.read()
        house.check()
        house.commit()
        house.seal()
        house.append_all(60)  # into a ring of 64: nothing is pinned any more
    finally:
        house.close()
        shutil.rmtree(house.disk.data)


def test_files_stay_until_the_last_snapshot_that_may_read_them_is_closed(house: StoreHouse) -> None:
    house.append_all(9)
    house.seal()
    (hot,) = house.standing()
    first = house.snapshot(1)
    second = house.snapshot(2)
    house.publish()
    third = house.snapshot(1)
    assert not third.hot
    for snapshot in (second, third):
        snapshot.close()
        house.store.remove_files()
        assert hot.exists()
    assert rows_of(house.store, first) == house.durable(1)
    first.close()
    assert hot.exists()
    house.store.remove_files()
    assert not hot.exists()


def test_rows_in_the_ring_are_not_overwritten_while_a_snapshot_reads_them(house: StoreHouse) -> None:
    house.append_all(9)
    snapshot = house.snapshot(1)
    expected = house.durable(1)
    house.append_all(20)
    house.seal()
    house.fill()
    assert len(house.rows) == 64  # the ring is full, although 29 rows are in a file
    assert rows_of(house.store, snapshot) == expected
    snapshot.let_go_of_ring()
    house.fill()
    assert len(house.rows) == 64 + 29
    snapshot.close()


def test_rows_that_are_not_durable_are_in_no_snapshot(house: StoreHouse) -> None:
    house.append_all(3)
    for _ in range(3):
        assert house.append()
    assert house.commits.submit_nowait()
    with house.snapshot(1) as snapshot:
        assert rows_of(house.store, snapshot) == [house.rows[0]]
    house.finish()
    with house.snapshot(1) as snapshot:
        assert rows_of(house.store, snapshot) == [house.rows[0], house.rows[3]]


def test_snapshots_are_right_while_other_threads_seal_publish_and_read(house: StoreHouse) -> None:
    """The main thread appends, commits, takes snapshots and applies; everything heavy runs beside it."""
    work: Future[Change] | None = None
    reading: list[tuple[Snapshot, list[Row], Future[list[Row]]]] = []
    busy = Busy(house)
    done = 0

    def heavy(turn: int) -> Change:
        if turn % 3:
            (busy.begin_publish if busy.house.store.catalog.unpublished() else busy.begin_seal)()
        else:
            busy.begin_seal()
        change, busy.change = busy.change, None
        return change or Change()

    with ThreadPoolExecutor(1) as worker, ThreadPoolExecutor(3) as readers:
        for turn in count():
            if not all(house.append() for _ in range(3)):
                under_way: list[Future[Any]] = [each[2] for each in reading]
                wait(under_way if work is None else [work, *under_way], return_when=FIRST_COMPLETED)
            house.commit()
            if work is None:
                work = worker.submit(heavy, done)
            elif work.done():
                house.store.apply(work.result())
                work = None
                done += 1
            if len(reading) < 6:
                channel = CHANNELS[turn % 3]
                snapshot = house.snapshot(channel)
                reading.append(
                    (snapshot, house.durable(channel), readers.submit(rows_of, house.store, snapshot))
                )
            for each in [each for each in reading if each[2].done()]:
                reading.remove(each)
                assert each[2].result() == each[1]
                each[0].close()
            if done == 20:
                break
        for snapshot, expected, future in reading:
            assert future.result() == expected
            snapshot.close()
        if work is not None:
            house.store.apply(work.result())
    house.store.remove_files()
    house.check()
    assert len(house.rows) > 150
