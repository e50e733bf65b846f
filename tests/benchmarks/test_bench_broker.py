"""The broker bench in its short form, against real servers: counts, never times; and what its report says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import broker_report
from benchmarks.broker_report import BesideIdle, Measured
from benchmarks.broker_traffic import WORKLOADS, BrokerResult
from benchmarks.idle import IdleResult
from benchmarks.programs import tls_missing
from benchmarks.servers import PEERS

CLIENTS = 12


@pytest.mark.slow
def test_the_short_form_counts_every_delivery(tmp_path: Path) -> None:
    wanted = ["fanout-qos1", "shared-qos2", "pair-tls-qos1", "pair-kept-qos1", "beside-idle"]
    peers = [name for name in ("mosquitto", "thingscale") if not PEERS[name].missing()]
    command = [sys.executable, "-m", "benchmarks.bench_broker", "--quick", "--seconds", "0.2"]
    sizes = ["--clients", str(CLIENTS), "--idle-connections", "150"]
    done = subprocess.run(
        [*command, *sizes, "--output", str(tmp_path), "--workloads", *wanted],
        capture_output=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr.decode()
    (path,) = tmp_path.glob("broker-*.json")
    document = json.loads(path.read_text())

    assert document["failure"] == ""
    measured = {each["workload"]["name"]: each for each in document["workloads"]}
    assert list(measured) == wanted[:-1]
    for name, each in measured.items():
        copies = CLIENTS if name.startswith("fanout") else 1
        expected = [] if "tls" in name and tls_missing() else peers
        assert list(each["peers"]) == expected, name
        for peer in expected:
            (result,) = each["peers"][peer]["rounds"]
            assert result["sent"] == result["acknowledged"] > 0
            assert result["delivered"] == result["sent"] * copies, (name, peer)
            assert result["lost"] == result["doubled"] == 0
    assert {peer: each["connections"] for peer, each in document["beside_idle"].items()} == dict.fromkeys(
        peers, 150
    )


def result(per_second: float, cpu_us: float, lost: int = 0) -> BrokerResult:
    latency = {"mean": 1.0, "p50": 11.0, "p90": 2.0, "p99": 33.0, "p999": 4.0, "max": 5.0}
    figures: dict[str, Any] = {
        "messages": 10, "seconds": 1.0, "per_second": per_second, "latency_us": latency, "server_cpu_s": 0.1,
        "server_cpu_us_per_message": cpu_us, "generator_cpu_share": 0.5, "connections": 1, "opening_s": 0.1,
        "bytes_sent": 1, "sent": 10, "acknowledged": 10, "delivered": 10, "lost": lost, "doubled": 0,
    }  # fmt: skip
    return msgspec.convert(figures, BrokerResult)


def everything() -> Measured:
    return Measured(
        runs={
            ("pair-qos0", "mosquitto"): [result(100, 4.0)],
            ("pair-qos0", "thingscale"): [result(150, 3.0), result(150, 2.0, lost=7), result(150, 9.0)],
            ("fanout-qos0", "mosquitto"): [result(100, 4.0)],
            ("fanout-qos0", "thingscale"): [result(90, 3.6)],
            ("pair-2k", "mosquitto"): [result(100, 1.0)],
            ("pair-2k", "thingscale"): [result(10, 9.0)],
        },
        tls_ingest={"mosquitto": [result(100, 10.0)], "thingscale": [result(100, 9.0)]},
        tls_idle={"thingscale": IdleResult(1_000, 1.0, 1_000_000, 16_000_000)},
        beside_idle={"thingscale": BesideIdle(15_000, result(100, 1.0), result(90, 1.1))},
    )


def test_the_worst_row_speaks_for_its_kind_and_open_loops_do_not() -> None:
    plain_rate, plain_cpu, tls_rate, *_ = broker_report.targets(WORKLOADS, everything())
    assert (plain_rate.measured, plain_rate.kept) == (0.9, False)
    assert "fanout-qos0" in plain_rate.promise
    assert (plain_cpu.measured, plain_cpu.kept) == (0.9, True)
    assert tls_rate.kept is None


def test_the_other_promises_come_from_their_own_measurements() -> None:
    *_, tls_ingest, tls_idle, held = broker_report.targets(WORKLOADS, everything())
    assert [target.measured for target in (tls_ingest, tls_idle, held)] == [0.9, 15_000, 15_000]
    assert [target.kept for target in (tls_ingest, tls_idle, held)] == [True, True, True]


def test_nothing_measured_is_said_so() -> None:
    assert {target.kept for target in broker_report.targets(WORKLOADS, Measured())} == {None}


def test_the_tables_show_what_was_measured_and_what_was_lost(capsys: pytest.CaptureFixture[str]) -> None:
    broker_report.print_tables(WORKLOADS, everything(), ["mosquitto [2.0] was not measured"])
    shown = capsys.readouterr().out
    assert all(
        text in shown for text in ("pair-2k", "│    7 │", "15,000", "[2.0]", "not measured", "│     11 │")
    )
    assert "pair-qos2" not in shown


def test_the_document_holds_every_round_and_is_json() -> None:
    document = json.loads(msgspec.json.encode(broker_report.document(WORKLOADS, everything())))
    (first,) = [each for each in document["workloads"] if each["workload"]["name"] == "pair-qos0"]
    assert [each["lost"] for each in first["peers"]["thingscale"]["rounds"]] == [0, 7, 0]
    assert document["tls_idle"]["thingscale"]["bytes_per_connection"] == 15_000


def test_fewer_clients_keep_the_shape_of_a_workload() -> None:
    by_name = {workload.name: workload.with_clients(50) for workload in WORKLOADS}
    assert (by_name["pair-2k"].publishers, by_name["pair-2k"].subscribers, by_name["pair-2k"].rate) == (
        50,
        50,
        100,
    )
    assert (by_name["fanout-qos0"].publishers, by_name["fanout-qos0"].copies) == (1, 50)
    assert (by_name["shared-qos1"].publishers, by_name["shared-qos1"].subscribers) == (50, 5)
