"""A worker: one job, in a process of its own that ends with it."""

import os
import socket
import traceback
from array import array
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import duckdb
import msgspec
import pyarrow as pa

from query.errors import ApiError
from query.work.jobs import Job, unpacked
from query.work.wire import DATA_BYTES, HEADER, Frame, WireError, told

# Descriptors that one message can carry (SCM_MAX_FD is 253).
DESCRIPTORS_MAX: Final = 253
# Buffers of one system call; IOV_MAX is 1,024.
PARTS_MAX: Final = 1_000


class Port:
    """The worker's end of the wire. Blocks. Raises WireError when nobody listens any more."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * DATA_BYTES)

    def receive(self, kind: Frame) -> tuple[dict[str, Any], list[int]]:
        """The next frame, which must be of this kind, and the descriptors that came with it."""
        descriptors: list[int] = []
        found, length = HEADER.unpack(self._exactly(HEADER.size, descriptors))
        if found != kind.value:
            raise WireError(f"expected {kind.name}, not {found!r}")
        return msgspec.json.decode(self._exactly(length, descriptors), type=dict), descriptors

    def _exactly(self, count: int, descriptors: list[int]) -> bytes:
        received = bytearray()
        while len(received) < count:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(
                    count - len(received), socket.CMSG_SPACE(4 * DESCRIPTORS_MAX)
                )
            except OSError as error:
                raise WireError(str(error)) from None
            for level, kind, body in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors += array("i", body[: len(body) // 4 * 4])
            if not data:
                raise WireError("the daemon has gone")
            received += data
        return bytes(received)

    def say(self, kind: Frame, **values: Any) -> None:
        self._send([memoryview(told(kind, **values))])

    def data(self, *pieces: bytes | memoryview) -> None:
        """Bytes of the answer, in frames of up to DATA_BYTES."""
        frame: list[memoryview] = []
        size = 0
        for piece in pieces:
            left = memoryview(piece).cast("B")
            while left:
                part = left[: DATA_BYTES - size]
                frame.append(part)
                size += len(part)
                left = left[len(part) :]
                if size == DATA_BYTES or len(frame) == PARTS_MAX:
                    self._frame(frame, size)
                    frame, size = [], 0
        if frame:
            self._frame(frame, size)

    def _frame(self, parts: Sequence[memoryview], size: int) -> None:
        self._send([memoryview(HEADER.pack(Frame.DATA.value, size)), *parts])

    def _send(self, parts: list[memoryview]) -> None:
        try:
            while parts:
                sent = self._socket.sendmsg(parts)
                while parts and sent >= len(parts[0]):
                    sent -= len(parts.pop(0))
                if sent:
                    parts[0] = parts[0][sent:]
        except OSError as error:
            raise WireError(str(error)) from None


def read_zone(name: str) -> None:
    """Python's and pyarrow's idea of it, and the modules that they need for it."""
    pa.array([0], pa.timestamp("us", name)).to_pylist()


def run(sock: socket.socket) -> NoReturn:
    """The life of the process."""
    port = Port(sock)
    code = 1
    try:
        _, (descriptor,) = port.receive(Frame.JOB)
        job = unpacked(descriptor)
        job.limits.enter()
        _do(port, job)
        code = 0
    except WireError:
        pass  # nobody listens
    except Exception:  # ours: whatever it is, the daemon is to hear of it
        _try_to_say(port, "", traceback.format_exc())
    os._exit(code)


def _do(port: Port, job: Job) -> None:
    try:
        job.run(port, *job.arguments)
    except ApiError as refused:
        port.say(Frame.ERROR, token=refused.token, detail=refused.detail)
    except (MemoryError, duckdb.OutOfMemoryException):
        port.say(
            Frame.ERROR,
            token="QUERY_MEMORY",  # noqa: S106
            detail=f"the query needs more memory than {job.limits.memory}",
        )


def _try_to_say(port: Port, token: str, detail: str) -> None:
    try:
        port.say(Frame.ERROR, token=token, detail=detail)
    except WireError:
        return
