"""The bench of live viewers, short: every viewer has every event, and it is noticed when one has not."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import bench_live
from benchmarks.bench_live import Outcome, Seen

ALONE = Outcome(0, 10, 20, 20, 0.5, 2.0, 0.1, None)


def test_a_short_run_times_every_event_of_every_viewer(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.bench_live", "--viewers", "7", "--per-s", "100"]
    done = subprocess.run(
        [*command, "--seconds", "0.5", "--output", str(tmp_path), "--data-root", str(tmp_path)],
        capture_output=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr.decode()
    (path,) = tmp_path.glob("live-*.json")
    document = json.loads(path.read_text())

    assert document["failure"] == ""
    alone, watched = document["runs"]
    assert (alone["viewers"], alone["seen"]) == (0, None)
    for each in (alone, watched):
        assert each["sent"] == each["acknowledged"] == 50
    seen = watched["seen"]
    assert (seen["connections"], seen["least"], seen["most"], seen["messages"]) == (7, 50, 50, 350)
    assert 0 < seen["latency_us"]["p50"] <= seen["latency_us"]["max"]


def seen(least: int, p99_us: float) -> Seen:
    latency = {"mean": 1.0, "p50": 1.0, "p90": 1.0, "p99": p99_us, "p999": 1.0, "max": 1.0}
    figures: dict[str, Any] = {
        "messages": 40, "latency_us": latency, "generator_cpu_share": 0.1, "connections": 2, "least": least, "most": 20,
    }  # fmt: skip
    return msgspec.convert(figures, Seen)


def test_what_is_missing_is_a_failure_and_what_is_slow_is_not() -> None:
    watched = replace(ALONE, viewers=2, ack_p99_ms=5.0, seen=seen(20, 151_000))
    assert bench_live.failure_of([ALONE, watched]) == ""
    assert [(each.measured, each.kept) for each in bench_live.targets([ALONE, watched])] == [
        (151, False),
        (2.5, False),
    ]
    assert "saw 19 to 20" in bench_live.failure_of([ALONE, replace(watched, seen=seen(19, 1))])
    assert "20 datapoints were sent, 18" in bench_live.failure_of([replace(ALONE, acknowledged=18)])
