"""Queries on a channel of generated readings, through the daemon's HTTP port, beside DuckDB reading the same files.

    python -m benchmarks.bench_query [--rows 10000000] [--days 30] [--data DIR]

Small queries: one keep-alive connection, each repeated; the time is from the first byte sent to the last one received.
Small GETs: 16 keep-alive connections of http_load, each with one request under way; requests per second, and the
daemon's CPU per request.
The whole range: one request in each format, taken by drain, which counts the bytes and leaves them in the kernel: rows
per second, the daemon's CPU per row, how far its private memory rose, and how long a server needs for as many bytes
that sends one buffer again and again (null). Rows have four streams; channel 2's, as many, have one and weigh less.
A data directory that --data names is filled when it is empty and used again otherwise.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.filled_channel import fill
from benchmarks.processes import memory_bytes
from benchmarks.programs import program

ROUNDS = 60
DEVICE = "sensor-003"
HOURLY = "hourly averages of everything"
HOURLY_ROUNDS = 3
HOURLY_RATIO_MAX = 1.2  # beside DuckDB reading the same files by hand


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one sort of query, and what was promised for it."""

    name: str
    p50_ms: float
    p90_ms: float
    bytes: int
    promise_ms: float | None


@dataclass(frozen=True, slots=True)
class Streaming:
    """The whole range in one format."""

    name: str
    rows: int
    bytes: int
    seconds: float
    rows_per_s: float
    cpu_ns_per_row: float
    null_seconds: float
    memory_before_bytes: int
    memory_peak_bytes: int


@dataclass(frozen=True, slots=True)
class Small:
    """One sort of small GET, over and over."""

    name: str
    per_second: float
    cpu_us: float
    p99_us: float


class Client:
    """One keep-alive connection to a daemon."""

    def __init__(self, address: str, token: str) -> None:
        host, _, port = address.rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=600)
        self._token = token

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path, headers={"X-APITOKEN": self._token})
        reply = self._connection.getresponse()
        body = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{path}: {reply.status} {body[:200]!r}")
        return body

    def count(self, path: str) -> int:
        """The rows of a range, read as Arrow."""
        with self._reply(path) as reply, pa.ipc.open_stream(reply) as reader:
            rows = sum(batch.num_rows for batch in reader)
            reply.read()  # the end of the content: the connection is used again
            return rows

    def _reply(self, path: str) -> http.client.HTTPResponse:
        self._connection.request("GET", path, headers={"X-APITOKEN": self._token})
        reply = self._connection.getresponse()
        if reply.status != 200:
            raise RuntimeError(f"{path}: {reply.status}")
        return reply


