"""Overload: what the acknowledgements of ingest notice of heavy queries and of SQL that wants everything.

    python -m benchmarks.bench_overload                   # about a minute, half of it filling the channel
    python -m benchmarks.bench_overload --rows 200000 --seconds 3

A channel is filled with `--rows` readings of 30 days. Then devices send `--per-s` messages a second with QoS 1 (open
loop, latency from the moment a message was due), first alone, then beside `--queries` clients that ask for ranges,
aggregates, percentiles, points and SQL of all of it without a pause, and one that sends SQL bombs. The daemon with all
its processes has one core; the generator that times the acknowledgements has the other one to itself, because what is
measured is the server. The clients of the queries share the daemon's core, behind everything else (heavy_queries.py).

Prints a table and writes bench-results/overload-<time>.json. Exits with 1 when a message is lost or a server fails;
never because of a slow figure.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import filled_channel, machine, processes
from benchmarks.heavy_queries import Asked, HeavyClients
from benchmarks.programs import BUILD
from benchmarks.runs import FAILURES, check_stored, conclude, progress, write_document
from benchmarks.servers import Place, Server, provision, serve_thingscale
from benchmarks.tables import Target, number, open_console, ratio, target_table, titled
from benchmarks.traffic import LoadResult, Scenario, measure
from query.work.limits import OWN_BYTES
from thingscale.config import SETTINGS

CONNECTIONS: Final = 200
# How many messages a connection may have in flight: so many that none has to wait for another one's answer.
WINDOW: Final = 100
DAYS: Final = 30
SENSORS: Final = 50
SAMPLE_S: Final = 0.25
WARMUP_S: Final = 1.0


@dataclass(slots=True)
class Measured:
    """One run."""

    idle: LoadResult | None = None
    loaded: LoadResult | None = None
    asked: Asked = field(default_factory=Asked)
    memory_idle_bytes: int = 0
    memory_peak_bytes: int = 0
    memory_bound_bytes: int = 0


def family(pid: int) -> Iterator[int]:
    """A process, and those that come from it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def memory_of(server: Server) -> int:
    """Bytes: the daemon and its SQL workers, what they share counted once."""
    total = 0
    for pid in family(server.pid):
        try:
            total += processes.memory_bytes(pid)["pss"]
        except (OSError, KeyError):
            continue  # has ended meanwhile
    return total


class MemoryWatch:
    """The most that a server has had, as sampled by a thread."""

    def __init__(self, server: Server) -> None:
        self.peak_bytes = 0
        self._server = server
        self._stopping = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(SAMPLE_S):
            try:
                self.peak_bytes = max(self.peak_bytes, memory_of(self._server))
            except OSError:
                continue  # a process ended between two looks


def memory_allowance() -> int:
    """What queries may take by the defaults: in the daemon, and in each worker that computes."""
    given = {setting.path: setting.default for setting in SETTINGS}
    sql = given["sql.concurrent_max"] * (given["sql.memory_bytes_max"] + OWN_BYTES)
    heavy = given["query.concurrent_max"] * (given["query.worker_memory_bytes_max"] + OWN_BYTES)
    return int(given["query.memory_bytes_max"] + heavy + sql)


def run(server: Server, core: int | None, server_core: int | None, arguments: argparse.Namespace) -> Measured:
    """First alone, then beside the queries, on the same server."""
    measured = Measured()
    scenario = Scenario("overload", "", "mqtt", CONNECTIONS, WINDOW, rate=arguments.per_s)
    measured.idle = measure(scenario, server, core, arguments.seconds, WARMUP_S)
    progress(f"alone: p99 {measured.idle.latency_us.p99:,.0f} µs")
    measured.memory_idle_bytes = memory_of(server)
    measured.memory_bound_bytes = measured.memory_idle_bytes + memory_allowance()
    clients, watch = (
        HeavyClients(server, server_core, arguments.queries, arguments.bombs),
        MemoryWatch(server),
    )
    with watch.watching(), clients.asking() as measured.asked:
        time.sleep(arguments.lead)
        measured.loaded = measure(scenario, server, core, arguments.seconds, WARMUP_S)
    progress(f"beside {arguments.queries} queries: p99 {measured.loaded.latency_us.p99:,.0f} µs")
    measured.memory_peak_bytes = watch.peak_bytes
    check_stored(server, measured.idle, measured.loaded, before=arguments.rows)
    return measured


