"""The broker bench: every workload against the daemon and mosquitto, in one run, on this machine.

    python -m benchmarks.bench_broker                     # all of it, below four minutes
    python -m benchmarks.bench_broker --quick             # the main rows, about a minute
    python -m benchmarks.bench_broker --workloads pair-qos1 shared-qos1 --rounds 3

Prints tables and writes bench-results/broker-<time>.json with every round in it. Exits with 1 when a
server loses a message of QoS 1 or 2, doubles one of QoS 0 or 2, or drops a connection; never because of a slow figure.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from benchmarks import broker_report, broker_traffic, idle, machine, processes, traffic
from benchmarks.broker_report import BesideIdle, Measured
from benchmarks.broker_traffic import Workload
from benchmarks.programs import BUILD, tls_missing
from benchmarks.runs import FAILURES, check_stored, progress, write_document
from benchmarks.servers import PEERS, Peer, Place, Server
from benchmarks.traffic import LoadResult
from thingscale.devcert import DevelopmentFiles, make_development_files

BROKERS = ("mosquitto", "thingscale")
EXTRAS = ("tls-ingest", "tls-idle", "beside-idle")
SCENARIOS = {scenario.name: scenario for scenario in traffic.SCENARIOS}
TLS_INGEST = SCENARIOS["qos1-window1"]
# 100 connections: beside 15,000 idle ones, 200 would be more than the daemon takes with 20,000 files (15,182).
INGEST = replace(SCENARIOS["qos1-window20"], connections=100)


class Plan(msgspec.Struct, frozen=True):
    """How much of everything."""

    rounds: int
    duration_s: float
    warmup_s: float
    clients: int
    idle_connections: int
    tls_idle_connections: int


FULL = Plan(1, 1.2, 0.4, broker_traffic.CLIENTS, 15_000, 1_000)
QUICK = Plan(1, 0.7, 0.3, broker_traffic.CLIENTS, 15_000, 1_000)


class Bench:
    """One run: the peers, where they live, and the results so far."""

    def __init__(self, plan: Plan, peers: list[Peer], workloads: list[Workload], root: Path) -> None:
        self.plan, self.peers, self.root = plan, peers, root
        self.workloads = [workload.with_clients(plan.clients) for workload in workloads]
        self.cores = processes.Cores.of_this_machine()
        self.certificate: DevelopmentFiles | None = None
        self.measured = Measured()
        self.notes: list[str] = []

    @contextmanager
    def open(
        self, peer: Peer, *, devices: int = 0, tls: bool = False, kept: bool = False
    ) -> Iterator[Server]:
        """A fresh server; with `devices` it takes readings, without only topics that are relayed."""
        directory = Path(tempfile.mkdtemp(prefix="server-", dir=self.root))
        certificate = self.certificate if tls else None
        environment = {} if devices else broker_traffic.THINGSCALE_ENVIRONMENT
        options = broker_traffic.MOSQUITTO_OPTIONS
        place = Place(self.cores.server, directory, environment, devices, certificate, kept, options)
        try:
            with peer.open(place) as server:
                yield server
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def run_workloads(self) -> None:
        for number in range(self.plan.rounds):
            for workload in self.workloads:
                if workload.tls and self.certificate is None:
                    continue
                for peer in self.peers:
                    with self.open(peer, tls=workload.tls, kept=workload.kept) as server:
                        result = broker_traffic.measure(
                            workload, server, self.cores.load, self.plan.duration_s, self.plan.warmup_s
                        )
                    self.measured.runs.setdefault((workload.name, peer.name), []).append(result)
                    figures = f"{result.per_second:,.0f}/s, {result.server_cpu_us_per_message:.2f} µs CPU"
                    progress(f"round {number + 1}: {workload.name} {peer.name}: {figures}")

    def ingest(self, scenario: traffic.Scenario, server: Server) -> LoadResult:
        return traffic.measure(scenario, server, self.cores.load, self.plan.duration_s, self.plan.warmup_s)

    def run_tls_ingest(self) -> None:
        for _ in range(self.plan.rounds):
            for peer in self.peers:
                with self.open(peer, devices=TLS_INGEST.connections, tls=True) as server:
                    result = self.ingest(TLS_INGEST, server)
                    if peer.name == "thingscale":
                        check_stored(server, result)
                self.measured.tls_ingest.setdefault(peer.name, []).append(result)
                progress(f"tls-ingest {peer.name}: {result.server_cpu_us_per_message:.2f} µs CPU")

    def run_tls_idle(self) -> None:
        for peer in self.peers:
            with self.open(peer, devices=idle.WARM_CONNECTIONS, tls=True) as server:
                result = idle.measure_idle(server, self.cores.load, self.plan.tls_idle_connections)
            self.measured.tls_idle[peer.name] = result
            progress(f"tls-idle {peer.name}: {result.bytes_per_connection:,.0f} bytes per connection")

    def run_beside_idle(self, files: int) -> None:
        connections = idle.idle_connections_max(self.plan.idle_connections, files)
        if connections < self.plan.idle_connections:
            self.notes.append(f"only {connections} idle connections: the hard limit of open files is {files}")
        for peer in self.peers:
            with self.open(peer, devices=INGEST.connections) as server:
                alone = self.ingest(INGEST, server)
                with idle.hold_idle(server, self.cores.load, connections) as held:
                    beside = self.ingest(INGEST, server)
                if peer.name == "thingscale":
                    check_stored(server, alone, beside)
            self.measured.beside_idle[peer.name] = BesideIdle(held.connections, alone, beside)
            progress(f"beside-idle {peer.name}: {alone.per_second:,.0f}/s, then {beside.per_second:,.0f}/s")

    def run(self, wanted: list[str], files: int) -> str:
        """Run what is wanted; a failure ends the run but not the report of what was measured before it."""
        try:
            missing = tls_missing()
            if missing:
                self.notes.append(f"nothing was measured in TLS: {missing}")
            else:
                self.certificate = make_development_files(self.root / "tls", ["localhost"], force=False)
            self.run_workloads()
            if "tls-ingest" in wanted and not missing:
                self.run_tls_ingest()
            if "tls-idle" in wanted and not missing:
                self.run_tls_idle()
            if "beside-idle" in wanted:
                self.run_beside_idle(files)
        except (broker_traffic.WrongDeliveryError, *FAILURES) as error:
            return f"{type(error).__name__}: {error}"
        return ""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_broker", description="Measure the broker beside mosquitto."
    )
    names = [workload.name for workload in broker_traffic.WORKLOADS]
    parser.add_argument("--quick", action="store_true", help="shorter, the main workloads only")
    parser.add_argument("--peers", nargs="+", choices=BROKERS, default=list(BROKERS))
    parser.add_argument(
        "--workloads",
        nargs="+",
        choices=[*names, *EXTRAS],
        help="default: all; with --quick the main ones",
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, metavar="S", help="measured seconds of a round")
    parser.add_argument("--clients", type=int, metavar="N", help="instead of 1,000")
    parser.add_argument("--idle-connections", type=int, metavar="N", help="plain ones beside ingest")
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
        "duration_s": arguments.seconds,
        "clients": arguments.clients,
        "idle_connections": arguments.idle_connections,
    }
    plan = msgspec.structs.replace(
        plan, **{name: value for name, value in changes.items() if value is not None}
    )
    quick = [w.name for w in broker_traffic.WORKLOADS if w.quick or not arguments.quick]
    wanted = arguments.workloads or [*quick, *EXTRAS]
    missing = {name: PEERS[name].missing() for name in arguments.peers}
    peers = [PEERS[name] for name in arguments.peers if not missing[name]]
    files = processes.allow_all_files()
    arguments.data_root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.data_root) as root:
        workloads = [workload for workload in broker_traffic.WORKLOADS if workload.name in wanted]
        bench = Bench(plan, peers, workloads, Path(root))
        bench.notes += [f"{name} was not measured: {reason}" for name, reason in missing.items() if reason]
        if bench.cores.server is None:
            bench.notes.append("one core only: server and load generator shared it")
        description = machine.describe(bench.root)
        failure = bench.run(wanted, files)
    measured = broker_report.document(bench.workloads, bench.measured)
    everything = {"machine": description, "plan": plan, "notes": bench.notes, "failure": failure, **measured}
    path = write_document(arguments.output, "broker", everything)
    broker_report.print_tables(bench.workloads, bench.measured, bench.notes)
    print(", ".join(f"{name} {value}" for name, value in description.items()), path, sep="\n")
    if failure:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
