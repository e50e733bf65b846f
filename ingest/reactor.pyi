from collections.abc import Callable, Sequence
from socket import socket
from typing import Any, NamedTuple, Protocol

from ingest.mqtt.relay import Relay
from ingest.transports import Transport
from storage.journal import Journal

class Options(NamedTuple):
    """The reactor's limits.

    Attributes:
        mqtt_connections_max, http_connections_max: a client beyond them is closed at once and counted.
        packet_bytes_max: an MQTT packet that announces more closes its connection.
        payload_bytes_max: a longer HTTP body leaves the lane (the connector answers 413).
        connect_timeout_s: until an MQTT client has sent its CONNECT.
        http_idle_s: silence between requests.
        partial_timeout_s: until a packet or request that has begun is complete.
        input_bytes_max: incomplete packets of all connections together.
        reply_bytes_max: replies that one client leaves unread.
        rate_limited: whether the gate is asked before every post.
    """

    mqtt_connections_max: int = 100_000
    http_connections_max: int = 10_000
    packet_bytes_max: int = 131_072
    payload_bytes_max: int = 65_536
    connect_timeout_s: float = 10.0
    http_idle_s: float = 120.0
    partial_timeout_s: float = 20.0
    input_bytes_max: int = 268_435_456
    reply_bytes_max: int = 1_048_576
    rate_limited: bool = True

class ReactorStatistics(NamedTuple):
    mqtt_connections: int
    http_connections: int
    accepted_mqtt: int
    accepted_http: int
    closed: int
    handed_over: int
    refused_connections: int
    mqtt_stored: int
    http_stored: int
    mqtt_received: int
    http_received: int
    bytes_received: int
    bytes_sent: int
    declined_packets: int
    stalls: int
    timeouts: int
    overflows: int
    mqtt_refusals: dict[str, int]
    http_refusals: dict[str, int]
    input_bytes: int
    output_bytes: int
    turns: int
    wrapped_connections: int
    transport_errors: int

class Commits(Protocol):
    """The group commit, driven by the reactor (storage.commit)."""

    @property
    def fileno(self) -> int: ...
    def submit_nowait(self) -> bool: ...
    def complete_nowait(self) -> Any: ...

class Gate(Protocol):
    """What the lanes ask when they do not know a route (ingest.gate)."""

    def route_mqtt(
        self, connection: int, topic: bytes, at_us: int
    ) -> tuple[int, int, int, bytes] | int | None:
        """(payload kind, device, channel, tag), or a Refusal's number, or None: not a data topic, ask the door."""
    def route_http(
        self, token: bytes | None, device: bytes | None, tag: bytes, now: float, at_us: int
    ) -> tuple[int, int] | int:
        """(device, channel) or a Refusal's number; the rate limit is part of the answer."""
    def allow(self, device: int, now: float) -> bool:
        """The rate limit for a device whose route the lane knows."""
    def retry_s(self) -> int:
        """Seconds that the post which was refused just now is to wait."""

    def give_back(self, device: int) -> None:
        """The last permission was not used."""

class Door(Protocol):
    """The MQTT session machine's driver (ingest.mqtt.door)."""

    def on_packet(self, connection: int, frame: bytes, now: float, at_us: int) -> bool | None:
        """One complete packet; False means: no room now, offer it again."""
    def on_malformed(self, connection: int, reason: str) -> None: ...
    def on_timeout(self, connection: int) -> None:
        """An admitted client was silent for too long; it is closed when this returns."""
    def on_writable(self, connection: int, at_us: int) -> None:
        """Everything for a client that was asked about (call_when_drained) has been sent."""
    def on_closed(self, connection: int, at_us: int) -> None: ...

class Reactor:
    def __init__(
        self,
        journal: Journal,
        commits: Commits,
        gate: Gate,
        door: Door,
        hand_over: Callable[[socket, bytes], None],
        options: Options,
        now_s: float,
        relay: Relay | None = None,
    ) -> None: ...
    @property
    def outer(self) -> int: ...
    @property
    def is_full(self) -> bool: ...
    @property
    def is_choosy(self) -> bool: ...
    @property
    def is_draining(self) -> bool: ...
    @property
    def replies_waiting(self) -> int: ...
    def listen(self, fd: int, speaks: str, wrap: Callable[[], Transport] | None = None) -> None: ...
    def adopt(
        self, fd: int, speaks: str, transport: Transport, received: bytes, now_s: float, now_us: int
    ) -> None: ...
    def stop_listening(self) -> None: ...
    def drain(self) -> None: ...
    def close_all(self) -> None: ...
    def turn(self, now_s: float, now_us: int) -> None: ...
    def tick(self, now_s: float, now_us: int) -> None: ...
    def kick(self, now_s: float, now_us: int) -> None: ...
    def send(self, slot: int, data: bytes) -> None: ...
    def close(self, slot: int) -> None: ...
    def abort(self, slot: int) -> None: ...
    def set_keepalive(self, slot: int, deadline_s: float) -> None: ...
    def admit(self, slot: int, protocol: int = 4, words_bytes_max: int = 0) -> None: ...
    def backlog(self, slot: int) -> int: ...
    def call_when_drained(self, slot: int) -> None: ...
    def peer(self, slot: int) -> str: ...
    def set_rate_limited(self, rate_limited: bool) -> None:
        """Whether the gate is asked before every post from now on; Options.rate_limited is the beginning."""
    def invalidate_routes(self) -> None: ...
    def set_http_replies(self, replies: Sequence[tuple[bytes, bytes]]) -> None: ...
    def set_puback_tails(self, tails: Sequence[tuple[bytes, bytes]]) -> None: ...
    def set_on_completed(self, callback: Callable[[Any], None]) -> None: ...
    def count_refusal(self, speaks: str, refusal: int) -> None: ...
    def count_stored(self, speaks: str) -> None: ...
    def statistics(self) -> ReactorStatistics: ...
