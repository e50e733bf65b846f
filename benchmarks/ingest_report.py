"""What the runs say: medians, ratios, targets; as a table for people and a document for programs.

A ratio is formed from medians of the same run only. Throughput of a peer is what one core of it gives, or what
the generator gives where `generator_cpu_share` is near 1; CPU per message holds in both cases.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from benchmarks.idle import IdleResult
from benchmarks.recovery import RecoveryResult
from benchmarks.tables import Target, number, open_console, ratio, target_table, titled
from benchmarks.traffic import LoadResult, Scenario

# From here on the generator, not the server, is what limits a closed loop.
GENERATOR_BUSY = 0.97

LEGEND = """\
x null: CPU per message over the null server's; x mosquitto: throughput over mosquitto's.
* the load generator was busy too: the server may be faster; its CPU per message holds.
"""

Runs = Mapping[tuple[str, str], Sequence[LoadResult]]  # (scenario, peer) -> rounds


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the rounds of one peer in one scenario."""

    per_second: float
    cpu_us: float
    p50_us: float
    p99_us: float
    max_us: float
    generator_cpu_share: float
    rounds: int

    @classmethod
    def of(cls, results: Sequence[LoadResult]) -> "Figures":
        return cls(
            statistics.median(result.per_second for result in results),
            statistics.median(result.server_cpu_us_per_message for result in results),
            statistics.median(result.latency_us.p50 for result in results),
            statistics.median(result.latency_us.p99 for result in results),
            statistics.median(result.latency_us.max for result in results),
            statistics.median(result.generator_cpu_share for result in results),
            len(results),
        )


def medians(runs: Runs) -> dict[tuple[str, str], Figures]:
    return {key: Figures.of(results) for key, results in runs.items() if results}


def targets(
    figures: Mapping[tuple[str, str], Figures],
    idle: Mapping[str, IdleResult],
    recovery: RecoveryResult | None,
) -> list[Target]:
    """The ingest promises of the project, in the words in which they were made."""

    def cpu(scenario: str, peer: str) -> float | None:
        found = figures.get((scenario, peer))
        return found.cpu_us if found else None

    def rate(scenario: str, peer: str) -> float | None:
        found = figures.get((scenario, peer))
        return found.per_second if found else None

    ours, held = "thingscale", idle.get("thingscale")
    one, many = "qos1-window1", "qos1-window20"
    return [
        Target(
            "QoS 1, one in flight: CPU per message over mosquitto's",
            1.0,
            ratio(cpu(one, ours), cpu(one, "mosquitto")),
            True,
        ),
        Target(
            "QoS 1, one in flight: CPU per message over the null server's",
            1.7,
            ratio(cpu(one, ours), cpu(one, "null")),
            True,
        ),
        Target(
            "QoS 1, 20 in flight: throughput over mosquitto's",
            6.0,
            ratio(rate(many, ours), rate(many, "mosquitto")),
            False,
        ),
        Target(
            "QoS 0: throughput over mosquitto's",
            4.0,
            ratio(rate("qos0", ours), rate("qos0", "mosquitto")),
            False,
        ),
        Target("HTTP keep-alive POST: CPU, µs", 10.0, cpu("http", ours), True),
        Target(
            "idle MQTT connection: user memory, bytes",
            700.0,
            held.bytes_per_connection if held else None,
            True,
        ),
        Target("idle MQTT connections held", 15_000.0, held.connections if held else None, False),
        Target("recovery, datapoints/s", 2e6, recovery.datapoints_per_second if recovery else None, False),
    ]


def print_tables(
    scenarios: Sequence[Scenario],
    runs: Runs,
    idle: Mapping[str, IdleResult],
    recovery: RecoveryResult | None,
    notes: Sequence[str],
) -> None:
    """Everything, on stdout."""
    console, figures = open_console(), medians(runs)
    if figures:
        console.print(_traffic_table(scenarios, figures))
        console.print(*(f"{scenario.name}: {scenario.title}" for scenario in scenarios), LEGEND, sep="\n")
    if idle:
        console.print(_idle_table(idle))
    if recovery is not None:
        console.print(_recovery_table(recovery))
    promised = targets(figures, idle, recovery)
    if any(target.measured is not None for target in promised):
        console.print(target_table(promised))
    for note in notes:
        console.print(f"note: {note}", markup=False)


def _traffic_table(scenarios: Sequence[Scenario], figures: Mapping[tuple[str, str], Figures]) -> Table:
    headings = ("messages/s", "CPU µs", "x null", "x mosquitto", "p50 µs", "p99 µs", "max µs")
    table = titled("Ingest: medians of the rounds of one run", "scenario", "server", numbers=headings)
    for scenario in scenarios:
        rows = {peer: found for (name, peer), found in figures.items() if name == scenario.name}
        null, mosquitto = rows.get("null"), rows.get("mosquitto")
        for i, (peer, found) in enumerate(rows.items()):
            to_null = ratio(found.cpu_us, null.cpu_us if null else None)
            to_mosquitto = ratio(found.per_second, mosquitto.per_second if mosquitto else None)
            limited = "*" if scenario.rate == 0 and found.generator_cpu_share > GENERATOR_BUSY else ""
            cells = (found.cpu_us, to_null, to_mosquitto, found.p50_us, found.p99_us, found.max_us)
            texts = [
                scenario.name if i == 0 else "",
                peer,
                limited + number(found.per_second),
                *map(number, cells),
            ]
            table.add_row(*texts, end_section=i == len(rows) - 1)
    return table


def _idle_table(idle: Mapping[str, IdleResult]) -> Table:
    headings = ("connections", "bytes each", "before MB", "with all MB")
    table = titled("Idle MQTT connections: private memory", "server", numbers=headings)
    for peer, result in idle.items():
        sizes = (result.before_bytes / 1e6, result.with_connections_bytes / 1e6)
        cells = (result.connections, result.bytes_per_connection, *sizes)
        table.add_row(peer, *map(number, cells))
    return table


def _recovery_table(recovery: RecoveryResult) -> Table:
    headings = (
        "acknowledged",
        "stored after it",
        "replayed",
        "datapoints/s",
        "ready after s",
        "empty start s",
    )
    table = titled("Recovery after kill -9", numbers=headings)
    counts = (recovery.acknowledged, recovery.stored, recovery.replayed_rows, recovery.datapoints_per_second)
    table.add_row(*map(number, counts), f"{recovery.restart_s:.2f}", f"{recovery.first_start_s:.2f}")
    return table


def document(
    scenarios: Sequence[Scenario], runs: Runs, idle: Mapping[str, IdleResult], recovery: RecoveryResult | None
) -> dict[str, Any]:
    """Everything, every round included, as msgspec and json can write it."""
    figures = medians(runs)
    return {
        "scenarios": [
            {
                "scenario": scenario,
                "peers": {
                    peer: {"median": found, "rounds": runs[name, peer]}
                    for (name, peer), found in figures.items()
                    if name == scenario.name
                },
            }
            for scenario in scenarios
        ],
        "idle": {
            peer: {"result": result, "bytes_per_connection": result.bytes_per_connection}
            for peer, result in idle.items()
        },
        "recovery": None
        if recovery is None
        else {"result": recovery, "datapoints_per_second": recovery.datapoints_per_second},
        "targets": [{"target": target, "kept": target.kept} for target in targets(figures, idle, recovery)],
    }
