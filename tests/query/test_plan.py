"""The plan of a range query: windows that lose nothing, overlap nowhere, and stay small."""

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from query.plan import FILES_MAX, WINDOW_ROWS, Window, plan
from storage.cover import DAY_US, HotSegment, PublishedFile

DAY_0 = 19_800


def published(day: int, rows: int = 1, first_us: int = 0, last_us: int = DAY_US - 1) -> PublishedFile:
    """A file of rows between two times of its day."""
    start = day * DAY_US
    return PublishedFile(
        Path(f"{day}"), 1, day, rows, rows * 20, start + first_us, start + last_us, 0, rows, 1
    )


def hot(day: int, rows: int = 1, first_us: int = 0, last_us: int = DAY_US - 1) -> HotSegment:
    start = day * DAY_US
    return HotSegment(
        Path(f"hot-{day}"), 1, day, 0, rows, rows, start + first_us, start + last_us, 0, rows, rows
    )


def planned(
    start_us: int,
    end_us: int,
    files: list[PublishedFile | HotSegment],
    fresh: dict[int, int] | None = None,
) -> list[Window]:
    """The plan over what a snapshot would give: the files that touch the range."""
    near = [file for file in files if file.first_us < end_us and file.last_us >= start_us]
    return plan(
        start_us,
        end_us,
        [file for file in near if isinstance(file, PublishedFile)],
        [file for file in near if isinstance(file, HotSegment)],
        fresh or {},
    )


@st.composite
def file_of_a_day(draw: st.DrawFn) -> PublishedFile | HotSegment:
    make = draw(st.sampled_from([published, hot]))
    within = st.sampled_from([i * DAY_US // 12 for i in range(12)]) | st.integers(0, DAY_US - 1)
    first, last = sorted((draw(within), draw(within)))
    rows = draw(st.sampled_from([1, 100, WINDOW_ROWS // 3, WINDOW_ROWS, 3 * WINDOW_ROWS + 1]))
    return make(DAY_0 + draw(st.integers(0, 9)), rows, first, last)


@given(
    st.lists(file_of_a_day(), max_size=40),
    st.dictionaries(st.integers(DAY_0, DAY_0 + 9), st.integers(1, 5_000), max_size=4),
    st.integers(-DAY_US, 11 * DAY_US),
    st.integers(1, 12 * DAY_US),
)
def test_windows_follow_each_other_and_hold_every_row_of_the_range(
    files: list[PublishedFile | HotSegment], fresh: dict[int, int], start: int, length: int
) -> None:
    start_us = DAY_0 * DAY_US + start
    end_us = start_us + length
    windows = planned(start_us, end_us, files, fresh)

    for window in windows:
        assert start_us <= window.start_us < window.end_us <= end_us
    for earlier, later in pairwise(windows):
        assert earlier.end_us <= later.start_us

    for file in files:
        touched = max(file.first_us, start_us), min(file.last_us, end_us - 1)
        for window in windows:
            held = window.published if isinstance(file, PublishedFile) else window.hot
            is_touched = file.first_us < window.end_us and file.last_us >= window.start_us
            assert (file in held) == is_touched
        covered(windows, *touched)
    for day in fresh:
        covered(windows, max(day * DAY_US, start_us), min((day + 1) * DAY_US, end_us) - 1)


def covered(windows: list[Window], first_us: int, last_us: int) -> None:
    """Every microsecond from first to last is in a window."""
    at = first_us
    for window in windows:
        if window.start_us <= at < window.end_us:
            at = window.end_us
    assert at > last_us


def test_nothing_to_read_needs_no_window() -> None:
    assert planned(0, DAY_US, []) == []
    assert planned(DAY_0 * DAY_US, DAY_0 * DAY_US + 1, [published(DAY_0, 5, 10, 20)]) == []


def test_small_days_share_a_window() -> None:
    (window,) = planned(0, 2**60, [published(DAY_0 + i, 1_000) for i in range(60)])
    assert (window.start_us, window.end_us) == (DAY_0 * DAY_US, (DAY_0 + 60) * DAY_US)
    assert len(window.published) == 60


def test_a_window_of_several_days_has_a_bounded_number_of_rows_and_files() -> None:
    files = [published(DAY_0 + i, 1 + 7_919 * i % 90_000) for i in range(400)]
    for window in planned(0, 2**60, files):
        assert sum(file.rows for file in window.published) <= WINDOW_ROWS
        assert len(window.published) <= FILES_MAX
    small = planned(0, 2**60, [published(DAY_0 + i) for i in range(400)])
    assert [len(window.published) for window in small] == [FILES_MAX] * 6 + [400 - 6 * FILES_MAX]


def test_a_large_day_is_cut_into_equal_pieces_of_time() -> None:
    windows = planned(0, 2**60, [published(DAY_0, 4 * WINDOW_ROWS)])
    assert [(window.start_us, window.end_us) for window in windows] == [
        (DAY_0 * DAY_US + i * DAY_US // 4, DAY_0 * DAY_US + (i + 1) * DAY_US // 4) for i in range(4)
    ]
    hour = DAY_US // 24
    one = planned(DAY_0 * DAY_US + 5 * hour, DAY_0 * DAY_US + 6 * hour, [published(DAY_0, 4 * WINDOW_ROWS)])
    assert [(window.start_us - DAY_0 * DAY_US, window.end_us - DAY_0 * DAY_US) for window in one] == [
        (5 * hour, 6 * hour)
    ]


def test_a_day_of_many_seals_is_cut_so_that_few_files_are_open() -> None:
    quarter = DAY_US // 96
    segments = [hot(DAY_0, 10, i * quarter, (i + 1) * quarter - 1) for i in range(96)]
    windows = planned(0, 2**60, list(segments))
    assert max(len(window.hot) for window in windows) <= FILES_MAX
    assert {segment for window in windows for segment in window.hot} == set(segments)


def test_rows_that_only_the_ring_has_count() -> None:
    windows = planned(0, 2**60, [published(DAY_0, WINDOW_ROWS)], {DAY_0: WINDOW_ROWS})
    assert len(windows) == 2
    (only,) = planned(0, 2**60, [], {DAY_0: 5})
    assert (only.start_us, only.end_us) == (DAY_0 * DAY_US, (DAY_0 + 1) * DAY_US)


def test_the_shortest_range_is_one_window() -> None:
    start_us = DAY_0 * DAY_US + 17
    (window,) = planned(start_us, start_us + 1, [published(DAY_0, 50 * WINDOW_ROWS)])
    assert (window.start_us, window.end_us) == (start_us, start_us + 1)
