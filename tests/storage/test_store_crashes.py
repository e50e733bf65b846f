"""The store after kills and power cuts, at any step: everything acknowledged exactly once, in order, and no stray file."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.catalog_change import Cursor
from storage.commit import CommitFailedError
from tests.storage.rows import Row
from tests.storage.store_disk import StoreDisk
from tests.storage.store_house import StoreHouse, again, empty, fast_place, work


@pytest.fixture
def place() -> Iterator[Path]:
    with fast_place() as place:
        yield place


class Life:
    """One run of the daemon, pictured at these steps (all of them by default).

    Attributes:
        pictures: the directory as it was, what had been sent, how much of it had been acknowledged.
    """

    def __init__(self, disk: StoreDisk, rows: list[Row], acknowledged: int, *steps: int) -> None:
        self.pictures: list[tuple[StoreDisk, list[Row], int]] = []
        self.steps = 0
        self._disk, self._rows, self._acknowledged = disk, rows, acknowledged
        self._chosen = steps
        self._house: StoreHouse | None = None

    def run(self) -> StoreHouse:
        """Open, look, work. The house is left as a crash leaves it, but for its open files."""
        self._disk.on_step = self._on_step
        house = self._house = StoreHouse(self._disk, self._rows, self._acknowledged)
        house.check()
        house.acknowledged = house.store.ring.durable  # somebody may have seen it
        del self._rows[house.store.ring.durable :]
        work(house)
        self._disk.on_step = lambda: None
        house.close()
        return house

    def take(self) -> None:
        acknowledged = self._acknowledged if self._house is None else self._house.acknowledged
        data = self._disk.data
        disk = self._disk.picture(data.with_name(f"{data.name}-{self.steps}"))
        self.pictures.append((disk, self._rows.copy(), acknowledged))

    def _on_step(self) -> None:
        self.steps += 1
        if not self._chosen or self.steps in self._chosen:
            self.take()


def test_a_kill_between_any_two_steps_leaves_everything_once_and_nothing_stray(place: Path) -> None:
    life = Life(empty(place), [], 0)
    house = life.run()
    assert life.steps > 80
    suffixes = set()
    for number, (disk, rows, acknowledged) in enumerate(life.pictures):
        suffixes |= {path.suffix for path in disk.data.rglob("*.*")}
        again(disk, rows, acknowledged, goes_on=number % 8 == 0)
    assert suffixes >= {".tmp", ".parquet", ".sqlite3"}  # some were taken in the middle of a file
    again(house.disk, house.rows, house.acknowledged)


def test_a_kill_while_the_store_is_opened_again_loses_nothing(place: Path) -> None:
    """The first kill leaves something to be cleared away: half a publication, a drop whose files are still there."""
    life = Life(empty(place), [], 0)
    life.run()
    for disk, rows, acknowledged in life.pictures[::10]:
        second = Life(disk, rows, acknowledged, 1, 2, 3, 4)
        second.run()
        for picture in second.pictures:
            again(*picture, goes_on=False)


@pytest.mark.parametrize("seed", range(8))
def test_kills_and_power_cuts_one_after_the_other_lose_nothing_that_was_acknowledged_or_seen(
    place: Path, seed: int
) -> None:
    chance = random.Random(seed)
    disk, rows, acknowledged = empty(place), list[Row](), 0
    for _ in range(5):
        life = Life(
            disk, rows, acknowledged, chance.choice([chance.randrange(1, 12), chance.randrange(1, 100)])
        )
        life.run()
        if not life.pictures:
            life.take()
        ((disk, rows, acknowledged),) = life.pictures
        if chance.random() < 0.6:
            disk.cut_power(chance.randrange(1 << 30))
    again(disk, rows, acknowledged)


def test_names_that_a_kill_left_unsynced_are_durable_before_anything_is_built_on_them(place: Path) -> None:
    """A kill came between a name and the sync of its directory; then a start, some work, and a power cut."""
    life = Life(empty(place), [], 0)
    life.run()
    unsynced = [picture for picture in life.pictures if picture[0].has_unsynced_names]
    assert len(unsynced) > 20
    for disk, rows, acknowledged in unsynced:
        house = StoreHouse(disk, rows, acknowledged)
        del rows[house.store.ring.durable :]
        house.append_all(2)
        house.publish()
        for seed in range(2):
            picture = disk.picture(place / f"{disk.data.name}-cut-{seed}")
            picture.cut_power(seed)
            again(picture, rows.copy(), house.acknowledged, goes_on=False)
        house.close()


@pytest.mark.parametrize("fault", ["kill", "error"])
def test_a_record_that_a_start_finds_unsynced_is_made_durable_before_it_is_shown(
    place: Path, fault: str
) -> None:
    """A kill came before the sync, or the sync failed; the system still shows what was written."""
    house = StoreHouse(empty(place), [], 0)
    for _ in range(4):
        house.append_all(2)
    assert house.append()
    if fault == "kill":
        life = Life(house.disk, house.rows, house.acknowledged, 2)
        house.disk.on_step = life._on_step
        house.commit()
        ((disk, _, _),) = life.pictures
    else:
        house.disk.log.fail_at = 2
        with pytest.raises(CommitFailedError):
            house.commit()
        disk = house.disk
    house.close()
    found = StoreHouse(disk, house.rows, 8)
    found.check()
    assert found.store.ring.durable == 9
    for seed in range(8):
        picture = disk.picture(place / f"cut-{seed}")
        picture.cut_power(seed)
        again(picture, house.rows.copy(), 9, goes_on=False)
    for _ in range(4):  # into the next segment
        found.append_all(2)
    for seed in range(8):
        picture = disk.picture(place / f"later-{seed}")
        picture.cut_power(seed)
        again(picture, house.rows.copy(), found.acknowledged, goes_on=False)
    found.close()


def test_a_removed_file_does_not_come_back_when_the_power_fails_after_the_start(place: Path) -> None:
    """A kill after the drop's commit and before its files are unlinked; then a start, then a power cut."""
    first = Life(empty(place), [], 0)
    first.run()
    pictures = [picture for picture in first.pictures if is_dropped(picture[0]) and parts(picture[0])]
    disk, rows, acknowledged = max(pictures, key=lambda picture: len(parts(picture[0])))
    before = parts(disk)
    house = StoreHouse(disk, rows, acknowledged)
    assert parts(disk) < before
    for seed in range(6):
        picture = disk.picture(place / f"cut-{seed}")
        picture.cut_power(seed)
        again(picture, rows.copy(), acknowledged, goes_on=False)
    house.close()


def test_what_a_kill_left_in_the_catalogs_own_log_is_durable_after_the_start(place: Path) -> None:
    """A checkpoint syncs it; the database file alone then tells the same."""
    life = Life(empty(place), [], 0)
    life.run()
    disk, rows, acknowledged = life.pictures[-1]
    house = StoreHouse(disk, rows, acknowledged)
    alone = place / "alone.sqlite3"
    alone.write_bytes((disk.data / "catalog.sqlite3").read_bytes())
    with sqlite3.connect(alone) as database:
        cursor = database.execute("SELECT lsn, seq FROM cursor").fetchone()
    database.close()
    assert Cursor(*cursor) == house.store.catalog.cursor
    assert house.store.catalog.cursor.seq > 0
    house.close()


def parts(disk: StoreDisk) -> set[str]:
    return {str(path.relative_to(disk.data)) for path in disk.data.rglob("*.parquet") if "day=" in str(path)}


def is_dropped(disk: StoreDisk) -> bool:
    with sqlite3.connect(f"file:{disk.data}/catalog.sqlite3?mode=ro", uri=True) as database:
        count = database.execute("SELECT count(*) FROM dropped_channel").fetchone()[0]
    database.close()
    return bool(count)
