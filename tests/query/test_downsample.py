"""LTTB against the words of the paper, min-max against sorting, whatever pieces the points come in."""

import math
import random
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from query.downsample import LargestTriangles, MinMax

Points = tuple[NDArray[np.int64], NDArray[np.float64]]


def reference(series: list[tuple[float, float]], count: int) -> list[int]:
    """Steinarsson 2013, section 4.2: positions of the points that are kept. Written from the paper, nothing clever."""
    if len(series) <= count:
        return list(range(len(series)))
    # «First and last points get buckets of their own, the others are split into count - 2 equal ones.»
    size = (len(series) - 2) / (count - 2)
    bounds = [math.floor(i * size) + 1 for i in range(count - 1)]
    buckets = [range(1), *(range(a, b) for a, b in pairwise(bounds))]
    buckets.append(range(len(series) - 1, len(series)))
    kept = [0]
    for bucket, following in pairwise(buckets[1:]):
        x = sum(series[i][0] for i in following) / len(following)
        y = sum(series[i][1] for i in following) / len(following)
        ax, ay = series[kept[-1]]
        areas = [abs((ax - x) * (series[i][1] - ay) - (ax - series[i][0]) * (y - ay)) / 2 for i in bucket]
        kept.append(bucket[areas.index(max(areas))])
    return [*kept, len(series) - 1]


def points_of(series: list[tuple[int, float]]) -> Points:
    return np.array([x for x, _ in series], np.int64), np.array([y for _, y in series], np.float64)


def pieces_of(points: Points, cuts: list[int]) -> list[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
    """(position of the first one, times, numbers)."""
    edges = [0, *cuts, len(points[0])]
    return [(a, points[0][a:b], points[1][a:b]) for a, b in pairwise(edges)]


def triangles(count: int, points: Points, cuts: list[int]) -> list[int]:
    """Positions of what LTTB keeps of points that come in pieces."""
    sampler = LargestTriangles(np.array([len(points[0])]), count)
    if sampler.needs_averages:
        for _, x, y in pieces_of(points, cuts):
            sampler.average(x, y, np.zeros(len(x), np.int32))
        sampler.averaged()
    kept = np.full(sampler.places, -1)
    for first, x, y in pieces_of(points, cuts):
        places, rows = sampler.keep(x, y, np.zeros(len(x), np.int32))
        kept[places] = first + rows
    return [int(each) for each in kept]


def extremes(first_us: int, last_us: int, count: int, points: Points, cuts: list[int]) -> list[int]:
    """Positions of what min-max keeps of points that come in pieces, the last piece first."""
    sampler = MinMax(first_us, last_us, 1, count)
    kept = np.full(sampler.places, -1)
    for first, x, y in reversed(pieces_of(points, cuts)):
        # Newest first within a piece, too: the order of points is that of their times and seqs.
        x, y, seq = x[::-1].copy(), y[::-1].copy(), np.arange(first, first + len(x))[::-1].copy()
        places, rows = sampler.keep(x, seq, y, np.zeros(len(x), np.int32))
        kept[places] = seq[rows]
    return sorted({int(each) for each in kept} - {-1})


@pytest.mark.parametrize("seed", range(150))
def test_the_largest_triangles_are_those_of_the_paper(seed: int) -> None:
    source = random.Random(f"lttb {seed}")
    # Whole numbers: sums, and so ties, are exact in both.
    x, series = 1_700_000_000_000_000, []
    for _ in range(source.choice([1, 3, 4, 5, 17, 100, 500])):
        series.append((x, float(source.choice([source.randrange(-50, 50), source.randrange(3)]))))
        x += source.choice([0, 1, 10, 1_000])
    count = source.choice([3, 4, 5, 10, 50, 499])
    cuts = sorted(source.randrange(len(series) + 1) for _ in range(source.randrange(6)))
    found = triangles(count, points_of(series), cuts)
    assert found == reference([(x - series[0][0], y) for x, y in series], count)
    assert len(found) == min(count, len(series))


@pytest.mark.parametrize("seed", range(150))
def test_the_extremes_of_every_bucket_are_kept(seed: int) -> None:
    source = random.Random(f"minmax {seed}")
    x, series = source.randrange(-(10**15), 10**15), []
    for _ in range(source.choice([1, 2, 10, 300])):
        series.append((x, float(source.randrange(-20, 20))))
        x += source.choice([0, 1, 7, 100])
    first, last, count = series[0][0], series[-1][0], source.choice([3, 4, 7, 60])
    width = (last - first) // (count // 2) + 1
    wanted = set()
    for bucket in {(x - first) // width for x, _ in series}:
        own = [(y, i) for i, (x, y) in enumerate(series) if (x - first) // width == bucket]
        wanted |= {min(own)[1], min(own, key=lambda pair: (-pair[0], pair[1]))[1]}
    cuts = sorted(source.randrange(len(series) + 1) for _ in range(source.randrange(6)))
    found = extremes(first, last, count, points_of(series), cuts)
    assert found == sorted(wanted)
    assert len(found) <= count // 2 * 2


def test_numbers_at_the_edge_of_a_double_are_no_error() -> None:
    series = [(i, 1.7e308 * (-1) ** i) for i in range(50)]
    assert len(set(triangles(10, points_of(series), [20]))) == 10
    assert len(extremes(0, 49, 10, points_of(series), [20])) == 10


@pytest.mark.parametrize("seed", range(20))
def test_series_at_once_are_series_one_by_one(seed: int) -> None:
    source = random.Random(f"together {seed}")
    whose = np.array([source.randrange(-1, 4) for _ in range(200)] + [0, 1, 2, 3], np.int32)
    x = np.arange(len(whose)) * 7
    y = np.array([float(source.randrange(-30, 30)) for _ in whose])
    own = [np.flatnonzero(whose == i) for i in range(4)]
    count = source.choice([3, 8, 45])
    lttb = LargestTriangles(np.array([len(each) for each in own]), count)
    lttb.average(x, y, whose)
    lttb.averaged()
    minmax = MinMax(0, int(x[-1]), 4, count)
    lttb_kept, minmax_kept = np.full(lttb.places, -1), np.full(minmax.places, -1)
    places, rows = lttb.keep(x, y, whose)
    lttb_kept[places] = rows
    places, rows = minmax.keep(x, np.arange(len(x)), y, whose)
    minmax_kept[places] = rows
    one_by_one = [each[triangles(count, (x[each], y[each]), [])] for each in own]
    assert lttb_kept.tolist() == np.concatenate(one_by_one).tolist()
    ends = 0, int(x[-1])
    for i, each in enumerate(own):
        found = {*minmax_kept.reshape(4, -1)[i].tolist()} - {-1}
        assert found == {int(each[at]) for at in extremes(*ends, count, (x[each], y[each]), [])}


def test_points_that_nobody_counted_are_refused() -> None:
    one, zero = np.zeros(1, np.int64), np.zeros(1)
    lttb, minmax = LargestTriangles(np.array([3]), 3), MinMax(0, 9, 1, 4)
    for series in (1, 2**31 - 1):
        with pytest.raises(IndexError):
            lttb.keep(one, zero, np.array([series], np.int32))
        with pytest.raises(IndexError):
            minmax.keep(one, one, zero, np.array([series], np.int32))
    many = np.zeros(4, np.int64)
    with pytest.raises(IndexError):
        lttb.keep(many, np.zeros(4), np.zeros(4, np.int32))
    for at_us in (-1, 12, 2**62, -(2**62)):
        with pytest.raises(IndexError):
            minmax.keep(np.array([at_us]), one, zero, np.zeros(1, np.int32))
