"""Work that stands back: threads of queries, behind the one that takes readings in.

Ingest, the commits and every socket are the main thread's. What queries compute happens in worker threads, and those
have less claim to the processor, which Linux lets each thread have for itself: when there is not enough of it, the
queries take longer and the acknowledgements do not. Those that take the interpreter's lock stand back only a little,
for the main thread waits for a lock that one of them holds; those that never do stand back more.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

import trio

Result = TypeVar("Result")

NICENESS: Final = 5
NICENESS_WITHOUT_LOCK: Final = 10

_thread = threading.local()


def stand_back(niceness: int = NICENESS) -> None:
    """This thread, and those that it makes, from now on. Where the system does not know of such, nothing happens."""
    if not getattr(_thread, "stands_back", False):
        _thread.stands_back = True
        with suppress(OSError, AttributeError):
            given = os.getpriority(os.PRIO_PROCESS, 0) + niceness
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), given)


def made_standing_back(make: Callable[[], Result]) -> Result:
    """What ``make`` returns; the threads that it starts for that never take the interpreter's lock."""
    with ThreadPoolExecutor(1, initializer=stand_back, initargs=(NICENESS_WITHOUT_LOCK,)) as pool:
        return pool.submit(make).result()


async def in_background(
    work: Callable[..., Result], *arguments: object, limiter: trio.CapacityLimiter | None = None
) -> Result:
    """``work(*arguments)`` in a worker thread that stands back.

    trio lends its threads to whoever comes next, so others' work may stand back, too: the housekeeping's, which is not
    in a hurry either.
    """
    return await trio.to_thread.run_sync(_run, work, arguments, limiter=limiter)


def _run(work: Callable[..., Result], arguments: tuple[object, ...]) -> Result:
    stand_back()
    return work(*arguments)
