"""What every read of the Stream service is made of: names resolved, heads of channels, replies."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from query.background import in_background
from query.formats import Layout, Part
from query.newest import EVERYTHING
from query.newest_rows import NewestRows
from query.plan import Selection
from query.ports import Backend
from query.rows import ChannelRows
from query.stream_request import StreamRequest
from query.times import format_time
from storage.cover import TIME_MAX_US, TIME_MIN_US
from storage.registry import Channel, User
from storage.snapshot import Snapshot
from storage.wide import PhysicalColumn, physical_columns


def selection_of(
    backend: Backend, user: User, channel: Channel, asked: StreamRequest, span: tuple[int, int]
) -> Selection | None:
    """Names resolved to ids; None if nothing can be there."""
    tags = devices = None
    if asked.tags:
        numbers = ((name, backend.store.schema.tag_id(channel.id, name)) for name in asked.tags)
        tags = tuple((name, number) for name, number in numbers if number > 0)
    if asked.devices:
        known = ((name, backend.store.registry.device_by_name(user.user_id, name)) for name in asked.devices)
        devices = tuple((name, number) for name, number in known if number is not None)
    if tags == () or devices == () or span[0] >= span[1]:
        return None
    return Selection(*span, tags, devices, asked.streams or None)


def span_of(asked: StreamRequest) -> tuple[int, int]:
    """The range, end exclusive."""
    if asked.end_us is None:
        return max(asked.start_us, EVERYTHING.start_us), EVERYTHING.end_us
    return max(asked.start_us, TIME_MIN_US), min(asked.end_us + 1, TIME_MAX_US)


def head_of(backend: Backend, channel: Channel, asked: StreamRequest) -> dict[str, Any]:
    """What the contract says of a channel."""
    at_us = backend.store.last_update_us(channel)
    return {
        "channel": channel.number,
        "channel_name": channel.channel_name,
        "last_update": None if at_us is None else format_time(at_us, asked.zone),
    }


def columns_of(backend: Backend, channel: Channel) -> tuple[PhysicalColumn, ...]:
    return physical_columns(backend.store.schema.columns_of(channel.id))


def part_of(
    backend: Backend,
    channel: Channel,
    asked: StreamRequest,
    columns: Sequence[PhysicalColumn],
    tables: Iterator[pa.Table],
    newest: NewestRows | None = None,
) -> Part:
    """A channel's rows with their frame."""
    wanted = Selection(0, 0, streams=asked.streams or None).wants
    return Part(
        number=channel.number,
        head=head_of(backend, channel, asked),
        columns=[column for column in columns if wanted(column)],
        described=backend.store.registry.stream_descriptions(channel.id),
        tables=tables,
        newest=newest,
    )


def layout_of(asked: StreamRequest, *, is_list: bool, cursor: str | None = None) -> Layout:
    """What all channels of a reply have in common."""
    return Layout(
        zone=asked.zone,
        descending=None if asked.is_unordered else asked.descending,
        has_channel=is_list,
        with_meta=asked.with_meta,
        compression=asked.compression,
        cursor=cursor,
    )


async def rows_of(
    backend: Backend, snapshot: Snapshot, selection: Selection, window_rows: int | None = None
) -> ChannelRows:
    """What only the ring has is copied at once, so that a long query does not keep the ring from being used."""
    rows = await in_background(ChannelRows, snapshot, selection, backend.engine, window_rows)
    snapshot.let_go_of_ring()
    return rows
