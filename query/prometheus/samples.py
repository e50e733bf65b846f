"""Samples of the series that a selector finds: read window by window, kept in bounded memory.

Of what an instant selector finds, a step can only ever show the last sample after the step before it: so many are kept
and no more, however many readings there are. Functions of ranges need every sample.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from query.engine import Engine, condition, quoted, source
from query.plan import FILES_MAX, Selection
from query.prometheus.errors import ExecutionError, TimedOutError
from query.prometheus.labels import Labels, Stream, allowed, present
from query.prometheus.language import Selector
from query.rows import ChannelRows, one_chunk, raw
from storage.cover import PublishedFile

# Series of one answer: each is some dictionaries and arrays, 2 KB and more.
SERIES_MAX: Final = 100_000

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
Key = tuple[str, str]  # device and tag; a tag that is not there is empty


@dataclass(frozen=True, slots=True)
class Series:
    """A series and its samples: times in microseconds, ascending, each once."""

    labels: Labels
    at_us: Times
    values: Floats


class Deadline:
    """Until when a query may run. Any thread, any process: all have one monotonic clock.

    Args:
        seconds: that it may take from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = monotonic() + seconds

    def check(self) -> None:
        """Raises TimedOutError."""
        if monotonic() > self._ends:
            raise TimedOutError(f"the query takes longer than {self._seconds:g} s")


class Collector:
    """Gathers what a selector finds, channel by channel. One thread at a time.

    Args:
        selector: its matchers say which series.
        steps_us: the times to evaluate at, less the selector's offset, ascending.
        samples_max: more are refused.
        deadline: of the query.
    """

    def __init__(self, selector: Selector, steps_us: Times, samples_max: int, deadline: Deadline) -> None:
        self._selector, self._steps_us = selector, steps_us
        self._samples_max, self._deadline = samples_max, deadline
        self._samples = 0
        self.series: list[Series] = []

    def add(self, rows: ChannelRows, streams: Sequence[Stream]) -> None:
        """A channel's rows; the streams are those that the selector does not exclude. Raises PrometheusError."""
        found: dict[tuple[Key, int], list[tuple[Times, Floats]]] = {}
        for window in rows.windows:
            self._deadline.check()
            table = rows.table(window)
            if table.num_rows:
                for key, at_us, number, values in self._cells(table, streams):
                    found.setdefault((key, number), []).append((at_us, values))
                    self._samples += len(values)
            check_series(len(self.series) + len(found))
            if self._samples > self._samples_max:
                raise ExecutionError(
                    f"the query needs more than {self._samples_max} samples in memory (query.prometheus_samples_max); "
                    "ask for a shorter range or fewer series"
                )
        for ((device, tag), number), parts in found.items():
            labels = present({**streams[number].labels, "device": device, "tag": tag})
            at_us, values = (np.concatenate(each) for each in zip(*parts, strict=True))
            self.series.append(Series(labels, at_us, values))

    def _cells(self, table: pa.Table, streams: Sequence[Stream]) -> Iterator[tuple[Key, Times, int, Floats]]:
        """Of each series: device and tag, times, the stream's position, values."""
        keys, positions = keys_of(table)
        passed = allowed_keys(self._selector, keys)
        at_us = raw(table, "at")
        order = np.lexsort((raw(table, "seq"), at_us, positions))
        order = order[passed[positions[order]]]
        positions, at_us = positions[order], at_us[order]
        ends = at_us if self._selector.range_us else np.searchsorted(self._steps_us, at_us)
        for number, stream in enumerate(streams):
            values, is_there = cells_of(table, stream)
            rows = np.flatnonzero(is_there[order])
            if not len(rows):
                continue
            at, of, end = at_us[rows], positions[rows], ends[rows]
            # The last of each time, or of each step.
            is_last = np.append((of[1:] != of[:-1]) | (end[1:] != end[:-1]), True)
            rows, at, of = rows[is_last], at[is_last], of[is_last]
            cells = values[order[rows]]
            cuts = np.flatnonzero(of[1:] != of[:-1]) + 1
            for first, last in zip([0, *cuts.tolist()], [*cuts.tolist(), len(of)], strict=True):
                yield keys[of[first]], at[first:last], number, cells[first:last]


