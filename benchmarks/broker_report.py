"""What the broker bench says: medians beside mosquitto's, what idle connections take, and the promises."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from benchmarks.broker_traffic import BrokerResult, Workload
from benchmarks.idle import IdleResult
from benchmarks.ingest_report import GENERATOR_BUSY, Figures
from benchmarks.tables import Target, number, open_console, ratio, target_table, titled
from benchmarks.traffic import LoadResult

OURS, THEIRS = "thingscale", "mosquitto"

LEGEND = """\
x: over mosquitto's in the same run; of deliveries/s (more is better) and of CPU per delivery (less is better).
CPU: the server's, user and kernel, all threads; taking the message in included. Latency: where the rate is fixed.
* the load generator was busy too: the server may be faster; its CPU per delivery holds.
"""


@dataclass(frozen=True, slots=True)
class BesideIdle:
    """Ingest with and without idle connections beside it, on the same server."""

    connections: int
    alone: LoadResult
    beside: LoadResult


@dataclass(slots=True)
class Measured:
    """Results so far, by the name of the peer; those of workloads by (workload, peer), one for each round."""

    runs: dict[tuple[str, str], list[BrokerResult]] = field(default_factory=dict)
    tls_ingest: dict[str, list[LoadResult]] = field(default_factory=dict)
    tls_idle: dict[str, IdleResult] = field(default_factory=dict)
    beside_idle: dict[str, BesideIdle] = field(default_factory=dict)

    def figures(self, workload: str, peer: str) -> Figures | None:
        results = self.runs.get((workload, peer))
        return Figures.of(results) if results else None

    def tls_ingest_figures(self, peer: str) -> Figures | None:
        results = self.tls_ingest.get(peer)
        return Figures.of(results) if results else None


def _cpu(figures: Figures | None) -> float | None:
    return figures.cpu_us if figures else None


def _rate(figures: Figures | None) -> float | None:
    return figures.per_second if figures else None


def targets(workloads: Sequence[Workload], measured: Measured) -> list[Target]:
    """The broker's promises: the worst row of each kind, and what stands beside."""
    found = []
    for title, some in (
        ("plain", [w for w in workloads if not w.tls and not w.kept]),
        ("TLS", [w for w in workloads if w.tls]),
        ("kept sessions", [w for w in workloads if w.kept]),
    ):
        pairs = [(w, measured.figures(w.name, OURS), measured.figures(w.name, THEIRS)) for w in some]
        rates = [(ratio(_rate(a), _rate(b)), w.name) for w, a, b in pairs if a and b and w.rate == 0]
        cpus = [(ratio(_cpu(a), _cpu(b)), w.name) for w, a, b in pairs if a and b and w.rate == 0]
        slowest = min(((x, name) for x, name in rates if x is not None), default=(None, "-"))
        dearest = max(((x, name) for x, name in cpus if x is not None), default=(None, "-"))
        found += [
            Target(f"{title}: deliveries/s over mosquitto's, worst row ({slowest[1]})", 1, slowest[0], False),
            Target(
                f"{title}: CPU per delivery over mosquitto's, worst row ({dearest[1]})", 1, dearest[0], True
            ),
        ]
    held, beside = measured.tls_idle.get(OURS), measured.beside_idle.get(OURS)
    tls = ratio(_cpu(measured.tls_ingest_figures(OURS)), _cpu(measured.tls_ingest_figures(THEIRS)))
    return [
        *found,
        Target("TLS ingest, one in flight: CPU per message over mosquitto's", 1, tls, True),
        Target(
            "idle TLS connection: user memory, bytes",
            20_480,
            held.bytes_per_connection if held else None,
            True,
        ),
        Target(
            "plain idle connections held while ingest runs",
            15_000,
            beside.connections if beside else None,
            False,
        ),
    ]


