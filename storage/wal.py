"""The write-ahead log: one record per batch, in segments that are used again.

A record is the unit of durability. It is written with one write at an 8-byte boundary, its LSN is one more than the
last one's, and only one record is ever under way. So a valid record proves that every record before it was durable.

Segments have a fixed size and are written (with zeros) before they are used, in another thread; where the log grows
faster than that, the next one is only allocated, which costs each commit more but stops nobody. One whose records are
all sealed is renamed to the next free number and overwritten later. What it still holds are records with lower LSNs,
and those are never taken for new: reading goes on only with exactly the LSN that is expected.

How the log ends. Reading stops at the first place where the expected record is not. If the next segment begins with
it, the segment was just full. If it is nowhere, this is the end: a clean one, or a record torn by the crash, which
was never acknowledged. But if a record with a *higher* LSN of this log stands anywhere behind, then acknowledged
data was damaged: CorruptRecordError, and a human decides. The log's id, a random number in every record, keeps a
device from forging such a record inside its payload.

docs/formats/log.md has the bytes.
"""

import secrets
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import crc32c

from storage.disk import Disk, File, full_disk_errors
from storage.journal import Batch

# magic, version, flags, body bytes, crc, lsn, first seq, next seq, entries, log id (low half)
HEADER: Final = struct.Struct("<IHHIIQqqII")
HEADER_BYTES: Final = 48
MAGIC: Final = 0x31534C54  # "TLS1"
VERSION: Final = 1
ALIGNMENT: Final = 8
# Where the CRC stands in the header; it is computed with these four bytes zero.
CRC_OFFSET: Final = 12
# One read while looking for a record behind the end of the log.
SCAN_BYTES: Final = 1 << 20

assert HEADER.size == HEADER_BYTES


class CorruptRecordError(Exception):
    """Acknowledged data is damaged.

    Attributes:
        path, offset: where the expected record should stand.
        reason: what is there instead.
    """

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(f"{path} is damaged at offset {offset}: {reason}")
        self.path = path
        self.offset = offset
        self.reason = reason


@dataclass(frozen=True, slots=True)
class WalOptions:
    """How the log uses the disk.

    Attributes:
        segment_bytes: size of a segment file.
        spare_segments: segments kept when their records are sealed; more are unlinked.
        record_bytes_max: header and body of the largest record.
        durability: "fsync" syncs every record before it counts as durable, "os" leaves that to the kernel.
        room_bytes: what the log leaves on a disk that fills up, so that it can still be sealed, and shrink.
    """

    segment_bytes: int = 64 << 20
    spare_segments: int = 4
    record_bytes_max: int = 1 << 20
    durability: str = "fsync"
    room_bytes: int = 0


class Record(NamedTuple):
    """One record as read back; body is the journal's entries."""

    lsn: int
    first_seq: int
    next_seq: int
    entries: int
    body: memoryview


class Placement(NamedTuple):
    """Where a framed record is to be written."""

    file: File
    offset: int
    data: memoryview
    lsn: int


@dataclass(slots=True)
class Segment:
    """One segment that holds records: its file name's number and its LSNs, last included."""

    number: int
    first_lsn: int
    last_lsn: int


def read_log_id(directory: Path, disk: Disk) -> int:
    """The random number of this log, from its file ``id``; made when the directory is new."""
    path = directory / "id"
    if not path.exists():
        temporary = directory / "id.new"
        temporary.write_text(f"{secrets.randbits(32):08x}\n")
        file = disk.open(temporary)
        file.sync()
        file.close()
        disk.rename(temporary, path)
        disk.sync_directory(directory)
    return int(path.read_text(), 16)


def padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def checksum(record: memoryview) -> int:
    """CRC-32C (RFC 3720, B.4) over header and body, the CRC field taken as zero."""
    crc = crc32c.crc32c(record[:CRC_OFFSET])
    crc = crc32c.crc32c(bytes(4), crc)
    return crc32c.crc32c(record[CRC_OFFSET + 4 :], crc)


