"""The log: what was acknowledged is there after any crash, once and in order; damage is never passed over."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.commit import CommitFailedError, GroupCommit
from storage.committer import Committer
from storage.disk import DiskFullError, RealDisk
from storage.journal import Journal, Limits, Passengers
from storage.kinds import PayloadKind
from storage.recovery import RingTooSmallError, recover
from storage.ring import Ring
from storage.schema import Schema
from storage.wal import HEADER_BYTES, CorruptRecordError, Wal, WalOptions
from tests.storage.simulated_disk import SimulatedCommitter, SimulatedDisk
from tests.storage.test_journal import values

LOG = Path("/log")
ID = 0xABCDEF01
SMALL = WalOptions(segment_bytes=4096, spare_segments=1, record_bytes_max=1024)


class Log:
    """Journal, log and committer over one disk; can be opened again after a crash."""

    def __init__(self, disk: SimulatedDisk, rows: int = 1024, options: WalOptions = SMALL) -> None:
        self.disk = disk
        self.rows = rows
        self.options = options
        self.sealed = (0, 0)  # lsn, seq: what a catalog would remember
        self.stored: list[float] = []  # the values of sealed rows, in order: what hot files would hold
        self.states: list[bytes] = []
        self.notes: list[bytes] = []
        self.open()

    def open(self) -> None:
        self.journal = Journal(
            Ring(self.rows, 4096, 1 << 16, self.sealed[1]), Schema(), Limits(payload_bytes_max=800), 960
        )
        self.wal = Wal.open(LOG, self.disk, self.options, ID)
        self.states, self.notes = [], []

        def keep(passengers: Passengers) -> None:
            self.states += [state.payload for state in passengers.states]
            self.notes += passengers.notes

        self.recovered = recover(self.wal, self.journal, self.sealed[0], self.seal_to, keep)
        self.committer = SimulatedCommitter(self.disk)
        self.commits = GroupCommit(self.journal, self.wal, self.committer)

    def seal_to(self, lsn: int, seq: int) -> None:
        self.stored += self.present(self.sealed[1], seq)
        self.sealed = lsn, seq
        self.journal.ring.mark_sealed(seq)

    def seal(self) -> None:
        if self.commits.durable_lsn > self.sealed[0]:
            self.seal_to(self.commits.durable_lsn, self.journal.ring.durable)
        self.wal.recycle(self.sealed[0])

    def present(self, first: int, last: int) -> list[float]:
        import numpy as np

        block = self.journal.ring.block(np.arange(first, last))
        return [row[None] for row in values(block, self.journal.schema)]  # type: ignore[misc]

    def everything(self) -> list[float]:
        return self.stored + self.present(self.sealed[1], self.journal.ring.durable)

    def append(self, value: int, padding: int = 0) -> bool:
        return self.journal.append(1, PayloadKind.JSON, 1, 1, b"", b" " * padding + b"%d" % value) >= 0

    def commit(self) -> bool:
        if not self.commits.submit_nowait():
            return False
        self.committer.finish()
        return self.commits.complete_nowait() is not None


def filled(count: int = 40, padding: int = 200) -> Log:
    log = Log(SimulatedDisk())
    for i in range(count):
        log.append(i, padding)
        assert log.commit()
    return log


def test_what_was_committed_is_replayed_in_order() -> None:
    log = filled()
    log.open()
    assert log.everything() == list(range(40))
    assert log.recovered.records == 40
    log.append(40)
    assert log.commit()
    log.open()
    assert log.everything() == list(range(41))


def test_states_and_notes_are_replayed_too() -> None:
    log = Log(SimulatedDisk())
    log.journal.append(1, PayloadKind.STATE, 1, 1, b"", b"a=1")
    log.journal.append(1, PayloadKind.NOTE, 0, 0, b"", b"one")
    log.append(1)
    log.journal.append(1, PayloadKind.NOTE, 0, 0, b"", b"two")
    assert log.commit()
    log.journal.append(1, PayloadKind.NOTE, 0, 0, b"", b"three")
    assert log.commit()
    log.open()
    assert log.states == [b"a=1"]
    assert log.notes == [b"one", b"two", b"three"]


def test_sealed_records_are_not_replayed_and_their_segments_are_used_again() -> None:
    log = Log(SimulatedDisk())
    for i in range(200):
        log.append(i, 200)
        assert log.commit()
        log.seal()
        assert len(log.disk.names(LOG)) <= 4
    log.open()
    assert log.recovered.rows == 0
    assert log.everything() == list(range(200))


def test_a_smaller_ring_seals_while_it_recovers() -> None:
    log = filled(20, 10)
    log.rows = 4
    log.open()
    assert log.everything() == list(range(20))
    assert log.sealed[1] >= 16


def test_a_ring_too_small_for_one_record_says_so() -> None:
    log = Log(SimulatedDisk())
    for i in range(8):
        log.append(i)
    assert log.commit()
    log.rows = 4
    with pytest.raises(RingTooSmallError, match="8 readings"):
        log.open()


def test_a_torn_tail_is_not_an_error() -> None:
    for cut in range(1, HEADER_BYTES + 30, 7):
        log = filled(3, 20)
        path = LOG / log.disk.names(LOG)[0]
        data = log.disk.seen[path].seen
        end = data.rindex(b" 2") + 2
        data[end - cut : end] = bytes(cut)
        log.open()
        assert log.everything() == [0, 1]
        log.append(7)
        assert log.commit()
        log.open()
        assert log.everything() == [0, 1, 7]


def test_damage_before_a_whole_record_is_an_error_with_its_place() -> None:
    for record in range(38):
        log = filled()
        for name in log.disk.names(LOG):
            data = log.disk.seen[LOG / name].seen
            at = data.find(b" %d" % record)
            if at >= 0:
                data[at] ^= 1
                break
        with pytest.raises(CorruptRecordError) as caught:
            log.open()
        assert caught.value.path.name in log.disk.names(LOG)
        assert "unreadable" in str(caught.value) or "missing" in str(caught.value)


def test_a_missing_segment_is_an_error() -> None:
    log = filled()
    names = log.disk.names(LOG)
    assert len(names) >= 3
    for gone in names[:-1]:
        log = filled()
        del log.disk.seen[LOG / gone]
        with pytest.raises(CorruptRecordError):
            log.open()


def test_a_payload_cannot_forge_a_record() -> None:
    """Without the log's id a record inside a torn payload would look like acknowledged data behind damage."""
    forger = Log(SimulatedDisk())
    for i in range(60):
        forger.append(i)
        forger.commit()
    forged = bytes(forger.disk.seen[LOG / forger.disk.names(LOG)[0]].seen)
    record = forged[-(len(forged) % 80) - 800 :][:800]
    log = Log(SimulatedDisk(), options=WalOptions(segment_bytes=8192, record_bytes_max=2048))
    log.wal._id ^= 1
    log.append(1)
    assert log.commit()
    log.journal.append(1, PayloadKind.BINARY, 1, 1, b"", record)
    assert log.commit()
    data = log.disk.seen[LOG / log.disk.names(LOG)[0]].seen
    data[80] ^= 1  # tear the record that carries the forged one
    wal = Wal.open(LOG, log.disk, log.options, ID ^ 1)
    assert [found.lsn for found in wal.records(0)] == [1]


