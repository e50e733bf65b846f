"""Group commit: one batch of the journal, one record of the log, one sync.

Driven by the reactor's thread and never waiting: ``submit_nowait`` hands the filling batch to the committer if it is
free, ``complete_nowait`` takes the result. A failed write or sync is the end (invariant 5): what the kernel still has
of the file is unknown, so nothing may be acknowledged any more and the daemon stops.
At restart the log tells the truth.
"""

import bisect
from dataclasses import dataclass
from typing import Final, Protocol

from storage.disk import DiskFullError
from storage.journal import Batch, Journal, State
from storage.wal import Placement, Wal

# Upper bounds of the commit time histogram, seconds. From a RAM disk to a disk that is in trouble.
BUCKETS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class CommitFailedError(Exception):
    """The log could not be written or synced. Never retried: the daemon stops."""


class Writes(Protocol):
    """The committer (storage.committer), or a test's."""

    @property
    def fileno(self) -> int: ...
    def submit(self, fd: int, data: memoryview, offset: int, sync: bool) -> None: ...
    def result(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Completed:
    """One durable record: its LSN, the rows' end, its entries, the device states and notes in it, how long it took."""

    lsn: int
    next_seq: int
    entries: int
    states: list[State]
    notes: list[bytes]
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class CommitStatistics:
    """Since the start. ``histogram`` counts commits per bucket of BUCKETS_S, and one more above."""

    commits: int
    entries: int
    bytes: int
    seconds: float
    histogram: tuple[int, ...]
    disk_full: int


class GroupCommit:
    """Journal -> log -> committer. One thread; at most one record is under way."""

    def __init__(self, journal: Journal, wal: Wal, committer: Writes) -> None:
        self._journal = journal
        self._wal = wal
        self._committer = committer
        self._sync = wal.options.durability == "fsync"
        self._out: tuple[Batch, Placement] | None = None
        self.durable_lsn = wal.next_lsn - 1
        self.is_disk_full = False
        self._commits = self._entries = self._bytes = self._disk_full = 0
        self._seconds = 0.0
        self._histogram = [0] * (len(BUCKETS_S) + 1)

    @property
    def fileno(self) -> int:
        """Readable when ``complete_nowait`` has something to say."""
        return self._committer.fileno

    @property
    def log_bytes(self) -> int:
        """Written to the log since the start."""
        return self._bytes

    def submit_nowait(self) -> bool:
        """Start committing the filling batch. False if one is out, there is none, or the disk is full."""
        if self._out is not None:
            return False
        try:
            self._wal.make_room()
        except DiskFullError:
            self.is_disk_full = True
            self._disk_full += 1
            return False
        self.is_disk_full = False
        batch = self._journal.take_batch()
        if batch is None:
            return False
        placement = self._wal.place(batch)
        self._out = batch, placement
        self._committer.submit(placement.file.fileno(), placement.data, placement.offset, self._sync)
        return True

    def complete_nowait(self) -> Completed | None:
        """The record that became durable, or None.

        Raises:
            CommitFailedError: the write or the sync failed.
        """
        if self._out is None:
            return None
        try:
            elapsed_s = self._committer.result()
        except OSError as error:
            raise CommitFailedError(f"the log cannot be written: {error}") from error
        if elapsed_s is None:
            return None
        (batch, placement), self._out = self._out, None
        states, notes = self._journal.release(batch)
        self.durable_lsn = placement.lsn
        self._commits += 1
        self._entries += batch.entries
        self._bytes += len(placement.data)
        self._seconds += elapsed_s
        self._histogram[bisect.bisect_left(BUCKETS_S, elapsed_s)] += 1
        return Completed(placement.lsn, batch.next_seq, batch.entries, states, notes, elapsed_s)

    def statistics(self) -> CommitStatistics:
        return CommitStatistics(
            self._commits, self._entries, self._bytes, self._seconds, tuple(self._histogram), self._disk_full
        )
