"""query/stretches.py: every row once, and of two stretches one is wholly before the other."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from query.plan import WINDOW_ROWS, Selection
from query.stretches import STRETCH_ROWS, source_of, stretches
from query.whole_files import RowGroup
from storage.cover import PublishedFile

FILE = PublishedFile(Path("none.parquet"), 1, 0, 1, 1, 0, 100, 0, 1 << 40, 4)
EVERYTHING = Selection(-(2**60), 2**60)


def group(rows: list[tuple[int, int]], weight: int) -> RowGroup:
    """A row group of these (at, seq)."""
    times, seqs = [at for at, _ in rows], [seq for _, seq in rows]
    return RowGroup(FILE, None, 0, weight, min(times), max(times), min(seqs), max(seqs), has_tags=False)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=60),
    st.randoms(use_true_random=False),
    st.sampled_from([1, 1_000, STRETCH_ROWS, WINDOW_ROWS]),
    st.tuples(st.integers(-5, 35), st.integers(-5, 35)),
)
def test_stretches_follow_each_other(
    given_rows: list[tuple[int, int]], source: object, weight: int, span: tuple[int, int]
) -> None:
    # Rows in about the order of their times get seqs in turn; some are late. Then they are dealt out to row groups.
    seqs = list(range(len(given_rows)))
    rows = [(at, seq) for (at, _), seq in zip(given_rows, seqs, strict=True)]
    dealt: dict[int, list[tuple[int, int]]] = {}
    for (at, seq), (_, where) in zip(rows, given_rows, strict=True):
        dealt.setdefault(at // 6 if where else 100 + at % 2, []).append((at, seq))
    groups = [group(each, weight) for each in dealt.values()]
    of = {id(each): content for each, content in zip(groups, dealt.values(), strict=True)}
    selection = replace(EVERYTHING, start_us=min(span), end_us=max(span))
    within = [
        each for each in groups if each.first_us < selection.end_us and each.last_us >= selection.start_us
    ]

    made = list(stretches([source_of(each) for each in within], selection))

    found = [
        sorted(
            row
            for place in stretch.places
            for row in of[id(place)]
            if stretch.selection.start_us <= row[0] < stretch.selection.end_us
        )
        for stretch in made
    ]
    wanted = sorted(row for row in rows if selection.start_us <= row[0] < selection.end_us)
    assert [row for each in found for row in each] == wanted


def test_rows_of_one_time_in_two_row_groups_stay_apart_if_their_seqs_do() -> None:
    first, second = group([(1, 0), (5, 3)], STRETCH_ROWS), group([(5, 4), (9, 7)], STRETCH_ROWS)
    apart = list(stretches([source_of(second), source_of(first)], EVERYTHING))
    assert [stretch.places for stretch in apart] == [(first,), (second,)]
    late = group([(5, 2), (9, 7)], STRETCH_ROWS)
    together = list(stretches([source_of(late), source_of(first)], EVERYTHING))
    assert [set(map(id, stretch.places)) for stretch in together] == [{id(first), id(late)}]


def test_small_ones_are_joined_and_large_ones_cut() -> None:
    small = [group([(10 * i, i)], STRETCH_ROWS // 4) for i in range(8)]
    assert [len(each.places) for each in stretches([source_of(each) for each in small], EVERYTHING)] == [4, 4]
    large = [group([(0, 0), (99, 9)], WINDOW_ROWS), group([(50, 1), (60, 2)], 1)]
    cut = list(stretches([source_of(each) for each in large], EVERYTHING))
    assert [(each.selection.start_us, each.selection.end_us) for each in cut] == [(0, 50), (50, 100)]
    assert [len(each.places) for each in cut] == [1, 2]
