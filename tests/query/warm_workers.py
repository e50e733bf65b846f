"""Workers from one nursery process for a whole run of tests: to start one takes a second."""

import functools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from query.work.workers import Workers, start_process


@functools.cache
def nursery_socket() -> socket.socket:
    """The wire to the one process, which ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = start_process(theirs.fileno())
    process.returncode = 0  # it is not waited for
    return ours


class WarmWorkers(Workers):
    """One trio after the other."""

    @asynccontextmanager
    async def nursery_process(self) -> AsyncIterator[trio.socket.SocketType]:
        with trio.socket.from_stdlib_socket(nursery_socket().dup()) as sock:
            yield sock
