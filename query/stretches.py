"""A range read for all its rows: cut where its files are cut.

Row groups of published files, segments of hot files and what the ring has mostly follow each other in time, for so
they were written. Whatever overlaps in (at, seq) is put together to a stretch: of two stretches all of one's rows come
before all of the other's, so each is put in order by itself, small enough for the processor's cache. Windows
(query/plan.py) are cut without a look into the files; a row group that two of them share is decoded twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from query.plan import WINDOW_ROWS, Selection
from query.whole_files import RowGroup
from storage.block import Block
from storage.cover import HotSegment

# Small ones are joined up to here: a row group of a published file.
STRETCH_ROWS: Final = 65_536
Place = RowGroup | HotSegment | Block


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows are, and what they are between, all inclusive."""

    place: Place
    rows: int
    first: tuple[int, int]
    last_us: int
    last_seq: int


def source_of(place: Place) -> Source:
    match place:
        case RowGroup():
            first = place.first_us, place.first_seq
            return Source(place, place.rows, first, place.last_us, place.last_seq)
        case HotSegment():
            first = place.first_us, place.first_seq
            return Source(place, place.rows, first, place.last_us, place.next_seq - 1)
        case Block():
            first = int(place.at_us.min()), int(place.seq.min())
            return Source(place, len(place), first, int(place.at_us.max()), int(place.seq.max()))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of these sources in the selection's range; of every device and tag."""

    selection: Selection
    rows: int
    places: tuple[Place, ...]


def stretches(sources: Sequence[Source], selection: Selection) -> Iterator[Stretch]:
    """All rows of the sources in the range, in order of time.

    Args:
        sources: in any order.
        selection: has neither tags nor devices.
    """
    held: list[Source] = []
    for cluster in _clusters(sources):
        if held and _rows(held) + _rows(cluster) > STRETCH_ROWS:
            yield from _cut(held, selection)
            held = []
        held += cluster
    if held:
        yield from _cut(held, selection)


def _rows(sources: Sequence[Source]) -> int:
    return sum(source.rows for source in sources)


def _clusters(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Sources that overlap, directly or by others."""
    cluster: list[Source] = []
    last_us = last_seq = 0
    for source in sorted(sources, key=lambda each: each.first):
        # Rows of one time may be in two sources: then it is seq that says which come first.
        if cluster and (last_us, last_seq) < source.first:
            yield cluster
            cluster = []
        last_us = source.last_us if not cluster else max(last_us, source.last_us)
        last_seq = max(last_seq, source.last_seq)
        cluster.append(source)
    if cluster:
        yield cluster


def _cut(sources: Sequence[Source], selection: Selection) -> Iterator[Stretch]:
    """One stretch, or equal pieces of time where that would be more rows than a window's."""
    rows = _rows(sources)
    pieces = -(-rows // WINDOW_ROWS)
    first = max(selection.start_us, min(source.first[0] for source in sources))
    last = min(selection.end_us, max(source.last_us for source in sources) + 1)
    pieces = max(1, min(pieces, last - first))
    for i in range(pieces):
        start_us = first + (last - first) * i // pieces
        end_us = first + (last - first) * (i + 1) // pieces
        within = [source for source in sources if source.first[0] < end_us and source.last_us >= start_us]
        if within:
            part = replace(selection, start_us=start_us, end_us=end_us)
            yield Stretch(part, rows // pieces, tuple(source.place for source in within))