def test_a_full_disk_delays_and_loses_nothing() -> None:
    log = filled(15)
    log.disk.is_full = True
    sent = 15
    while not log.commits.is_disk_full:
        log.append(sent, 200)
        sent += 1
        log.commit()
    assert log.commits.statistics().disk_full == 1
    assert not log.commit()
    log.disk.is_full = False
    assert log.commit()
    assert not log.commits.is_disk_full
    log.open()
    assert log.everything() == list(range(sent))


def test_a_failed_sync_is_never_retried() -> None:
    log = filled(3)
    log.append(3)
    assert log.commits.submit_nowait()
    log.disk.fail_at = 2
    log.committer.finish()
    with pytest.raises(CommitFailedError, match="cannot be written"):
        log.commits.complete_nowait()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_any_single_failing_call_loses_nothing_that_was_acknowledged(error: int) -> None:
    """Fail the n-th call for every n, crash, and look."""
    n = 0
    while True:
        n += 1
        disk = SimulatedDisk(seed=n)
        log = Log(disk)
        acknowledged = 0
        disk.fail_with = error
        disk.fail_at = n
        try:
            for i in range(60):
                log.append(i, 200)
                while not log.commit():
                    assert log.commits.is_disk_full
                acknowledged = i + 1
                if i % 10 == 9:
                    log.seal()
        except (CommitFailedError, OSError):
            pass
        finished = disk.fail_at > 0
        sealed = log.sealed
        disk.crash()
        log.sealed = sealed
        log.open()
        found = log.everything()
        assert found[:acknowledged] == list(range(acknowledged))
        assert len(found) <= acknowledged + 1
        if finished:
            assert n > 60
            return


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["append", "commit", "seal", "crash", "crash under way", "spare"]), max_size=60),
    st.integers(),
)
def test_any_history_of_crashes_loses_nothing_that_was_acknowledged(steps: list[str], seed: int) -> None:
    log = Log(SimulatedDisk(seed))
    sent = acknowledged = 0
    for step in steps:
        if step == "append":
            sent += log.append(sent, 150)
        elif step == "commit":
            if log.commit():
                acknowledged = sent
        elif step == "seal":
            log.seal()
        elif step == "spare":
            log.wal.prepare_spare()
        else:
            if step == "crash under way" and log.commits.submit_nowait() and log.disk.chance.random() < 0.5:
                log.committer.finish()
            log.disk.crash()
            log.open()
            found = log.everything()
            assert found[:acknowledged] == list(range(acknowledged))
            assert found == list(range(len(found)))
            assert len(found) <= sent
            sent = acknowledged = len(found)
    log.open()
    assert log.everything()[:acknowledged] == list(range(acknowledged))


