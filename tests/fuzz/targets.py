"""Every decoder that bytes from outside reach, by name. A target takes any bytes and returns, or it has found a bug."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz import http_targets, mqtt_targets, storage_targets, transport_targets


@dataclass(frozen=True, slots=True)
class Target:
    """What is called with bytes, the language of its corpus, and how much of the long form's time it gets."""

    check: Callable[[bytes], None]
    language: str
    weight: int = 1


TARGETS = {
    "mqtt-packets": Target(mqtt_targets.check_packets, "mqtt", 2),
    "mqtt-split": Target(mqtt_targets.check_split, "mqtt"),
    "mqtt-conversation": Target(mqtt_targets.check_conversation, "mqtt", 4),
    "mqtt-properties": Target(mqtt_targets.check_properties, "properties"),
    "mqtt-filters": Target(mqtt_targets.check_filters, "filters"),
    "websocket": Target(transport_targets.check_websocket, "websocket"),
    "tls": Target(transport_targets.check_tls, "tls"),
    "http-intake": Target(http_targets.check_intake, "http", 2),
    "http-lane": Target(http_targets.check_lane, "http"),
    "http-conversation": Target(http_targets.check_conversation, "http", 3),
    "payload": Target(storage_targets.check_payload, "payload", 2),
    "state": Target(storage_targets.check_state, "payload"),
    "journal": Target(storage_targets.check_journal, "journal"),
    "log-entries": Target(storage_targets.check_entries, "entries"),
    "log-segments": Target(storage_targets.check_segments, "segments"),
    "notes": Target(storage_targets.check_note, "notes"),
    "times": Target(storage_targets.check_time, "times"),
}
