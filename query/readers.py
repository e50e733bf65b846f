"""Heavy queries: read and written in workers, so that the daemon's own threads never wait for what they compute.

In the daemon a worker's answer is bytes that pass through. It is asked for step by step: while a client takes one, the
next is made if no other reply waits for its turn, and no more than that, so a client that stops reading keeps a
worker's memory and no processor.
"""

import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import trio

from query.background import in_background
from query.engine import spill_of
from query.formats import Piece
from query.work.jobs import Job
from query.work.limits import OWN_BYTES, RESERVED_BYTES, Limits
from query.work.wire import Frame, told
from query.work.workers import Worker, Workers
from query.written import Begun, Work, write


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """What heavy queries may use.

    Attributes:
        heavy_rows: a query that reads more is heavy.
        concurrent_max: that compute at a time.
        memory_bytes_max: of the process of one of them; what loading takes comes on top.
        spill: the engine's directory (EngineOptions).
    """

    heavy_rows: int
    concurrent_max: int
    memory_bytes_max: int
    spill: Path

    @property
    def limits(self) -> Limits:
        """Of a worker."""
        return Limits(
            section="query",
            memory_setting="worker_memory_bytes_max",
            memory_bytes=self.memory_bytes_max + OWN_BYTES,
            mapped_bytes=RESERVED_BYTES,
        )


class Readers:
    """All heavy queries. In the main thread, under trio.

    Attributes:
        turns: how many compute at a time.
    """

    def __init__(self, options: ReaderOptions, workers: Workers) -> None:
        self.options = options
        self.turns = trio.CapacityLimiter(options.concurrent_max)
        self._workers = workers

    async def begin(self, work: Work) -> "Answer":
        """A worker that has begun with the work. The caller has a turn, and closes it.

        Raises:
            ApiError: the query failed, or its worker did.
        """
        async with AsyncExitStack() as stack:
            worker = await stack.enter_async_context(
                self._workers.start(Job(write, (work,), self.options.limits))
            )
            stack.push_async_callback(self._clean, worker)
            head = await worker.hear_values(Frame.HEAD)
            first, is_over = await _step(worker)
            assert head["is_whole"] == is_over
            begun = Begun(first, head["is_whole"], head["coding"], head["told"], head["status"])
            return Answer(begun, worker, self.turns, stack.pop_all())

    async def _clean(self, worker: Worker) -> None:
        spill = spill_of(self.options.spill, worker.pid)
        if spill.exists():
            with trio.CancelScope(shield=True):
                await in_background(shutil.rmtree, spill, True)


class Answer:
    """What a worker writes.

    Attributes:
        begun: its beginning.
    """

    def __init__(
        self, begun: Begun, worker: Worker, turns: trio.CapacityLimiter, stack: AsyncExitStack
    ) -> None:
        self.begun = begun
        self._is_over = begun.is_whole
        self._is_asked = False  # the worker makes the next step already
        self._worker, self._turns, self._stack = worker, turns, stack

    async def step(self) -> list[Piece]:
        """The next bytes; none at the end. Raises ApiError: the query failed, or its worker did."""
        if self._is_over:
            return []
        async with self._turns:
            if not self._is_asked:
                await self._worker.say(told(Frame.GO))
            taken, self._is_over = await _step(self._worker)
            # While the client takes this one, unless somebody waits for the turn.
            self._is_asked = not self._is_over and not self._turns.statistics().tasks_waiting
            if self._is_asked:
                await self._worker.say(told(Frame.GO))
        return taken

    async def aclose(self) -> None:
        """The worker ends."""
        await self._stack.aclose()


async def _step(worker: Worker) -> tuple[list[Piece], bool]:
    """What the worker writes in one go, and whether that was all."""
    taken: list[Piece] = []
    while True:
        kind, body = await worker.hear()
        if kind is not Frame.DATA:
            return taken, kind is Frame.END
        taken.append(body)
