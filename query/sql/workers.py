"""SQL in workers: for whom, how many at a time, and within which limits."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from query.errors import ApiError
from query.sql import jail, worker
from query.sql.views import UnpublishedError, View, in_memory
from query.work.jobs import Job
from query.work.limits import OWN_BYTES, RESERVED_BYTES, Limits
from query.work.wire import Frame, told
from query.work.workers import Worker, Workers


@dataclass(frozen=True, slots=True)
class SqlOptions:
    """Limits of one query, and how many there are.

    Attributes:
        seconds: from the first word to the last byte that the client has taken.
        memory_bytes_max: DuckDB's, and a little more for what is around it.
        unpublished_bytes_max: rows of one view that are not in files yet.
        rows_max, answer_bytes_max: of one answer.
        threads: DuckDB's.
        concurrent_max: queries at a time.
        waiting_max: queries that wait for their turn.
        without_jail: also where the system cannot build it.
    """

    seconds: float
    memory_bytes_max: int
    unpublished_bytes_max: int
    rows_max: int
    answer_bytes_max: int
    threads: int
    concurrent_max: int
    waiting_max: int
    without_jail: bool

    @property
    def limits(self) -> Limits:
        """Of a worker."""
        return Limits(
            section="sql",
            memory_setting="memory_bytes_max",
            memory_bytes=self.memory_bytes_max + OWN_BYTES,
            mapped_bytes=self.unpublished_bytes_max + RESERVED_BYTES,
            seconds=self.seconds,
        )


@dataclass(frozen=True, slots=True)
class Query:
    """What is to be run, for whom.

    Attributes:
        directory: of the user's published files.
        zone: the user's.
        views: makes the views of these names, in the main thread.
    """

    sql: str
    parameters: list[Any] | dict[str, Any]
    format: str
    rows_max: int
    directory: str
    zone: str
    views: Callable[[list[str]], list[View]]


class Answer:
    """What a worker says, from its first row on. ``chunks`` is read once."""

    def __init__(self, worker: Worker, media_type: str, bytes_max: int) -> None:
        self.media_type = media_type
        self._worker = worker
        self._bytes_max = bytes_max

    async def chunks(self) -> AsyncIterator[memoryview]:
        """The bytes. Raises ApiError when the query fails on the way."""
        size = 0
        while True:
            kind, body = await self._worker.hear()
            if kind is Frame.END:
                return
            size += len(body)
            if size > self._bytes_max:
                raise ApiError("QUERY_TOO_LARGE", f"the answer is longer than {self._bytes_max} bytes")
            yield body


class SqlWorkers:
    """All queries of all users. In the main thread, under trio.

    Args:
        options: limits.
        workers: where queries run.
    """

    def __init__(self, options: SqlOptions, workers: Workers) -> None:
        self.options = options
        self.turns = trio.CapacityLimiter(options.concurrent_max)
        self.missing = None if options.without_jail else jail.missing()
        self._workers = workers

    @asynccontextmanager
    async def run(self, query: Query) -> AsyncIterator[Answer]:
        """The answer, whose first rows are there; on leaving, the worker ends.

        Raises:
            ApiError: the SQL is refused or failed, or there are too many queries.
        """
        if self.missing is not None:
            raise ApiError("SQL_UNAVAILABLE", f"no jail for SQL on this system: {self.missing}")
        if self.turns.statistics().tasks_waiting >= self.options.waiting_max:
            raise ApiError("UNAVAILABLE", "too many queries wait for their turn", {"Retry-After": "1"})
        options = self.options
        setup = worker.Setup(
            query.zone, query.directory, options.memory_bytes_max, options.threads, jail.missing() is None
        )
        job = Job(worker.answer, (setup,), options.limits)
        async with self.turns, self._workers.start(job) as started:
            views: list[View] = []
            try:
                yield await self._begin(started, query, views)
            finally:
                for view in views:
                    view.close()

    async def _begin(self, started: Worker, query: Query, views: list[View]) -> Answer:
        options = self.options
        await started.say(
            told(
                Frame.QUERY,
                sql=query.sql,
                parameters=query.parameters,
                format=query.format,
                rows_max=query.rows_max,
            )
        )
        views += query.views((await started.hear_values(Frame.TABLES))["names"])
        descriptors: list[int] = []
        try:
            for view in views:
                descriptors.append(
                    await trio.to_thread.run_sync(in_memory, view, options.unpublished_bytes_max)
                )
                if view.snapshot is not None:
                    view.snapshot.let_go_of_ring()
            listed = [{"name": view.name, "files": view.files, "condition": view.condition} for view in views]
            await started.say(told(Frame.VIEWS, views=listed), descriptors)
        except UnpublishedError as error:
            raise ApiError("QUERY_MEMORY", str(error)) from None
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        head = await started.hear_values(Frame.HEAD)
        return Answer(started, head["media_type"], options.answer_bytes_max)
