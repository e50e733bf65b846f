"""A store and the plain list of what was sent to it: driven step by step, opened again, compared.

The n-th datapoint has the n-th note before it. What the session store must hold follows from how many notes it has.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pyarrow.parquet as pq

from storage.catalog_change import Cursor
from storage.commit import GroupCommit
from storage.cover import DAY_US, TIME_MAX_US, TIME_MIN_US
from storage.disk import DiskFullError
from storage.hot import read_blocks
from storage.journal import FULL, Limits
from storage.kinds import PayloadKind
from storage.notes import (
    Delivery,
    Done,
    Message,
    Note,
    Queued,
    Received,
    Retained,
    SessionOpened,
    encode_note,
)
from storage.registry import Registry, RegistryLimits
from storage.snapshot import Snapshot
from storage.store import Store, StoreOptions
from storage.wal import WalOptions
from tests.storage.plain_broker import PlainBroker
from tests.storage.published_files import records_of, told
from tests.storage.rows import NOON_US, Row, Sent, read, row
from tests.storage.simulated_disk import SimulatedCommitter
from tests.storage.store_disk import StoreDisk

OPTIONS = StoreOptions(
    ring_rows=64,
    ring_cells=512,
    ring_text_bytes=1 << 14,
    batch_bytes_max=960,
    part_rows_max=20,
    registry=RegistryLimits(devices_per_user_max=10),
    limits=Limits(payload_bytes_max=400),
    wal=WalOptions(segment_bytes=3072, spare_segments=1, record_bytes_max=1024),
)
CHANNELS = (1, 2, 3)
DROPPED = 3  # the channel that ``drop`` deletes

Result = TypeVar("Result")


@contextmanager
def fast_place() -> Iterator[Path]:
    """A directory for many small synced files, in memory where that exists, with a registry in ``empty``.

    It has one user with three channels and three devices, whose registry ids are 1, 2, 3.
    """
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        data = Path(directory) / "empty"
        data.mkdir()
        registry = Registry(data / "registry.sqlite3")
        user = registry.add_user(0).user_id
        for number in CHANNELS:
            assert registry.add_channel(user, number).id == number
            device = registry.add_device(user, f"device-{number}", 0, enabled=True, channel=number)
            assert device.id == number
        registry.close()
        yield Path(directory)


def empty(place: Path, name: str = "data") -> StoreDisk:
    """A directory that knows users and channels and has never been opened."""
    shutil.copytree(place / "empty", place / name)
    return StoreDisk(place / name)


def reading(number: int) -> Sent:
    """The n-th message: all channels, two days, times that go back, columns and tags that come later."""
    payload = {"n": number, f"s{number // 10 % 4}": f"<{number}>" if number % 7 else None}
    at_us = NOON_US + (number % 20 > 12) * DAY_US + (number * 37) % 100
    channel = CHANNELS[number % 3]
    return Sent(at_us, channel, channel, (None, "north", f"t{number // 20}")[number % 3], payload)


def noted(number: int) -> Note:
    """The n-th note, from 1: a session, then messages that come, are acknowledged some time later, and are retained."""
    message = number // 3
    content = Message(b"t", b"%d" % number, 2, False, b"", 0, number)
    match number % 3:
        case _ if number == 1:
            return SessionOpened(1, "U000001", b"c", 60, 5, 1)
        case 0:
            return Queued(message, content, (Delivery(1, 2, 9, False, ()),))
        case 1:
            return (
                Received(1, message - 1) if number % 2 else Retained("U000001", b"%d" % (number % 4), content)
            )
    return Done(1, message - 3)


def rows_of(store: Store, snapshot: Snapshot) -> list[Row]:
    """Everything in a snapshot, in order of seq; any thread."""
    rows: list[Row] = []
    for file in snapshot.published:
        table = pq.ParquetFile(file.path, page_checksum_verification=True).read()
        rows += told(records_of(table), [file.path], snapshot.channel)
    for segment in snapshot.hot:
        for block in read_blocks(segment):
            rows += read(block, store.schema)
    for block in snapshot.fresh_blocks(5):
        rows += read(block, store.schema)
    return sorted(rows, key=lambda each: each.seq)


class StoreHouse:
    """One life of a store.

    Attributes:
        rows: every datapoint that was taken, durable or not; the place is the seq.
        acknowledged: so many of them were.
        noted: so many notes were taken, durable or not: as many as rows, or one more.
        refused: how often the disk was full.
    """

    def __init__(
        self, disk: StoreDisk, rows: list[Row], acknowledged: int, options: StoreOptions = OPTIONS
    ) -> None:
        self.disk = disk
        self.rows = rows
        self.acknowledged = acknowledged
        self.refused = 0
        self.store = Store.open(disk.data, options, disk)
        self.noted = self.store.sessions.load().next_number - 1
        self.check_notes()
        self.committer = SimulatedCommitter(disk.log)
        self.commits = GroupCommit(self.store.journal, self.store.wal, self.committer)

    def close(self) -> None:
        self.store.close()

    def insist(self, action: Callable[[], Result]) -> Result:
        """Again when the disk was full, as housekeeping does."""
        while True:
            try:
                return action()
            except DiskFullError:
                self.refused += 1
                assert self.refused < 10

    def append(self, sent: Sent | None = None) -> bool:
        """One message; False when the ring or the batch is full."""
        sent = sent or reading(len(self.rows))
        tag, payload = (sent.tag or "").encode(), json.dumps(sent.payload, ensure_ascii=False).encode()
        if self.noted == len(self.rows):
            note = encode_note(self.noted + 1, noted(self.noted + 1))
            if self.store.journal.append(sent.at_us, PayloadKind.NOTE, 0, 0, b"", note) == FULL:
                return False
            self.noted += 1
        seq = self.store.journal.append(sent.at_us, PayloadKind.JSON, sent.device, sent.channel, tag, payload)
        if seq == FULL:
            return False
        assert seq == len(self.rows)
        self.rows.append(row(seq, sent))
        return True

    def append_all(self, number: int) -> None:
        """So many messages, acknowledged."""
        for _ in range(number):
            if not self.append():
                self.commit()
                assert self.append()
        self.commit()

    def fill(self) -> None:
        """Until the ring takes no more; all acknowledged."""
        before = -1
        while before < len(self.rows):
            before = len(self.rows)
            while self.append():
                pass
            self.commit()

    def commit(self) -> None:
        """Everything that was appended; acknowledged when this returns."""
        while not self.commits.submit_nowait():
            if not self.commits.is_disk_full:
                return  # there is nothing
            self.refused += 1
            assert self.refused < 10
        self.finish()

    def finish(self) -> None:
        """Write and sync the batch that was submitted."""
        self.committer.finish()
        completed = self.commits.complete_nowait()
        assert completed is not None
        self.acknowledged = completed.next_seq
        self.store.notes.extend(completed.notes)

    def seal(self) -> None:
        self.insist(self.store.flush_states)
        self.insist(self.store.flush_notes)
        target = Cursor(self.commits.durable_lsn, self.store.ring.durable)
        if target != self.store.catalog.cursor:
            change = self.insist(lambda: self.store.seal(target))
            self.disk.on_step()
            self.store.apply(change)

    def publish(self) -> int:
        """How many files were made."""
        files = 0
        publisher = self.store.publisher
        for channel, day in publisher.waiting(CHANNELS):
            change = self.insist(lambda: publisher.publish(channel, day))  # noqa: B023 (called at once)
            self.disk.on_step()
            self.store.apply(change)
            files += len(change.published)
        return files

    def drop(self) -> None:
        """Delete channel DROPPED, or finish what was begun."""
        if DROPPED not in self.store.registry.deleted_channels():
            self.store.registry.delete_channel(DROPPED, 0)
        self.disk.on_step()
        for channel in self.store.deleted_channels():
            change = self.insist(lambda: self.store.drop(channel))  # noqa: B023 (called at once)
            self.disk.on_step()
            self.store.apply(change)
        self.disk.on_step()

    def snapshot(self, channel: int, start_us: int = TIME_MIN_US, end_us: int = TIME_MAX_US) -> Snapshot:
        return self.store.snapshot(self.store.channel_by_id(channel), start_us, end_us)

    def durable(self, channel: int) -> list[Row]:
        """What a snapshot of the channel must show."""
        return [each for each in self.rows[: self.store.ring.durable] if each.channel == channel]

    def check(self) -> None:
        """Everything acknowledged is there exactly once, in order; a last batch may be; no file is too many."""
        durable = self.store.ring.durable
        assert self.acknowledged <= durable <= len(self.rows)
        is_deleted = DROPPED in self.store.registry.deleted_channels()
        for channel in CHANNELS:
            with self.snapshot(channel) as snapshot:
                found = rows_of(self.store, snapshot)
            expected = self.durable(channel)
            if is_deleted and channel == DROPPED:
                expected = expected[len(expected) - len(found) :]  # the newest ones go with the next seal
            assert found == expected
        assert self.standing() == self.known()
        self.check_notes()

    def check_notes(self) -> None:
        """Each note counts once, and those of durable rows are durable: the last one may be ahead of its row."""
        saved, model = self.store.sessions.load(), PlainBroker()
        for number in range(1, saved.next_number):
            model.take(number, noted(number))
        assert saved == model.saved()
        durable = self.store.ring.durable
        # Notes that undid each other are not left, but the last one that came is known.
        assert max(saved.next_number - 1, self.store.notes.number_max) in (durable, durable + 1)

    def standing(self) -> set[Path]:
        """Every file that is there."""
        catalog = self.store.catalog
        return {path for part in (catalog.hot, catalog.root) for path in part.rglob("*") if path.is_file()}

    def known(self) -> set[Path]:
        """Every file that the catalog's database names."""
        catalog = self.store.catalog
        with sqlite3.connect(f"file:{self.disk.data}/catalog.sqlite3?mode=ro", uri=True) as database:
            hot = {catalog.hot / name for (name,) in database.execute("SELECT name FROM hot_file")}
        database.close()
        files = (catalog.files_for(channel, TIME_MIN_US, TIME_MAX_US) for channel in CHANNELS)
        return hot | {file.path for found in files for file in found.published}


def work(house: StoreHouse) -> None:
    """Appends, commits, seals, publications and a drop."""
    for turn in range(2):
        for _ in range(3):
            house.append_all(4)
        house.seal()
        house.append_all(1)
        house.publish()
        if turn == 0:
            house.seal()
    house.drop()
    house.append_all(1)


def again(
    disk: StoreDisk,
    rows: list[Row],
    acknowledged: int,
    *,
    goes_on: bool = True,
    old: StoreHouse | None = None,
) -> None:
    """Open the directory and look; then do everything once more, open and look again."""
    if old is not None:
        old.close()
    house = StoreHouse(disk, rows, acknowledged)
    house.check()
    if goes_on:
        del rows[house.store.ring.durable :]
        house.append_all(3)
        house.seal()
        house.publish()
        house.drop()
        house.check()
        house.close()
        house = StoreHouse(disk, rows, house.acknowledged)
        house.check()
        assert house.store.ring.durable == len(rows)
    house.close()
