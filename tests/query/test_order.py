"""query/order.pyx against numpy.lexsort."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from query.order import time_order

DAY_US = 86_400_000_000
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def check(at_us: NDArray[np.int64], seq: NDArray[np.int64]) -> None:
    at_before, seq_before = at_us.copy(), seq.copy()
    wanted = np.lexsort((seq, at_us))
    assert time_order(at_us, seq, False).tolist() == wanted.tolist()
    assert time_order(at_us, seq, True).tolist() == wanted[::-1].tolist()
    assert (at_us == at_before).all()
    assert (seq == seq_before).all()


def numbers(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 63, 64, 65, 66, 1_000, 50_000])
@pytest.mark.parametrize("spread_us", [0, 1, 100, 8_191, 8_192, 8_193, 2**26 - 1, 2**26, DAY_US, 2**50])
def test_rows_come_in_order_of_time_and_then_of_seq(rows: int, spread_us: int) -> None:
    source = np.random.default_rng(rows * 31 + spread_us % 1009)
    at_us = 1_700_000_000_000_000 + source.integers(0, spread_us + 1, rows)
    check(at_us.astype(np.int64), source.permutation(rows).astype(np.int64))


@pytest.mark.parametrize("run", [2, 64, 65, 66, 67, 500])
def test_long_and_short_runs_of_one_time(run: int) -> None:
    source = np.random.default_rng(run)
    at_us = np.repeat(source.integers(-DAY_US, DAY_US, 40), run)
    for seq in (np.arange(len(at_us)), np.arange(len(at_us))[::-1].copy(), source.permutation(len(at_us))):
        check(at_us.astype(np.int64), seq.astype(np.int64))
        mixed = source.permutation(len(at_us))
        check(at_us[mixed].astype(np.int64), seq[mixed].astype(np.int64))


def test_rows_that_are_in_order_stay_as_they_are() -> None:
    at_us = np.arange(10_000, dtype=np.int64) * 1_000
    assert time_order(at_us, at_us, False).tolist() == list(range(10_000))
    assert time_order(at_us, at_us, True).tolist() == list(range(9_999, -1, -1))


def test_times_before_1970_and_at_the_ends_of_the_type() -> None:
    check(numbers(0, -1, 1, -DAY_US, DAY_US, -62_135_596_800_000_000), numbers(5, 4, 3, 2, 1, 0))
    check(numbers(INT64_MAX, INT64_MIN, 0, INT64_MIN, INT64_MAX, -1), numbers(9, 8, 7, 6, 5, 4))
    check(numbers(3, 3, 3), numbers(INT64_MAX, INT64_MIN, 0))


def test_the_order_belongs_to_the_caller() -> None:
    at_us, seq = numbers(3, 1, 2), numbers(0, 1, 2)
    first = time_order(at_us, seq, False)
    first[:] = 7
    assert time_order(at_us, seq, False).tolist() == [1, 2, 0]


@given(
    st.lists(st.tuples(st.integers(INT64_MIN, INT64_MAX), st.integers(0, 2**62)), max_size=80, unique=True)
)
def test_any_rows_are_ordered_as_numpy_orders_them(rows: list[tuple[int, int]]) -> None:
    at_us, seq = (np.array([row[i] for row in rows], np.int64) for i in range(2))
    if len({row[1] for row in rows}) == len(rows):
        check(at_us, seq)


@given(st.lists(st.integers(-3, 3), max_size=200), st.randoms(use_true_random=False))
def test_rows_of_few_times_are_ordered_as_numpy_orders_them(times: list[int], source: random.Random) -> None:
    seq = list(range(len(times)))
    source.shuffle(seq)
    check(np.array(times, np.int64), np.array(seq, np.int64))
