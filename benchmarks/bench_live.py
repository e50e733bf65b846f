"""Live viewers: how long a datapoint takes from a device's send until each viewer has it, and what ingest notices.

    python -m benchmarks.bench_live [--viewers 500] [--per-s 1000] [--seconds 8]

One device publishes with QoS 1 at a steady rate; the time of sending stands in each datapoint. Every viewer watches
everything that the user has (`GET /v2/live`, all with the same token), so 500 viewers at 1,000 datapoints a second are
half a million events a second; every one of them is timed when it is read (live_viewers.c). First without viewers, for
the acknowledgements' times. The daemon has one core; the device and the viewers share the other one.

Prints tables and writes bench-results/live-<time>.json. Exits with 1 when an event or an acknowledgement is missing;
never because of a slow figure.
"""

import argparse
import contextlib
import math
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks import machine, processes
from benchmarks.processes import Cores, pinned
from benchmarks.programs import BUILD, program
from benchmarks.runs import FAILURES, conclude, progress, write_document
from benchmarks.servers import DEVICE_PREFIX, Place, Server, open_thingscale
from benchmarks.tables import Target, number, open_console, ratio, target_table, titled
from benchmarks.traffic import Latency, LoadFailedError

PACE_S: Final = 0.005
ACKS_LIMIT_S: Final = 60.0
# After the last acknowledgement, until every viewer has had the last event.
SEEN_LIMIT_S: Final = 30.0
ENVIRONMENT: Final = {
    "THINGSCALE_LIVE_VIEWERS_PER_USER_MAX": "100000",
    "THINGSCALE_LIVE_VIEWERS_MAX": "100000",
}


