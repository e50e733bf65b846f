"""The cap on what a user stores: the oldest files and segments go, one at a time, and nothing else does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.caps import FRESH_BYTES, Excess, over_cap, used_bytes
from storage.catalog import Catalog
from storage.catalog_change import Change
from storage.cover import DAY_US
from storage.store import Store
from tests.storage.catalog_files import Stretch, again, everything, paths, publish, seal, standing
from tests.storage.rows import NOON_US, Sent
from tests.storage.store_house import StoreHouse, empty, fast_place

# ---- one piece of the catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog.open(tmp_path)
    yield catalog
    catalog.close()


def test_the_oldest_piece_is_of_the_oldest_day_and_of_that_the_first_written(catalog: Catalog) -> None:
    assert catalog.oldest(1) is None
    seal(catalog, Stretch(1, 5), Stretch(2, 0))
    seal(catalog, Stretch(1, 4), Stretch(1, 5))
    seal(catalog, Stretch(1, 4))
    days = []
    while (piece := catalog.oldest(1)) is not None:
        days.append((piece.day, piece.first_seq))
        catalog.apply(catalog.commit_forget(piece))
        if len(days) == 1:
            publish(catalog, 1, 5)
    assert days == sorted(days)
    assert [day for day, _ in days] == [4, 4, 5]
    assert catalog.oldest(2) is not None


def test_a_forgotten_file_is_gone_from_disk_counts_and_readers_also_after_a_restart(catalog: Catalog) -> None:
    seal(catalog, Stretch(1, 0, rows=3), Stretch(1, 1, rows=1))
    file = publish(catalog, 1, 0)
    hold = catalog.hold()
    change = catalog.commit_forget(file)
    assert paths(everything(catalog, 1).published) == {file.path}
    catalog.apply(change)
    assert everything(catalog, 1).published == ()
    assert catalog.take_removable() == []  # a reader may have it open
    catalog.release(hold)
    assert file.path in catalog.take_removable()
    for _ in range(2):
        found = catalog.channel_statistics(1)
        assert found is not None
        assert (found.rows, found.bytes) == (1, 100)
        assert catalog.statistics().published_files == 0
        assert [segment.day for segment in everything(catalog, 1).hot] == [1]
        catalog = again(catalog)
    assert file.path not in standing(catalog)  # the restart removed what had not been unlinked
    catalog.close()


def test_a_forgotten_segment_takes_its_hot_file_along_if_it_was_the_last(catalog: Catalog) -> None:
    first = seal(catalog, Stretch(1, 0, rows=2), Stretch(2, 0, rows=5))
    for channel in (1, 2):
        piece = catalog.oldest(channel)
        assert piece is not None
        change = catalog.commit_forget(piece)
        catalog.apply(change)
        assert change.obsolete == ((first.path,) if channel == 2 else ())
        assert catalog.oldest(channel) is None
        found = catalog.channel_statistics(channel)
        assert found is not None
        assert (found.rows, found.bytes) == (0, 0)


def test_late_rows_of_a_forgotten_day_are_kept_and_published(catalog: Catalog) -> None:
    seal(catalog, Stretch(1, 0))
    publish(catalog, 1, 0)
    piece = catalog.oldest(1)
    assert piece is not None
    catalog.apply(catalog.commit_forget(piece))
    seal(catalog, Stretch(1, 0))
    later = publish(catalog, 1, 0)
    assert paths(everything(catalog, 1).published) == {later.path}
    assert isinstance(catalog.commit_forget(later), Change)


# ---- users and their caps


@pytest.fixture
def house() -> Iterator[StoreHouse]:
    """Five days of channel 1 and one of channel 2; the first two days of channel 1 are published."""
    with fast_place() as place:
        house = StoreHouse(empty(place), [], 0)
        for day in range(5):
            for number in range(4):
                assert house.append(Sent(NOON_US + day * DAY_US + number, 1, 1, None, {"n": day}))
            if day == 2:
                assert house.append(Sent(NOON_US + 2 * DAY_US, 2, 2, None, {"n": day}))
            house.commit()
            house.seal()
            if day == 1:
                house.publish()
        yield house
        house.close()


def keep(store: Store, user_id: str, excess: int) -> int:
    """As the housekeeping does it; how many pieces went."""
    pieces = 0
    for piece in Excess(store, user_id, excess):
        store.apply(store.catalog.commit_forget(piece))
        pieces += 1
    return pieces


def days_of(store: Store, channel: int) -> list[int]:
    files = store.catalog.files_for(channel, -(2**62), 2**62)
    return sorted(each.day - NOON_US // DAY_US for each in (*files.published, *files.hot))


def test_only_who_has_more_than_the_cap_is_over_it(house: StoreHouse) -> None:
    store = house.store
    (user,) = store.registry.users()
    used = used_bytes(store, user.user_id)
    assert used > 0
    assert over_cap(store, 0) == over_cap(store, used) == {}
    assert over_cap(store, used - 1) == {user.user_id: 1}
    store.registry.update_user(user.user_id, storage_bytes=used - 10)
    assert over_cap(store, 0) == over_cap(store, 1) == {user.user_id: 10}
    store.registry.update_user(user.user_id, storage_bytes=0)  # a quota of none
    assert over_cap(store, 1) == {}


def test_the_oldest_days_go_until_the_user_is_below_the_cap(house: StoreHouse) -> None:
    store = house.store
    (user,) = store.registry.users()
    used = used_bytes(store, user.user_id)
    assert days_of(store, 1) == [0, 1, 2, 3, 4]
    assert keep(store, user.user_id, used // 3) == 2
    assert days_of(store, 1) == [2, 3, 4]
    assert days_of(store, 2) == [2]
    assert used_bytes(store, user.user_id) <= used - used // 3
    store.registry.update_user(user.user_id, storage_bytes=used - used // 3)
    assert over_cap(store, 0) == {}


def test_what_only_the_ring_has_counts_and_makes_the_oldest_sealed_go(house: StoreHouse) -> None:
    store = house.store
    (user,) = store.registry.users()
    sealed = used_bytes(store, user.user_id)
    for number in range(3):
        assert house.append(Sent(NOON_US + 4 * DAY_US + number, 1, 1, None, {"n": 4}))
    assert used_bytes(store, user.user_id) == sealed  # not durable
    house.commit()
    assert used_bytes(store, user.user_id) == sealed + 3 * FRESH_BYTES
    assert over_cap(store, sealed) == {user.user_id: 3 * FRESH_BYTES}
    before = days_of(store, 1)
    assert keep(store, user.user_id, 3 * FRESH_BYTES) >= 1
    assert days_of(store, 1) == before[len(before) - len(days_of(store, 1)) :] != before
    assert over_cap(store, sealed) == {}
    assert len(store.ring.unsealed(1, store.ring.sealed, store.ring.durable)) == 3


def test_the_newest_piece_stays_however_small_the_cap(house: StoreHouse) -> None:
    store = house.store
    (user,) = store.registry.users()
    assert keep(store, user.user_id, used_bytes(store, user.user_id)) == 5
    assert days_of(store, 1) == [4]
    assert days_of(store, 2) == []
    assert keep(store, user.user_id, 1) == 0
