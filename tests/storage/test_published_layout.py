"""The layout inside a published file: order, row groups, encodings, metadata, size."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import storage.publish
from storage.block import Block
from storage.cells import slice_rows
from storage.cover import DAY_US
from storage.kinds import Kind
from storage.schema import Column
from tests.storage.published_files import NAMES, House, description, read, types_of
from tests.storage.rows import NOON_US, Row, Sent, message, messages

DAY_ROWS = 86_400
BYTES_PER_ROW_MAX = 3.2


def groups(path: Path) -> list[list[tuple[str, int, int]]]:
    """(device, at, seq) of each row, row group by row group."""
    file = pq.ParquetFile(path)
    found = []
    for i in range(file.num_row_groups):
        table = file.read_row_group(i, columns=["device", "at", "seq"])
        at = table.column("at").cast("int64")
        keys = zip(
            table.column("device").to_pylist(), at.to_pylist(), table.column("seq").to_pylist(), strict=True
        )
        found.append(list(keys))
    return found


def by_device(rows: Iterable[Row]) -> list[tuple[str, int, int]]:
    return [
        (NAMES.device_name(row.device), row.at_us, row.seq)
        for row in sorted(rows, key=lambda row: (row.device, row.at_us, row.seq))
    ]


@settings(max_examples=15)
@given(st.lists(messages().filter(len), min_size=1, max_size=3), st.integers(1, 9))
def test_a_row_group_is_ordered_by_device_and_time_and_as_large_as_it_may_be(
    batches: list[list[Sent]], group_rows: int
) -> None:
    with (
        TemporaryDirectory() as directory,
        House(Path(directory)) as house,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(storage.publish, "batch_rows_max", lambda columns: group_rows)
        for batch in batches:
            house.seal(batch)
        for file in house.publish():
            rows = {row.seq: row for row in read(file)}
            found = groups(file.path)
            assert [len(group) for group in found[:-1]] == [group_rows] * (len(found) - 1)
            assert 0 < len(found[-1]) <= group_rows
            for group in found:
                assert group == by_device(rows[seq] for _, _, seq in group)


def test_row_groups_stand_newest_first_also_across_hot_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.publish, "batch_rows_max", lambda columns: 7)
    with House(tmp_path) as house:
        for first in (0, 10, 20):
            house.seal([message(i, at_us=NOON_US + i, device=i % 3 + 1) for i in range(first, first + 10)])
        found = groups(house.publish()[0].path)
    for newer, older in pairwise(found):
        assert min(at_us for _, at_us, _ in newer) > max(at_us for _, at_us, _ in older)
    assert sum(map(len, found)) == 30


def test_statistics_are_right_when_the_wall_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.publish, "batch_rows_max", lambda columns: 4)
    with House(tmp_path) as house:
        for times in ((0, 100, 3), (50, 2, 200), (60, 70, 1)):
            house.seal([message(at_us, at_us=NOON_US + at_us) for at_us in times])
        file = house.publish()[0]
        assert read(file) == house.filled.rows
    metadata = pq.read_metadata(file.path)
    for i, group in enumerate(groups(file.path)):
        statistics = metadata.row_group(i).column(1).statistics
        found = [at_us for _, at_us, _ in group]
        assert (statistics.min_raw, statistics.max_raw) == (min(found), max(found))


def test_a_row_group_ends_when_it_has_enough_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.publish, "GROUP_TEXT_BYTES", 2_500)
    with House(tmp_path) as house:
        for i in range(5):
            # The other channel's text shares a row group of the hot file and counts for nothing.
            house.seal([message("x" * 1_000, at_us=NOON_US + i), message("y" * 9_000, channel=2)])
        files = house.publish()
        assert [len(group) for group in groups(files[0].path)] == [2, 2, 1]
        assert read(files[0]) == [row for row in house.filled.rows if row.channel == 1]


def test_the_metadata_say_whose_file_it_is_and_what_each_column_holds(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.seal([message({"süß": 1, "a b": None, "big": 2**60}, tag="t"), message("text"), message(True)])
        path = house.publish()[0].path
    assert description(path) == {
        "format": 1,
        "user": "U000002",
        "channel": 1001,
        "day": "2024-10-04",
        "columns": [
            {"column": "süß", "stream": "süß", "kind": "number"},
            {"column": "a_b__json", "stream": "a b", "kind": "json"},
            {"column": "big", "stream": "big", "kind": "integer"},
            {"column": "value", "stream": None, "kind": "text"},
            {"column": "value__boolean", "stream": None, "kind": "boolean"},
        ],
    }
    assert types_of(path) == {
        "seq": "INT64 None",
        "at": "INT64 Timestamp(isAdjustedToUTC=true, timeUnit=microseconds, is_from_converted_type=false, "
        "force_set_converted_type=false)",
        "device": "BYTE_ARRAY String",
        "tag": "BYTE_ARRAY String",
        "süß": "DOUBLE None",
        "a_b__json": "BYTE_ARRAY String",
        "big": "INT64 None",
        "value": "BYTE_ARRAY String",
        "value__boolean": "BOOLEAN None",
    }


def test_numbers_are_delta_encoded_the_rest_by_dictionary_and_all_is_zstd(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        payload = {"number": 1.5, "integer": 2**60, "text": "x", "json": [1]}
        house.seal([message(payload, at_us=NOON_US + i, tag="t") for i in range(100)])
        path = house.publish()[0].path
    group = pq.read_metadata(path).row_group(0)
    for i in range(group.num_columns):
        column = group.column(i)
        assert column.compression == "ZSTD"
        is_delta = column.path_in_schema in ("seq", "at")
        assert ("DELTA_BINARY_PACKED" in column.encodings) is is_delta
        assert ("RLE_DICTIONARY" in column.encodings) is not is_delta
        assert column.has_dictionary_page is not is_delta


def test_a_days_readings_of_four_sensors_take_few_bytes(tmp_path: Path) -> None:
    """1 Hz with a jitter of milliseconds; decimals that wander, as sensors send them."""
    chance = np.random.default_rng(1)
    day = NOON_US // DAY_US
    at_us = day * DAY_US + np.arange(DAY_ROWS) * 1_000_000 + chance.integers(0, 5, DAY_ROWS) * 1_000
    steps = chance.choice([-1, 0, 0, 0, 1], (DAY_ROWS, 4))
    values = np.round(20 + np.cumsum(steps, axis=0) / 10, 1)
    rows, cells = DAY_ROWS, 4 * DAY_ROWS
    block = Block(
        seq=np.arange(rows),
        at_us=at_us,
        channel=np.full(rows, 1, np.uint32),
        device=np.full(rows, 7, np.uint32),
        tag=np.zeros(rows, np.uint32),
        cell_start=np.arange(0, cells + 1, 4),
        column=np.tile(np.arange(4, dtype=np.uint32), rows),
        value=values.reshape(-1).view(np.uint64),
        text=b"",
    )
    with House(tmp_path) as house:
        names = ("temperature", "humidity", "pressure", "light")
        house.filled.schema.load([Column(i, 1, i, name, Kind.NUMBER) for i, name in enumerate(names)], [])
        pieces = (slice_rows(block, first, first + 8_640) for first in range(0, rows, 8_640))
        house.seal_blocks(pieces, rows)
        file = house.publish()[0]
    assert file.rows == rows
    assert file.bytes / rows <= BYTES_PER_ROW_MAX
    assert [len(group) for group in groups(file.path)] == [65_536, DAY_ROWS - 65_536]
    table = pq.ParquetFile(file.path).read().sort_by("seq")
    assert np.array_equal(np.column_stack([table.column(name) for name in names]), values)
    assert np.array_equal(table.column("at").cast("int64"), at_us)