@pytest.fixture
def committer() -> Iterator[Committer]:
    committer = Committer()
    yield committer
    committer.close()


def finish(committer: Committer) -> float:
    import select

    select.select([committer.fileno], [], [], 10)
    seconds = committer.result()
    assert seconds is not None
    return seconds


def test_the_committer_writes_where_it_is_told(tmp_path: Path, committer: Committer) -> None:
    disk = RealDisk()
    disk.create(tmp_path / "a", 8192, is_filled=True, room_bytes=0)
    file = disk.open(tmp_path / "a")
    assert committer.result() is None
    for offset, text in ((100, b"hello"), (4000, b"x" * 4000)):
        committer.submit(file.fileno(), memoryview(bytearray(text)), offset, True)
        assert finish(committer) > 0
        assert file.pread(len(text), offset) == text
    file.close()


def test_the_committer_reports_the_error_of_the_write(tmp_path: Path, committer: Committer) -> None:
    with (tmp_path / "a").open("wb") as file, (tmp_path / "a").open("rb") as read_only:
        committer.submit(read_only.fileno(), memoryview(bytearray(b"x")), 0, True)
        with pytest.raises(OSError, match="Bad file descriptor"):
            finish(committer)
        committer.submit(file.fileno(), memoryview(bytearray(b"x")), 0, False)
        finish(committer)


@pytest.mark.parametrize(("is_filled", "call"), [(True, "pwrite"), (False, "posix_fallocate")])
def test_a_real_disk_that_is_full_leaves_no_half_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_filled: bool, call: str
) -> None:
    import os

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(DiskFullError):
        RealDisk().create(tmp_path / "a", 100, is_filled=is_filled, room_bytes=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_filled", [True, False])
def test_a_new_segment_has_its_place_on_the_disk(tmp_path: Path, is_filled: bool) -> None:
    RealDisk().create(tmp_path / "a", 3 << 20, is_filled=is_filled, room_bytes=0)
    found = (tmp_path / "a").stat()
    assert (found.st_size, found.st_blocks * 512 >= 3 << 20) == (3 << 20, True)
    assert (tmp_path / "a").read_bytes() == bytes(3 << 20)


def test_a_new_segment_leaves_the_room_that_it_is_told_to_leave(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError):
        RealDisk().create(tmp_path / "a", 100, is_filled=False, room_bytes=1 << 60)
    assert list(tmp_path.iterdir()) == []
