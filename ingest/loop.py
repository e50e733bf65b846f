"""The reactor's tasks under trio: one waits on its epoll set and turns it, one ticks once a second."""

from collections.abc import Callable
from typing import Final

import trio

from ingest.reactor import Reactor

TICK_S: Final = 1.0


async def run_reactor(reactor: Reactor, now: Callable[[], tuple[float, int]]) -> None:
    """Turn the reactor whenever something is ready. Returns only when cancelled or when a commit fails."""
    while True:
        await trio.lowlevel.wait_readable(reactor.outer)
        reactor.turn(*now())


async def run_ticks(
    reactor: Reactor, now: Callable[[], tuple[float, int]], on_tick: Callable[[], None]
) -> None:
    """Once a second: idle limits, and whatever else the front door wants done that often."""
    while True:
        await trio.sleep(TICK_S)
        reactor.tick(*now())
        on_tick()


async def drain(
    reactor: Reactor, is_done: Callable[[], bool], last_word: Callable[[], None], deadline_s: float
) -> bool:
    """Read nothing more and wait until what was taken is committed and answered; False at the deadline.

    Then ``last_word`` is said, and everybody is let go.
    """
    reactor.drain()
    with trio.move_on_after(deadline_s):
        while not is_done():  # noqa: ASYNC110 - asked of the compiled reactor, which knows no events
            await trio.sleep(0.01)
    done = is_done()
    last_word()
    reactor.close_all()
    return done
