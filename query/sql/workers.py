"""The daemon's side of the workers: whom they work for, how many at a time, and what became of them.

The nursery process starts with the first query. A query that nobody waits for any more is ended with its worker.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from query.errors import ApiError
from query.sql import jail
from query.sql.nursery import BEGAN, NOTICE, PID
from query.sql.views import UnpublishedError, View, in_memory
from query.sql.wire import FRAME_BYTES_MAX, HEADER, Frame, WireError, told

log = logging.getLogger("thingscale.sql")


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

    def __init__(self, worker: "_Worker", media_type: str, bytes_max: int) -> None:
        self.media_type = media_type
        self._worker = worker
        self._bytes_max = bytes_max

    async def chunks(self) -> AsyncIterator[bytes]:
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


class _Worker:
    """One process."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.sock = sock
        self.pid = 0
        self.has_begun = trio.Event()
        self.has_ended = trio.Event()
        self.status = 0

    async def say(self, data: bytes, descriptors: list[int] | None = None) -> None:
        ancillary = []
        if descriptors:
            packed = b"".join(number.to_bytes(4, sys.byteorder) for number in descriptors)
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)]
        view = memoryview(data)
        try:
            while view:
                sent = await self.sock.sendmsg([view], ancillary)
                view, ancillary = view[sent:], []
        except OSError:
            raise await self._ended() from None

    async def hear(self) -> tuple[Frame, bytes]:
        """The next frame. Raises ApiError: the query failed, or the process did."""
        try:
            kind, length = HEADER.unpack(await self._exactly(HEADER.size))
            if length > FRAME_BYTES_MAX:
                raise WireError(f"a frame of {length} bytes")
            body = await self._exactly(length)
        except (OSError, EOFError):
            raise await self._ended() from None
        found = Frame(kind)
        if found is Frame.ERROR:
            error = msgspec.json.decode(body, type=dict)
            raise ApiError(error["token"], error["detail"])
        return found, body

    async def _exactly(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            data = await self.sock.recv(count - len(received))
            if not data:
                raise EOFError
            received += data
        return bytes(received)

    async def _ended(self) -> ApiError:
        """Why the process is gone, in the words of its limits."""
        await self.has_ended.wait()
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            if number == signal.SIGALRM:
                return ApiError("QUERY_TIMEOUT", "the query took longer than [sql] seconds_max")
            if number in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS):
                return ApiError(
                    "QUERY_MEMORY",
                    f"the query's process ended with {signal.Signals(number).name}: most often it needs more"
                    " memory than [sql] memory_bytes_max",
                )
        return ApiError("UNAVAILABLE", "the query's process ended before its answer", {"Retry-After": "1"})


class SqlWorkers:
    """All queries of all users. In the main thread, under trio.

    Args:
        options: limits.
    """

    def __init__(self, options: SqlOptions) -> None:
        self.options = options
        self.turns = trio.CapacityLimiter(options.concurrent_max)
        self.missing = None if options.without_jail else jail.missing()
        self._nursery: trio.socket.SocketType
        self._wanted, self._is_up = trio.Event(), trio.Event()
        self._starting: deque[_Worker] = deque()
        self._workers: dict[int, _Worker] = {}

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
        async with self.turns, self._worker() as worker:
            views: list[View] = []
            try:
                yield await self._begin(worker, query, views)
            finally:
                for view in views:
                    view.close()

    async def _begin(self, worker: _Worker, query: Query, views: list[View]) -> Answer:
        options = self.options
        await worker.say(
            told(
                Frame.SETUP,
                zone=query.zone,
                directory=query.directory,
                seconds=options.seconds,
                memory_bytes_max=options.memory_bytes_max,
                unpublished_bytes_max=options.unpublished_bytes_max,
                threads=options.threads,
                is_jailed=jail.missing() is None,
            )
            + told(
                Frame.QUERY,
                sql=query.sql,
                parameters=query.parameters,
                format=query.format,
                rows_max=query.rows_max,
            )
        )
        _, body = await worker.hear()
        views += query.views(msgspec.json.decode(body, type=dict)["names"])
        descriptors: list[int] = []
        try:
            for view in views:
                descriptors.append(
                    await trio.to_thread.run_sync(in_memory, view, options.unpublished_bytes_max)
                )
                if view.snapshot is not None:
                    view.snapshot.let_go_of_ring()
            listed = [{"name": view.name, "files": view.files, "condition": view.condition} for view in views]
            await worker.say(told(Frame.VIEWS, views=listed), descriptors)
        except UnpublishedError as error:
            raise ApiError("QUERY_MEMORY", str(error)) from None
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        _, body = await worker.hear()
        head = msgspec.json.decode(body, type=dict)
        return Answer(worker, head["media_type"], options.answer_bytes_max)

    # ---- processes

    async def serve(self) -> None:
        """The nursery process, from the first query on; until cancelled."""
        while True:
            await self._wanted.wait()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                process = await trio.to_thread.run_sync(start_process, theirs.fileno())
            self._nursery = trio.socket.from_stdlib_socket(ours)
            self._is_up.set()
            try:
                while notice := await self._nursery.recv(NOTICE.size):
                    self._heed(*NOTICE.unpack(notice))
                log.error("the process that SQL workers come from has ended; the next query starts it again")
            finally:
                self._nursery.close()
                self._wanted, self._is_up = trio.Event(), trio.Event()
                for worker in [*self._starting, *self._workers.values()]:
                    worker.has_begun.set()
                    worker.has_ended.set()
                self._starting.clear()
                self._workers.clear()
                process.wait()

    def _heed(self, pid: int, status: int) -> None:
        if status == BEGAN:
            worker = self._starting.popleft()
            worker.pid = pid
            self._workers[pid] = worker
            worker.has_begun.set()
        else:
            worker = self._workers.pop(pid)
            worker.status = status
            worker.has_ended.set()

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[_Worker]:
        self._wanted.set()
        await self._is_up.wait()
        ours, theirs = socket.socketpair()
        worker = _Worker(trio.socket.from_stdlib_socket(ours))
        with trio.CancelScope(shield=True), theirs:  # a matter of microseconds: the message is one byte
            packed = theirs.fileno().to_bytes(4, sys.byteorder)
            self._starting.append(worker)
            await self._nursery.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])
        try:
            yield worker
        finally:
            worker.sock.close()
            with trio.CancelScope(shield=True):
                await worker.has_begun.wait()
                if not worker.has_ended.is_set():  # it may still compute
                    await self._nursery.send(PID.pack(worker.pid))
                await worker.has_ended.wait()


def start_process(descriptor: int) -> subprocess.Popen[bytes]:
    """The nursery process: nothing of the daemon's but one socket."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "query.sql.nursery", str(descriptor)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env={"PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_ARENA_MAX": "2"},
    )
