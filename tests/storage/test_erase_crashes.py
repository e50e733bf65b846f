"""Deleted entries leave published files: a kill or a power cut at any step loses nothing else, and brings none back.

Whoever reads the directory afterwards finds each day as it was before or as it is to be, and after the next start and
its work the latter.
"""

import errno
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from storage.cover import DAY_US
from tests.storage.rows import NOON_US, Row, Sent
from tests.storage.store_disk import StoreDisk
from tests.storage.store_house import StoreHouse, empty, fast_place, rows_of

CHANNEL = 1
TAGS = ("north", None, "north", "south", "south")


@pytest.fixture
def place() -> Iterator[Path]:
    with fast_place() as place:
        yield place


def sent(number: int) -> Sent:
    """Two days; one part has nothing but the tag."""
    tag = "north" if number < 4 else TAGS[number % 5]
    return Sent(NOON_US + (number >= 8) * DAY_US + number, CHANNEL, CHANNEL, tag, {"n": number})


def filled(disk: StoreDisk) -> StoreHouse:
    """Published files (a day with two parts and one with one), a hot file, the ring."""
    house = StoreHouse(disk, [], 0)
    for first, last in ((0, 4), (4, 8), (8, 14), (14, 17), (17, 20)):
        for number in range(first, last):
            assert house.append(sent(number))
        house.commit()
        if first < 17:
            house.seal()
        if first < 14:
            house.publish()
    return house


def delete(house: StoreHouse) -> None:
    house.store.delete_tag(house.store.channel_by_id(CHANNEL), "north")


def erase(house: StoreHouse) -> None:
    house.seal()
    for step in house.store.erasing():
        change = house.insist(step)
        house.disk.on_step()
        house.store.apply(change)
    house.disk.on_step()


def found(house: StoreHouse) -> list[Row]:
    with house.snapshot(CHANNEL) as snapshot:
        rows = rows_of(house.store, snapshot)
        below = [each for file in snapshot.published for each in file.deleted]
    # rows_of reads files as they are
    return [each for each in rows if not any(each.tag == name and each.seq < seq for name, _, seq in below)]


def days(disk: StoreDisk) -> dict[str, set[int]]:
    """What people find: the rows of each day, none of them twice."""
    result: dict[str, set[int]] = {}
    for path in (disk.data / "data").rglob("*.parquet"):
        assert path.parent.name.startswith("day=")
        for number in read_seqs(path):
            numbers = result.setdefault(path.parent.name, set())
            assert number not in numbers
            numbers.add(number)
    return result


def read_seqs(path: Path) -> list[int]:
    numbers: list[int] = pq.ParquetFile(path).read(["seq"]).column(0).to_pylist()
    return numbers


def check(disk: StoreDisk, rows: list[Row], before: dict[str, set[int]]) -> None:
    left = [each for each in rows if each.tag != "north"]
    after = {each.seq for each in left}
    # File by file: never a row too many, never one too few.
    for day, numbers in days(disk).items():
        assert numbers <= before.get(day, set()) | after
        assert numbers >= before.get(day, set()) & after
    house = StoreHouse(disk, rows, 20)
    assert found(house) == left
    erase(house)
    assert not house.store.catalog.deleted_tags
    assert found(house) == left
    assert set().union(*days(disk).values()) == after
    assert house.standing() == house.known()
    assert list((disk.data / "replacing").iterdir()) == []
    house.close()


def test_a_kill_or_a_power_cut_at_any_step_brings_nothing_back(place: Path) -> None:
    disk = empty(place)
    house = filled(disk)
    before = days(disk)
    assert len(before) == 2
    delete(house)
    pictures: list[StoreDisk] = []
    disk.on_step = lambda: pictures.append(disk.picture(place / f"at-{len(pictures)}"))
    erase(house)
    disk.on_step = lambda: None
    rows = house.rows
    house.close()
    assert len(pictures) > 30
    for number, picture in enumerate(pictures):
        for seed in range(2):
            cut = picture.picture(place / f"at-{number}-cut-{seed}")
            cut.cut_power(seed + 2 * number)
            check(cut, rows.copy(), before)
        check(picture, rows.copy(), before)


def test_a_full_disk_at_any_step_is_waited_out(place: Path) -> None:
    for fail_at in range(1, 60, 3):
        disk = empty(place, f"data-{fail_at}")
        house = filled(disk)
        before = days(disk)
        delete(house)
        disk.log.fail_at, disk.log.fail_with = fail_at, errno.ENOSPC
        with suppress(OSError):  # an unlink that fails is nobody's full disk, and ends the daemon
            erase(house)
        house.close()
        disk.log.fail_at = -1
        check(disk, house.rows, before)


def test_a_file_system_that_cannot_exchange_names_keeps_what_people_see(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = empty(place)
    house = filled(disk)
    before = days(disk)

    def refuse(one: Path, two: Path) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(disk, "exchange", refuse)
    delete(house)
    erase(house)
    left = [each for each in house.rows if each.tag != "north"]
    assert found(house) == left
    assert {str(error) for error in house.store.damaged.values()} == {"[Errno 22] Invalid argument"}
    after = {each.seq for each in left}
    assert all(numbers <= before.get(day, set()) | after for day, numbers in days(disk).items())
    house.close()
    house = StoreHouse(disk, house.rows, 20)
    assert found(house) == left
    house.close()
    monkeypatch.undo()
    check(disk, house.rows, before)


def test_a_dropped_channel_takes_waiting_revisions_along(place: Path) -> None:
    disk = empty(place)
    house = filled(disk)
    delete(house)
    with house.snapshot(CHANNEL):
        erase(house)
        assert len(list((disk.data / "data").rglob("*.tmp"))) > 0
        house.store.registry.delete_channel(CHANNEL, 0)
        house.store.apply(house.store.drop(CHANNEL))
    house.store.remove_files()
    assert not [path for path in (disk.data / "data").rglob("*") if path.is_file()]
    house.close()
