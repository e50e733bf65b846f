"""Prometheus metrics: rendered from the components' snapshots when somebody asks; nobody carries a metrics object.

The main thread takes the numbers (``take``), a worker thread makes the text (``render``).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from ingest.mqtt.broker import Broker
from ingest.mqtt.door import MqttDoor
from ingest.reactor import Reactor
from query.http.server import HttpStatistics
from query.live import Hub
from query.ports import QueryCounts
from query.readers import Readers
from storage.commit import BUCKETS_S, GroupCommit
from storage.store import Store
from thingscale.housekeeping import Housekeeping

Sample = tuple[tuple[str, ...], float]

# MQTT protocol levels as people know them.
VERSIONS: Final = {3: "3.1", 4: "3.1.1", 5: "5.0"}

# name, type, help, labels: docs/metrics.md is checked against this table.
METRICS: Final = (
    ("thingscale_readings_stored", "counter", "readings that were made durable", ("protocol",)),
    (
        "thingscale_readings_refused",
        "counter",
        "readings that were refused, by reason",
        ("protocol", "reason"),
    ),
    ("thingscale_received_bytes", "counter", "bytes that devices sent", ()),
    ("thingscale_sent_bytes", "counter", "bytes that devices were sent", ()),
    ("thingscale_connections", "gauge", "clients now", ("protocol",)),
    ("thingscale_connections_accepted", "counter", "clients ever", ("protocol",)),
    ("thingscale_connections_closed", "counter", "device connections that ended", ()),
    ("thingscale_connections_refused", "counter", "clients beyond the limit, closed at once", ()),
    ("thingscale_connection_timeouts", "counter", "device connections closed for being idle or slow", ()),
    ("thingscale_connection_overflows", "counter", "device connections closed for unread replies", ()),
    (
        "thingscale_input_stalls",
        "counter",
        "times that reading stopped because ring, batch or disk was full",
        (),
    ),
    ("thingscale_mqtt_connects", "counter", "MQTT CONNECTs, by outcome", ("outcome", "version")),
    ("thingscale_mqtt_clients", "gauge", "MQTT clients now", ("version",)),
    ("thingscale_mqtt_sessions", "gauge", "MQTT sessions, live or not", ("kind",)),
    ("thingscale_mqtt_subscriptions", "gauge", "subscriptions", ()),
    (
        "thingscale_mqtt_filters_refused",
        "counter",
        "filters that nobody may subscribe to, or not any more",
        ("reason", "version"),
    ),
    ("thingscale_mqtt_retained", "gauge", "retained messages", ()),
    ("thingscale_mqtt_owed", "gauge", "QoS 1 and 2 messages that clients have not acknowledged", ("state",)),
    ("thingscale_mqtt_relayed", "counter", "messages that somebody had subscribed to", ()),
    ("thingscale_mqtt_delivered", "counter", "messages sent to subscribers", ()),
    ("thingscale_mqtt_dropped", "counter", "messages that did not reach a subscriber", ("reason",)),
    ("thingscale_mqtt_taken_over", "counter", "connections ended by another one of the same client", ()),
    (
        "thingscale_mqtt_protocol_errors",
        "counter",
        "MQTT connections closed for breaking the protocol",
        ("reason", "version"),
    ),
    ("thingscale_mqtt_ended", "counter", "MQTT sessions' connections that the daemon ended", ("reason",)),
    ("thingscale_mqtt_wrapped_connections", "gauge", "MQTT clients in TLS or WebSocket now", ()),
    ("thingscale_mqtt_transport_errors", "counter", "MQTT clients whose TLS or WebSocket broke", ()),
    ("thingscale_http_handed_over", "counter", "HTTP connections that left the fast lane", ()),
    ("thingscale_http_responses", "counter", "responses beside the fast lane, by status", ("status",)),
    ("thingscale_commit_seconds", "histogram", "write and sync of one log record", ()),
    ("thingscale_commit_bytes", "counter", "bytes written to the log", ()),
    ("thingscale_commit_entries", "counter", "entries in those records", ()),
    ("thingscale_disk_full", "counter", "times that the disk had no room", ()),
    ("thingscale_ring_rows", "gauge", "readings in the ring that are not sealed", ()),
    ("thingscale_ring_rows_max", "gauge", "readings that the ring has room for", ()),
    ("thingscale_ring_fill_ratio", "gauge", "fullest of the ring's three parts", ()),
    ("thingscale_seals", "counter", "hot files written", ()),
    ("thingscale_publications", "counter", "channel days published", ()),
    ("thingscale_cap_rows", "counter", "readings that users' caps on storage have cost", ()),
    ("thingscale_files", "gauge", "Parquet files", ("kind",)),
    ("thingscale_file_bytes", "gauge", "bytes in Parquet files", ("kind",)),
    ("thingscale_published_rows", "gauge", "readings in published files", ()),
    ("thingscale_live_viewers", "gauge", "live viewers now", ()),
    ("thingscale_live_events", "counter", "datapoints that were made into events for live viewers", ()),
    ("thingscale_live_lagged", "counter", "live viewers that were too slow", ()),
    ("thingscale_writes_repeated", "counter", "writes whose Idempotency-Key had been stored before", ()),
    ("thingscale_queries", "counter", "queries of the Stream service and of Prometheus' API", ("kind",)),
    ("thingscale_query_seconds", "counter", "time until their answers began", ("kind",)),
    ("thingscale_sql_queries", "counter", "queries in SQL, by outcome", ("outcome",)),
    ("thingscale_queries_running", "gauge", "range queries at work now", ()),
)


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the daemon can be asked about itself: the components whose snapshots tell."""

    store: Store
    reactor: Reactor
    door: MqttDoor
    broker: Broker
    http: Callable[[], HttpStatistics]
    commits: GroupCommit
    housekeeping: Housekeeping
    queries: trio.CapacityLimiter
    readers: Readers
    query_counts: QueryCounts
    live: Hub

    def take(self) -> dict[str, list[Sample]]:
        """All samples, in the main thread."""
        store, reactor = self.store, self.reactor.statistics()
        door, broker, http = self.door.statistics(), self.broker.statistics(), self.http()
        ring, files = store.ring.statistics(), store.catalog.statistics()
        commits, live = self.commits.statistics(), self.live.statistics()
        refused = {
            ("mqtt", reason): count for reason, count in reactor.mqtt_refusals.items()
        } | {("http", reason): count for reason, count in reactor.http_refusals.items()} | {
            ("rest", reason): count for reason, count in self.query_counts.rows_refused.items()
        }  # fmt: skip
        unsealed = store.ring.durable - store.ring.sealed
        return {
            "thingscale_readings_stored": [
                (("mqtt",), reactor.mqtt_stored),
                (("http",), reactor.http_stored),
                (("rest",), self.query_counts.rows_written),
            ],
            "thingscale_readings_refused": list(refused.items()),
            "thingscale_received_bytes": [((), reactor.bytes_received)],
            "thingscale_sent_bytes": [((), reactor.bytes_sent)],
            "thingscale_connections": [
                (("mqtt",), reactor.mqtt_connections),
                (("http",), reactor.http_connections + http.connections),
            ],
            "thingscale_connections_accepted": [
                (("mqtt",), reactor.accepted_mqtt), (("http",), reactor.accepted_http),
            ],
            "thingscale_connections_closed": [((), reactor.closed)],
            "thingscale_connections_refused": [((), reactor.refused_connections + http.refused)],
            "thingscale_connection_timeouts": [((), reactor.timeouts + http.timeouts)],
            "thingscale_connection_overflows": [((), reactor.overflows)],
            "thingscale_input_stalls": [((), reactor.stalls)],
            "thingscale_mqtt_connects": [
                *((("accepted", VERSIONS[number]), count) for number, count in door.accepted.items()),
                *by_version(door.refused),
            ],
            "thingscale_mqtt_protocol_errors": list(by_version(door.protocol_errors)),
            "thingscale_mqtt_filters_refused": list(by_version(door.refused_filters)),
            "thingscale_mqtt_ended": [((reason.lower(),), count) for reason, count in broker.ended.items()],
            "thingscale_mqtt_clients": [
                ((VERSIONS[number],), count) for number, count in broker.clients.items()
            ],
            "thingscale_mqtt_sessions": [
                (("durable",), broker.durable_sessions), (("all",), broker.sessions),
            ],
            "thingscale_mqtt_subscriptions": [((), broker.subscriptions)],
            "thingscale_mqtt_retained": [((), broker.retained)],
            "thingscale_mqtt_owed": [(("queued",), broker.queued), (("inflight",), broker.inflight)],
            "thingscale_mqtt_relayed": [((), broker.counts.relayed)],
            "thingscale_mqtt_delivered": [((), broker.counts.delivered)],
            "thingscale_mqtt_dropped": [
                (("behind",), broker.counts.dropped_behind),
                (("queue_full",), broker.counts.dropped_full),
                (("expired",), broker.counts.dropped_expired),
                (("too_large",), broker.counts.dropped_too_large),
            ],
            "thingscale_mqtt_taken_over": [((), broker.counts.taken_over)],
            "thingscale_mqtt_wrapped_connections": [((), reactor.wrapped_connections)],
            "thingscale_mqtt_transport_errors": [((), reactor.transport_errors)],
            "thingscale_http_handed_over": [((), reactor.handed_over)],
            "thingscale_http_responses": [((str(status),), count) for status, count in http.responses.items()],
            "thingscale_commit_seconds": [
                ((str(bound),), count)
                for bound, count in zip((*BUCKETS_S, "+Inf"), cumulative(commits.histogram), strict=True)
            ] + [(("sum",), commits.seconds)],
            "thingscale_commit_bytes": [((), commits.bytes)],
            "thingscale_commit_entries": [((), commits.entries)],
            "thingscale_disk_full": [((), commits.disk_full + self.housekeeping.disk_full)],
            "thingscale_ring_rows": [((), unsealed)],
            "thingscale_ring_rows_max": [((), ring.rows_max)],
            "thingscale_ring_fill_ratio": [((), self.housekeeping.ring_share())],
            "thingscale_seals": [((), self.housekeeping.seals)],
            "thingscale_publications": [((), self.housekeeping.publications)],
            "thingscale_cap_rows": [((), self.housekeeping.cap_rows)],
            "thingscale_files": [(("hot",), files.hot_files), (("published",), files.published_files)],
            "thingscale_file_bytes": [(("hot",), files.hot_bytes), (("published",), files.published_bytes)],
            "thingscale_published_rows": [((), files.published_rows)],
            "thingscale_live_viewers": [((), live.viewers)],
            "thingscale_live_events": [((), live.events)],
            "thingscale_live_lagged": [((), live.lagged)],
            "thingscale_writes_repeated": [((), self.query_counts.writes_repeated)],
            "thingscale_queries": [((kind,), count) for kind, count in self.query_counts.queries.items()],
            "thingscale_query_seconds": [
                ((kind,), seconds) for kind, seconds in self.query_counts.seconds.items()
            ],
            "thingscale_sql_queries": [((outcome,), count) for outcome, count in self.query_counts.sql.items()],
            "thingscale_queries_running": [((), self.queries.borrowed_tokens + self.readers.turns.borrowed_tokens)],
        }  # fmt: skip


