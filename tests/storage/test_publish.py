"""Published files: they hold what was sent, under names that stay, and appear only when they are complete."""

import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import storage.publish
from storage.cover import DAY_US, PublishedFile
from storage.disk import RealDisk, RealFile
from tests.storage.published_files import NAMES, House, columns_of, description, read, types_of
from tests.storage.rows import NOON_US, PlainNames, Sent, message, messages

BATCHES = st.lists(messages(channels=(1, 2), days=(0, 1)).filter(len), min_size=1, max_size=4)
DAY = NOON_US // DAY_US


@settings(max_examples=20)
@given(BATCHES, st.integers(1, 40), st.sampled_from([1, 3, 65_536]), st.sampled_from([16, 1 << 26]))
def test_what_is_published_is_what_was_sent(
    batches: list[list[Sent]], part_rows_max: int, group_rows: int, group_text_bytes: int
) -> None:
    with (
        TemporaryDirectory() as directory,
        House(Path(directory), part_rows_max=part_rows_max) as house,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(storage.publish, "batch_rows_max", lambda columns: group_rows)
        patch.setattr(storage.publish, "GROUP_TEXT_BYTES", group_text_bytes)
        files: list[PublishedFile] = []
        for i, batch in enumerate(batches):
            house.seal(batch)
            if i % 2:
                files += house.publish()
        files += house.publish()
        rows = [row for file in files for row in read(file)]
        assert sorted(rows, key=lambda row: row.seq) == house.filled.rows
        for file in files:
            found = read(file)
            times = [row.at_us for row in found]
            assert file.bytes == file.path.stat().st_size
            assert file.rows == len(found)
            assert (file.first_us, file.last_us) == (min(times), max(times))
            assert (file.first_seq, file.next_seq) == (found[0].seq, found[-1].seq + 1)
            assert {at_us // DAY_US for at_us in times} == {file.day}
        root, hot = house.catalog.root, house.catalog.hot
        assert {path for path in root.rglob("*") if path.is_file()} == {file.path for file in files}
        assert list(hot.iterdir()) == []


def test_the_path_says_whose_channel_which_day_and_the_first_row(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.seal([message(1, channel=2), message(2), message(3, at_us=NOON_US + DAY_US)])
        names = [str(file.path.relative_to(tmp_path / "data")) for file in house.publish()]
    assert names == [
        "user=U000002/channel=1001/day=2024-10-04/part-0000000000000000001.parquet",
        "user=U000002/channel=1001/day=2024-10-05/part-0000000000000000002.parquet",
        "user=U000003/channel=1002/day=2024-10-04/part-0000000000000000000.parquet",
    ]


def test_parts_are_as_large_as_they_may_be_and_a_hot_file_is_never_split(tmp_path: Path) -> None:
    with House(tmp_path, part_rows_max=25) as house:
        for size in (10, 10, 10, 30, 1, 1):
            house.seal([message(i) for i in range(size)])
        files = house.publish()
    assert [file.rows for file in files] == [20, 10, 30, 2]
    assert [file.first_seq for file in files] == [0, 20, 30, 60]


def test_what_comes_later_for_the_day_becomes_a_further_part_and_nothing_else_changes(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.seal([message({"a": 1}), message({"a": 2})])
        first = house.publish()[0].path
        before = first.read_bytes(), first.stat().st_mtime_ns
        house.seal([message({"a": 3, "b": 4}, at_us=NOON_US - 5)])
        second = house.publish()[0]
        assert (first.read_bytes(), first.stat().st_mtime_ns) == before
        assert second.path.parent == first.parent
        assert read(second) == house.filled.rows[2:]
        assert house.publish() == []


def test_a_day_is_due_when_it_has_closed_or_a_file_is_full(tmp_path: Path) -> None:
    with House(tmp_path, part_rows_max=3) as house:
        house.seal([message(1), message(2), message(3, channel=2)])
        midnight, grace = (DAY + 1) * DAY_US, 900
        assert house.publisher.due(midnight + grace - 1, grace) == []
        assert house.publisher.due(midnight + grace, grace) == [(1, DAY), (2, DAY)]
        house.seal([message(4)])
        assert house.publisher.due(NOON_US, grace) == [(1, DAY)]
        assert house.publisher.waiting([2, 5]) == [(2, DAY)]


def test_names_of_columns_never_change_and_later_ones_avoid_them(tmp_path: Path) -> None:
    payloads = [{"temp": 1}, {"Temp": 2}, {"temp": "x"}, {"seq": 1, "temp__text": 1}, {"temp": 2**60}, 5, "x"]
    with House(tmp_path) as house:
        files = []
        for payload in payloads:
            house.seal([message(payload)])
            files += house.publish()
        paths = [file.path for file in files]
        described = [description(path)["columns"] for path in paths]
        for path, columns in zip(paths, described, strict=True):
            assert columns == described[-1][: len(columns)]
            assert pq.read_schema(path).names == [
                "seq",
                "at",
                "device",
                "tag",
                *(c["column"] for c in columns),
            ]
        assert [column["column"] for column in described[-1]] == [
            "temp", "Temp_2", "temp__text", "seq_2", "temp__text_2", "temp__integer", "value", "value__text",
        ]  # fmt: skip
        assert [file.columns for file in files] == [1, 2, 3, 5, 6, 7, 8]


def test_a_column_that_no_sealed_row_has_is_in_no_file_yet(tmp_path: Path) -> None:
    """A crash may take it back, and give its name to another one."""
    with House(tmp_path) as house:
        house.seal([message({"a": 1})])
        house.filled.append([message({"b": 1})])
        (file,) = house.publish()
        assert pq.read_schema(file.path).names == ["seq", "at", "device", "tag", "a"]
        assert file.columns == 1


@settings(max_examples=10)
@given(st.lists(messages().filter(len), min_size=2, max_size=5))
def test_a_column_has_one_physical_type_in_every_file(batches: list[list[Sent]]) -> None:
    with TemporaryDirectory() as directory, House(Path(directory)) as house:
        paths = []
        for batch in batches:
            house.seal(batch)
            paths += [file.path for file in house.publish()]
        columns_of(paths)
        found: dict[str, str] = {}
        for path in paths:
            for name, kind in types_of(path).items():
                assert found.setdefault(name, kind) == kind
        folded = [name.casefold() for name in found]
        assert len(set(folded)) == len(folded)


def test_a_file_in_the_making_is_announced_and_has_no_name_that_a_glob_finds(tmp_path: Path) -> None:
    seen: list[list[str]] = []
    announced: list[set[str]] = []

    def look() -> None:
        seen.append(sorted(path.suffix for path in (tmp_path / "data").rglob("*") if path.is_file()))
        with sqlite3.connect(tmp_path / "catalog.sqlite3") as database:
            announced.append({row[0] for row in database.execute("SELECT path FROM publishing")})
        database.close()

    class Watched(RealDisk):
        def open(self, path: Path) -> RealFile:
            look()
            return super().open(path)

        def rename(self, old: Path, new: Path) -> None:
            look()
            super().rename(old, new)
            assert read_whole(new) == 2

    class WatchedNames(PlainNames):
        def device_name(self, device: int) -> str:
            look()
            return NAMES.device_name(device)

    with House(tmp_path, part_rows_max=2) as house:
        for _ in range(2):
            house.seal([message(1), message(2)])
        house.publisher = storage.publish.Publisher(
            house.catalog, house.filled.schema, WatchedNames(), Watched(), part_rows_max=2
        )
        files = house.publish()
        assert seen == [[".tmp"]] * 3 + [[".parquet", ".tmp"]] * 3
        names = {str(file.path.relative_to(house.catalog.root)) for file in files}
        assert announced == [names] * 6
        look()
        assert (seen[-1], announced[-1]) == ([".parquet"] * 2, set())


def read_whole(path: Path) -> int:
    rows: int = pq.ParquetFile(path, page_checksum_verification=True).read().num_rows
    return rows
