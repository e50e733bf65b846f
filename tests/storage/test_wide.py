"""Wide record batches against rows in plain Python."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.block import Block
from storage.cells import slice_rows
from storage.wide import (
    BATCH_ROWS_MAX,
    BATCH_ROWS_MIN,
    BATCH_VALUES_MAX,
    PhysicalColumn,
    arrow_schema,
    batch_rows_max,
    distinct,
    physical_columns,
    to_record_batch,
)
from tests.storage.rows import Filled, PlainNames, Row, Sent, message, messages

NAMES = PlainNames()


class TagNames:
    """Asked for real tags only, once each."""

    def __init__(self, filled: Filled) -> None:
        self.filled = filled
        self.asked: list[int] = []

    def __call__(self, tag: int) -> str:
        assert tag != 0
        assert tag not in self.asked
        self.asked.append(tag)
        return self.filled.schema.tag(tag).name


def to_batch(
    filled: Filled, block: Block | None = None, columns: Iterable[PhysicalColumn] | None = None
) -> pa.RecordBatch:
    wanted = physical_columns(filled.schema.columns_of(1)) if columns is None else tuple(columns)
    block = filled.block() if block is None else block
    batch = to_record_batch(block, wanted, NAMES.device_name, TagNames(filled))
    batch.validate(full=True)
    assert batch.schema == arrow_schema(wanted)
    return batch


def expected(rows: Iterable[Row], columns: Iterable[PhysicalColumn]) -> list[dict[str, object]]:
    """What every engine must see."""
    return [
        {
            "seq": row.seq,
            "at": row.at_us,
            "device": NAMES.device_name(row.device),
            "tag": row.tag,
            **{column.physical: row.cells.get((column.name, column.kind)) for column in columns},
        }
        for row in rows
    ]


def seen(batch: pa.RecordBatch) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = batch.set_column(1, "at", batch.column("at").cast(pa.int64())).to_pylist()
    return rows


def column_of(payloads: Iterable[object], name: str) -> list[object]:
    values: list[object] = to_batch(Filled([message(each) for each in payloads])).column(name).to_pylist()
    return values


@given(messages())
def test_a_batch_says_what_was_sent(sent: list[Sent]) -> None:
    filled = Filled(sent)
    columns = physical_columns(filled.schema.columns_of(1))
    assert seen(to_batch(filled)) == expected(filled.rows, columns)


@given(messages(), st.data())
def test_a_batch_of_a_slice_in_any_order_and_of_some_columns(sent: list[Sent], data: st.DataObject) -> None:
    filled = Filled(sent)
    rows = data.draw(st.permutations(filled.rows))
    first = data.draw(st.integers(0, len(rows)))
    last = data.draw(st.integers(first, len(rows)))
    columns = physical_columns(filled.schema.columns_of(1))
    some = data.draw(st.lists(st.sampled_from(columns), unique=True)) if columns else []
    block = slice_rows(filled.block(rows), first, last)
    assert seen(to_batch(filled, block, some)) == expected(rows[first:last], some)


def test_numbers_come_back_bit_by_bit() -> None:
    numbers = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 2.0**53, -1.5]
    bits = [np.float64(number).view(np.uint64) for number in column_of(numbers, "value")]  # type: ignore[arg-type]
    assert bits == [np.float64(number).view(np.uint64) for number in numbers]


def test_integers_beyond_2_to_53_have_a_column_of_their_own_and_stay_exact() -> None:
    payloads = [{"a": 2**53}, {"a": 2**53 + 1}, {"a": -(2**63)}, {"a": 2**63 - 1}]
    assert column_of(payloads, "a") == [2.0**53, None, None, None]
    assert column_of(payloads, "a__integer") == [None, 2**53 + 1, -(2**63), 2**63 - 1]


def test_integers_beyond_int64_stay_exact_as_json() -> None:
    assert column_of([{"a": 2**63}, {"a": -(2**63) - 1}], "a__json") == [str(2**63), str(-(2**63) - 1)]


def test_texts_may_be_empty_and_beyond_the_basic_plane() -> None:
    texts = ["", "süß", "😀" * 3, "", "\x00", "e\u0301"]
    assert column_of(texts, "value") == texts


@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 65])
def test_booleans_are_packed_whatever_their_number(count: int) -> None:
    values = [i % 3 == 0 for i in range(count)]
    assert column_of(values, "value") == values
    holes = [{"a": i % 3 == 0} if i % 2 else {} for i in range(count + 1)]
    assert column_of(holes, "a") == [each.get("a") for each in holes]


def test_json_is_minified_text() -> None:
    payloads = [{"a": None}, {"a": {"b": [1, "x y"]}}, {"a": []}]
    assert column_of(payloads, "a__json") == ["null", '{"b":[1,"x y"]}', "[]"]


def test_no_tag_is_null_and_a_row_without_cells_is_a_row() -> None:
    filled = Filled([message({}), message({"a": 1}, tag="t"), message({})])
    assert seen(to_batch(filled)) == expected(filled.rows, physical_columns(filled.schema.columns_of(1)))
    assert to_batch(filled).column("tag").to_pylist() == [None, "t", None]


def test_names_are_asked_for_once_however_many_rows() -> None:
    filled = Filled([message(i, device=i % 2, tag="t") for i in range(20)])
    asked: list[int] = []

    def device_name(device: int) -> str:
        asked.append(device)
        return str(device)

    tags = TagNames(filled)
    to_record_batch(filled.block(), (), device_name, tags)
    assert sorted(asked) == [0, 1]
    assert tags.asked == [1]


def test_an_empty_block_is_an_empty_batch() -> None:
    filled = Filled([message({"a": 1, "b": "x", "c": True})])
    assert seen(to_batch(filled, filled.block([]))) == []


def test_a_column_that_the_block_does_not_have_is_null() -> None:
    filled = Filled([message({"a": 1}), message({"b": "x"})])
    columns = physical_columns(filled.schema.columns_of(1))
    batch = to_batch(filled, filled.block(filled.rows[:1]), columns)
    assert batch.column("b").to_pylist() == [None]
    assert batch.column("b").type == pa.string()


def test_wide_channels_get_smaller_batches() -> None:
    assert batch_rows_max(0) == batch_rows_max(64) == BATCH_ROWS_MAX
    assert batch_rows_max(1024) == BATCH_VALUES_MAX // 1024
    assert batch_rows_max(10**6) == BATCH_ROWS_MIN


@given(st.lists(st.integers(0, 9) | st.integers(2**32 - 3, 2**32 - 1), max_size=20))
def test_distinct_is_numpys_unique(ids: list[int]) -> None:
    array = np.array(ids, np.uint32)
    known, index = distinct(array)
    assert known.tolist() == sorted(set(ids))
    assert known[index].tolist() == ids
    assert [known.dtype, index.dtype] == [np.dtype(np.uint32), np.dtype(np.int32)]
