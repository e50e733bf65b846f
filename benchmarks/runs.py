"""What every run against servers does: says how far it is, checks counts, writes its document, survives failures."""

import http.client
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from benchmarks import processes, traffic
from benchmarks.servers import Server, stored_datapoints
from benchmarks.traffic import LoadResult


class WrongCountError(Exception):
    """A server acknowledged another number of datapoints than it says it stores."""


# What a server that misbehaves looks like from here; everything else is a mistake of the bench.
FAILURES = (
    WrongCountError,
    processes.ServerFailedError,
    traffic.LoadFailedError,
    subprocess.SubprocessError,
    http.client.HTTPException,
    OSError,
)


def check_stored(server: Server, *results: LoadResult, before: int = 0) -> None:
    """The daemon stores exactly what it acknowledged in these loads, the only ones, and what was there before."""
    acknowledged = sum(result.acknowledged for result in results)
    stored = stored_datapoints(server) - before
    if stored != acknowledged:
        raise WrongCountError(f"{acknowledged} datapoints were acknowledged, {stored} are stored")


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def write_document(directory: Path, bench: str, everything: Mapping[str, object]) -> Path:
    """`<bench>-<time>.json` in the directory; returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{bench}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(everything), indent=1) + b"\n")
    return path


def conclude(description: Mapping[str, object], path: Path, failure: str) -> int:
    """Say where it was measured, where the document is and what failed; the exit code."""
    print(", ".join(f"{name} {value}" for name, value in description.items()), path, sep="\n")
    if failure:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failure else 0
