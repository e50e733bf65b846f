"""The token bucket (contract 2.5): so many at once, so many a second, and no more keys than it may remember."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.pace import Pace, RateLimiter


def test_one_a_second_means_one_a_second() -> None:
    limiter = RateLimiter(1.0)
    at = [100.0, 100.5, 100.99, 101.0, 101.5, 102.0]
    assert [limiter.allow("d", now) for now in at] == [True, False, False, True, False, True]


def test_a_refused_request_costs_nothing() -> None:
    limiter = RateLimiter(1.0)
    assert limiter.allow("d", 0.0)
    assert not any(limiter.allow("d", tenth / 16) for tenth in range(16))
    assert limiter.allow("d", 1.0)


def test_silence_is_saved_up_to_one_second_of_the_rate() -> None:
    limiter = RateLimiter(20.0)
    assert [limiter.allow("t", 1000.0) for _ in range(21)] == [True] * 20 + [False]
    assert [limiter.allow("t", 9000.0) for _ in range(21)] == [True] * 20 + [False]


def test_less_than_one_a_second_is_possible() -> None:
    limiter = RateLimiter(0.25)
    assert [limiter.allow("d", now) for now in (0.0, 3.0, 4.0, 7.0, 8.0)] == [True, False, True, False, True]


@given(per_s=st.floats(0.01, 1.0), asked=st.floats(0.0, 100.0))
def test_who_is_refused_is_told_when_it_passes(per_s: float, asked: float) -> None:
    limiter = RateLimiter(per_s)
    assert limiter.allow("d", 0.0)
    now = asked % (1 / per_s) * 0.999
    assert not limiter.allow("d", now)
    wait_s = limiter.retry_s("d")
    assert wait_s >= 1
    assert wait_s == 1 or not limiter.allow("d", now + wait_s - 1.000001)
    assert limiter.allow("d", now + wait_s)


def test_no_limit_lets_everything_pass_and_remembers_nothing() -> None:
    limiter = RateLimiter(0)
    assert all(limiter.allow("d", 0.0) for _ in range(1000))
    limiter.give_back("d")
    assert not limiter._buckets


def test_keys_do_not_share() -> None:
    limiter = RateLimiter(1.0)
    assert limiter.allow(("u", b"a"), 0.0)
    assert limiter.allow(("u", b"b"), 0.0)
    assert not limiter.allow(("u", b"a"), 0.0)


def test_a_token_given_back_can_be_used_again() -> None:
    limiter = RateLimiter(1.0)
    assert limiter.allow("d", 0.0)
    limiter.give_back("d")
    assert [limiter.allow("d", 0.0) for _ in range(2)] == [True, False]


def test_tokens_given_back_never_exceed_the_burst() -> None:
    limiter = RateLimiter(2.0)
    assert limiter.allow("d", 0.0)
    for _ in range(5):
        limiter.give_back("d")
    assert [limiter.allow("d", 0.0) for _ in range(3)] == [True, True, False]


def test_a_token_of_an_unknown_key_cannot_be_given_back() -> None:
    limiter = RateLimiter(1.0)
    limiter.give_back("d")
    assert [limiter.allow("d", 0.0) for _ in range(2)] == [True, False]


def test_of_too_many_keys_the_one_that_was_silent_for_longest_is_forgotten() -> None:
    limiter = RateLimiter(1.0, keys_max=3)
    for key in "abc":
        assert limiter.allow(key, 0.0)
    assert not limiter.allow("a", 0.5)  # a was heard of later than b
    assert limiter.allow("d", 0.5)
    assert [limiter.allow(key, 0.5) for key in "acd"] == [False, False, False]
    assert limiter.allow("b", 0.5)
    assert len(limiter._buckets) == 3


@pytest.mark.parametrize("keys", [1, 10_000])
def test_memory_is_bounded(keys: int) -> None:
    limiter = RateLimiter(1.0, keys_max=keys)
    for number in range(2 * keys + 10):
        limiter.allow(number, 0.0)
    assert len(limiter._buckets) == keys


@given(st.integers(1, 20), st.lists(st.floats(0, 2, allow_nan=False, width=16), min_size=1, max_size=60))
def test_in_no_span_of_time_more_passes_than_the_burst_and_the_rate(per_s: int, pauses: list[float]) -> None:
    limiter = RateLimiter(float(per_s))
    now, passed = 1000.0, []
    for pause in pauses:
        now += pause
        if limiter.allow("d", now):
            passed.append(now)
    for first, begin in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= per_s + (passed[last] - begin) * per_s + 1e-6


@given(st.integers(1, 20), st.integers(1, 60))
def test_who_keeps_to_the_rate_always_passes(per_s: int, count: int) -> None:
    limiter = RateLimiter(float(per_s))
    assert all(limiter.allow("d", 1000.0 + number * (1 / per_s + 1e-9)) for number in range(count))


# ---- what a client is told


def test_where_there_is_no_limit_nothing_is_told() -> None:
    assert RateLimiter(0).take("d", 0.0) is None
    assert RateLimiter(5).take("d", 0.0, 0) is None
    assert RateLimiter(0).take("d", 0.0, 5) == Pace(True, limit=5, remaining=4, reset_s=1, retry_s=0)


RATES = st.one_of(st.integers(1, 50).map(float), st.floats(0.01, 50, allow_nan=False))
PAUSES = st.lists(st.floats(0, 3, allow_nan=False), max_size=40)


@given(RATES, PAUSES)
def test_as_many_pass_at_once_as_remain(per_s: float, pauses: list[float]) -> None:
    limiter, now, pace = RateLimiter(per_s), 1000.0, None
    for pause in [0.0, *pauses]:
        now += pause
        pace = limiter.take("d", now)
    assert pace is not None
    assert 0 <= pace.remaining <= pace.limit
    assert [limiter.allow("d", now) for _ in range(pace.remaining + 1)] == [True] * pace.remaining + [False]


@given(RATES, PAUSES)
def test_who_waits_for_retry_after_passes(per_s: float, pauses: list[float]) -> None:
    limiter, now = RateLimiter(per_s), 1000.0
    for pause in [0.0, *pauses]:
        now += pause
        pace = limiter.take("d", now)
        assert pace is not None
        assert (pace.retry_s == 0) == (pace.remaining > 0)
        assert pace.allowed or pace.retry_s > 0
        if not pace.allowed:
            now += pace.retry_s
            assert limiter.allow("d", now)


@given(RATES, PAUSES)
def test_after_reset_everything_is_there_again(per_s: float, pauses: list[float]) -> None:
    limiter, now = RateLimiter(per_s), 1000.0
    for pause in [0.0, *pauses]:
        now += pause
        pace = limiter.take("d", now)
    assert pace is not None
    again = limiter.take("d", now + pace.reset_s + 1e-6)
    assert again is not None
    assert again.remaining == again.limit - 1
    assert pace.reset_s <= max(1.0, per_s) / per_s + 1


def test_a_rate_of_ones_own_overrules_everybodys_and_may_change() -> None:
    limiter = RateLimiter(1.0)
    assert [limiter.allow("d", 0.0, 3.0) for _ in range(4)] == [True, True, True, False]
    assert [limiter.allow("e", 0.0) for _ in range(2)] == [True, False]
    assert [limiter.allow("d", 1.0) for _ in range(2)] == [True, False]  # its own was taken back
