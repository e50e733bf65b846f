"""What the SQL of a user can name: ``channel_<number>`` for each channel, and ``channels``, ``streams``, ``devices``.

A channel's view has the columns of its published files (docs/formats/published.md). Rows that are not published yet
are copied out of ring and hot files into memory that the worker maps: hot files hold everybody's rows, so no worker may
open them.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from query.engine import not_deleted
from storage.cover import TIME_MAX_US, TIME_MIN_US
from storage.hot import read_blocks
from storage.naming import stream_name
from storage.registry import StreamDescription, User
from storage.snapshot import Snapshot
from storage.store import Store
from storage.wide import (
    FIXED_FIELDS,
    arrow_schema,
    batch_rows_max,
    physical_columns,
    to_record_batch,
)

CHANNEL_VIEW: Final = re.compile(r"channel_(0|[1-9][0-9]{0,9})")
TIME: Final = FIXED_FIELDS[1].type
CHANNELS: Final = pa.schema(
    [("channel", pa.int64()), ("channel_name", pa.string()), ("last_update", TIME), ("view", pa.string())]
)
STREAMS: Final = pa.schema(
    [("channel", pa.int64())]
    + [(name, pa.string()) for name in ("stream", "column", "kind", "label", "unit", "description")]
)
DEVICES: Final = pa.schema(
    [
        ("device_id", pa.string()),
        ("description", pa.string()),
        ("enabled", pa.bool_()),
        ("mapped_ch", pa.int64()),
        ("device_type", pa.string()),
        ("location", pa.string()),
        ("manufacturer", pa.string()),
        ("activate_at", TIME),
    ]
)


NOT_DESCRIBED: Final = StreamDescription()


class UnpublishedError(Exception):
    """More rows wait for publication than a worker may map."""


@dataclass(frozen=True, slots=True)
class View:
    """One view.

    Attributes:
        name: as it stands in SQL.
        snapshot: of a channel; None for a table of names. Whoever asked closes it.
        directory: what the files' names are relative to.
        schema, batches: the rows that are not in files; the iterator reads the snapshot, in any thread.
    """

    name: str
    snapshot: Snapshot | None
    directory: Path
    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]]

    @property
    def files(self) -> list[str]:
        published = () if self.snapshot is None else self.snapshot.published
        return [str(file.path.relative_to(self.directory)) for file in published]

    @property
    def condition(self) -> str | None:
        """What the files' rows must meet: not to be deleted."""
        published = () if self.snapshot is None else self.snapshot.published
        deleted = {each for file in published for each in file.deleted}
        return not_deleted(deleted) if deleted else None

    def close(self) -> None:
        if self.snapshot is not None:
            self.snapshot.close()


def directory_of(store: Store, user: User) -> Path:
    """Where the user's published files lie; it may not exist yet."""
    return store.catalog.root.absolute() / f"user={user.user_id}"


def views_of(store: Store, user: User, names: list[str]) -> list[View]:
    """Those of these names that are views of the user's. In the main thread."""
    found: list[View] = []
    try:
        for name in names:
            view = _view(store, user, name)
            if view is not None:
                found.append(view)
    except BaseException:
        for view in found:
            view.close()
        raise
    return found


def _view(store: Store, user: User, name: str) -> View | None:
    directory = directory_of(store, user)
    tables: dict[str, tuple[pa.Schema, Callable[[Store, User], list[dict[str, Any]]]]] = {
        "channels": (CHANNELS, _channels),
        "streams": (STREAMS, _streams),
        "devices": (DEVICES, _devices),
    }
    if name in tables:
        schema, rows = tables[name]
        batch = pa.RecordBatch.from_pylist(rows(store, user), schema)
        return View(name, None, directory, schema, lambda: iter([batch]))
    match = CHANNEL_VIEW.fullmatch(name)
    channel = None if match is None else store.registry.channel(user.user_id, int(match[1]))
    if channel is None:
        return None
    snapshot = store.snapshot(channel, TIME_MIN_US, TIME_MAX_US)
    schema = pa.schema([plain(field) for field in arrow_schema(snapshot.columns)])
    return View(name, snapshot, directory, schema, lambda: _unpublished(snapshot, schema))


def plain(field: pa.Field) -> pa.Field:
    """Dictionaries would become enumerations in DuckDB."""
    return field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field


def _unpublished(snapshot: Snapshot, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The ring's rows first, so that it can be let go of soon."""
    rows = batch_rows_max(len(snapshot.columns))
    blocks = [snapshot.fresh_blocks(rows), *(read_blocks(segment) for segment in snapshot.hot)]
    for part in blocks:
        for block in part:
            batch = to_record_batch(block, snapshot.columns, snapshot.device_name, snapshot.tag_name)
            yield from pa.Table.from_batches([batch]).cast(schema).to_batches(max_chunksize=rows)


def in_memory(view: View, bytes_max: int) -> int:
    """The view's unpublished rows as an Arrow stream in memory; its descriptor, which the caller closes. Any thread.

    Raises:
        UnpublishedError: there are more than these bytes.
    """
    descriptor = os.memfd_create(view.name, os.MFD_CLOEXEC)
    try:
        with (
            pa.OSFile(f"/proc/self/fd/{descriptor}", "wb") as file,
            pa.ipc.new_stream(file, view.schema) as writer,
        ):
            for batch in view.batches():
                writer.write_batch(batch)
                _check(view, file.tell(), bytes_max)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(view: View, size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise UnpublishedError(
            f"{view.name}: rows that are not published yet take more than {bytes_max} bytes"
        )


def _channels(store: Store, user: User) -> list[dict[str, Any]]:
    return [
        {
            "channel": channel.number,
            "channel_name": channel.channel_name,
            "last_update": store.last_update_us(channel),
            "view": f"channel_{channel.number}",
        }
        for channel in store.registry.channels(user.user_id)
    ]


def _streams(store: Store, user: User) -> list[dict[str, Any]]:
    rows = []
    for channel in store.registry.channels(user.user_id):
        descriptions = store.registry.stream_descriptions(channel.id)
        for column in physical_columns(store.schema.columns_of(channel.id)):
            name = stream_name(column.name)
            described = descriptions.get(name, NOT_DESCRIBED)
            rows.append(
                {
                    "channel": channel.number,
                    "stream": name,
                    "column": column.physical,
                    "kind": column.kind.name.lower(),
                    "label": described.label,
                    "unit": described.unit,
                    "description": described.description,
                }
            )
    return rows


def _devices(store: Store, user: User) -> list[dict[str, Any]]:
    names = [name for name in DEVICES.names if name != "activate_at"]
    return [
        {**{name: getattr(device, name) for name in names}, "activate_at": device.activate_at_us}
        for device in store.registry.devices(user.user_id)
    ]
