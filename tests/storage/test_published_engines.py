"""Published files in the engines that people use: a channel's whole directory, the same values, nothing of ours."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.naming import SUFFIXES
from tests.storage.published_files import House, description, records_of, told
from tests.storage.rows import NOON_US, Row, Sent, message, messages

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "published.md"
CHANNEL = "user=U000002/channel=1001"  # PlainNames' channel 1
DAY_US = 86_400_000_000

Records = list[dict[str, Any]]


def with_pyarrow(directory: Path) -> Records:
    """File by file, without any schema but the file's own."""
    tables = [pq.ParquetFile(path).read() for path in sorted(directory.rglob("*.parquet"))]
    return records_of(pa.concat_tables(tables, promote_options="default"))


def with_dataset(directory: Path) -> Records:
    files = [pa.dataset.dataset(path) for path in sorted(directory.rglob("*.parquet"))]
    return records_of(pa.dataset.dataset(files).to_table())


def with_polars(directory: Path) -> Records:
    schema: dict[str, Any] = {}
    for path in directory.rglob("*.parquet"):
        schema |= polars.read_parquet_schema(path)
    found = polars.scan_parquet(
        f"{directory}/**/*.parquet", schema=schema, missing_columns="insert", hive_partitioning=False
    ).collect()
    return found.with_columns(polars.col("at").dt.epoch("us")).to_dicts()


def with_pandas(directory: Path) -> Records:
    files = sorted(directory.rglob("*.parquet"))
    frame = pandas.concat(
        [pandas.read_parquet(path, partitioning=None, dtype_backend="pyarrow") for path in files]
    )
    return from_pandas(frame)


def with_duckdb(directory: Path) -> Records:
    with duckdb.connect() as engine:
        engine.execute("SET threads = 1")
        return from_duckdb(
            engine.sql(
                "SELECT * FROM read_parquet($1, union_by_name = true, hive_partitioning = false)",
                params=[f"{directory}/**/*.parquet"],
            )
        )


def from_pandas(frame: pandas.DataFrame) -> Records:
    return records_of(pa.Table.from_pandas(frame, preserve_index=False))


def from_duckdb(found: duckdb.DuckDBPyRelation) -> Records:
    told = found.select('* REPLACE (epoch_us("at") AS "at")')
    return [dict(zip(told.columns, row, strict=True)) for row in told.fetchall()]


READERS: dict[str, Callable[[Path], Records]] = {
    "pyarrow": with_pyarrow,
    "pyarrow dataset": with_dataset,
    "polars": with_polars,
    "pandas": with_pandas,
    "duckdb": with_duckdb,
}


def check(house: House, records: Records) -> None:
    paths = sorted((house.catalog.root / CHANNEL).rglob("*.parquet"))
    assert told(records, paths) == of_channel_1(house)


def of_channel_1(house: House) -> list[Row]:
    return [row for row in house.filled.rows if row.channel == 1]


@settings(max_examples=20)
@given(st.lists(messages(days=(0, 1)).filter(len), min_size=1, max_size=3))
def test_every_engine_reads_what_was_sent(batches: list[list[Sent]]) -> None:
    with TemporaryDirectory() as directory, House(Path(directory), part_rows_max=5) as house:
        for batch in batches:
            house.seal(batch)
            house.publish()
        for read in READERS.values():
            check(house, read(house.catalog.root / CHANNEL))


# Each is one seal and one publication; columns come later, on other days, and with names that engines confuse.
AWKWARD = [
    [message({"temp": 1.5, "day": "mine"}), message({}), message({"temp": 2}, at_us=NOON_US + DAY_US)],
    [message({"temp": "x", "Temp": True, "user": 1, "channel": 2}), message({"day": 7})],
    [message({"temp": 2**53 + 1, "at": 0, "SEQ": [1, {"a": None}], "Device": None})],
    [message({"temp": -(2**63), "": 1, "a b": 2, "a,b": 3}), message(2**63 - 1), message(2**63)],
    [message("literal", tag="süd"), message(None), message(False), message(0.5, at_us=NOON_US - 7)],
    [
        message({"temp": 2**53}, channel=2),
        message({"value": 1, "tag": "x", "漢": "😀\x00"}, device=2**32 - 1),
    ],
]


@pytest.fixture
def awkward(tmp_path: Path) -> House:
    house = House(tmp_path)
    for batch in AWKWARD:
        house.seal(batch)
        house.publish()
    house.catalog.close()
    return house


@pytest.mark.parametrize("reader", READERS)
def test_awkward_names_and_values_come_back_from(reader: str, awkward: House) -> None:
    directory = awkward.catalog.root / CHANNEL
    assert len(list(directory.rglob("*.parquet"))) == len(AWKWARD) + 1
    check(awkward, READERS[reader](directory))


def test_no_column_is_replaced_by_a_directory_even_where_an_engine_reads_those(awkward: House) -> None:
    """Hive partitioning left on: three columns more, and ours are as they were."""
    with duckdb.connect() as engine:
        found = engine.sql(
            "SELECT * FROM read_parquet($1, union_by_name = true)",
            params=[f"{awkward.catalog.root / CHANNEL}/**/*.parquet"],
        )
        records = from_duckdb(found)
    assert {record.pop("user") for record in records} == {"U000002"}
    assert {record.pop("channel") for record in records} == {1001}
    assert len({record.pop("day") for record in records}) == 2
    check(awkward, records)


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_pages_python_examples_give_everything(awkward: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(awkward.catalog.root.parent)
    engines = set()
    for example in examples("python"):
        names: dict[str, Any] = {}
        exec(example.replace("user=U000001/channel=1", CHANNEL), names)
        frame = names["frame"]
        engines.add(type(frame).__module__.partition(".")[0])
        if isinstance(frame, pandas.DataFrame):
            records = from_pandas(frame)
        else:
            records = frame.with_columns(polars.col("at").dt.epoch("us")).to_dicts()
        assert [record["seq"] for record in records] == [row.seq for row in of_channel_1(awkward)]
        check(awkward, records)
    assert engines == {"pandas", "polars"}


def test_the_pages_sql_gives_everything(awkward: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(awkward.catalog.root.parent)
    (example,) = examples("sql")
    with duckdb.connect() as engine:
        records = from_duckdb(engine.sql(example.replace("user=U000001/channel=1", CHANNEL)))
    assert [record["seq"] for record in records] == [row.seq for row in of_channel_1(awkward)]
    check(awkward, records)


def test_the_page_names_every_kind_with_its_suffix() -> None:
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| .* \| `(__\w+)` \|$", PAGE.read_text(), re.MULTILINE)
    assert dict(rows) == {kind.name.lower(): suffix for kind, suffix in SUFFIXES.items()}


def test_the_pages_metadata_have_the_keys_that_files_have(awkward: House) -> None:
    (text,) = examples("json")
    example = json.loads(text)
    for path in awkward.catalog.root.rglob("*.parquet"):
        found = description(path)
        assert list(found) == list(example)
        assert {tuple(column) for column in found["columns"]} <= {tuple(example["columns"][0])}
