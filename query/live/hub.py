"""The hub: one task that turns what became durable into events, once for each channel that somebody watches.

Nothing is copied per viewer and nothing is kept per row: the ring is read by a cursor, and the same bytes go to all who
watch the same (query/live/view.py, query/live/pump.py). Turns are paced by the number of viewers, because each costs a
system call for every one of them: some milliseconds apart for a few, a twentieth of a second for five hundred.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import trio

from query.errors import ApiError
from query.live.events import events_of
from query.live.pump import pump
from query.live.view import View, Viewer, Watch
from query.times import zone_of
from storage.store import Store
from storage.wide import physical_columns, to_record_batch

# Rows of one channel that are made into events in one go: some milliseconds.
SLICE_ROWS: Final = 2_048
# Between two turns: long enough for all viewers to have been served, and never so long that somebody notices.
PAUSE_S_MIN: Final = 0.005
PAUSE_S_MAX: Final = 0.1
PAUSE_S_PER_VIEWER: Final = 0.0001

# seq, device, tag, event
Event = tuple[int, str, str, bytes]


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """Limits of live viewers.

    Attributes:
        viewers_max: at a time.
        viewers_per_user_max: of one user.
        buffer_bytes_max: events that wait for the slowest viewer of a view.
        resume_rows_max: datapoints that are given after the fact.
        heartbeat_s: a comment is sent after so much silence.
    """

    viewers_max: int
    viewers_per_user_max: int
    buffer_bytes_max: int
    resume_rows_max: int
    heartbeat_s: float


@dataclass(frozen=True, slots=True)
class LiveStatistics:
    """Viewers now; datapoints that were made into events, and readers that were too slow, ever."""

    viewers: int
    events: int
    lagged: int


class Hub:
    """See the module. The main thread's.

    Args:
        store: whose rows.
        options: limits.
    """

    def __init__(self, store: Store, options: LiveOptions) -> None:
        self._store = store
        self.options = options
        self._views: dict[Watch, View] = {}
        self._viewers: dict[str, int] = {}
        self._seen = 0
        self._wake = trio.Event()
        self._changed: set[View] = set()  # whose viewers are to be woken
        self._numbers: dict[int, tuple[int, str]] = {}  # number and user of each channel
        self._all_of: dict[str, frozenset[int]] = {}
        self._version = -1
        self._events = 0
        self.lagged = 0
        self.is_closed = False

    # ---- the daemon's side

    def on_durable(self) -> None:
        """Rows became durable."""
        if self._views:
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            self._turn()
            changed, self._changed = self._changed, set()
            await pump(changed)
            pause_s = PAUSE_S_PER_VIEWER * sum(self._viewers.values())
            await trio.sleep(min(max(pause_s, PAUSE_S_MIN), PAUSE_S_MAX))

    def close(self) -> None:
        """The daemon stops: no viewer is to delay that."""
        self.is_closed = True
        for view in self._views.values():
            for viewer in view.viewers:
                viewer.wake()
                if viewer.is_writing:
                    viewer.scope.cancel()

    def statistics(self) -> LiveStatistics:
        return LiveStatistics(sum(self._viewers.values()), self._events, self.lagged)

    # ---- viewers

    def join(self, watch: Watch) -> Viewer:
        """A new viewer, of everything that becomes durable from now on; it must leave.

        Raises:
            ApiError: there are as many as may be.
        """
        mine, options = self._viewers.get(watch.user_id, 0), self.options
        if self.is_closed or sum(self._viewers.values()) >= options.viewers_max:
            raise ApiError("UNAVAILABLE", "too many viewers ([live] viewers_max)", {"Retry-After": "5"})
        if mine >= options.viewers_per_user_max:
            words = f"the account has {mine} viewers ([live] viewers_per_user_max)"
            raise ApiError("TOO_MANY_REQUESTS", words, {"Retry-After": "5"})
        if self._views:
            self._turn()  # so that what others have not seen yet is not new to this one
            self._wake.set()
        self._seen = self._store.ring.durable
        view = self._views.setdefault(watch, View(watch, options.buffer_bytes_max))
        viewer = Viewer(view, self._seen)
        view.viewers.add(viewer)
        self._viewers[watch.user_id] = mine + 1
        return viewer

    def leave(self, viewer: Viewer) -> None:
        view = viewer.view
        view.viewers.remove(viewer)
        if not view.viewers:
            del self._views[view.watch]
        self._viewers[view.watch.user_id] -= 1
        if not self._viewers[view.watch.user_id]:
            del self._viewers[view.watch.user_id]

    def channels_of(self, watch: Watch) -> frozenset[int]:
        """Registry ids."""
        registry = self._store.registry
        if registry.version != self._version:
            self._version = registry.version
            self._all_of.clear()
        if watch.channels is not None:
            return watch.channels
        if watch.user_id not in self._all_of:
            self._all_of[watch.user_id] = frozenset(each.id for each in registry.channels(watch.user_id))
        return self._all_of[watch.user_id]

    # ---- turns

    def _turn(self) -> None:
        """Everything that became durable since the last one."""
        ring = self._store.ring
        first, last = self._seen, ring.durable
        if first == last:
            return
        self._seen = last
        if first < ring.oldest:  # the ring was overwritten meanwhile
            for view in self._views.values():
                view.lose()
                self._changed.add(view)
            return
        watched: dict[int, list[View]] = {}
        for view in self._views.values():
            for channel in self.channels_of(view.watch):
                watched.setdefault(channel, []).append(view)
        found: dict[View, list[list[Event]]] = {}
        for channel, views in watched.items():
            seqs = ring.unsealed(channel, first, last)
            if len(seqs):
                events = list(self._events_of(channel, seqs))
                for view in views:
                    found.setdefault(view, []).append(events)
        for view, parts in found.items():
            data = shown(parts, view.watch)
            if data:
                view.add(last, data)
                self._changed.add(view)

    def _events_of(self, channel: int, seqs: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Iterable[Event]:
        """Rows in the ring as events, in order of seq."""
        store = self._store
        if channel not in self._numbers:
            owner = store.channel_by_id(channel)
            self._numbers[channel] = owner.number, owner.user_id
        number, user_id = self._numbers[channel]
        user = store.registry.user(user_id)
        zone = zone_of("UTC" if user is None else user.locale)
        columns = physical_columns(store.schema.columns_of(channel))
        self._events += len(seqs)
        for at in range(0, len(seqs), SLICE_ROWS):
            block = store.ring.block(seqs[at : at + SLICE_ROWS])
            present = set(block.column.tolist())
            own = [column for column in columns if column.id in present]
            batch = to_record_batch(block, own, store.device_name, store.tag_name)
            events = events_of(pa.Table.from_batches([batch]), own, zone, number)
            for (seq, event), device, tag in zip(
                events, block.device.tolist(), block.tag.tolist(), strict=True
            ):
                yield seq, store.device_name(device), store.tag_name(tag) if tag else "", event


def shown(parts: list[list[Event]], watch: Watch) -> bytes:
    """What a view has of these events of some channels, in order of seq."""
    events = parts[0] if len(parts) == 1 else sorted(event for part in parts for event in part)
    return b"".join(
        event
        for _, device, tag, event in events
        if (not watch.devices or device in watch.devices) and (not watch.tags or tag in watch.tags)
    )
