"""LTTB against the words of the paper, min-max against sorting, whatever pieces the points come in."""

import math
import random
from itertools import pairwise

import numpy as np
import pytest

from query.downsample import POINT, Downsampler, LargestTriangles, MinMax, Points


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
    points = np.zeros(len(series), POINT)
    points["at_us"] = [x for x, _ in series]
    points["seq"] = np.arange(len(series))
    points["number"] = [y for _, y in series]
    return points


def thinned(sampler: Downsampler, points: Points, cuts: list[int]) -> list[int]:
    """Positions of what is kept of points that come in pieces."""
    kept = [each for piece in np.split(points, cuts) for each in sampler.feed(piece)]
    kept += sampler.end()
    return [int(seq) for each in kept for seq in each["seq"]]


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
    found = thinned(LargestTriangles(len(series), count), points_of(series), cuts)
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
    found = thinned(MinMax(first, last, count), points_of(series), cuts)
    assert found == sorted(wanted)
    assert len(found) <= count // 2 * 2


def test_numbers_at_the_edge_of_a_double_are_no_error() -> None:
    series = [(i, 1.7e308 * (-1) ** i) for i in range(50)]
    assert len(thinned(LargestTriangles(50, 10), points_of(series), [20])) == 10
    assert len(thinned(MinMax(0, 49, 10), points_of(series), [20])) == 10
