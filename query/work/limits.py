"""What a worker may use; the system sees to it."""

import ctypes
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
# How far a worker stands back behind the daemon: one that gets nothing where others are busy would only time out.
NICENESS: Final = 10
# Beside what DuckDB may use: the stacks of its threads, pyarrow, Python.
OWN_BYTES: Final = 160 << 20
# Address space that allocators reserve and do not use.
RESERVED_BYTES: Final = 512 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process may use.

    Attributes:
        section: of the configuration, whose ``memory_setting`` and ``seconds_max`` people can change.
        memory_setting: what bounds the memory.
        memory_bytes: that it can write to, beyond what it has when it begins.
        mapped_bytes: of address space for what it maps and cannot write to, and reserves and does not use.
        seconds: of the wall clock, then SIGALRM ends it; None for no end.
    """

    section: str
    memory_setting: str
    memory_bytes: int
    mapped_bytes: int
    seconds: float | None = None

    @property
    def memory(self) -> str:
        """The setting as people know it."""
        return f"[{self.section}] {self.memory_setting}"

    def enter(self) -> None:
        """From now on, in this process; and it ends with its parent."""
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "PR_SET_PDEATHSIG")
        if self.seconds is not None:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, self.seconds)
        os.nice(NICENESS)
        pages = [int(count) for count in Path("/proc/self/statm").read_text().split()]
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        data = pages[5] * page_bytes + self.memory_bytes
        space = pages[0] * page_bytes + self.memory_bytes + self.mapped_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (data, data))
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