def by_version(counts: dict[tuple[str, int], int]) -> Iterator[Sample]:
    """Samples with a reason and the client's version, which is empty where it is not known."""
    for (reason, protocol), count in counts.items():
        yield (reason.lower(), VERSIONS.get(protocol, "")), count


def cumulative(counts: Iterable[int]) -> Iterator[int]:
    total = 0
    for count in counts:
        total += count
        yield total


def render(samples: dict[str, list[Sample]]) -> bytes:
    """The Prometheus text of what ``take`` gave."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Samples(samples))
    return generate_latest(registry)


class Samples:
    """A prometheus-client collector of numbers that are there already."""

    def __init__(self, samples: dict[str, list[Sample]]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        for name, kind, words, labels in METRICS:
            yield family(name, kind, words, labels, self._samples[name])


def family(name: str, kind: str, words: str, labels: tuple[str, ...], samples: list[Sample]) -> Metric:
    if kind == "histogram":
        *buckets, (_, total) = samples
        counts: list[Any] = [(bound[0], count) for bound, count in buckets]
        return HistogramMetricFamily(name, words, counts, total)
    kinds: dict[str, Any] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    made: Metric = kinds[kind](name, words, labels=labels)
    for values, number in samples:
        made.add_metric(values, number)  # type: ignore[attr-defined]
    return made
