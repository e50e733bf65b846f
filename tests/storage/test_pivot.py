"""Pivot, take, concatenate and split: rows of blocks, picked and joined, against rows in plain Python."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.cells import slice_rows, split_cells
from storage.kinds import Kind
from storage.pivot import concatenate, gather_text, pivot, take
from storage.wide import physical_columns, to_record_batch
from tests.storage.rows import Filled, Sent, message, messages


@given(messages(), st.data())
def test_pivot_gives_each_asked_column_in_the_asked_order(sent: list[Sent], data: st.DataObject) -> None:
    filled = Filled(sent)
    known = [column.id for column in filled.schema.columns_from(0)]
    ids = data.draw(st.lists(st.sampled_from([*known, len(known), 5000]), unique=True))
    block = filled.block()
    pivoted = pivot(block, np.array(ids, np.uint32))
    assert len(pivoted) == len(ids)
    for column, (values, validity, valid) in zip(ids, pivoted, strict=True):
        cells = {
            i: int(block.value[j])
            for i in range(len(block))
            for j in range(block.cell_start[i], block.cell_start[i + 1])
            if block.column[j] == column
        }
        assert values.tolist() == [cells.get(i, 0) for i in range(len(block))]
        bits = np.unpackbits(validity, bitorder="little").tolist()
        assert bits == [i in cells for i in range(len(bits))]
        assert len(bits) == (len(block) + 7) // 8 * 8
        assert valid == len(cells)


@given(messages(channels=(1, 2)), st.data())
def test_take_gives_those_rows_with_their_texts(sent: list[Sent], data: st.DataObject) -> None:
    filled = Filled(sent)
    block = filled.block()
    picked = data.draw(st.lists(st.integers(0, len(block) - 1))) if len(block) else []
    taken = take(block, np.array(picked, np.int64), filled.text_columns())
    assert filled.read(taken) == [filled.rows[i] for i in picked]
    kinds = (Kind.TEXT, Kind.JSON)
    texts = [str(held) for i in picked for key, held in filled.rows[i].cells.items() if key[1] in kinds]
    assert len(taken.text) == sum(len(text.encode()) for text in texts)


@given(st.lists(messages(channels=(1, 2), max_size=8), min_size=1, max_size=4), st.booleans())
def test_concatenate_gives_all_rows_one_after_the_other(parts: list[list[Sent]], sliced: bool) -> None:
    filled = Filled([])
    blocks = []
    for part in parts:
        first = len(filled.rows)
        filled.append(part)
        whole = filled.block()
        blocks.append(slice_rows(whole, first, len(whole)) if sliced else filled.block(filled.rows[first:]))
    assert filled.read(concatenate(blocks, filled.text_columns())) == filled.rows


@given(messages(channels=(1, 2)), st.integers(1, 9))
def test_split_cells_splits_between_rows_and_not_into_small_change(sent: list[Sent], cells_max: int) -> None:
    filled = Filled(sent)
    parts = list(split_cells(filled.block(), cells_max))
    assert [row for part in parts for row in filled.read(part)] == filled.rows
    for part in parts:
        assert len(part) >= 1
        assert len(part) == 1 or len(part.column) <= cells_max


def test_a_cell_that_points_outside_its_text_is_an_error_and_not_read() -> None:
    filled = Filled([message("text"), message("more")])
    block = filled.block()
    cut = replace(block, text=block.text[:-1])
    for damaged in (cut, replace(block, text=b"")):
        with pytest.raises(IndexError, match="outside"):
            take(damaged, np.arange(2), filled.text_columns())
        columns = physical_columns(filled.schema.columns_of(1))
        with pytest.raises(IndexError, match="outside"):
            to_record_batch(damaged, columns, str, str)


def test_a_row_that_is_not_in_the_block_is_an_error() -> None:
    filled = Filled([message("text"), message("more")])
    for outside in (2, -3):
        with pytest.raises(IndexError):
            take(filled.block(), np.array([outside]), filled.text_columns())


def test_more_text_than_arrow_can_address_is_an_error() -> None:
    long = np.uint64((1 << 24) - 1) << np.uint64(40)
    values = np.full(129, long, np.uint64)
    with pytest.raises(OverflowError):
        gather_text(values, np.full(17, 0xFF, np.uint8), bytes(1 << 24))