@contextlib.contextmanager
def daemon(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A daemon on this directory, and its HTTP address."""
    arguments = ["serve", "--data", str(data), "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]
    settings = data.parent / "bench-query.toml"
    settings.write_text("[limits]\nrest_per_s = 0\nconnector_per_s = 0\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "thingscale", *arguments, "--config", str(settings)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["http"]
    finally:
        process.terminate()
        process.wait(30)


def timed(name: str, promise_ms: float | None, ask: Callable[[], bytes], rounds: int = ROUNDS) -> Timing:
    samples = []
    for _ in range(rounds):
        began = time.perf_counter()
        body = ask()
        samples.append((time.perf_counter() - began) * 1e3)
    samples.sort()
    p90 = samples[len(samples) * 9 // 10]
    return Timing(name, statistics.median(samples), p90, len(body), promise_ms)


def at(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def measure(client: Client, end: datetime.datetime) -> list[Timing]:
    """The small queries."""
    day = (end - datetime.timedelta(days=10)).replace(hour=0, minute=0, second=0, microsecond=0)
    hour = day + datetime.timedelta(hours=5)
    hour_end, day_end = hour + datetime.timedelta(hours=1), day + datetime.timedelta(days=1)
    hour_path = f"/v2/stream/1?start={at(hour)}&end={at(hour_end)}&device={DEVICE}"
    day_path = f"/v2/stream/1?start={at(day)}&end={at(day_end)}&aggregate=avg"
    hourly_path = f"/v2/stream/1?end={at(end)}&aggregate=avg&interval=1h"
    return [
        timed("/healthz, for the price of a request", None, lambda: client.get("/healthz")),
        timed("newest value", 1, lambda: client.get("/v2/stream/1?end=last")),
        timed("newest 100", 3, lambda: client.get("/v2/stream/1?end=last&limit=100")),
        timed("one hour of one device", 5, lambda: client.get(hour_path)),
        timed("average of a day", 12, lambda: client.get(day_path)),
        timed(HOURLY, None, lambda: client.get(hourly_path), HOURLY_ROUNDS),
    ]


def by_hand(data: Path, end: datetime.datetime) -> list[Timing]:
    """What DuckDB needs for the same, asked over a glob as somebody would by hand."""
    day = (end - datetime.timedelta(days=10)).replace(hour=0, minute=0, second=0, microsecond=0)
    source = f"read_parquet('{data}/data/*/channel=1/*/*.parquet', hive_partitioning = false)"
    hour = f"\"at\" BETWEEN TIMESTAMPTZ '{day:%Y-%m-%d} 05:00:00+00' AND TIMESTAMPTZ '{day:%Y-%m-%d} 06:00:00+00'"
    with duckdb.connect() as engine:

        def ask(sql: str) -> Callable[[], bytes]:
            return lambda: repr(engine.sql(sql).fetchall()).encode()

        return [
            timed(
                "newest 100", None, ask(f'SELECT * FROM {source} ORDER BY "at" DESC, seq DESC LIMIT 100'), 5
            ),
            timed(
                "one hour of one device", None,
                ask(f"SELECT * FROM {source} WHERE {hour} AND device = '{DEVICE}' ORDER BY \"at\""), 10,
            ),
            timed(
                "average of a day", None,
                ask(
                    f"SELECT avg(temp), avg(humidity), avg(pressure), avg(battery) FROM {source} WHERE"
                    f" \"at\" >= TIMESTAMPTZ '{day:%Y-%m-%d} 00:00:00+00'"
                    f" AND \"at\" <= TIMESTAMPTZ '{day + datetime.timedelta(days=1):%Y-%m-%d} 00:00:00+00'"
                ), 10,
            ),
            timed(
                HOURLY, None,
                ask(
                    f'SELECT time_bucket(INTERVAL 1 hour, "at") AS hour, avg(temp), avg(humidity), avg(pressure),'
                    f" avg(battery) FROM {source} GROUP BY hour ORDER BY hour"
                ), HOURLY_ROUNDS,
            ),
        ]  # fmt: skip


WHOLE = "/v2/stream/1?end=2999-01-01"
NARROW = "/v2/stream/2?end=2999-01-01&format=arrow"
RANGES = {
    "json": WHOLE,
    "ndjson": WHOLE + "&format=ndjson",
    "csv": WHOLE + "&format=csv",
    "arrow": WHOLE + "&format=arrow",
    "arrow, in no order": WHOLE + "&format=arrow&sort=none",
    "arrow, one stream": NARROW,
    "arrow, one stream, in no order": NARROW + "&sort=none",
    "parquet": WHOLE + "&format=parquet",
}
PROMISED_ROWS_PER_S = {"json": 3e6, "arrow": 30e6, "arrow, one stream": 30e6}
SMALL_PER_S = 5_000
SMALL = {
    "newest value": "/v2/stream/1?end=last",
    "newest value of a device": f"/v2/stream/1?end=last&device={DEVICE}",
    "newest 100": "/v2/stream/1?end=last&limit=100",
    "a device": f"/v2/device/{DEVICE}",
    "/healthz, for the price of a request": "/healthz",
}


def run(name: str, *arguments: str) -> dict[str, Any]:
    """The figures of one of the C programs."""
    done = subprocess.run([program(name), *arguments], check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def small_gets(address: str, token: str, pid: int) -> list[Small]:
    """Requests that dashboards and apps repeat."""
    made = []
    for name, path in SMALL.items():
        found = run(
            "http_load", "--port", address.rpartition(":")[2], "--method", "GET", "--path", path,
            "--header", f"X-APITOKEN: {token}", "--connections", "16", "--duration", "3", "--server-pid", str(pid),
        )  # fmt: skip
        latency = found["latency_us"]
        made.append(Small(name, found["per_second"], found["server_cpu_us_per_message"], latency["p99"]))
    return made


def null_seconds(size: int) -> float:
    """How long a server takes that has nothing to make."""
    with subprocess.Popen(
        [program("drain"), "--serve", str(size)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        seconds: float = run("drain", "--port", str(port))["seconds"]
        server.terminate()
    return seconds


def stream(address: str, token: str, pid: int, name: str, rows: int) -> Streaming:
    """Everything, in order of time unless the name says otherwise."""
    before = memory_bytes(pid)["private"]
    peak = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak.append(memory_bytes(pid)["private"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    found = run(
        "drain", "--port", address.rpartition(":")[2], "--path", RANGES[name],
        "--header", f"X-APITOKEN: {token}", "--server-pid", str(pid),
    )  # fmt: skip
    done.set()
    watcher.join()
    size, seconds = found["bytes"], found["seconds"]
    cpu_ns = found["server_cpu_s"] / rows * 1e9
    return Streaming(name, rows, size, seconds, rows / seconds, cpu_ns, null_seconds(size), before, max(peak))


def report(timings: list[Timing], hand: list[Timing], small: list[Small], whole: list[Streaming]) -> None:
    console = Console()
    table = Table("query", "p50 ms", "p90 ms", "promised ms", "kept", "DuckDB by hand, ms", title="Queries")
    beside = {timing.name: timing.p50_ms for timing in hand}
    for timing in timings:
        kept = "" if timing.promise_ms is None else "yes" if timing.p50_ms <= timing.promise_ms else "NO"
        promised = "" if timing.promise_ms is None else f"{timing.promise_ms:g}"
        by = f"{beside[timing.name]:.1f}" if timing.name in beside else "-"
        table.add_row(timing.name, f"{timing.p50_ms:.2f}", f"{timing.p90_ms:.2f}", promised, kept, by)
    console.print(table)
    gets = Table(
        "request", "per second", "promised", "CPU, µs", "p99, µs", title="Small GETs, 16 connections"
    )
    for get in small:
        gets.add_row(
            get.name, f"{get.per_second:,.0f}", f"{SMALL_PER_S:,}", f"{get.cpu_us:.0f}", f"{get.p99_us:,.0f}"
        )
    console.print(gets)
    ranges = Table(
        "format", "rows", "MB", "s", "null, s", "M rows/s", "promised", "CPU, ns/row", "memory rose by, MB",
        title="The whole range",
    )  # fmt: skip
    for each in whole:
        promised = PROMISED_ROWS_PER_S.get(each.name)
        risen = (each.memory_peak_bytes - each.memory_before_bytes) / 1e6
        ranges.add_row(
            each.name, f"{each.rows:,}", f"{each.bytes / 1e6:,.0f}", f"{each.seconds:.2f}",
            f"{each.null_seconds:.2f}", f"{each.rows_per_s / 1e6:.2f}",
            "" if promised is None else f"{promised / 1e6:g}", f"{each.cpu_ns_per_row:.0f}", f"{risen:.0f}",
        )  # fmt: skip
    console.print(ranges)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--data", type=Path, help="a data directory to fill, or one filled before")
    parser.add_argument("--output", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-query-", dir=".") as scratch:
        data = (options.data or Path(scratch) / "data").absolute()
        known = data.parent / f"{data.name}.json"
        if not known.exists():
            end_us = time.time_ns() // 1000
            began = time.perf_counter()
            user = fill(data, options.rows, options.days, options.devices, end_us, has_narrow=True)
            fill_s = round(time.perf_counter() - began, 1)
            known.write_text(json.dumps({"api_token": user.api_token, "end_us": end_us, "fill_s": fill_s}))
            print(f"{options.rows:,} rows filled in {fill_s} s")
        found = json.loads(known.read_text())
        end = datetime.datetime.fromtimestamp(found["end_us"] / 1e6, datetime.UTC)
        with daemon(data) as (process, address):
            client = Client(address, found["api_token"])
            timings = measure(client, end)
            rows = client.count(RANGES["arrow"])
            if client.count(NARROW) != rows:
                raise RuntimeError(f"{data}: filled without channel 2, or only in part")
            small = small_gets(address, found["api_token"], process.pid)
            whole = [stream(address, found["api_token"], process.pid, name, rows) for name in RANGES]
        hand = by_hand(data, end)
        report(timings, hand, small, whole)
        options.output.mkdir(exist_ok=True)
        path = options.output / f"query-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
        result = {
            "machine": machine.describe(data.parent),
            "rows": options.rows,
            "days": options.days,
            "queries": [asdict(timing) for timing in timings],
            "duckdb_by_hand": [asdict(timing) for timing in hand],
            "small_gets": [asdict(get) for get in small],
            "fill_s": found.get("fill_s"),
            "whole_range": [asdict(each) for each in whole],
        }
        path.write_text(json.dumps(result, indent=1))
        print(path)


if __name__ == "__main__":
    main()
