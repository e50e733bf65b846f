"""Work beside the main thread, which takes readings in.

Heavy work is for processes (query/work). What is done in threads is short, and has the main thread's priority: a thread
that stands back keeps the interpreter's lock while others compute, and the main thread waits for it.
"""

from collections.abc import Callable
from typing import TypeVar

import trio

Result = TypeVar("Result")


async def in_background(
    work: Callable[..., Result], *arguments: object, limiter: trio.CapacityLimiter | None = None
) -> Result:
    """``work(*arguments)`` in a worker thread."""
    return await trio.to_thread.run_sync(work, *arguments, limiter=limiter)