class Seen(msgspec.Struct, frozen=True):
    """What `live_viewers` prints: all viewers together, and the fewest and the most events that one had."""

    messages: int
    latency_us: Latency
    generator_cpu_share: float
    connections: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run. CPU is the daemon's with all its threads, per second of the run."""

    viewers: int
    per_s: int
    sent: int
    acknowledged: int
    ack_p50_ms: float
    ack_p99_ms: float
    cpu_share: float
    seen: Seen | None


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, user and kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Sender:
    """A device that publishes at a steady rate and times the acknowledgements. A thread reads them."""

    def __init__(self, server: Server) -> None:
        device = f"{DEVICE_PREFIX}00000".encode()
        fields = (device, server.user.encode(), server.device_token.encode())
        self._topic = fields[2] + b"/json/" + device
        body = b"\x00\x04MQTT\x04\xc2\x00\x00" + b"".join(
            struct.pack(">H", len(each)) + each for each in fields
        )
        self._socket = socket.create_connection(("127.0.0.1", server.mqtt_port), timeout=ACKS_LIMIT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(b"\x10" + bytes([len(body)]) + body)
        if self._socket.recv(4) != b"\x20\x02\x00\x00":
            raise LoadFailedError("the device's CONNECT was refused")
        self._sent_at: dict[int, int] = {}
        self.acks_ms: list[float] = []
        self.sent = 0

    def run(self, per_s: int, seconds: float) -> None:
        """Returns when everything is acknowledged, or after ACKS_LIMIT_S without a word."""
        reader = threading.Thread(target=self._read)
        reader.start()
        began = time.monotonic()
        while self.sent < per_s * seconds:
            due = min(time.monotonic() - began, seconds) * per_s
            burst = b""
            while self.sent < due:
                burst += self._packet()
            self._socket.sendall(burst)
            time.sleep(PACE_S)
        self._socket.sendall(b"\xc0\x00")  # its answer comes behind the last acknowledgement
        reader.join()
        self._socket.close()

    def _packet(self) -> bytes:
        packet_id = self.sent % 65_535 + 1
        now = time.monotonic_ns()
        self._sent_at[packet_id] = now
        self.sent += 1
        payload = b'{"t":%d,"temp":21.5,"humidity":50}' % now
        rest = struct.pack(">H", len(self._topic)) + self._topic + struct.pack(">H", packet_id) + payload
        size = len(rest)
        head = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
        return b"\x32" + head + rest

    def _read(self) -> None:
        waiting = b""
        with contextlib.suppress(TimeoutError):
            while received := self._socket.recv(65_536):
                now = time.monotonic_ns()
                waiting += received
                while len(waiting) >= 4 and waiting[0] == 0x40:
                    sent_at = self._sent_at.pop(int.from_bytes(waiting[2:4], "big"))
                    self.acks_ms.append((now - sent_at) / 1e6)
                    waiting = waiting[4:]
                if waiting[:1] == b"\xd0":
                    return


@contextlib.contextmanager
def watching(server: Server, core: int | None, viewers: int, events: int) -> Iterator[list[Seen]]:
    """Viewers that are all connected when the block begins; once it is left, what they saw is in the list.

    Leaving waits until each of them has had so many events.

    Raises:
        LoadFailedError: one was refused or lost.
    """
    seen: list[Seen] = []
    command = [str(program("live_viewers")), "--port", str(server.http_port), "--token", server.api_token]
    with pinned(core):
        process = subprocess.Popen(
            [*command, "--connections", str(viewers), "--events", str(events)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise LoadFailedError(process.communicate()[1].decode().strip())
        yield seen
        with contextlib.suppress(subprocess.TimeoutExpired):  # then the figures tell what is missing
            process.wait(SEEN_LIMIT_S)
        output, errors = process.communicate()
        if process.returncode != 0:
            raise LoadFailedError(errors.decode().strip())
        seen.append(msgspec.json.decode(output, type=Seen))
    finally:
        process.kill()  # a no-op on every way but that of an exception inside the block
        process.wait()


def run(root: Path, cores: Cores, viewers: int, per_s: int, seconds: float) -> Outcome:
    """One run against a fresh daemon."""
    with (
        tempfile.TemporaryDirectory(dir=root) as directory,
        open_thingscale(Place(cores.server, Path(directory), ENVIRONMENT, 1)) as server,
        contextlib.ExitStack() as stack,
    ):
        events = math.ceil(per_s * seconds)
        seen = stack.enter_context(watching(server, cores.load, viewers, events)) if viewers else []
        with pinned(cores.load):
            sender = Sender(server)
            before, began = cpu_s(server.pid), time.monotonic()
            sender.run(per_s, seconds)
            share = (cpu_s(server.pid) - before) / (time.monotonic() - began)
        stack.close()
        p50, p99 = np.percentile(np.array(sender.acks_ms or [0.0]), [50, 99]).tolist()
        return Outcome(viewers, per_s, sender.sent, len(sender.acks_ms), p50, p99, share, *(seen or [None]))


def failure_of(outcomes: list[Outcome]) -> str:
    """What is missing, in words."""
    for outcome in outcomes:
        if outcome.acknowledged != outcome.sent:
            return f"{outcome.sent} datapoints were sent, {outcome.acknowledged} acknowledged"
        if outcome.seen and not outcome.seen.least == outcome.seen.most == outcome.sent:
            seen = outcome.seen
            return f"{outcome.sent} datapoints were sent, viewers saw {seen.least} to {seen.most} of them"
    return ""


def targets(outcomes: list[Outcome]) -> list[Target]:
    alone = next((each.ack_p99_ms for each in outcomes if not each.viewers), None)
    watched = next((each for each in outcomes if each.seen), None)
    seen_ms = watched.seen.latency_us.p99 / 1e3 if watched and watched.seen else None
    beside = ratio(watched.ack_p99_ms if watched else None, alone)
    return [
        Target("p99 from a device's send to a viewer's receipt, ms", 150, seen_ms, True),
        Target("p99 of acknowledgements beside viewers, over that without", 2, beside, True),
    ]


def print_tables(outcomes: list[Outcome]) -> None:
    console = open_console()
    headings = (
        "events/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "ack p50 ms",
        "ack p99 ms",
        "CPU %",
        "client's CPU %",
    )
    table = titled("Live viewers: from a device's send to the viewer's receipt", "viewers", numbers=headings)
    for each in outcomes:
        seen, latency = each.seen, each.seen and each.seen.latency_us
        figures = (
            seen and seen.connections * each.per_s,
            latency and latency.p50 / 1e3,
            latency and latency.p99 / 1e3,
            latency and latency.max / 1e3,
            each.ack_p50_ms,
            each.ack_p99_ms,
            100 * each.cpu_share,
            seen and 100 * seen.generator_cpu_share,
        )
        table.add_row(f"{each.viewers:,}", *map(number, figures))
    console.print(table)
    console.print(target_table(targets(outcomes)))


def document(outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "runs": outcomes,
        "targets": [{"target": target, "kept": target.kept} for target in targets(outcomes)],
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_live", description="Measure live viewers, and ingest beside them."
    )
    parser.add_argument("--viewers", type=int, default=500)
    parser.add_argument("--per-s", type=int, default=1_000, help="datapoints a second")
    parser.add_argument("--seconds", type=float, default=8, metavar="S")
    parser.add_argument("--output", type=Path, default=Path("bench-results"), help="where the JSON goes")
    parser.add_argument(
        "--data-root", type=Path, default=BUILD, help="where data directories are made: a real disk"
    )
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    processes.allow_all_files()
    arguments.data_root.mkdir(parents=True, exist_ok=True)
    description = machine.describe(arguments.data_root)
    outcomes: list[Outcome] = []
    try:
        for viewers in (0, arguments.viewers):
            outcome = run(
                arguments.data_root, Cores.of_this_machine(), viewers, arguments.per_s, arguments.seconds
            )
            outcomes.append(outcome)
            progress(f"{viewers} viewers: acknowledgements' p99 {outcome.ack_p99_ms:.2f} ms")
        failure = failure_of(outcomes)
    except FAILURES as error:
        failure = f"{type(error).__name__}: {error}"
    everything = {"machine": description, "failure": failure, **document(outcomes)}
    path = write_document(arguments.output, "live", everything)
    print_tables(outcomes)
    return conclude(description, path, failure)


if __name__ == "__main__":
    sys.exit(main())
