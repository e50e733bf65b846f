"""Threads of queries stand back behind the main thread."""

import os
import sys
import threading

import pytest

from query.background import NICENESS, NICENESS_WITHOUT_LOCK, in_background, made_standing_back

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_work_in_the_background_stands_back_and_the_main_thread_does_not() -> None:
    before = niceness()
    expected = min(before + NICENESS, 19)
    assert [await in_background(niceness) for _ in range(3)] == [
        expected
    ] * 3  # once for each thread, not more
    assert niceness() == before


async def test_what_the_work_raises_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_background(divmod, 1, 0)


def test_threads_that_are_made_standing_back_keep_that() -> None:
    found: list[int] = []
    made = made_standing_back(lambda: threading.Thread(target=lambda: found.append(niceness())))
    started = made_standing_back(lambda: (made.start(), made.join()))
    assert started == (None, None)
    assert found == [min(niceness() + NICENESS_WITHOUT_LOCK, 19)]
