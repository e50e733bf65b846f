"""One daemon per data directory: an flock on ``lock``, which the kernel lets go of when the process ends, however."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class InUseByProcessError(Exception):
    """Another daemon works on this data directory."""


class DirectoryLock:
    """Held while the context is open. Raises InUseByProcessError with the other's pid."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = os.open(self._data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise InUseByProcessError(
                f"{self._data} is in use by another daemon (pid {pid or 'unknown'})"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
