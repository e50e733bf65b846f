"""How streams become series: a metric's name, labels, and what matchers say of them.

A series is one stream of one device under one tag in one channel. An empty label is the same as none.
Regular expressions are RE2, as in Prometheus: they match whole values, in linear time.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from query.prometheus.errors import BadDataError
from query.prometheus.language import NAME_LABEL, Matcher
from storage.kinds import Kind
from storage.naming import stream_name
from storage.registry import Channel, StreamDescription
from storage.wide import PhysicalColumn

NUMERIC: Final = (Kind.NUMBER, Kind.INTEGER)
NOT_OF_METRICS: Final = re.compile("[^a-zA-Z0-9_:]", re.ASCII)
NOT_DESCRIBED: Final = StreamDescription()
DATA_LABELS: Final = ("device", "tag")  # what only the readings themselves say

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Stream:
    """A numeric stream of a channel: its columns, and the labels that all of its series have."""

    name: str
    columns: tuple[PhysicalColumn, ...]
    labels: Labels


def metric_name(stream: str) -> str:
    """``[a-zA-Z_:][a-zA-Z0-9_:]*``: anything else becomes ``_``; a digit at the beginning gets one before it."""
    name = NOT_OF_METRICS.sub("_", stream)
    return "_" + name if not name or name[0].isdigit() else name


def streams_of(
    channel: Channel, columns: Iterable[PhysicalColumn], described: Mapping[str, StreamDescription]
) -> list[Stream]:
    """A channel's numeric streams by name; numbers and great integers of a stream are one series."""
    found: dict[str, list[PhysicalColumn]] = {}
    for column in columns:
        if column.kind in NUMERIC:
            found.setdefault(stream_name(column.name), []).append(column)
    made = []
    for name, own in found.items():
        labels = {
            NAME_LABEL: metric_name(name),
            "channel": str(channel.number),
            "channel_name": channel.channel_name,
            "stream": name,
            "unit": described.get(name, NOT_DESCRIBED).unit,
        }
        made.append(Stream(name, tuple(own), present(labels)))
    return made


def present(labels: Labels) -> Labels:
    """Without the empty ones."""
    return {name: value for name, value in labels.items() if value}


def matching(matcher: Matcher, values: Sequence[str]) -> list[bool]:
    """For each value whether it matches. Raises BadDataError: not a regular expression."""
    match matcher.operator:
        case "=":
            return [value == matcher.value for value in values]
        case "!=":
            return [value != matcher.value for value in values]
        case operator:
            try:
                found = pc.match_substring_regex(pa.array(values, pa.string()), f"^(?s:{matcher.value})$")
            except pa.ArrowInvalid:
                raise BadDataError(f"{matcher.name}: not a regular expression: {matcher.value!r}") from None
            return [answer == (operator == "=~") for answer in found.to_pylist()]


def streams_matching(streams: Iterable[Stream], matchers: Iterable[Matcher]) -> list[Stream]:
    """The streams that what is known without their readings does not exclude. Raises BadDataError."""
    kept = list(streams)
    for matcher in matchers:
        if matcher.name not in DATA_LABELS:
            answers = matching(matcher, [stream.labels.get(matcher.name, "") for stream in kept])
            kept = [stream for stream, answer in zip(kept, answers, strict=True) if answer]
    return kept


def allowed(matchers: Iterable[Matcher], label: str, values: Sequence[str]) -> list[bool]:
    """For each value of a label whether all matchers of that label let it pass. Raises BadDataError."""
    passed = [True] * len(values)
    for matcher in matchers:
        if matcher.name == label:
            passed = [a and b for a, b in zip(passed, matching(matcher, values), strict=True)]
    return passed
