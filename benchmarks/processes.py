"""Processes under measurement: where they run, when they are ready, what they hold.

Server and load generator get a core each when the machine has two, because a
scheduler that moves them about changes the figures by 20 % from run to run. A child
inherits the affinity of the thread that starts it, so pinning is a matter of starting it
inside `pinned`; threads that it makes later stay on the same core too: what a server
does in the background (syncing, sealing) is paid from the same core.
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores of the two sides; None leaves the placement to the kernel."""

    server: int | None
    load: int | None

    @classmethod
    def of_this_machine(cls) -> "Cores":
        available = sorted(os.sched_getaffinity(0))
        return cls(available[0], available[1]) if len(available) >= 2 else cls(None, None)


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Children that are started inside run on this core."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_all_files() -> int:
    """Raise the soft limit of open files to the hard one, for us and our children; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class ServerFailedError(Exception):
    """A server did not come up, or ended by itself."""


def start(
    command: Sequence[str | Path],
    core: int | None,
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server; stdout is a pipe, stderr goes to `log`."""
    with pinned(core), log.open("ab") as errors:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(environment or {})},
            bufsize=0,
        )


def read_ready(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """The ready line: one JSON object on stdout.

    Raises:
        ServerFailedError: it ended, or said nothing within READY_LIMIT_S.
    """
    assert process.stdout is not None
    line, deadline = b"", time.monotonic() + READY_LIMIT_S
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        part = process.stdout.read(4096) if readable else b""
        if not part:
            state = "ended" if readable else f"not ready after {READY_LIMIT_S:.0f} s"
            raise ServerFailedError(f"{process.args!r}: {state}; {log.name} says: {log.read_text()[-2000:]}")
        line += part
    ready: dict[str, Any] = json.loads(line)
    return ready


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server that we started: SIGTERM, and SIGKILL when it does not listen."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def free_port() -> int:
    """A port that is free now, for servers that cannot take port 0."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    """Return when the server accepts connections, for servers without a ready line."""
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
    raise ServerFailedError(f"{process.args!r}: no listener on port {port}")


def memory_bytes(pid: int) -> dict[str, int]:
    """Memory of a process: `private` (what ends with it), `pss`, `rss`, in bytes."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        fields[name] = int(value.split()[0]) * 1024
    return {
        "private": fields["Private_Clean"] + fields["Private_Dirty"],
        "pss": fields["Pss"],
        "rss": fields["Rss"],
    }
