"""A disk in memory that loses what was not synced, tears it, and fails when it is told to.

What a correct log must survive (and this disk does at random, from a seed):
- unsynced bytes of a file are kept, dropped, or kept in part (any 512-byte sector on its own);
- a name that was made, renamed or removed without a directory sync may be as before or as after;
- any call may fail with ENOSPC or EIO, before it did anything or, for a write, half way.

A crash makes every open handle useless; ``Disk.names`` and new handles then see what survived.
"""

import errno
import os
import random
from pathlib import Path

from storage.disk import DiskFullError

SECTOR_BYTES = 512


class Inode:
    """The bytes of a file: as synced, and as a reader of the running system sees them."""

    def __init__(self, data: bytes = b"") -> None:
        self.synced = bytearray(data)
        self.seen = bytearray(data)

    def crash(self, chance: random.Random) -> None:
        size = chance.choice([len(self.synced), len(self.seen)])
        survived = bytearray(size)
        for start in range(0, size, SECTOR_BYTES):
            source = self.seen if chance.random() < 0.5 else self.synced
            piece = source[start : start + SECTOR_BYTES][: size - start]
            survived[start : start + len(piece)] = piece
        self.synced = survived
        self.seen = bytearray(survived)


class SimulatedFile:
    def __init__(self, disk: "SimulatedDisk", inode: Inode) -> None:
        self.disk = disk
        self.inode = inode
        self.generation = disk.generation

    def _alive(self) -> None:
        assert self.generation == self.disk.generation, "a handle from before the crash"

    def fileno(self) -> int:
        return self.disk.register(self)

    def size(self) -> int:
        return len(self.inode.seen)

    def pread(self, size: int, offset: int) -> bytes:
        self._alive()
        return bytes(self.inode.seen[offset : offset + size])

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        self._alive()
        seen = self.inode.seen
        fault = self.disk.fault()
        if fault:
            data = data[: len(data) // 2]
        if len(seen) < offset + len(data):
            seen.extend(bytes(offset + len(data) - len(seen)))
        seen[offset : offset + len(data)] = data
        if fault:
            raise fault
        return len(data)

    def sync(self) -> None:
        self._alive()
        fault = self.disk.fault()
        if fault:
            raise fault
        self.inode.synced = bytearray(self.inode.seen)

    def close(self) -> None:
        pass


class SimulatedDisk:
    """One directory's files. ``fail_at`` counts down over writes, syncs and name changes."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.seen: dict[Path, Inode] = {}
        self.synced: dict[Path, Inode] = {}
        self.generation = 0
        self.fail_at = -1
        self.fail_with = errno.EIO
        self.is_full = False  # no new file can be made
        self.calls = 0
        self._handles: list[SimulatedFile] = []

    def fault(self) -> OSError | None:
        self.calls += 1
        if self.fail_at == 0:
            return None
        self.fail_at -= 1
        if self.fail_at == 0:
            return OSError(self.fail_with, os.strerror(self.fail_with))
        return None

    def register(self, file: SimulatedFile) -> int:
        self._handles.append(file)
        return len(self._handles) - 1

    def handle(self, number: int) -> SimulatedFile:
        return self._handles[number]

    def crash(self) -> None:
        self.generation += 1
        names = {}
        for path in {*self.seen, *self.synced}:
            source = self.chance.choice([self.seen, self.synced])
            if path in source:
                names[path] = source[path]
        for inode in {id(inode): inode for inode in names.values()}.values():
            inode.crash(self.chance)
        self.seen = dict(names)
        self.synced = dict(names)
        self.fail_at = -1

    def _check(self) -> None:
        fault = self.fault()
        if fault:
            raise fault

    def open(self, path: Path) -> SimulatedFile:
        if path not in self.seen:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return SimulatedFile(self, self.seen[path])

    def create(self, path: Path, size: int, *, is_filled: bool, room_bytes: int) -> None:
        if self.is_full:
            raise DiskFullError(errno.ENOSPC, "full")
        try:
            self._check()
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DiskFullError(*error.args) from error
            raise
        self.seen[path] = Inode(bytes(size))

    def names(self, directory: Path) -> list[str]:
        return sorted(path.name for path in self.seen if path.parent == directory)

    def rename(self, old: Path, new: Path) -> None:
        self._check()
        self.seen[new] = self.seen.pop(old)

    def unlink(self, path: Path) -> None:
        self._check()
        del self.seen[path]

    def sync_directory(self, directory: Path) -> None:
        self._check()
        self.synced = dict(self.seen)


class SimulatedCommitter:
    """Writes and syncs at ``finish``, in the caller's thread."""

    fileno = -1

    def __init__(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.job: tuple[int, bytes, int, bool] | None = None
        self.done: float | OSError | None = None

    def submit(self, fd: int, data: memoryview, offset: int, sync: bool) -> None:
        assert self.job is None
        self.job = fd, bytes(data), offset, sync
        self.done = None

    def finish(self) -> None:
        assert self.job is not None
        fd, data, offset, sync = self.job
        self.job = None
        file = self.disk.handle(fd)
        try:
            file.pwrite(data, offset)
            if sync:
                file.sync()
            self.done = 0.001
        except OSError as error:
            self.done = error

    def result(self) -> float | None:
        if isinstance(self.done, OSError):
            raise self.done
        return self.done
