"""The catalog over restarts and failures: what a start finds, what it removes, what it leaves alone."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.catalog import Catalog, CatalogFormatError
from storage.catalog_change import Cursor
from storage.catalog_view import ChannelStatistics
from storage.cover import (
    DAY_US,
    Files,
)
from storage.disk import DiskFullError
from storage.kinds import Kind
from storage.schema import Column, Schema, Tag
from tests.storage.catalog_files import (
    Stretch,
    again,
    begin,
    everything,
    hot_file,
    make,
    make_temporary,
    publish,
    published_file,
    seal,
    standing,
)
from tests.storage.full_disk import full_disk


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog.open(tmp_path)
    yield catalog
    catalog.close()


def test_a_catalog_of_another_version_is_refused(tmp_path: Path) -> None:
    Catalog.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "catalog.sqlite3") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(CatalogFormatError, match="99"):
        Catalog.open(tmp_path)


def test_a_catalog_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite3"
    path.write_bytes(b"not a database, though it is long enough to be looked at" * 100)
    with pytest.raises(CatalogFormatError, match=r"catalog\.sqlite3: .*not a database"):
        Catalog.open(tmp_path)


def test_files_of_a_dropped_channel_go_at_the_next_start_if_not_before(catalog: Catalog) -> None:
    seal(catalog, Stretch(1, 0))
    file = publish(catalog, 1)
    catalog.commit_drop(1)
    assert file.path.exists()
    assert standing(again(catalog)) == set()


def test_an_interrupted_publication_leaves_the_rows_where_they_were(catalog: Catalog) -> None:
    hot = seal(catalog, Stretch(1, 0), Stretch(2, 0))
    _, file = begin(catalog, 1)
    other = published_file(catalog, catalog.unpublished_segments(2, 0))
    catalog.announce([other.path])
    make_temporary(other.path)
    reopened = again(catalog)
    assert standing(reopened) == {hot.path}
    assert everything(reopened, 1) == Files((), hot.segments[:1])
    assert publish(reopened, 1) == file
    reopened.close()


def test_what_is_not_ours_stays_in_the_published_tree_and_goes_from_the_hot_one(catalog: Catalog) -> None:
    hot = seal(catalog, Stretch(1, 0), Stretch(2, 0))
    file = publish(catalog, 1)
    copy = file.path.with_name("copy.parquet")
    make(copy)
    notes = catalog.root / "notes.tmp"
    notes.write_text("mine")
    for name in ("0000000000000000002-0000000000000000009.parquet", "half.tmp", "x"):
        (catalog.hot / name).write_bytes(b"")
    assert standing(again(catalog)) == {hot.path, file.path, copy, notes}


def test_columns_and_tags_of_sealed_rows_come_back_in_order(catalog: Catalog) -> None:
    columns = [Column(0, 1, 0, None, Kind.NUMBER), Column(1, 1, 1, "", Kind.TEXT), Column(2, 2, 0, "süß", 4)]
    tags = [Tag(1, 1, "north"), Tag(2, 2, "😀")]
    seal(catalog, Stretch(1, 0), columns=tuple(columns[:2]), tags=tuple(tags[:1]))
    seal(catalog, Stretch(2, 0), columns=tuple(columns[2:]), tags=tuple(tags[1:]))
    for _ in range(2):
        assert (catalog.columns(), catalog.tags()) == (columns, tags)
        assert (catalog.column_count, catalog.tag_count) == (3, 2)
        schema = Schema()
        schema.load(catalog.columns(), catalog.tags())
        assert schema.columns_of(1) == columns[:2]
        catalog = again(catalog)
    catalog.close()


def test_the_newest_time_of_tags_and_channels_stands_through_publication_and_restart(
    catalog: Catalog,
) -> None:
    seal(catalog, Stretch(1, 1, 5, 6, rows=3), tags=(Tag(1, 1, "a"), Tag(2, 1, "b")), tag_last_us={1: 50})
    seal(catalog, Stretch(1, 0, 7, 8, rows=2), tag_last_us={1: 40, 2: 60})
    publish(catalog, 1, day=1)
    for _ in range(2):
        assert [catalog.tag_last_us(tag) for tag in (1, 2, 3)] == [50, 60, None]
        assert catalog.channel_statistics(1) == ChannelStatistics(5, 500, DAY_US + 6)
        catalog = again(catalog)
    catalog.close()


@pytest.mark.parametrize("count", [1, 20_000])  # too many for SQLite's cache: fails before the commit
def test_a_seal_that_the_disk_refuses_changes_nothing_and_can_be_made_again(
    catalog: Catalog, count: int
) -> None:
    seal(catalog, Stretch(1, 0))
    columns = [Column(i, 1, i, "x" * 200, Kind.NUMBER) for i in range(count)]
    file = hot_file(catalog, [Stretch(1, 0)], 1)
    for _ in range(2):
        with (
            full_disk(catalog.hot.parent / "catalog.sqlite3-wal"),
            pytest.raises(DiskFullError),
        ):
            catalog.commit_seal(Cursor(2, 2), file, columns, [])
        assert (catalog.column_count, len(everything(catalog, 1).hot)) == (0, 1)
    catalog.apply(catalog.commit_seal(Cursor(2, 2), file, columns, []))
    assert (catalog.column_count, len(everything(catalog, 1).hot)) == (count, 2)
    reopened = again(catalog)
    assert (reopened.cursor, reopened.column_count) == (Cursor(2, 2), count)
    reopened.close()
