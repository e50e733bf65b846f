"""Idle connections: what one costs a server in user memory.

Connect once and let go, so that everything that is allocated once or paged in on first use is
there; then compare the process's private memory before and with all connections held.
Kernel memory (sockets, about 2-4 KB each) is the same for all and not in it.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from benchmarks.processes import memory_bytes, pinned
from benchmarks.servers import Server
from benchmarks.traffic import LoadFailedError, load_command, run_load

# Files that a server needs beside its connections, at most.
SPARE_FILES = 500

# Opened and closed before the first reading; each has a device.
WARM_CONNECTIONS = 100

# Several source addresses: 28,000 local ports each, minus those in TIME_WAIT from the run before.
SOURCE_ADDRESSES = 8


class Held(msgspec.Struct, frozen=True):
    """What `mqtt_load --idle` says once all connections are open."""

    event: str
    connections: int
    opening_s: float


@dataclass(frozen=True, slots=True)
class IdleResult:
    """Private memory, bytes."""

    connections: int
    opening_s: float
    before_bytes: int
    with_connections_bytes: int

    @property
    def bytes_per_connection(self) -> float:
        return (self.with_connections_bytes - self.before_bytes) / self.connections


def idle_connections_max(wanted: int, files: int) -> int:
    """How many connections the limit of open files permits."""
    return min(wanted, files - SPARE_FILES)


@contextlib.contextmanager
def hold_idle(server: Server, core: int | None, connections: int) -> Iterator[Held]:
    """Idle MQTT connections, all open when the block begins and all alive when it ends.

    Raises:
        LoadFailedError: not all could be opened, or the server closed one; the generator's own words.
    """
    sources = ["--source-addresses", str(SOURCE_ADDRESSES)]
    command = load_command(server, "mqtt", "--idle", "--connections", str(connections), *sources)
    with pinned(core):
        holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    try:
        assert holder.stdout is not None
        line = holder.stdout.readline()
        if not line:
            raise LoadFailedError(holder.communicate()[1].decode().strip())
        yield msgspec.json.decode(line, type=Held)
        _, errors = holder.communicate()
        if holder.returncode != 0:
            raise LoadFailedError(errors.decode().strip())
    finally:
        holder.kill()  # a no-op on every way but that of an exception inside the block
        holder.wait()


def measure_idle(server: Server, core: int | None, connections: int) -> IdleResult:
    """Hold idle MQTT connections and read the server's memory."""
    warm = load_command(
        server, "mqtt", "--connections", str(WARM_CONNECTIONS), "--duration", "0.2", "--warmup", "0"
    )
    run_load(warm, core, limit_s=60)
    before = memory_bytes(server.pid)["private"]
    with hold_idle(server, core, connections) as held:
        full = memory_bytes(server.pid)["private"]
    return IdleResult(held.connections, held.opening_s, before, full)
