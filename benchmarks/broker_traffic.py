"""Workloads of the broker bench: who sends to whom, at which QoS, over what.

The table below is the whole list; broker_load.c says what the patterns mean and what is checked.
Windows keep every session's queue below the daemon's default of 1,000 messages: 10 per pair, 10,000
deliveries of a fan-out, 200 per sharing subscriber.
"""

from dataclasses import dataclass, replace

import msgspec

from benchmarks.programs import program
from benchmarks.servers import Server
from benchmarks.traffic import OVERTIME_S, LoadResult, identity, run_generator

CLIENTS = 1_000
SHARING = 5

# Queues without a bound: with the default of 1,000 mosquitto 2.0.11 drops messages of a shared subscription although
# no more than 1,000 are under way in all.
MOSQUITTO_OPTIONS = "max_queued_messages 0"

# Topics that are relayed only, as mosquitto does; beside the data topics the daemon would store.
THINGSCALE_ENVIRONMENT = {"THINGSCALE_MQTT_TOPICS": "any"}


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of traffic. `rate` (published messages a second) makes it an open loop, whose latency counts."""

    name: str
    title: str
    pattern: str
    qos: int
    window: int
    publishers: int = CLIENTS
    subscribers: int = CLIENTS
    rate: int = 0
    tls: bool = False
    kept: bool = False
    quick: bool = True

    @property
    def copies(self) -> int:
        """Deliveries of one message."""
        return self.subscribers if self.pattern == "fanout" else 1

    def with_clients(self, clients: int) -> "Workload":
        """The same with fewer clients where there would be 1,000, and a rate that falls with them."""

        def fewer(number: int) -> int:
            return min(number, clients)

        rate = 0 if self.rate == 0 else max(1, self.rate * fewer(self.publishers) // self.publishers)
        return replace(
            self, publishers=fewer(self.publishers), subscribers=fewer(self.subscribers), rate=rate
        )


WORKLOADS = (
    Workload("pair-qos0", "1,000 to 1,000, 10 in flight each, QoS 0", "pair", 0, 10),
    Workload("pair-qos1", "the same, QoS 1", "pair", 1, 10),
    Workload("pair-qos2", "the same, QoS 2", "pair", 2, 10),
    Workload("fanout-qos0", "1 to 1,000, 10 in flight, QoS 0", "fanout", 0, 10, publishers=1),
    Workload("fanout-qos1", "the same, QoS 1", "fanout", 1, 10, publishers=1),
    Workload("fanout-qos2", "the same, QoS 2", "fanout", 2, 10, publishers=1),
    Workload(
        "shared-qos0",
        "1,000 to 5 that share, one in flight each, QoS 0",
        "shared",
        0,
        1,
        subscribers=SHARING,
    ),
    Workload("shared-qos1", "the same, QoS 1", "shared", 1, 1, subscribers=SHARING),
    Workload("shared-qos2", "the same, QoS 2", "shared", 2, 1, subscribers=SHARING),
    Workload("pair-tls-qos0", "pair-qos0 in TLS", "pair", 0, 10, tls=True, quick=False),
    Workload("pair-tls-qos1", "pair-qos1 in TLS", "pair", 1, 10, tls=True),
    Workload("fanout-tls-qos0", "fanout-qos0 in TLS", "fanout", 0, 10, publishers=1, tls=True, quick=False),
    Workload(
        "pair-kept-qos1", "pair-qos1, subscribers' sessions kept (persistence on)", "pair", 1, 10, kept=True
    ),
    Workload("pair-2k", "pair-qos1, open loop at 2,000/s", "pair", 1, 10, rate=2_000),
    Workload(
        "fanout-5k",
        "fanout-qos0, open loop at 5/s: 5,000 deliveries/s",
        "fanout",
        0,
        10,
        publishers=1,
        rate=5,
        quick=False,
    ),
    Workload(
        "shared-2k",
        "shared-qos1, open loop at 2,000/s",
        "shared",
        1,
        1,
        subscribers=SHARING,
        rate=2_000,
        quick=False,
    ),
)


class BrokerResult(LoadResult, frozen=True):
    """What broker_load prints: `messages` are deliveries in the measured window, `delivered` those of the whole run."""

    delivered: int
    lost: int
    doubled: int


class WrongDeliveryError(Exception):
    """What arrived is not what was sent."""


def measure(
    workload: Workload, server: Server, core: int | None, duration_s: float, warmup_s: float
) -> BrokerResult:
    """Run one workload once against a running server.

    Raises:
        LoadFailedError: a delivery was not the expected one; the generator's own words.
        WrongDeliveryError: the counts do not add up.
    """
    figures = {
        "port": server.mqtt_port,
        "pattern": workload.pattern,
        "publishers": workload.publishers,
        "subscribers": workload.subscribers,
        "qos": workload.qos,
        "window": workload.window,
        "rate": workload.rate,
        "duration": duration_s,
        "warmup": warmup_s,
    }
    options = [text for name, value in figures.items() for text in (f"--{name}", str(value))]
    kept = ["--kept"] if workload.kept else []
    command = [str(program("broker_load")), *identity(server), *options, *kept]
    printed = run_generator(command, core, duration_s + warmup_s + OVERTIME_S)
    result = msgspec.json.decode(printed, type=BrokerResult)
    if result.delivered + result.lost != result.sent * workload.copies or result.acknowledged != result.sent:
        raise WrongDeliveryError(
            f"{workload.name}: {result.sent} sent, {result.acknowledged} acknowledged, "
            f"{result.delivered} delivered, {result.lost} lost"
        )
    return result
