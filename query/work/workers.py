"""The daemon's side of the workers: one for each job, and what became of it.

The nursery process starts with the first job. A job that nobody waits for any more is ended with its worker.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import trio

from query.background import in_background
from query.errors import ApiError
from query.work.jobs import Job, packed
from query.work.limits import Limits
from query.work.nursery import BEGAN, NOTICE, PID
from query.work.wire import FRAME_BYTES_MAX, HEADER, Frame, WireError, told

log = logging.getLogger("thingscale.work")

# What jobs are made of, loaded before the first one comes.
MODULES: Final = ("query.sql.worker", "query.reads", "query.prometheus.reads", "query.writing.apart")


# Of what a worker says of a fault of ours.
TRACEBACK_CHARACTERS_MAX: Final = 8_192


class FailedError(Exception):
    """A worker failed, and it is our fault; the text is its traceback."""


class Worker:
    """One process.

    Attributes:
        pid: its number, once it has begun.
    """

    def __init__(self, sock: trio.socket.SocketType, limits: Limits) -> None:
        self.pid = 0
        self.has_begun = trio.Event()
        self.has_ended = trio.Event()
        self.status = 0
        self._socket = sock
        self._limits = limits

    async def say(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Raises ApiError: the process is gone."""
        ancillary = []
        if descriptors:
            given = b"".join(number.to_bytes(4, sys.byteorder) for number in descriptors)
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)]
        view = memoryview(data)
        try:
            while view:
                sent = await self._socket.sendmsg([view], ancillary)
                view, ancillary = view[sent:], []
        except OSError:
            raise await self._ended() from None

    async def hear(self) -> tuple[Frame, memoryview]:
        """The next frame. Raises ApiError: the query failed, or the process did; FailedError."""
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
            if not error["token"]:
                raise FailedError(error["detail"][:TRACEBACK_CHARACTERS_MAX])
            raise ApiError(error["token"], error["detail"])
        return found, body

    async def hear_values(self, expected: Frame) -> dict[str, Any]:
        """The next frame, which must be of this kind; its body is JSON. Raises as ``hear``."""
        found, body = await self.hear()
        if found is not expected:
            raise WireError(f"expected {expected.name}, not {found.name}")
        return msgspec.json.decode(body, type=dict)

    async def _exactly(self, count: int) -> memoryview:
        received = memoryview(bytearray(count))
        missing = received
        while missing:
            size = await self._socket.recv_into(missing)
            if not size:
                raise EOFError
            missing = missing[size:]
        return received

    async def _ended(self) -> ApiError:
        """Why the process is gone, in the words of its limits."""
        await self.has_ended.wait()
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            if number == signal.SIGALRM:
                return ApiError(
                    "QUERY_TIMEOUT", f"the query took longer than [{self._limits.section}] seconds_max"
                )
            if number in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS):
                return ApiError(
                    "QUERY_MEMORY",
                    f"the query's process ended with {signal.Signals(number).name}: most often it needs more"
                    f" memory than {self._limits.memory}",
                )
        return ApiError("UNAVAILABLE", "the query's process ended before its answer", {"Retry-After": "1"})

    def close(self) -> None:
        self._socket.close()


class Workers:
    """All workers of the daemon. In the main thread, under trio."""

    def __init__(self) -> None:
        self._nursery: trio.socket.SocketType
        self._wanted, self._is_up = trio.Event(), trio.Event()
        self._starting: deque[Worker] = deque()
        self._workers: dict[int, Worker] = {}

    @property
    def running(self) -> int:
        """How many there are."""
        return len(self._starting) + len(self._workers)

    @asynccontextmanager
    async def start(self, job: Job) -> AsyncIterator[Worker]:
        """A worker that has been told the job; on leaving, it ends.

        Raises:
            ApiError: it is gone already.
        """
        descriptor = await in_background(packed, job)
        try:
            async with self._worker(job.limits) as worker:
                await worker.say(told(Frame.JOB), [descriptor])
                os.close(descriptor)
                descriptor = -1
                yield worker
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    @asynccontextmanager
    async def _worker(self, limits: Limits) -> AsyncIterator[Worker]:
        self._wanted.set()
        await self._is_up.wait()
        ours, theirs = socket.socketpair()
        worker = Worker(trio.socket.from_stdlib_socket(ours), limits)
        with trio.CancelScope(shield=True), theirs:  # a matter of microseconds: the message is one byte
            given = theirs.fileno().to_bytes(4, sys.byteorder)
            self._starting.append(worker)
            await self._nursery.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)])
        try:
            yield worker
        finally:
            worker.close()
            with trio.CancelScope(shield=True):
                await worker.has_begun.wait()
                if not worker.has_ended.is_set():  # it may still compute
                    await self._nursery.send(PID.pack(worker.pid))
                await worker.has_ended.wait()

    # ---- processes

    async def serve(self) -> None:
        """The nursery process, from the first job on; until cancelled."""
        while True:
            await self._wanted.wait()
            async with self.nursery_process() as self._nursery:
                self._is_up.set()
                try:
                    while notice := await self._nursery.recv(NOTICE.size):
                        self._heed(*NOTICE.unpack(notice))
                    log.error("the process that workers come from has ended; the next job starts it again")
                finally:
                    self._wanted, self._is_up = trio.Event(), trio.Event()
                    for worker in [*self._starting, *self._workers.values()]:
                        worker.has_begun.set()
                        worker.has_ended.set()
                    self._starting.clear()
                    self._workers.clear()

    @asynccontextmanager
    async def nursery_process(self) -> AsyncIterator[trio.socket.SocketType]:
        """Our end of the wire to a new one, which ends when it is left."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = await trio.to_thread.run_sync(start_process, theirs.fileno())
        try:
            with trio.socket.from_stdlib_socket(ours) as sock:
                yield sock
        finally:
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


def start_process(descriptor: int) -> subprocess.Popen[bytes]:
    """The nursery process: nothing of the daemon's but one socket."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "query.work.nursery", str(descriptor), *MODULES],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env={"PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"},
    )
