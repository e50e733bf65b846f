"""The frame of a reply: its parts, its columns, and what is said of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from query.newest_rows import NewestRows
from query.order import time_order
from query.rows import raw
from storage.kinds import Kind
from storage.naming import physical_names, stream_name
from storage.registry import StreamDescription
from storage.wide import PhysicalColumn

Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Part:
    """One channel of a reply.

    Attributes:
        number: the channel's.
        head: what the contract says of a channel before its rows.
        columns: those that are asked for, in order of registration.
        described: what people say of its streams.
        tables: its rows, table after table in the order of time; inside a table in no order.
        newest: for JSON, all of them as they were found, instead of tables.
    """

    number: int
    head: Mapping[str, Any]
    columns: Sequence[PhysicalColumn]
    described: Mapping[str, StreamDescription]
    tables: Iterator[pa.Table]
    newest: NewestRows | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """What all parts have in common.

    Attributes:
        zone: of times in texts.
        descending: newest first; None for no order at all.
        has_channel: rows say their channel, for there are several.
        with_meta: streams are described, also in texts.
        compression: of Arrow's buffers, or None.
        cursor: where the next page begins, if there is one.
    """

    zone: ZoneInfo
    descending: bool | None = False
    has_channel: bool = False
    with_meta: bool = False
    compression: str | None = None
    cursor: str | None = None


def order_of(table: pa.Table, descending: bool | None) -> NDArray[np.int64]:
    """Positions of the rows in the order that is asked for."""
    if descending is None:
        return np.arange(table.num_rows)
    return time_order(raw(table, "at"), raw(table, "seq"), descending)


@dataclass(slots=True)
class FlatColumn:
    """A column of a flat format.

    Attributes:
        name: unique in the reply.
        stream: None for a literal payload.
        sources: by channel number, what the column is called there.
    """

    name: str
    stream: str | None
    kind: Kind
    described: StreamDescription
    sources: dict[int, str] = field(default_factory=dict)


def flat_columns(parts: Sequence[Part]) -> list[FlatColumn]:
    """One column per (stream, kind) of all parts.

    A single channel's are called as in its published files; those of several as one channel's would be that had all
    their streams.
    """
    found: dict[tuple[str | None, Kind], FlatColumn] = {}
    for part in parts:
        for column in part.columns:
            key = column.name, column.kind
            if key not in found:
                described = part.described.get(stream_name(column.name), StreamDescription())
                found[key] = FlatColumn(column.physical, column.name, column.kind, described)
            found[key].sources[part.number] = column.physical
    if len(parts) > 1:
        for flat, name in zip(found.values(), physical_names(found), strict=True):
            flat.name = name
    return list(found.values())


def streams_shown(parts: Sequence[Part]) -> dict[str, dict[str, str]]:
    """What is said of each stream: people's words, and the kind that it had first."""
    shown: dict[str, dict[str, str]] = {}
    for part in parts:
        for column in part.columns:
            name = stream_name(column.name)
            said = part.described.get(name, StreamDescription())
            words = {"label": said.label, "unit": said.unit, "description": said.description}
            kind = column.kind.name.lower()
            if name not in shown or (shown[name]["kind"] == "json" and kind != "json"):
                # JSON never owns a stream's name (storage/naming.py): null may have come before the first number.
                shown[name] = {**words, "kind": kind}
    return shown
