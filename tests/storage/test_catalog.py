"""The catalog, case by case: seals, publications, drops and readers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage.catalog import Catalog, remove_files
from storage.catalog_change import Change, Cursor
from storage.cover import (
    DAY_US,
    TIME_MAX_US,
    TIME_MIN_US,
    Files,
    day_name,
    day_of,
    published_path,
)
from storage.disk import RealDisk
from tests.storage.catalog_files import (
    Stretch,
    again,
    begin,
    everything,
    hot_file,
    publish,
    seal,
    standing,
)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog.open(tmp_path)
    yield catalog
    catalog.close()


def test_a_new_catalog_knows_nothing(catalog: Catalog) -> None:
    for _ in range(2):
        assert catalog.cursor == Cursor(0, 0)
        assert everything(catalog, 1) == Files((), ())
        assert (catalog.unpublished(), catalog.columns(), catalog.tags()) == ({}, [], [])
        assert (catalog.channel_statistics(1), catalog.tag_last_us(1)) == (None, None)
        catalog = again(catalog)
    catalog.close()


def test_a_seal_is_seen_when_it_is_applied_and_after_a_restart(catalog: Catalog) -> None:
    file = hot_file(catalog, [Stretch(2, 0, 5, 9), Stretch(1, 0, 1, 2)], 0)
    change = catalog.commit_seal(Cursor(7, 2), file, [], [])
    assert everything(catalog, 1) == Files((), ())
    assert catalog.cursor == Cursor(0, 0)
    catalog.apply(change)
    for _ in range(2):
        assert catalog.cursor == Cursor(7, 2)
        assert everything(catalog, 1).hot == file.segments[:1]
        assert everything(catalog, 2).hot == file.segments[1:]
        catalog = again(catalog)
    catalog.close()


def test_a_seal_without_rows_moves_the_lsn_alone(catalog: Catalog) -> None:
    seal(catalog, Stretch(1, 0))
    catalog.apply(catalog.commit_seal(Cursor(9, 1), None, [], []))
    assert catalog.cursor == again(catalog).cursor == Cursor(9, 1)


def test_rows_are_sealed_once_and_in_order(catalog: Catalog) -> None:
    first = seal(catalog, Stretch(1, 0))
    beyond = hot_file(catalog, [Stretch(1, 0)], 5)
    for cursor, file in (
        (Cursor(2, 1), first),
        (Cursor(2, 6), beyond),
        (Cursor(0, 1), None),
        (Cursor(2, 9), None),
    ):
        with pytest.raises(AssertionError):
            catalog.commit_seal(cursor, file, [], [])
    second = seal(catalog, Stretch(1, 0))
    assert everything(catalog, 1).hot == first.segments + second.segments


def test_a_segment_is_published_once(catalog: Catalog) -> None:
    seal(catalog, Stretch(1, 0), Stretch(2, 0))
    outcome, file = begin(catalog, 1)
    change = catalog.commit_publish(outcome)
    twice = replace(outcome, files=(replace(file, first_seq=1),))
    with pytest.raises(AssertionError):
        catalog.commit_publish(twice)
    catalog.apply(change)
    assert everything(catalog, 1) == Files((file,), ())
    assert everything(again(catalog), 1) == Files((file,), ())


def test_a_publication_takes_the_place_of_its_segments_and_of_no_others(catalog: Catalog) -> None:
    one = seal(catalog, Stretch(1, 0, 1, 2), Stretch(1, 1), Stretch(2, 0))
    two = seal(catalog, Stretch(1, 0, 3, 4))
    outcome, file = begin(catalog, 1)
    late = seal(catalog, Stretch(1, 0, 0, 9))  # while the file was being written
    catalog.apply(catalog.commit_publish(outcome))
    for _ in range(2):
        assert everything(catalog, 1) == Files((file,), (one.segments[1], *late.segments))
        assert catalog.unpublished() == {(1, 0): 1, (1, 1): 1, (2, 0): 1}
        assert everything(catalog, 2).hot == one.segments[2:]
        catalog = again(catalog)
    assert not two.path.exists()
    catalog.close()


def test_times_of_files_are_inclusive_and_the_end_of_a_range_is_not(catalog: Catalog) -> None:
    seal(catalog, Stretch(1, 0, 10, 20))
    for _ in range(2):
        for start_us, end_us, found in ((20, 21, 1), (21, 99, 0), (0, 10, 0), (0, 11, 1), (15, 15, 0)):
            if start_us < end_us:
                files = catalog.files_for(1, start_us, end_us)
                assert len(files.hot) + len(files.published) == found, (start_us, end_us)
        if catalog.unpublished():
            publish(catalog, 1)


def test_a_dropped_channel_is_gone_and_what_comes_later_goes_too(catalog: Catalog) -> None:
    hot = seal(catalog, Stretch(1, 0), Stretch(1, 1), Stretch(2, 0))
    file = publish(catalog, 1)
    change = catalog.commit_drop(1)
    assert change.obsolete == (file.path,)
    catalog.apply(change)
    assert catalog.commit_drop(1) == Change()
    late = seal(catalog, Stretch(1, 0))
    mixed = seal(catalog, Stretch(1, 0), Stretch(2, 0))
    remove_files(catalog.take_removable(), RealDisk())
    for _ in range(2):
        assert everything(catalog, 1) == Files((), ())
        assert catalog.channel_statistics(1) is None
        assert everything(catalog, 2).hot == (hot.segments[2], mixed.segments[1])
        assert standing(catalog) == {hot.path, mixed.path}
        catalog = again(catalog)
    assert not late.path.exists()
    catalog.close()


def test_a_channel_dropped_while_it_is_published_leaves_no_file(catalog: Catalog) -> None:
    seal(catalog, Stretch(1, 0))
    outcome, file = begin(catalog, 1)
    catalog.apply(catalog.commit_drop(1))
    change = catalog.commit_publish(outcome)
    assert change == Change(obsolete=(file.path,))
    catalog.apply(change)
    remove_files(catalog.take_removable(), RealDisk())
    assert standing(catalog) == set()
    assert everything(again(catalog), 1) == Files((), ())


def test_a_file_stays_while_somebody_may_read_it(catalog: Catalog) -> None:
    hot = seal(catalog, Stretch(1, 0))
    before, same = catalog.hold(), catalog.hold()
    publish(catalog, 1)
    after = catalog.hold()
    assert catalog.take_removable() == []
    catalog.release(before)
    assert catalog.take_removable() == []
    catalog.release(same)
    assert catalog.take_removable() == [hot.path]
    assert catalog.take_removable() == []
    catalog.release(after)
    with pytest.raises(KeyError):
        catalog.release(after)


def test_a_file_that_is_gone_already_is_removed(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    remove_files([tmp_path / "gone", there], RealDisk())
    assert not there.exists()


# ---- names


def test_days_are_utc_and_count_from_the_epoch() -> None:
    assert [day_of(at_us) for at_us in (-1, 0, DAY_US - 1, DAY_US)] == [-1, 0, 0, 1]
    assert [day_name(day) for day in (-1, 0, 20_575)] == ["1969-12-31", "1970-01-01", "2026-05-02"]
    assert (day_name(day_of(TIME_MIN_US)), day_name(day_of(TIME_MAX_US) - 1)) == ("0001-01-01", "9999-12-31")


def test_a_published_file_is_named_after_day_and_smallest_seq() -> None:
    path = published_path(Path("/data"), "user=U000001/channel=1", 20_575, 42)
    assert str(path) == "/data/user=U000001/channel=1/day=2026-05-02/part-0000000000000000042.parquet"
