"""Hot files: all channels in one, read back by us and by anybody else."""

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.cover import HotSegment, day_of
from storage.hot import CELL_BYTES, ROW_BYTES, HotReader, hot_path
from storage.kinds import Kind
from tests.storage.hot_files import NAMES, read_back, write
from tests.storage.rows import Filled, Row, Sent, message, messages

MANY = messages(channels=(1, 2, 4, 9), days=(-20_001, -1, 0, 1), max_size=40).filter(bool)


def cells_in_file(row: Row) -> int:
    return max(len(row.cells), 1)


def ring_bytes(row: Row) -> int:
    texts = [str(held) for (_, kind), held in row.cells.items() if kind in (Kind.TEXT, Kind.JSON)]
    return ROW_BYTES + CELL_BYTES * len(row.cells) + sum(len(text.encode()) for text in texts)


def expected_segments(path: Path, rows: Sequence[Row]) -> Iterator[HotSegment]:
    first_cell = 0
    for (channel, day), group in groupby(rows, lambda row: (row.channel, day_of(row.at_us))):
        mine = list(group)
        cells = sum(map(cells_in_file, mine))
        yield HotSegment(
            path=path,
            channel=channel,
            day=day,
            first_cell=first_cell,
            cells=cells,
            rows=len(mine),
            first_us=mine[0].at_us,
            last_us=mine[-1].at_us,
            first_seq=min(row.seq for row in mine),
            next_seq=max(row.seq for row in mine) + 1,
            bytes=sum(map(ring_bytes, mine)),
        )
        first_cell += cells


def expected_cells(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """What anybody sees who reads the file without us, ids replaced by what the metadata says of them."""
    for row in rows:
        owner = NAMES.channel_by_id(row.channel)
        datapoint = {
            "channel": {"user": owner.user_id, "channel": owner.number},
            "seq": row.seq,
            "at": row.at_us,
            "device": NAMES.device_name(row.device),
            "tag": row.tag,
        }
        nothing: dict[str, Any] = dict.fromkeys(("column", "number", "integer", "text"))
        if not row.cells:
            yield datapoint | nothing
        for (stream, kind), held in row.cells.items():
            values: dict[Kind, dict[str, Any]] = {
                Kind.NUMBER: {"number": held},
                Kind.INTEGER: {"integer": held},
                Kind.BOOLEAN: {"integer": int(held is True)},
            }
            value = values.get(kind, {"text": held})
            yield datapoint | nothing | {"column": {"stream": stream, "kind": kind.name.lower()}} | value


def told(cells: list[dict[str, Any]], metadata: dict[bytes, bytes]) -> list[dict[str, Any]]:
    """The file's rows, ids replaced by what its metadata says."""
    meanings = json.loads(metadata[b"thingscale.hot"])
    assert meanings["format"] == 1
    return [
        {
            "channel": meanings["channels"][str(cell["channel_id"])],
            "seq": cell["seq"],
            "at": cell["at"],
            "device": meanings["devices"][str(cell["device_id"])],
            "tag": meanings["tags"][str(cell["tag_id"])] if cell["tag_id"] else None,
            "column": None if cell["column_id"] is None else meanings["columns"][str(cell["column_id"])],
            **{name: cell[name] for name in ("number", "integer", "text")},
        }
        for cell in cells
    ]


@settings(max_examples=60)
@given(MANY, st.integers(1, 40), st.lists(st.integers(1, 40), max_size=3))
def test_what_is_written_is_read_back(sent: list[Sent], group_cells: int, cuts: list[int]) -> None:
    filled = Filled(sent)
    with TemporaryDirectory() as directory:
        file = write(filled, Path(directory), group_cells=group_cells, cuts=cuts)
        rows = filled.in_order()
        assert file.segments == tuple(expected_segments(file.path, rows))
        assert (file.first_seq, file.next_seq) == (0, len(rows))
        assert file.bytes == file.path.stat().st_size
        tags = {
            row.tag and (row.channel, row.tag): row.at_us for row in sorted(rows, key=lambda row: row.at_us)
        }
        found = {(tag.channel, tag.name): tag.id for tag in filled.schema.tags_from(1)}
        assert file.tag_last_us == {found[tag]: at_us for tag, at_us in tags.items() if tag}
        assert read_back(filled, file) == rows
        assert [path.name for path in Path(directory).iterdir()] == [file.path.name]


@settings(max_examples=30)
@given(MANY, st.integers(1, 40))
def test_row_groups_hold_whole_rows_and_about_so_many_cells(sent: list[Sent], group_cells: int) -> None:
    filled = Filled(sent)
    with TemporaryDirectory() as directory:
        file = write(filled, Path(directory), group_cells=group_cells)
        metadata = pq.read_metadata(file.path)
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    starts = {0, *accumulate(map(cells_in_file, filled.in_order()))}
    assert {0, *accumulate(sizes)} <= starts
    largest = max(map(cells_in_file, filled.rows))
    assert all(size <= 3 * group_cells + largest for size in sizes)
    assert len(sizes) <= 2 * sum(sizes) // group_cells + 1


@settings(max_examples=40)
@given(MANY)
def test_anybody_can_read_it(sent: list[Sent]) -> None:
    filled = Filled(sent)
    expected = list(expected_cells(filled.in_order()))
    with TemporaryDirectory() as directory:
        path = write(filled, Path(directory)).path
        table = pq.read_table(path, page_checksum_verification=True)
        frame = polars.read_parquet(path)
        with duckdb.connect() as engine:
            engine.execute("SET threads = 1")
            found = engine.sql(
                'SELECT * REPLACE (epoch_us("at") AS "at") FROM read_parquet($1)', params=[str(path)]
            )
            from_duckdb = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    metadata = table.schema.metadata
    assert told(from_duckdb, metadata) == expected
    assert told(frame.with_columns(polars.col("at").dt.epoch("us")).to_dicts(), metadata) == expected
    table = table.set_column(2, "at", table.column("at").cast("int64"))
    assert told(table.to_pylist(), metadata) == expected


def test_ids_stand_in_the_file() -> None:
    filled = Filled([message({"a": 1, "b": "x"}, channel=3, tag="t"), message({}, channel=3)])
    with TemporaryDirectory() as directory:
        table = pq.read_table(write(filled, Path(directory)).path)
    assert table.column("tag_id").to_pylist() == [1, 1, 0]
    assert table.column("column_id").to_pylist() == [0, 1, None]


def test_a_reader_keeps_the_group_that_small_neighbours_share(tmp_path: Path) -> None:
    filled = Filled([message(i, channel=i % 4) for i in range(40)])
    file = write(filled, tmp_path, group_cells=1000)
    assert pq.read_metadata(file.path).num_row_groups == 1
    with HotReader(file.path) as reader:
        for _ in range(2):
            rows = [
                row
                for segment in file.segments
                for part in reader.blocks(segment)
                for row in filled.read(part)
            ]
            assert rows == filled.in_order()


def test_the_name_says_which_rows_and_sorts_like_them() -> None:
    assert hot_path(Path("/d"), 9, 10**18) < hot_path(Path("/d"), 10, 11)
    assert hot_path(Path("/d"), 0, 7, 255).name == "0000000000000000000-0000000000000000007-000000ff.parquet"
