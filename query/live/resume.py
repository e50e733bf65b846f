"""What a viewer missed: rows behind a seq that it has, out of the ring or out of files, each exactly once.

The rows are those below the seq at which the viewer joined the hub; from there on it gets them from its view.
"""

import numpy as np

from query.background import in_background
from query.live.events import events_of, gap_event
from query.live.hub import Hub
from query.live.view import Watch
from query.plan import Selection
from query.ports import Backend
from query.rows import ChannelRows, raw
from query.times import zone_of
from storage.cover import TIME_MAX_US, TIME_MIN_US
from storage.registry import Channel, User
from storage.store import Store


def selection_of(store: Store, watch: Watch, channel: Channel) -> Selection | None:
    """Names resolved to ids; None if nothing can be there."""
    tags = tuple((name, store.schema.tag_id(channel.id, name)) for name in sorted(watch.tags))
    devices = tuple(
        (name, store.registry.device_by_name(watch.user_id, name)) for name in sorted(watch.devices)
    )
    known_tags = tuple((name, number) for name, number in tags if number > 0)
    known_devices = tuple((name, number) for name, number in devices if number is not None)
    if (tags and not known_tags) or (devices and not known_devices):
        return None
    return Selection(
        TIME_MIN_US, TIME_MAX_US, known_tags if tags else None, known_devices if devices else None
    )


async def missed(backend: Backend, hub: Hub, watch: Watch, user: User, since: int, next_seq: int) -> bytes:
    """Events of the rows with ``since < seq < next_seq``: the newest ``resume_rows_max``, and what is not shown.

    Args:
        backend: the daemon.
        hub: its limits.
        watch: what is watched.
        user: whose.
        since: the last seq that the viewer has.
        next_seq: where it joined.
    """
    if since + 1 >= next_seq:
        return b""
    rows_max = hub.options.resume_rows_max
    found: list[tuple[int, bytes]] = []
    zone = zone_of(user.locale)
    left_out = -1  # the newest row that is not shown
    for number in sorted(hub.channels_of(watch)):
        channel = backend.store.channel_by_id(number)
        selection = selection_of(backend.store, watch, channel)
        newest = backend.store.ring.newest(number, 1)
        if selection is None or (len(newest) and newest[0] <= since):
            continue
        async with backend.queries:
            with backend.store.snapshot(channel, TIME_MIN_US, TIME_MAX_US) as snapshot:
                rows = await in_background(ChannelRows, snapshot, selection, backend.engine)
                snapshot.let_go_of_ring()
                table = await in_background(backend.newest.from_files, snapshot, rows, rows_max + 1, since)
        seqs = raw(table, "seq")
        table = table.take(np.flatnonzero((seqs > since) & (seqs < next_seq)))
        if table.num_rows > rows_max:
            left_out = max(left_out, int(raw(table, "seq")[0]))
            table = table.slice(table.num_rows - rows_max)
        found += events_of(table, rows.columns, zone, channel.number)
        if len(found) > rows_max:
            found.sort()
            left_out = max(left_out, found[-rows_max - 1][0])
            found = found[-rows_max:]
    found = sorted(each for each in found if each[0] > left_out)
    gap = gap_event(since + 1, left_out + 1) if left_out >= 0 else b""
    return gap + b"".join(event for _, event in found)
