"""An archived channel's rows come into published files: a kill or a power cut at any step loses and doubles nothing."""

import errno
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from storage.archive import unfinished, waiting_rows
from storage.cover import channel_directory
from storage.registry import FieldError, InUseError
from tests.storage.rows import Row
from tests.storage.store_disk import StoreDisk
from tests.storage.store_house import StoreHouse, empty, fast_place

CHANNEL = 1


@pytest.fixture
def place() -> Iterator[Path]:
    with fast_place() as place:
        yield place


def filled(disk: StoreDisk) -> StoreHouse:
    """Each channel has rows in published files, in hot ones and in the ring."""
    house = StoreHouse(disk, [], 0)
    house.append_all(8)
    house.seal()
    house.publish()
    house.append_all(7)
    house.seal()
    house.append_all(6)
    return house


def archive(house: StoreHouse) -> None:
    house.store.registry.archive_channel(CHANNEL, 0)
    house.disk.on_step()


def finish(house: StoreHouse) -> None:
    """As housekeeping does."""
    archived = unfinished(house.store)
    if archived:
        house.seal()
        for channel, day in house.store.publisher.waiting(archived):
            change = house.insist(lambda: house.store.publisher.publish(channel, day))  # noqa: B023 (called at once)
            house.disk.on_step()
            house.store.apply(change)
    house.disk.on_step()


def seqs_in_files(disk: StoreDisk) -> list[int]:
    """What people find, without any catalog."""
    paths = (disk.data / "data" / channel_directory("U000001", CHANNEL)).rglob("*.parquet")
    return sorted(seq for path in paths for seq in pq.ParquetFile(path).read(["seq"]).column(0).to_pylist())


def check(disk: StoreDisk, rows: list[Row], acknowledged: int) -> None:
    """The next start finishes what was begun, whatever was left of it."""
    house = StoreHouse(disk, rows, acknowledged)
    finish(house)
    house.check()
    if house.store.registry.archived_channels():
        assert waiting_rows(house.store, CHANNEL) == 0
        assert seqs_in_files(disk) == [row.seq for row in house.durable(CHANNEL)]
    house.close()


def test_a_kill_or_a_power_cut_at_any_step_loses_nothing_and_doubles_nothing(place: Path) -> None:
    disk = empty(place)
    house = filled(disk)
    pictures: list[StoreDisk] = []
    disk.on_step = lambda: pictures.append(disk.picture(place / f"at-{len(pictures)}"))
    archive(house)
    finish(house)
    disk.on_step = lambda: None
    rows, acknowledged = house.rows, house.acknowledged
    assert seqs_in_files(disk) == [row.seq for row in house.durable(CHANNEL)]
    house.close()
    assert len(pictures) > 10
    for number, picture in enumerate(pictures):
        for seed in range(2):
            cut = picture.picture(place / f"at-{number}-cut-{seed}")
            cut.cut_power(seed + 2 * number)
            check(cut, rows.copy(), acknowledged)
        check(picture, rows.copy(), acknowledged)


def test_a_full_disk_at_any_step_is_waited_out(place: Path) -> None:
    for fail_at in range(1, 40, 3):
        disk = empty(place, f"data-{fail_at}")
        house = filled(disk)
        archive(house)
        disk.log.fail_at, disk.log.fail_with = fail_at, errno.ENOSPC
        with suppress(OSError):  # an unlink that fails is nobody's full disk, and ends the daemon
            finish(house)
        house.close()
        disk.log.fail_at = -1
        check(disk, house.rows, house.acknowledged)


def test_an_archived_channel_keeps_its_number_and_takes_no_device_and_no_event(place: Path) -> None:
    house = filled(empty(place))
    registry = house.store.registry
    event = registry.add_event("U000001", channel=CHANNEL)
    before, events = registry.version, registry.events_version
    archive(house)
    assert (registry.version, registry.events_version) == (before + 1, events + 1)
    assert registry.archived_channels() == [CHANNEL]
    assert registry.channel("U000001", 1) is None
    assert [channel.number for channel in registry.channels("U000001")] == [2, 3]
    assert [channel.number for channel in registry.stored_channels("U000001")] == [1, 2, 3]
    with pytest.raises(InUseError, match="channel 1 is archived"):
        registry.add_channel("U000001", 1)
    with pytest.raises(FieldError):
        registry.update_device("U000001", "device-1", channel=CHANNEL)
    known = registry.event("U000001", event.event_id)
    assert known is not None
    assert known.channel is None
    registry.restore_channel(CHANNEL)
    assert registry.channel("U000001", 1) is not None
    registry.archive_channel(CHANNEL, 0)
    registry.delete_channel(CHANNEL, 0)
    assert (registry.archived_channels(), registry.deleted_channels()) == ([], [CHANNEL])
    assert registry.add_channel("U000001", 1).id != CHANNEL
    house.close()


def test_a_user_who_goes_takes_archived_channels_along_or_leaves_them(place: Path) -> None:
    for name, keeps_data, deleted in (("a", True, []), ("b", False, [1, 2, 3])):
        house = filled(empty(place, name))
        archive(house)
        house.store.registry.delete_user("U000001", 0, keeps_data=keeps_data)
        assert house.store.registry.deleted_channels() == deleted
        house.close()
