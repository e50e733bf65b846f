"""Traffic scenarios: what the load generators send, and what they report.

The table below is the whole list. Every scenario runs against every peer that speaks its
protocol, in rounds A B C, A B C, A B C (not A A A, B B B): a machine that gets slower or
noisier over a minute then does so for all of them. The figure of a peer is the median of its rounds.
"""

import subprocess
from dataclasses import dataclass

import msgspec

from benchmarks.processes import pinned
from benchmarks.programs import program
from benchmarks.servers import DEVICE_PREFIX, Server

# A run that takes this much longer than it should is stuck.
OVERTIME_S = 120.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of traffic.

    `window` is the number of messages in flight per connection; `rate` (messages a second
    over all connections) makes it an open loop, 0 a closed one.
    """

    name: str
    title: str
    protocol: str
    connections: int
    window: int
    qos: int = 1
    payload_bytes: int = 45
    rate: int = 0
    quick: bool = True


SCENARIOS = (
    Scenario("qos1-window1", "MQTT QoS 1, one in flight, 200 connections", "mqtt", 200, 1),
    Scenario("qos1-window20", "MQTT QoS 1, 20 in flight, 200 connections", "mqtt", 200, 20),
    Scenario("qos0", "MQTT QoS 0, 100 connections", "mqtt", 100, 400, qos=0),
    Scenario("http", "HTTP keep-alive POST, 100 connections", "http", 100, 1),
    Scenario("qos1-10k", "MQTT QoS 1, open loop at 10,000/s, 200 connections", "mqtt", 200, 20, rate=10_000),
    Scenario(
        "http-2k", "HTTP POST, open loop at 2,000/s, 100 connections", "http", 100, 1, rate=2_000, quick=False
    ),
    Scenario(
        "qos1-1kb",
        "MQTT QoS 1, 20 in flight, 1,000-byte payloads",
        "mqtt",
        200,
        20,
        payload_bytes=1000,
        quick=False,
    ),
    Scenario("http-pipelined", "HTTP POST, 10 pipelined, 100 connections", "http", 100, 10, quick=False),
)
DEVICES = max(scenario.connections for scenario in SCENARIOS)


class Latency(msgspec.Struct, frozen=True):
    """Microseconds from sending (open loop: from being due) to the reply."""

    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float


class LoadResult(msgspec.Struct, frozen=True):
    """What a load generator prints (load.h says what each number means)."""

    messages: int
    seconds: float
    per_second: float
    latency_us: Latency
    server_cpu_s: float
    server_cpu_us_per_message: float
    generator_cpu_share: float
    connections: int
    opening_s: float
    bytes_sent: int
    sent: int
    acknowledged: int


class LoadFailedError(Exception):
    """A load generator lost a connection or got a reply that it did not expect."""


def load_command(server: Server, protocol: str, *options: str) -> list[str]:
    """The command line of a load generator against this server."""
    port = server.mqtt_port if protocol == "mqtt" else server.http_port
    devices = ["--device-prefix", DEVICE_PREFIX]
    return [str(program(f"{protocol}_load")), "--port", str(port), *identity(server), *devices, *options]


def identity(server: Server) -> list[str]:
    """Who speaks, to which process, and by which CA it is known; the same for every generator."""
    who = ["--user", server.user, "--token", server.device_token, "--server-pid", str(server.pid)]
    return [*who, "--tls", str(server.ca)] if server.ca else who


def run_load(command: list[str], core: int | None, limit_s: float) -> LoadResult:
    return msgspec.json.decode(run_generator(command, core, limit_s), type=LoadResult)


def run_generator(command: list[str], core: int | None, limit_s: float) -> bytes:
    """What a load generator prints.

    Raises:
        LoadFailedError: it found something wrong; its own words.
    """
    with pinned(core):
        done = subprocess.run(command, capture_output=True, timeout=limit_s, check=False)
    if done.returncode != 0:
        raise LoadFailedError(done.stderr.decode().strip())
    return done.stdout


def measure(
    scenario: Scenario, server: Server, core: int | None, duration_s: float, warmup_s: float
) -> LoadResult:
    """Run one scenario once against a running server."""
    figures = {
        "connections": scenario.connections,
        "window": scenario.window,
        "payload-bytes": scenario.payload_bytes,
        "rate": scenario.rate,
        "duration": duration_s,
        "warmup": warmup_s,
    }
    if scenario.protocol == "mqtt":
        figures["qos"] = scenario.qos
    options = [text for name, value in figures.items() for text in (f"--{name}", str(value))]
    command = load_command(server, scenario.protocol, *options)
    return run_load(command, core, duration_s + warmup_s + OVERTIME_S)
