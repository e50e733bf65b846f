"""The few things that storage asks of a disk, so that tests can take the disk's place.

A crash keeps what was synced and any part of what was not. The real disk is a thin layer over os; the simulated one
(tests/storage/simulated_disk.py) keeps unsynced bytes apart and fails any call it is told to.
"""

import ctypes
import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

ZEROS = bytes(1 << 20)

# renameat2(2)
AT_FDCWD = -100
RENAME_EXCHANGE = 2


class DiskFullError(OSError):
    """No space (ENOSPC) or no quota (EDQUOT) for a new file. Nothing was lost; trying again later is right."""


@contextmanager
def sqlite_disk_errors(path: Path) -> Iterator[None]:
    """SQLite's ways to say that the disk is full, as DiskFullError. A failed write rolls back by itself."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
            raise DiskFullError(errno.ENOSPC, str(error), str(path)) from error
        raise


@contextmanager
def full_disk_errors(path: Path) -> Iterator[None]:
    """No room for a file or its name, as DiskFullError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(error.errno, error.strerror, str(path)) from error
        raise


class File(Protocol):
    """One open file."""

    def fileno(self) -> int: ...
    def size(self) -> int: ...
    def pread(self, size: int, offset: int) -> bytes: ...
    def pwrite(self, data: bytes | memoryview, offset: int) -> int: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...


class Disk(Protocol):
    """Directories and files. Names are not durable before sync_directory."""

    def open(self, path: Path) -> File: ...
    def create(self, path: Path, size: int, *, is_filled: bool, room_bytes: int) -> None: ...
    def names(self, directory: Path) -> list[str]: ...
    def rename(self, old: Path, new: Path) -> None: ...
    def unlink(self, path: Path) -> None: ...
    def link(self, old: Path, new: Path) -> None: ...
    def exchange(self, one: Path, two: Path) -> None: ...
    def sync_directory(self, directory: Path) -> None: ...


class RealFile:
    """A file descriptor."""

    def __init__(self, path: Path, flags: int) -> None:
        self._fd = os.open(path, flags | os.O_CLOEXEC, 0o600)

    def fileno(self) -> int:
        return self._fd

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        return os.pwrite(self._fd, data, offset)

    def fill(self, size: int) -> None:
        """Write zeros up to this size."""
        written = 0
        while written < size:  # a nearly full disk writes less than it is asked to, and fails only then
            written += self.pwrite(memoryview(ZEROS)[: size - written], written)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class RealDisk:
    """The operating system's files."""

    def open(self, path: Path) -> RealFile:
        return RealFile(path, os.O_RDWR)

    def create(self, path: Path, size: int, *, is_filled: bool, room_bytes: int) -> None:
        """A new file of zeros, with its place on the disk, synced. Replaces an old one.

        Args:
            path, size: the file.
            is_filled: the zeros are really written, so that a later commit into them changes no metadata.
            room_bytes: what is to be left on the disk besides.

        Raises:
            DiskFullError: there is no room; nothing is left behind.
        """
        room = os.statvfs(path.parent)
        if room.f_bavail * room.f_frsize < size + room_bytes:
            # Asked first, because who waits for room asks again and again, and would write all that is left each time.
            raise DiskFullError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        try:
            file = RealFile(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            try:
                if is_filled:
                    file.fill(size)
                else:
                    os.posix_fallocate(file.fileno(), 0, size)
                file.sync()
            finally:
                file.close()
        except OSError as error:
            path.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError(error.errno, error.strerror, str(path)) from error
            raise

    def names(self, directory: Path) -> list[str]:
        return sorted(path.name for path in directory.iterdir())

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def link(self, old: Path, new: Path) -> None:
        new.hardlink_to(old)

    def exchange(self, one: Path, two: Path) -> None:
        """Each gets the other's name, in one step. Raises OSError: not on this file system."""
        names = os.fsencode(one), os.fsencode(two)
        library = ctypes.CDLL(None, use_errno=True)
        if library.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(one), None, str(two))

    def sync_directory(self, directory: Path) -> None:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
