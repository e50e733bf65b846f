"""The store when the disk fails: what was acknowledged is there exactly once after opening it again, and no stray file."""

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from storage.catalog_change import Change, Cursor
from storage.commit import CommitFailedError
from storage.disk import DiskFullError
from tests.storage.rows import Row
from tests.storage.store_house import CHANNELS, OPTIONS, StoreHouse, again, empty, fast_place, work


@pytest.fixture
def place() -> Iterator[Path]:
    with fast_place() as place:
        yield place


@pytest.fixture
def house(place: Path) -> StoreHouse:
    """Six datapoints in a hot file, six in the ring."""
    house = StoreHouse(empty(place), [], 0)
    for _ in range(2):
        house.seal()
        house.append_all(6)
    return house


def seal(house: StoreHouse) -> Change:
    """The first half of a seal."""
    return house.store.seal(Cursor(house.commits.durable_lsn, house.store.ring.durable))


def publish(house: StoreHouse) -> Change:
    """The first half of a publication."""
    return house.store.publisher.publish(*house.store.publisher.waiting(CHANNELS)[0])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_any_single_failing_call_loses_nothing_and_doubles_nothing(place: Path, error: int) -> None:
    """Fail the n-th call for every n; a full disk is tried again, anything else ends the process."""
    outcomes = set()
    for n in count(1):
        disk = empty(place)
        rows = list[Row]()
        house = None
        disk.log.fail_at, disk.log.fail_with = n, error
        outcome: type[Exception] | None = None
        try:
            house = StoreHouse(disk, rows, 0)
            work(house)
        except (CommitFailedError, OSError) as failure:
            outcome = type(failure)
        is_over = disk.log.fail_at > 0
        disk.log.fail_at = -1
        if house is not None:
            house.close()
            if outcome is None:
                assert house.refused == (0 if is_over else 1)
        assert error == errno.ENOSPC or is_over == (outcome is None)
        outcomes.add(outcome)
        again(disk, rows, house.acknowledged if house else 0, goes_on=n % 6 == 0)
        shutil.rmtree(disk.data)
        if is_over:
            assert n > 50
            break
    assert outcomes == {None, OSError, CommitFailedError}


def test_a_full_disk_changes_nothing_for_a_seal_or_a_publication_and_both_can_be_tried_again(
    house: StoreHouse,
) -> None:
    """Publishing makes three directories at first: user, channel, day."""
    log = house.disk.log
    log.fail_with = errno.ENOSPC
    for action, failing in ((seal, (1, 2, 3)), (publish, (1, 2, 3, 1, 2, 3))):
        before = house.standing(), house.store.catalog.cursor
        for n in failing:
            log.fail_at = n
            with pytest.raises(DiskFullError):
                action(house)
            assert (house.standing(), house.store.catalog.cursor) == before
            house.check()
        house.store.apply(action(house))
        house.check()
        house.append_all(1)


@pytest.mark.parametrize(("action", "commit"), [(seal, "commit_seal"), (publish, "commit_publish")])
def test_a_file_that_a_full_catalog_refuses_does_not_stay(
    house: StoreHouse, action: Callable[[StoreHouse], Change], commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise DiskFullError(errno.ENOSPC, "full")

    before = house.standing()
    with monkeypatch.context() as patch:
        patch.setattr(house.store.catalog, commit, refuse)
        for _ in range(2):
            with pytest.raises(DiskFullError):
                action(house)
            assert house.standing() == before
            house.append_all(1)
    house.seal()
    house.publish()
    house.check()
    again(house.disk, house.rows, house.acknowledged, old=house)


@pytest.mark.parametrize("has_happened", [True, False])
@pytest.mark.parametrize("commit", ["commit_seal", "commit_publish", "commit_drop"])
def test_a_commit_of_the_catalog_with_unknown_outcome_loses_nothing_either_way(
    house: StoreHouse, commit: str, has_happened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite may report a failed sync of a transaction that the next start finds in its log all the same."""
    really: Callable[..., object] = getattr(house.store.catalog, commit)

    def fail(*arguments: object, **options: object) -> None:
        if has_happened:
            really(*arguments, **options)
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(house.store.catalog, commit, fail)
        with pytest.raises(sqlite3.OperationalError):
            {"commit_seal": house.seal, "commit_publish": house.publish, "commit_drop": house.drop}[commit]()
    again(house.disk, house.rows, house.acknowledged, old=house)


@pytest.mark.parametrize("call", [1, 2], ids=["write", "sync"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_failed_commit_of_the_log_is_the_end_and_nothing_is_tried_again(
    house: StoreHouse, call: int, error: int
) -> None:
    log = house.disk.log
    assert house.append()
    log.fail_at, log.fail_with = call, error
    with pytest.raises(CommitFailedError):
        house.commit()
    calls = log.calls
    assert house.append()
    assert not house.commits.submit_nowait()
    with pytest.raises(CommitFailedError):
        house.commits.complete_nowait()
    assert log.calls == calls
    assert house.store.ring.durable == house.acknowledged == 12
    house.check()
    again(house.disk, house.rows, house.acknowledged, old=house)


def test_a_full_disk_delays_the_log_and_loses_nothing(house: StoreHouse) -> None:
    for _ in range(10):
        house.append_all(2)
    house.disk.log.is_full = True
    while not house.commits.is_disk_full:
        assert house.append()
        if house.commits.submit_nowait():
            house.finish()
    assert house.store.ring.durable == house.acknowledged < len(house.rows)
    house.seal()  # recycles a segment, so that the log goes on on a disk that is still full
    house.commit()
    house.check()
    assert house.acknowledged == len(house.rows)


def test_a_ring_that_was_made_smaller_takes_a_longer_log(house: StoreHouse) -> None:
    for _ in range(25):
        house.append_all(2)
    house.close()
    assert len(house.disk.log.names(Path("/log"))) > 3
    smaller = StoreHouse(house.disk, house.rows, house.acknowledged, replace(OPTIONS, ring_rows=16))
    smaller.check()
    assert smaller.store.recovered.rows == 56
    assert len(smaller.store.catalog.unpublished_segments(1, 20_000)) > 1
    smaller.seal()
    smaller.append_all(4)
    smaller.check()
    assert len(house.disk.log.names(Path("/log"))) <= 3
    again(house.disk, house.rows, smaller.acknowledged, old=smaller)
