"""The ingest bench: every scenario against every peer, in one run, on this machine.

    make bench                                            # all of it, about ten minutes
    python -m benchmarks.bench_ingest --quick             # about a minute
    python -m benchmarks.bench_ingest --scenarios qos0 http --peers null thingscale

Prints tables and writes bench-results/ingest-<time>.json with every round in it.
Exits with 1 when a server loses a message, a connection or a count, never because of a slow figure.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmarks import idle, ingest_report, machine, processes, recovery, traffic
from benchmarks.programs import BUILD
from benchmarks.runs import FAILURES, WrongCountError, check_stored, progress, write_document
from benchmarks.servers import PEERS, Peer, Place
from benchmarks.traffic import LoadResult, Scenario

IDLE_CONNECTIONS = 15_000


class Plan(msgspec.Struct, frozen=True):
    """How much of everything."""

    rounds: int
    duration_s: float
    warmup_s: float
    idle_connections: int
    recovery_datapoints: int


FULL = Plan(3, 5.0, 1.0, IDLE_CONNECTIONS, 3_000_000)
QUICK = Plan(1, 1.0, 0.3, IDLE_CONNECTIONS, 1_000_000)


class Bench:
    """One run: the peers, where they live, and the results so far."""

    def __init__(
        self, plan: Plan, peers: list[Peer], scenarios: list[Scenario], root: Path, durability: str
    ) -> None:
        self.plan, self.peers, self.scenarios, self.root = plan, peers, scenarios, root
        self.cores = processes.Cores.of_this_machine()
        self.environment = {"THINGSCALE_STORAGE_DURABILITY": durability}
        self.runs: dict[tuple[str, str], list[LoadResult]] = {
            (scenario.name, peer.name): []
            for scenario in scenarios
            for peer in peers
            if scenario.protocol == "mqtt" or peer.speaks_http
        }
        self.idle: dict[str, idle.IdleResult] = {}
        self.recovery: recovery.RecoveryResult | None = None
        self.notes: list[str] = []

    @contextmanager
    def place(self, devices: int) -> Iterator[Place]:
        directory = Path(tempfile.mkdtemp(prefix="server-", dir=self.root))
        try:
            yield Place(self.cores.server, directory, self.environment, devices)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def run_traffic(self) -> None:
        for number in range(self.plan.rounds):
            for scenario in self.scenarios:
                for peer in self.peers:
                    if (scenario.name, peer.name) not in self.runs:
                        continue
                    result = self.run_once(scenario, peer)
                    self.runs[scenario.name, peer.name].append(result)
                    figures = f"{result.per_second:,.0f}/s, {result.server_cpu_us_per_message:.2f} µs CPU"
                    progress(f"round {number + 1}: {scenario.name} {peer.name}: {figures}")

    def run_once(self, scenario: Scenario, peer: Peer) -> LoadResult:
        with self.place(scenario.connections) as place, peer.open(place) as server:
            result = traffic.measure(
                scenario, server, self.cores.load, self.plan.duration_s, self.plan.warmup_s
            )
            if peer.name == "thingscale":
                check_stored(server, result)
        return result

    def run_idle(self, files: int) -> None:
        connections = idle.idle_connections_max(self.plan.idle_connections, files)
        if connections < self.plan.idle_connections:
            self.notes.append(f"only {connections} idle connections: the hard limit of open files is {files}")
        for peer in self.peers:
            with self.place(idle.WARM_CONNECTIONS) as place, peer.open(place) as server:
                result = self.idle[peer.name] = idle.measure_idle(server, self.cores.load, connections)
            progress(f"idle {peer.name}: {result.bytes_per_connection:.0f} bytes per connection")

    def run_recovery(self) -> None:
        with self.place(recovery.CONNECTIONS) as place:
            result = recovery.measure_recovery(place, self.cores.load, self.plan.recovery_datapoints)
        self.recovery = result
        progress(f"recovery: {result.datapoints_per_second:,.0f} datapoints/s")
        if result.stored != result.acknowledged:
            raise WrongCountError(
                f"{result.acknowledged} acknowledged before kill -9, {result.stored} stored after it"
            )

    def write(self, directory: Path, description: dict[str, object]) -> Path:
        measured = ingest_report.document(self.scenarios, self.runs, self.idle, self.recovery)
        everything = {"machine": description, "plan": self.plan, "notes": self.notes, **measured}
        return write_document(directory, "ingest", everything)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_ingest", description="Measure ingest beside its peers."
    )
    names = [scenario.name for scenario in traffic.SCENARIOS]
    parser.add_argument("--quick", action="store_true", help="one short round, about a minute")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument(
        "--scenarios",
        nargs="+",
        choices=[*names, "idle", "recovery"],
        help="default: all; with --quick the main ones",
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--duration", type=float, metavar="S", help="measured seconds of a round")
    parser.add_argument("--recovery-datapoints", type=int, metavar="N")
    parser.add_argument("--durability", choices=["fsync", "os"], default="fsync")
    parser.add_argument("--output", type=Path, default=Path("bench-results"), help="where the JSON goes")
    parser.add_argument(
        "--data-root", type=Path, default=BUILD, help="where data directories are made: a real disk"
    )
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    plan = QUICK if arguments.quick else FULL
    changes = {
        "rounds": arguments.rounds,
        "duration_s": arguments.duration,
        "recovery_datapoints": arguments.recovery_datapoints,
    }
    plan = msgspec.structs.replace(
        plan, **{name: value for name, value in changes.items() if value is not None}
    )
    wanted = arguments.scenarios or [
        *(scenario.name for scenario in traffic.SCENARIOS if scenario.quick or not arguments.quick),
        "idle",
        "recovery",
    ]
    missing = {name: PEERS[name].missing() for name in arguments.peers}
    peers = [PEERS[name] for name in arguments.peers if not missing[name]]
    files = processes.allow_all_files()
    arguments.data_root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.data_root) as root:
        scenarios = [scenario for scenario in traffic.SCENARIOS if scenario.name in wanted]
        bench = Bench(plan, peers, scenarios, Path(root), arguments.durability)
        bench.notes += [f"{name} was not measured: {reason}" for name, reason in missing.items() if reason]
        if bench.cores.server is None:
            bench.notes.append("one core only: server and load generator shared it")
        description = machine.describe(bench.root)
        failure = run_all(bench, wanted, files)
    path = bench.write(arguments.output, description)
    ingest_report.print_tables(bench.scenarios, bench.runs, bench.idle, bench.recovery, bench.notes)
    print(", ".join(f"{name} {value}" for name, value in description.items()), path, sep="\n")
    if failure:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failure else 0


def run_all(bench: Bench, wanted: list[str], files: int) -> str:
    """Run what is wanted; a failure ends the run but not the report of what was measured before it."""
    try:
        bench.run_traffic()
        if "idle" in wanted:
            bench.run_idle(files)
        if "recovery" in wanted and any(peer.name == "thingscale" for peer in bench.peers):
            bench.run_recovery()
    except FAILURES as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
