"""The bench of overload, short: it counts every message, and its queries and bombs are really asked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bench_overload
from benchmarks.bench_overload import Measured


def test_a_short_run_measures_both_sides_and_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.bench_overload", "--rows", "3000", "--per-s", "500"]
    sizes = ["--queries", "3", "--seconds", "0.5", "--lead", "0"]
    done = subprocess.run(
        [*command, *sizes, "--output", str(tmp_path), "--data-root", str(tmp_path)],
        capture_output=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr.decode()
    (path,) = tmp_path.glob("overload-*.json")
    document = json.loads(path.read_text())

    assert document["failure"] == ""
    for name in ("idle", "loaded"):
        assert document[name]["sent"] == document[name]["acknowledged"] > 0
    assert sum(document["queries"]["done"].values()) > 0
    memory = document["memory_bytes"]
    assert 0 < memory["idle"] < memory["bound"]
    assert memory["peak"] > 0
    assert b"over that without" in done.stdout


def test_nothing_measured_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert {target.kept for target in bench_overload.targets(Measured())} == {None}
    bench_overload.print_tables(Measured())
    assert "not measured" in capsys.readouterr().out
