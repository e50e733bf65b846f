"""query/taking.py against pyarrow's take."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query.order import gather, gather_bits
from query.taking import in_time_order, taken
from storage.wide import FIXED_FIELDS, NAMES_TYPE

KINDS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.float64(): st.floats(allow_nan=False),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    FIXED_FIELDS[1].type: st.integers(0, 2**50),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(max_size=5),
    NAMES_TYPE: st.sampled_from(["a", "b", "ä"]),
}


@given(st.data(), st.sampled_from(list(KINDS)), st.integers(0, 9), st.booleans())
def test_any_column_comes_in_any_order(
    data: st.DataObject, kind: pa.DataType, skipped: int, gaps: bool
) -> None:
    value = KINDS[kind] | st.none() if gaps else KINDS[kind]
    values = data.draw(st.lists(value, max_size=40))
    array = pa.array(values, kind)[min(skipped, len(values)) :]
    order = np.array(data.draw(st.permutations(range(len(array)))), np.int32)

    made = taken(array, order)

    made.validate(full=True)
    assert made.to_pylist() == array.take(pa.array(order)).to_pylist()
    assert made.type == kind


@pytest.mark.parametrize("position", [-1, 3, 2**31 - 1, -(2**31)])
def test_a_position_that_is_not_there_is_refused(position: int) -> None:
    order, out = np.array([0, position], np.int32), np.zeros(16, np.uint8)
    for width in (4, 8):
        with pytest.raises(IndexError):
            gather(np.zeros(3 * width, np.uint8), order, width, out)
    if not 0 <= position < 8:
        with pytest.raises(IndexError):
            gather_bits(np.zeros(1, np.uint8), 0, order, out)
    with pytest.raises(IndexError):
        gather_bits(np.zeros(1, np.uint8), 7, np.array([0, 1], np.int32), out)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50)), unique_by=lambda row: row[1]), st.booleans()
)
def test_a_table_comes_into_the_order_of_time(rows: list[tuple[int, int]], descending: bool) -> None:
    at_us, seq = [row[0] for row in rows], [row[1] for row in rows]
    names = pa.array(["a"] * len(rows), NAMES_TYPE)
    table = pa.Table.from_arrays(
        [pa.array(seq), pa.array(at_us, FIXED_FIELDS[1].type), names, names], schema=pa.schema(FIXED_FIELDS)
    )

    made = in_time_order(table, descending)

    assert made.column("seq").to_pylist() == [row[1] for row in sorted(rows, reverse=descending)]
    assert made.schema == table.schema
    if rows == sorted(rows, reverse=descending):
        assert made is table
