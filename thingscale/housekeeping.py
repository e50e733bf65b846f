"""Housekeeping: what goes on beside the traffic, one thing at a time, its heavy half in a worker thread.

    seal      when the ring is half full, its oldest row has waited long enough, or the disk is full
    publish   days that have closed, channels that have gathered a file's worth or were archived, or when somebody asks
    drop      the data of deleted channels, and the oldest data of users who have reached their cap
    erase     the entries of deleted tags, out of published files
    spare     the next log segment, before it is needed
    watch     the registry, for changes by the command line

A full disk is waited out: it is logged, everything stays in the log, and the ring's backpressure does the rest. Where
the log itself has filled it, sealing gives the room back; the log leaves enough for that (storage.room_bytes).
"""

import logging
from collections.abc import Callable
from typing import Any, Final

import trio

from storage.archive import unfinished
from storage.caps import Excess, over_cap
from storage.catalog_change import Cursor
from storage.commit import GroupCommit
from storage.cover import day_name
from storage.disk import DiskFullError
from storage.hot import DamagedFileError
from storage.registry import RegistryBusyError
from storage.store import Store
from thingscale.clocks import now
from thingscale.config import Config

WATCH_S: Final = 0.4
PUBLISH_S: Final = 30.0
WAITING_S: Final = 2.0
# A log that grows by more than this is not helped by zeros written beside it: its segments are used again soon.
RUSH_BYTES_PER_S: Final = 32 << 20

log = logging.getLogger("thingscale.storage")