class Wal:
    """The log of one data directory. Protocol of use: open, read ``records`` to the end once, then write.

    One thread writes. ``prepare_spare`` may run in another one.
    """

    def __init__(self, directory: Path, disk: Disk, options: WalOptions) -> None:
        """Use ``Wal.open``."""
        if options.record_bytes_max + ALIGNMENT > options.segment_bytes:
            raise ValueError("a segment must hold at least one record")
        self._directory = directory
        self._disk = disk
        self.options = options
        self._numbers: list[int] = []
        self._naming = threading.Lock()  # guards _numbers and the names on disk
        self._preparing = threading.Lock()  # one new segment at a time
        self._used: list[Segment] = []
        self._active: File | None = None
        self._offset = 0
        self._next_lsn = 1
        self._is_read = False
        self._id = 0

    @classmethod
    def open(cls, directory: Path, disk: Disk, options: WalOptions, log_id: int) -> "Wal":
        """Look at the directory, which exists. log_id is the same 32-bit number every time (read_log_id)."""
        wal = cls(directory, disk, options)
        wal._id = log_id & 0xFFFFFFFF
        names = disk.names(directory)
        for name in names:
            if name.endswith(".new"):
                disk.unlink(directory / name)
        disk.sync_directory(directory)  # a kill may have come between a name and its sync
        wal._numbers = [int(name[:-4]) for name in names if name.endswith(".log")]
        return wal

    @property
    def directory(self) -> Path:
        return self._directory

    def path(self, number: int) -> Path:
        return self._directory / f"{number:020d}.log"

    @property
    def next_lsn(self) -> int:
        """The LSN of the next record."""
        return self._next_lsn

    # ---- reading

    def records(self, after_lsn: int) -> Iterator[Record]:
        """Every record with a higher LSN, in order; the log can be written when this is exhausted.

        Memory is one record. Raises CorruptRecordError.
        """
        assert not self._is_read
        expected = 0  # not known before the first record
        position = 0
        last = 0, 0  # offset and size of the last record
        for index, number in enumerate(self._numbers):
            file = self._disk.open(self.path(number))
            try:
                size = file.size()
                offset = 0
                while True:
                    record = self._read(file, offset, size, expected)
                    if record is None:
                        break
                    if not expected:
                        if record.lsn > after_lsn + 1:
                            raise CorruptRecordError(
                                self.path(number),
                                offset,
                                f"record {after_lsn + 1} is missing, {record.lsn} is here",
                            )
                        expected = record.lsn
                    if record.lsn > after_lsn:
                        yield record
                    if self._used and self._used[-1].number == number:
                        self._used[-1].last_lsn = record.lsn
                    else:
                        self._used.append(Segment(number, record.lsn, record.lsn))
                    expected += 1
                    last = offset, HEADER_BYTES + len(record.body)
                    offset += padded(HEADER_BYTES + len(record.body))
                    position = offset
                if self._used and not self._continues(index, expected):
                    self._check_end(index, position, expected)
                    break
            finally:
                file.close()
        if self._used:
            self._next_lsn = expected
            if expected <= after_lsn:
                raise CorruptRecordError(
                    self.path(self._used[-1].number),
                    position,
                    f"records {expected} to {after_lsn} are missing",
                )
        else:
            if self._numbers:
                self._check_end(-1, 0, after_lsn + 1)
            self._next_lsn = after_lsn + 1
        self._offset = position
        if self._used:
            self._active = self._disk.open(self.path(self._used[-1].number))
            self._settle(self._active, last)
        self._is_read = True

    def _read(self, file: File, offset: int, size: int, expected: int) -> Record | None:
        """The record at offset if it is whole, ours, and the expected one (any, when expected is 0)."""
        if offset + HEADER_BYTES > size:
            return None
        header = file.pread(HEADER_BYTES, offset)
        if len(header) < HEADER_BYTES:
            return None
        magic, version, _, body_bytes, crc, lsn, first_seq, next_seq, entries, log_id = HEADER.unpack(header)
        if (
            magic != MAGIC
            or version != VERSION
            or log_id != self._id
            or offset + HEADER_BYTES + body_bytes > size
        ):
            return None
        if expected and lsn != expected:
            return None
        data = memoryview(file.pread(HEADER_BYTES + body_bytes, offset))
        if len(data) < HEADER_BYTES + body_bytes or checksum(data) != crc:
            return None
        return Record(lsn, first_seq, next_seq, entries, data[HEADER_BYTES:])

    def _settle(self, file: File, last: tuple[int, int]) -> None:
        """Make the last record durable; its rows will be shown, and records will stand behind it.

        Its sync may never have come, or may have failed: then the system still shows the bytes, takes them for clean,
        and would sync nothing. So they are written once more. Every record before was acknowledged, hence is durable.
        """
        offset, size = last
        file.pwrite(file.pread(size, offset), offset)
        file.sync()

    def _continues(self, index: int, expected: int) -> bool:
        """Whether the next segment begins with the expected record."""
        if index + 1 >= len(self._numbers):
            return False
        file = self._disk.open(self.path(self._numbers[index + 1]))
        try:
            return self._read(file, 0, file.size(), expected) is not None
        finally:
            file.close()

    def _check_end(self, index: int, position: int, expected: int) -> None:
        """The log ends here, unless something that was written later stands behind."""
        place = self.path(self._numbers[max(index, 0)])
        for later in range(max(index, 0), len(self._numbers)):
            start = position if later == index else 0
            found = self._find_later(self._numbers[later], start, expected)
            if found is not None:
                reason = f"record {expected} is unreadable, but record {found} stands behind it"
                raise CorruptRecordError(place, position, reason)

    def _find_later(self, number: int, start: int, expected: int) -> int | None:
        """The LSN of a whole record of this log that is newer than the expected one, if there is any."""
        file = self._disk.open(self.path(number))
        magic = MAGIC.to_bytes(4, "little")
        try:
            size = file.size()
            for base in range(start, size, SCAN_BYTES):
                window = file.pread(SCAN_BYTES + 4, base)
                at = window.find(magic)
                while at >= 0:
                    if (base + at) % ALIGNMENT == 0:
                        lsn = int.from_bytes(file.pread(8, base + at + 16), "little")
                        if lsn > expected and self._read(file, base + at, size, lsn) is not None:
                            return lsn
                    at = window.find(magic, at + 1)
        finally:
            file.close()
        return None

    # ---- writing

    def make_room(self) -> None:
        """See to it that the next record has a place.

        Raises:
            DiskFullError: a new segment is needed and there is no space for it. Nothing is lost.
        """
        assert self._is_read
        if (
            self._active is not None
            and self._offset + self.options.record_bytes_max <= self.options.segment_bytes
        ):
            return
        number = self._used[-1].number + 1 if self._used else 1
        if number not in self._numbers:
            self._make_spare(is_filled=False)
        active = self._disk.open(self.path(number))
        if self._active is not None:
            self._active.close()
        self._active = active
        self._used.append(Segment(number, self._next_lsn, self._next_lsn - 1))
        self._offset = 0

    def place(self, batch: Batch) -> Placement:
        """Frame the batch as the next record. make_room() has been called; the caller writes and syncs it."""
        assert self._active is not None
        size = HEADER_BYTES + batch.body_bytes
        assert self._offset + size <= self.options.segment_bytes
        lsn = self._next_lsn
        record = batch.buffer[:size]
        fields = (batch.body_bytes, 0, lsn, batch.first_seq, batch.next_seq, batch.entries, self._id)
        HEADER.pack_into(record, 0, MAGIC, VERSION, 0, *fields)
        record[CRC_OFFSET : CRC_OFFSET + 4] = crc32c.crc32c(record).to_bytes(4, "little")
        placement = Placement(self._active, self._offset, record, lsn)
        self._next_lsn += 1
        self._used[-1].last_lsn = lsn
        self._offset += padded(size)
        return placement

    def recycle(self, sealed_lsn: int) -> None:
        """Segments whose records are all sealed become spares, or go when there are enough.

        Nothing happens while the log is still being read (a seal in the middle of recovery): a later call does it.
        """
        if not self._is_read:
            return
        # The first segment always begins with a record that is known to be durable, so reading can trust it.
        while len(self._used) > 1 and self._used[1].first_lsn <= sealed_lsn:
            number = self._used.pop(0).number
            with self._naming:
                self._numbers.remove(number)
                if self.spares >= self.options.spare_segments:
                    self._disk.unlink(self.path(number))
                else:
                    newest = self._numbers[-1] + 1
                    self._disk.rename(self.path(number), self.path(newest))
                    self._numbers.append(newest)
                self._disk.sync_directory(self._directory)

    def prepare_spare(self) -> bool:
        """Make one spare segment if there is none, so that rotation need not wait. True if one was made.

        Raises:
            DiskFullError: as make_room.
        """
        return self._make_spare(is_filled=True)

    def _make_spare(self, *, is_filled: bool) -> bool:
        with self._preparing:
            if self.spares:
                return False
            prepared = self._directory / "prepared.new"
            self._disk.create(
                prepared,
                self.options.segment_bytes,
                is_filled=is_filled,
                room_bytes=self.options.room_bytes,
            )
            with self._naming, full_disk_errors(prepared):
                number = self._numbers[-1] + 1 if self._numbers else 1
                self._disk.rename(prepared, self.path(number))
                self._disk.sync_directory(self._directory)
                self._numbers.append(number)
            return True

    @property
    def spares(self) -> int:
        """Segments that are ready to be used."""
        last = self._used[-1].number if self._used else 0
        return sum(number > last for number in self._numbers)

    @property
    def bytes_on_disk(self) -> int:
        return len(self._numbers) * self.options.segment_bytes

    def close(self) -> None:
        if self._active is not None:
            self._active.close()
            self._active = None