def check_series(count: int) -> None:
    """Raises ExecutionError."""
    if count > SERIES_MAX:
        raise ExecutionError(f"more than {SERIES_MAX} series; ask for fewer with more labels")


def keys_of(table: pa.Table) -> tuple[list[Key], NDArray[np.int64]]:
    """The devices and tags that occur together, and the position of each row's among them."""
    devices, device = names_of(table, "device")
    tags, tag = names_of(table, "tag")
    pairs, positions = np.unique(device * (len(tags) + 1) + tag + 1, return_inverse=True)
    keys = [
        (devices[pair // (len(tags) + 1)], ["", *tags][pair % (len(tags) + 1)]) for pair in pairs.tolist()
    ]
    return keys, positions


def names_of(table: pa.Table, column: str) -> tuple[list[str], NDArray[np.int64]]:
    """A column's names, and the position of each row's among them; -1 is null."""
    array = one_chunk(table.column(column).unify_dictionaries())
    indices = array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return array.dictionary.to_pylist(), indices


def allowed_keys(selector: Selector, keys: Sequence[Key]) -> NDArray[np.bool_]:
    """For each device and tag whether the matchers let them pass."""
    passed = np.ones(len(keys), np.bool_)
    for i, label in enumerate(("device", "tag")):
        passed &= np.array(allowed(selector.matchers, label, [key[i] for key in keys]), np.bool_)
    return passed


def cells_of(table: pa.Table, stream: Stream) -> tuple[Floats, NDArray[np.bool_]]:
    """A stream's numbers, and which rows have one."""
    values, is_there = np.zeros(table.num_rows), np.zeros(table.num_rows, np.bool_)
    for column in stream.columns:
        if column.physical in table.column_names:
            array = one_chunk(table.column(column.physical))
            valid = array.is_valid().to_numpy(zero_copy_only=False)
            numbers = array.fill_null(0).to_numpy(zero_copy_only=False)
            values[valid] = numbers[valid]
            is_there |= valid
    return values, is_there


def labels_in(
    rows: ChannelRows,
    engine: Engine,
    published: Sequence[PublishedFile],
    streams: Sequence[Stream],
    selector: Selector,
    deadline: Deadline,
) -> list[Labels]:
    """The labels of the series of these streams that have samples in the rows. In a worker thread.

    Raises PrometheusError.
    """
    found: set[tuple[Key, int]] = set()
    for first in range(0, len(published), FILES_MAX):
        deadline.check()
        files = published[first : first + FILES_MAX]
        known = rows.columns[: max(file.columns for file in files)]
        here = [
            (number, column)
            for number, stream in enumerate(streams)
            for column in stream.columns
            if column in known
        ]
        if here:
            counts = [f"count({quoted(column.physical)})" for _, column in here]
            for device, tag, *counted in by_device_and_tag(engine, files, counts, rows.selection):
                key = (device, tag or "")
                found |= {(key, number) for (number, _), n in zip(here, counted, strict=True) if n}
            check_series(len(found))
    for window in rows.windows:
        deadline.check()
        for table in rows.unpublished_of(window):
            found |= series_in(table, streams)
        check_series(len(found))
    keys = sorted({key for key, _ in found})
    passed = {key for key, yes in zip(keys, allowed_keys(selector, keys), strict=True) if yes}
    return [
        present({**streams[number].labels, "device": device, "tag": tag})
        for (device, tag), number in sorted(found)
        if (device, tag) in passed
    ]


def series_in(table: pa.Table, streams: Sequence[Stream]) -> set[tuple[Key, int]]:
    """Device, tag and the position of the stream of what has numbers in the table."""
    keys, positions = keys_of(table)
    return {
        (keys[at], number)
        for number, stream in enumerate(streams)
        for at in np.unique(positions[cells_of(table, stream)[1]]).tolist()
    }


def by_device_and_tag(
    engine: Engine, files: Sequence[PublishedFile], expressions: Sequence[str], selection: Selection
) -> list[tuple[Any, ...]]:
    """Device, tag and the aggregates of each pair of them over published files."""
    where, parameters = condition(selection, files)
    names = ", ".join(["device", "tag", *expressions])
    return engine.fetch(f"SELECT {names} FROM {source(files)}{where} GROUP BY device, tag", parameters)  # noqa: S608
