"""Bodies of columns are read in a worker: Arrow and Parquet are read by C++ that trusts much of what it is given.

Whatever a body does to its reader, the daemon goes on and nothing of other users is in reach. What the worker says is
not trusted either: its rows go through ``Rows.add`` like any others.
"""

import os
import signal
from dataclasses import replace
from typing import Final

import msgspec
import trio

from query.background import in_background
from query.errors import ApiError
from query.work.jobs import Job
from query.work.limits import OWN_BYTES, RESERVED_BYTES, Limits
from query.work.wire import Frame
from query.work.worker import Port
from query.work.workers import Worker, Workers
from query.writing.columnar import EXPANSION_MAX, parse_arrow, parse_parquet
from query.writing.rows import BadBodyError, Reading, Rows

COLUMNS: Final = {
    "application/vnd.apache.arrow.stream": parse_arrow,
    "application/vnd.apache.parquet": parse_parquet,
}
# Of the reader's memory, for each byte that the values may have.
MEMORY_PER_BYTE: Final = 16
SECONDS_MAX: Final = 30.0
# How a process ends that reads where nothing is.
BROKEN: Final = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)

# A row on the wire: value, time, tag, device.
Sent = tuple[bytes, int | None, str, str]


def limits_of(reading: Reading) -> Limits:
    return Limits(
        section="limits",
        memory_setting="http_body_bytes_max",
        memory_bytes=MEMORY_PER_BYTE * reading.bytes_max + OWN_BYTES,
        mapped_bytes=RESERVED_BYTES,
        seconds=SECONDS_MAX,
    )


async def parse_apart(
    workers: Workers,
    body: bytes,
    media_type: str,
    reading: Reading,
    parsers: trio.CapacityLimiter | None = None,
) -> Rows:
    """The rows of a body of columns. Raises BadBodyError.

    Args:
        workers: one of them reads it.
        body: as it came.
        media_type: one of COLUMNS.
        reading: how rows are read.
        parsers: of threads that keep the interpreter, as the last step does.
    """
    # What the request says of all rows is said here.
    bare = replace(reading, tag="", device="")
    async with workers.start(Job(send_rows, (body, media_type, bare), limits_of(reading))) as worker:
        try:
            said = await _said(worker, EXPANSION_MAX * reading.bytes_max)
        except ApiError as error:
            raise _refusal(error, worker, media_type) from None
    return await in_background(_rows_of, said, reading, limiter=parsers)


async def _said(worker: Worker, bytes_max: int) -> bytes:
    """All that it says. Raises ApiError."""
    frames: list[memoryview] = []
    size = 0
    while True:
        kind, frame = await worker.hear()
        if kind is Frame.END:
            return b"".join(frames)
        frames.append(frame)
        size += len(frame)
        if size > bytes_max:
            raise ApiError("BODY_TOO_LARGE", _too_large(bytes_max))


def _too_large(bytes_max: int) -> str:
    return f"the rows with their tags and devices are more than {bytes_max} bytes"


def _refusal(error: ApiError, worker: Worker, media_type: str) -> BadBodyError:
    if worker.has_ended.is_set() and os.WIFSIGNALED(worker.status):
        number = os.WTERMSIG(worker.status)
        if number in BROKEN:
            name = signal.Signals(number).name
            return BadBodyError(
                "BAD_BODY_FORMAT", f"the body is no {media_type}: its reader ended with {name}"
            )
    match error.token:
        case "QUERY_MEMORY":
            words = (
                f"it takes more than {MEMORY_PER_BYTE} times [limits] http_body_bytes_max of memory to read"
            )
            return BadBodyError("BODY_TOO_LARGE", words)
        case "QUERY_TIMEOUT":
            return BadBodyError("BODY_TOO_LARGE", f"it takes more than {SECONDS_MAX:g} s to read")
    return BadBodyError(error.token, error.detail)


def _rows_of(said: bytes, reading: Reading) -> Rows:
    rows = Rows(reading)
    for number, (value, at_us, tag, device) in enumerate(msgspec.msgpack.decode(said, type=list[Sent]), 1):
        rows.add(value, at_us, tag, device, number)
    return rows


# ---- in the worker


def send_rows(port: Port, body: bytes, media_type: str, reading: Reading) -> None:
    """The job. Raises ApiError: what is wrong with the body."""
    rows = Rows(reading)
    try:
        COLUMNS[media_type](body, rows)
    except BadBodyError as error:
        raise ApiError(error.token, error.words) from None
    said = msgspec.msgpack.encode(
        [(value, at_us, tag.decode(), device) for at_us, device, tag, value in rows.all()]
    )
    if len(said) > EXPANSION_MAX * reading.bytes_max:
        raise ApiError("BODY_TOO_LARGE", _too_large(EXPANSION_MAX * reading.bytes_max))
    port.data(said)
    port.say(Frame.END)
