"""The two clocks, read in one place and handed to whoever needs the time."""

import time


def now() -> tuple[float, int]:
    """Monotonic seconds, and UTC as microseconds since the epoch."""
    return time.monotonic(), time.time_ns() // 1000