class Housekeeping:
    """Runs beside the reactor, in the main thread except for its heavy halves.

    Args:
        config: intervals and shares.
        store: what is kept in order.
        commits: where durability stands, and whether the disk is full.
        on_room: a seal has made room in the ring.
        on_registry_change: the registry may be different; looks by itself what is.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        commits: GroupCommit,
        on_room: Callable[[], None],
        on_registry_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._commits = commits
        self._on_room = on_room
        self._on_registry_change = on_registry_change
        self._interval_s = float(config["storage.seal_interval_s"])
        self._fill = float(config["storage.seal_ring_fill"])
        self._log_bytes = int(config["storage.seal_log_bytes"])
        self._sealed_log_bytes = 0
        self._grace_us = int(config["storage.publish_grace_s"] * 1e6)
        self._audit_us = int(config["audit.retention_days"]) * 86_400_000_000
        self._storage_bytes_max = int(config["limits.storage_bytes_per_user_max"])
        self._worker = trio.Lock()  # one worker thread at a time
        self._pressure = trio.Event()
        self._archived = trio.Event()  # rows of an archived channel wait
        self._sealed_s = now()[0]
        self._damaged: set[tuple[int, int]] = set()  # (channel, day)
        self.seals = self.publications = self.disk_full = self.cap_rows = 0

    def on_completed(self) -> None:
        """A batch became durable: is the ring full enough to be sealed before its time?"""
        if self._pressure.is_set():
            return
        log_bytes = self._commits.log_bytes - self._sealed_log_bytes
        if self.ring_share() >= self._fill or log_bytes >= self._log_bytes:
            self._pressure.set()

    def ring_share(self) -> float:
        ring = self._store.ring.statistics()
        return max(
            ring.rows / ring.rows_max, ring.cells / ring.cells_max, ring.text_bytes / ring.text_bytes_max
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_seals)
            nursery.start_soon(self._run_publications)
            nursery.start_soon(self._run_watch)

    async def _run_seals(self) -> None:
        while True:
            left = self._sealed_s + self._interval_s - now()[0]
            with trio.move_on_after(max(0.0, left)):
                await self._pressure.wait()
            try:
                async with self._worker:
                    await self._seal()
                    await self._drop()
                self._sealed_s = now()[0]
                if self.ring_share() < self._fill:
                    self._pressure = trio.Event()
            except (DiskFullError, RegistryBusyError) as error:
                self.say_waiting(error)
                await trio.sleep(WAITING_S)

    async def _seal(self) -> None:
        """Everything durable into a hot file."""
        store = self._store
        store.flush_states()
        store.flush_notes()
        target = Cursor(self._commits.durable_lsn, store.ring.durable)
        log_bytes = self._commits.log_bytes
        if target == store.catalog.cursor:
            return
        change = await trio.to_thread.run_sync(store.seal, target)
        store.apply(change)
        self._sealed_log_bytes = log_bytes
        self.seals += 1
        self._on_room()

    async def _drop(self) -> None:
        for channel in await trio.to_thread.run_sync(self._store.deleted_channels):
            self._store.apply(await trio.to_thread.run_sync(self._store.drop, channel))

    async def _run_publications(self) -> None:
        while True:
            with trio.move_on_after(PUBLISH_S):
                await self._archived.wait()
            self._archived = trio.Event()
            try:
                archived = unfinished(self._store)
                if archived or self._store.publisher.due(now()[1], self._grace_us):
                    async with self._worker:
                        await self._seal()  # what is still in the ring belongs into the same file
                    due = self._store.publisher.due(now()[1], self._grace_us)
                    due += self._store.publisher.waiting(archived)
                    await self._publish([key for key in due if key not in self._damaged])
                await self._erase()
                await self._keep_caps()
            except (DiskFullError, RegistryBusyError) as error:
                self.say_waiting(error)

    async def _erase(self) -> None:
        """Files lose the entries of deleted tags."""
        store = self._store
        if not store.catalog.deleted_tags and not store.catalog.placeable():
            return
        async with self._worker:
            await self._seal()  # what was deleted in the ring does not come into files any more
        known = len(store.damaged)
        steps = store.erasing()
        while True:
            async with self._worker:
                if (step := next(steps, None)) is None:
                    break
                store.apply(await trio.to_thread.run_sync(step))
        for where, error in list(store.damaged.items())[known:]:
            log.error("deleted entries are still in %s: %s", where, error)

    async def _keep_caps(self) -> None:
        """Where a user has stored more than it may, its oldest readings go."""
        for user_id, excess in over_cap(self._store, self._storage_bytes_max).items():
            async with self._worker:
                pieces = 0
                for piece in Excess(self._store, user_id, excess):
                    self._store.apply(await trio.to_thread.run_sync(self._store.catalog.commit_forget, piece))
                    pieces += 1
                    self.cap_rows += piece.rows
            log.info(
                "user %s has reached its cap: %d of its oldest files and segments are gone", user_id, pieces
            )

    async def _publish(self, due: list[tuple[int, int]]) -> int:
        """Publish these (channel, day); how many files came of it.

        One at a time: in the fleet's midnight there are thousands, and the ring must be sealed in between.
        """
        files = 0
        for channel, day in due:
            async with self._worker:
                try:
                    change = await trio.to_thread.run_sync(self._store.publisher.publish, channel, day)
                except DamagedFileError as error:
                    self._pass_over(channel, day, error)
                    continue
                self._store.apply(change)
            self.publications += 1
            files += len(change.published)
        return files

    async def publish_now(self, request: dict[str, Any]) -> dict[str, Any]:
        """``thingscale publish --now``: seal, then publish what there is."""
        channels = self._store.channels_of(request.get("user"), request.get("channel"))
        async with self._worker:
            await self._seal()
        waiting = self._store.publisher.waiting([channel.id for channel in channels])
        files = await self._publish(waiting)
        await self._erase()
        damaged = self._damaged.intersection(waiting)
        if damaged:
            return {"error": f"{len(damaged)} channel days could not be published, the daemon's log says why"}
        return {"ok": True, "files": files}

    async def _run_watch(self) -> None:
        store = self._store
        is_rush = False
        version = -1
        while True:
            store.registry.poll()
            if store.registry.version != version:
                version = store.registry.version
                if unfinished(store):
                    self._archived.set()
            store.end_tokens(now()[1])
            self._on_registry_change()
            store.remove_files()
            if self._commits.is_disk_full:
                self._pressure.set()
            try:
                store.flush_states()
                store.flush_old_notes()
                if self._audit_us:
                    store.registry.forget_audit(now()[1] - self._audit_us)
                store.writes.forget_old(now()[1])
                if not store.wal.spares and not is_rush:
                    await trio.to_thread.run_sync(store.wal.prepare_spare)
            except (DiskFullError, RegistryBusyError) as error:
                self.say_waiting(error)
                await trio.sleep(WAITING_S)
            log_bytes = self._commits.log_bytes
            await trio.sleep(WATCH_S)
            is_rush = self._commits.log_bytes - log_bytes > RUSH_BYTES_PER_S * WATCH_S

    def _pass_over(self, channel: int, day: int, error: DamagedFileError) -> None:
        """Trying again before the next start would find the same; the rest goes on, and a human decides."""
        self._damaged.add((channel, day))
        log.error("channel %d, day %s cannot be published: %s", channel, day_name(day), error)

    def say_waiting(self, error: DiskFullError | RegistryBusyError) -> None:
        """Nothing is lost: everything stays in the log, and is tried again."""
        if isinstance(error, DiskFullError):
            self.disk_full += 1
        log.error("waiting, and trying again: %s", error)