def print_tables(workloads: Sequence[Workload], measured: Measured, notes: Sequence[str]) -> None:
    """Everything, on stdout."""
    console = open_console()
    shown = [
        w for w in workloads if any(name == w.name and runs for (name, _), runs in measured.runs.items())
    ]
    if shown:
        console.print(_workload_table(shown, measured))
        console.print(*(f"{workload.name}: {workload.title}" for workload in shown), LEGEND, sep="\n")
    if measured.tls_ingest:
        console.print(_tls_ingest_table(measured))
    if measured.tls_idle:
        console.print(_tls_idle_table(measured.tls_idle))
    if measured.beside_idle:
        console.print(_beside_idle_table(measured.beside_idle))
    promised = targets(workloads, measured)
    if any(target.measured is not None for target in promised):
        console.print(target_table(promised))
    for note in notes:
        console.print(f"note: {note}", markup=False)


def _workload_table(workloads: Sequence[Workload], measured: Measured) -> Table:
    headings = ("deliveries/s", "x", "CPU µs", "x", "p50 µs", "p99 µs", "lost")
    table = titled("Broker: medians of the rounds of one run", "workload", "server", numbers=headings)
    for workload in workloads:
        peers = [peer for name, peer in measured.runs if name == workload.name]
        theirs = measured.figures(workload.name, THEIRS)
        for i, peer in enumerate(peers):
            found = measured.figures(workload.name, peer)
            if found is None:
                continue
            open_loop = workload.rate > 0
            limited = "*" if not open_loop and found.generator_cpu_share > GENERATOR_BUSY else ""
            cells = (
                ratio(found.per_second, _rate(theirs)),
                found.cpu_us,
                ratio(found.cpu_us, _cpu(theirs)),
                found.p50_us if open_loop else None,
                found.p99_us if open_loop else None,
                sum(result.lost for result in measured.runs[workload.name, peer]),
            )
            texts = [workload.name if i == 0 else "", peer, limited + number(found.per_second)]
            table.add_row(*texts, *map(number, cells), end_section=i == len(peers) - 1)
    return table


def _tls_ingest_table(measured: Measured) -> Table:
    headings = ("messages/s", "x", "CPU µs", "x")
    table = titled("TLS ingest: QoS 1, one in flight, 200 connections", "server", numbers=headings)
    theirs = measured.tls_ingest_figures(THEIRS)
    for peer in measured.tls_ingest:
        found = measured.tls_ingest_figures(peer)
        cells = (
            _rate(found),
            ratio(_rate(found), _rate(theirs)),
            _cpu(found),
            ratio(_cpu(found), _cpu(theirs)),
        )
        table.add_row(peer, *map(number, cells))
    return table


def _tls_idle_table(idle: Mapping[str, IdleResult]) -> Table:
    table = titled(
        "Idle TLS connections: private memory", "server", numbers=("connections", "bytes each", "opening s")
    )
    for peer, result in idle.items():
        table.add_row(peer, *map(number, (result.connections, result.bytes_per_connection, result.opening_s)))
    return table


def _beside_idle_table(results: Mapping[str, BesideIdle]) -> Table:
    headings = ("held", "messages/s alone", "beside them", "CPU µs alone", "beside them")
    table = titled(
        "Ingest (QoS 1, 20 in flight, 100 connections) beside idle connections", "server", numbers=headings
    )
    for peer, result in results.items():
        rates = (result.connections, result.alone.per_second, result.beside.per_second)
        cpus = (result.alone.server_cpu_us_per_message, result.beside.server_cpu_us_per_message)
        table.add_row(peer, *map(number, (*rates, *cpus)))
    return table


def document(workloads: Sequence[Workload], measured: Measured) -> dict[str, Any]:
    """Everything, every round included, as msgspec and json can write it."""
    return {
        "workloads": [
            {
                "workload": workload,
                "peers": {
                    peer: {"median": measured.figures(name, peer), "rounds": rounds}
                    for (name, peer), rounds in measured.runs.items()
                    if name == workload.name and rounds
                },
            }
            for workload in workloads
        ],
        "tls_ingest": {
            peer: {"median": measured.tls_ingest_figures(peer), "rounds": rounds}
            for peer, rounds in measured.tls_ingest.items()
        },
        "tls_idle": {
            peer: {"result": result, "bytes_per_connection": result.bytes_per_connection}
            for peer, result in measured.tls_idle.items()
        },
        "beside_idle": measured.beside_idle,
        "targets": [{"target": target, "kept": target.kept} for target in targets(workloads, measured)],
    }
