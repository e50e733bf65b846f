"""A job on its way to a worker: pickled into memory that both processes see.

Only the daemon writes it and only a worker reads it. Arrays lie beside the pickle (PEP 574), and the worker maps them
where they are: what the ring had of a busy channel is some 100 MB, which no socket needs to carry.
"""

import mmap
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from query.work.limits import Limits

COUNT: Final = struct.Struct("=Q")
# Arrays begin where processors like it.
ALIGNMENT: Final = 64


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker does.

    Attributes:
        run: a function of a module, which is given the worker's end of the wire and ``arguments``.
        limits: what it may use.
    """

    run: Callable[..., None]
    arguments: tuple[Any, ...]
    limits: Limits


def packed(job: Job) -> int:
    """The job in memory; its descriptor, which the caller closes. Any thread."""
    arrays: list[pickle.PickleBuffer] = []
    parts = [memoryview(pickle.dumps(job, 5, buffer_callback=arrays.append))]
    parts += [array.raw() for array in arrays]
    head = b"".join(COUNT.pack(number) for number in (len(parts), *map(len, parts)))
    descriptor = os.memfd_create("job", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb", buffering=0) as file:
            for part in (memoryview(head), *parts):
                _write(file.fileno(), part)
                file.seek(_aligned(file.tell()))
            file.truncate()
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def unpacked(descriptor: int) -> Job:
    """The job; its arrays can be written to, by this process alone. Closes the descriptor."""
    mapped = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY))
    os.close(descriptor)
    (count,) = COUNT.unpack_from(mapped)
    sizes = [COUNT.unpack_from(mapped, COUNT.size * (i + 1))[0] for i in range(count)]
    starts = accumulate(
        sizes, lambda at, size: _aligned(at + size), initial=_aligned(COUNT.size * (count + 1))
    )
    pickled, *arrays = (mapped[at : at + size] for at, size in zip(starts, sizes, strict=False))
    job = pickle.loads(pickled, buffers=arrays)  # noqa: S301
    assert isinstance(job, Job)
    return job


def _aligned(at: int) -> int:
    return -(-at // ALIGNMENT) * ALIGNMENT


def _write(descriptor: int, part: memoryview) -> None:
    while part:
        part = part[os.write(descriptor, part) :]