def targets(measured: Measured) -> list[Target]:
    idle, loaded = measured.idle, measured.loaded
    p99 = ratio(loaded.latency_us.p99 if loaded else None, idle.latency_us.p99 if idle else None)
    peak = measured.memory_peak_bytes / 1e6 or None
    return [
        Target("p99 of acknowledgements beside heavy queries, over that without", 2, p99, True),
        Target("memory beside heavy queries, MB", measured.memory_bound_bytes / 1e6, peak, True),
    ]


def print_tables(measured: Measured) -> None:
    console = open_console()
    headings = ("messages/s", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "max ms", "daemon's CPU %")
    table = titled("Acknowledgements (QoS 1, fsync)", "beside", numbers=headings)
    for name, result in (("nothing", measured.idle), ("heavy queries", measured.loaded)):
        if result is not None:
            latency = result.latency_us
            figures = (result.per_second, latency.p50, latency.p90, latency.p99, latency.p999)
            rest = (latency.max / 1e3, 100 * result.server_cpu_s / result.seconds)
            table.add_row(name, *map(number, (*figures, *rest)))
    console.print(table)
    answers = titled("Queries", "query", numbers=("answers", "refused or called off"))
    names = sorted({*measured.asked.done, *(each.split()[0] for each in measured.asked.refused)})
    for name in names:
        others = [
            f"{n} x {each.split()[1]}"
            for each, n in measured.asked.refused.items()
            if each.split()[0] == name
        ]
        answers.add_row(name, str(measured.asked.done[name]), ", ".join(others))
    console.print(answers)
    console.print(target_table(targets(measured)))


def document(measured: Measured) -> dict[str, Any]:
    return {
        "idle": measured.idle,
        "loaded": measured.loaded,
        "queries": {"done": dict(measured.asked.done), "refused": dict(measured.asked.refused)},
        "answer_bytes": measured.asked.answer_bytes,
        "memory_bytes": {
            "idle": measured.memory_idle_bytes,
            "peak": measured.memory_peak_bytes,
            "bound": measured.memory_bound_bytes,
        },
        "targets": [{"target": target, "kept": target.kept} for target in targets(measured)],
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_overload", description="Measure ingest beside heavy queries."
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the channel that is asked about")
    parser.add_argument("--per-s", type=int, default=20_000, help="messages a second")
    parser.add_argument("--queries", type=int, default=20, help="clients that ask at the same time")
    parser.add_argument("--bombs", type=int, default=1, help="clients that send SQL bombs")
    parser.add_argument("--seconds", type=float, default=8, metavar="S", help="measured, alone and beside")
    parser.add_argument(
        "--lead", type=float, default=2, metavar="S", help="for bombs to grow before it is measured"
    )
    parser.add_argument("--output", type=Path, default=Path("bench-results"), help="where the JSON goes")
    parser.add_argument(
        "--data-root", type=Path, default=BUILD, help="where data directories are made: a real disk"
    )
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    processes.allow_all_files()
    arguments.data_root.mkdir(parents=True, exist_ok=True)
    cores = processes.Cores.of_this_machine()
    measured, failure = Measured(), ""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.data_root) as root:
        description = machine.describe(Path(root))
        place = Place(cores.server, Path(root), {}, CONNECTIONS)
        user = filled_channel.fill(place.directory / "data", arguments.rows, DAYS, SENSORS)
        tokens = {"user_id": user.user_id, "api_token": user.api_token, "device_token": user.device_token}
        try:
            with serve_thingscale(place, tokens) as server:
                provision(server, place.devices)
                measured = run(server, cores.load, cores.server, arguments)
        except FAILURES as error:
            failure = f"{type(error).__name__}: {error}"
    options = {name: value for name, value in vars(arguments).items() if not isinstance(value, Path)}
    everything = {"machine": description, "options": options, "failure": failure, **document(measured)}
    path = write_document(arguments.output, "overload", everything)
    print_tables(measured)
    return conclude(description, path, failure)


if __name__ == "__main__":
    sys.exit(main())
