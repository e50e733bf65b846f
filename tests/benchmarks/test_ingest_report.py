"""Medians, ratios and targets of the ingest bench."""

import json
from typing import Any

import msgspec
import pytest

from benchmarks import ingest_report
from benchmarks.idle import IdleResult, idle_connections_max
from benchmarks.recovery import RecoveryResult, replay_figures
from benchmarks.traffic import SCENARIOS, LoadResult


def load_result(per_second: float, cpu_us: float) -> LoadResult:
    latency = {"mean": 1.0, "p50": 1.0, "p90": 2.0, "p99": 3.0, "p999": 4.0, "max": 5.0}
    figures: dict[str, Any] = {
        "messages": 10, "seconds": 1.0, "per_second": per_second, "latency_us": latency, "server_cpu_s": 0.1,
        "server_cpu_us_per_message": cpu_us, "generator_cpu_share": 0.5, "connections": 1, "opening_s": 0.1,
        "bytes_sent": 1, "sent": 10, "acknowledged": 10,
    }  # fmt: skip
    return msgspec.convert(figures, LoadResult)


RUNS = {
    ("qos1-window1", "null"): [load_result(100.0, 4.0)],
    ("qos1-window1", "mosquitto"): [load_result(80.0, 8.0)],
    ("qos1-window1", "thingscale"): [load_result(90.0, 9.0), load_result(90.0, 6.0), load_result(90.0, 6.4)],
    ("qos1-window20", "mosquitto"): [load_result(100.0, 8.0)],
    ("qos1-window20", "thingscale"): [load_result(599.0, 8.0)],
}
IDLE = {"thingscale": IdleResult(15_000, 1.0, 1_000_000, 11_000_000)}
RECOVERY = RecoveryResult(1_000_000, 1_000_000, 0.5, 1.0, 1_000_000, 0.25)


def kept(number: int) -> bool | None:
    return ingest_report.targets(ingest_report.medians(RUNS), IDLE, RECOVERY)[number].kept


def test_the_figure_of_a_peer_is_the_median_of_its_rounds() -> None:
    assert ingest_report.medians(RUNS)["qos1-window1", "thingscale"].cpu_us == 6.4


def test_targets_compare_medians_of_the_same_run() -> None:
    measured = [
        target.measured for target in ingest_report.targets(ingest_report.medians(RUNS), IDLE, RECOVERY)
    ]
    assert measured == [0.8, 1.6, 5.99, None, None, pytest.approx(666.7, abs=0.1), 15_000, 4_000_000]


def test_a_target_is_kept_missed_or_not_measured() -> None:
    assert [kept(number) for number in range(8)] == [True, True, False, None, None, True, True, True]


def test_recovery_without_the_daemons_own_figures_is_timed_from_outside() -> None:
    outside = RecoveryResult(1_000_000, 1_000_000, 0.5, 1.0, None, None)
    assert outside.datapoints_per_second == 2_000_000


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (b'{"message": "recovered 1,000,000 rows from 52 records in 0.31 s"}\n', (1_000_000, 0.31)),
        (b"12:00 INFO thingscale: started\n12:00 INFO thingscale: recovered 7 rows in 1 s", (7, 1.0)),
        (b"12:00 INFO thingscale: sealed 7 rows in 1 s", (None, None)),
        (b"", (None, None)),
    ],
)
def test_the_daemons_figures_come_from_its_line_about_recovery(
    log: bytes, expected: tuple[int | None, float | None]
) -> None:
    assert replay_figures(log) == expected


def test_the_document_holds_every_round_and_is_json() -> None:
    document = json.loads(msgspec.json.encode(ingest_report.document(SCENARIOS, RUNS, IDLE, RECOVERY)))
    (first,) = [each for each in document["scenarios"] if each["scenario"]["name"] == "qos1-window1"]
    assert len(first["peers"]["thingscale"]["rounds"]) == 3
    assert document["targets"][2]["kept"] is False


def test_the_tables_show_every_scenario_and_what_was_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    ingest_report.print_tables(SCENARIOS, RUNS, IDLE, RECOVERY, ["mosquitto [2.0] was not measured"])
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("qos1-window20", "not measured", "15,000", "4,000,000", "[2.0]"))


def test_idle_connections_stay_below_the_limit_of_open_files() -> None:
    assert idle_connections_max(15_000, 20_000) == 15_000
    assert idle_connections_max(15_000, 4_096) == 3_596
