"""Configuration: a TOML file, the environment, flags, in rising precedence. Unknown or wrong keys are refused.

Every key is one line of SETTINGS: docs/configuration.md is checked against it. In the environment a key is
``THINGSCALE_<SECTION>_<KEY>``. A section is a frozen dataclass beside nothing but its defaults; components are given
their own options by the composition root and never see this module.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MIB: Final = 1 << 20


class ConfigError(Exception):
    """A key is unknown or its value is wrong; the message begins with its path."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key. ``kind`` is the type that a value must have; ``choices`` or ``least``/``most`` bound it."""

    path: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    least: float = 0
    most: float = 2**62
    power_of_two: bool = False

    @property
    def kind(self) -> type[int] | type[float] | type[str] | type[list[str]]:
        kind: type[int] | type[float] | type[str] | type[list[str]] = type(self.default)
        return kind

    @property
    def variable(self) -> str:
        return "THINGSCALE_" + self.path.replace(".", "_").upper()

    def accept(self, value: Any) -> Any:
        """The value as it will be used. Raises ConfigError."""
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not self.kind:
            raise ConfigError(f"{self.path}: expected {self.kind.__name__}, not {value!r}")
        if isinstance(value, list) and not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{self.path}: expected a list of texts, not {value!r}")
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.path}: expected one of {', '.join(self.choices)}, not {value!r}")
        if isinstance(value, int | float) and not self.least <= value <= self.most:
            raise ConfigError(f"{self.path}: {value!r} is not in {self.least} .. {self.most}")
        if self.power_of_two and isinstance(value, int) and value & (value - 1):
            raise ConfigError(f"{self.path}: {value!r} is not a power of two")
        return value

    def parse(self, text: str) -> Any:
        """A value from the environment, where a list's items are divided by commas. Raises ConfigError."""
        if self.kind is list:
            return self.accept([each.strip() for each in text.split(",") if each.strip()])
        try:
            value: Any = {int: int, float: float, str: str}[self.kind](text)
        except ValueError:
            raise ConfigError(
                f"{self.path}: expected {self.kind.__name__}, not {text!r} ({self.variable})"
            ) from None
        return self.accept(value)


SETTINGS: Final = (
    Setting("server.data", "data", "directory of everything that is remembered"),
    Setting("server.http", "127.0.0.1:8080", "HOST:PORT of HTTP; port 0 takes a free one"),
    Setting("server.mqtt", "127.0.0.1:1883", "HOST:PORT of MQTT; port 0 takes a free one"),
    Setting("server.mqtts", "", "HOST:PORT of MQTT over TLS; empty is off"),
    Setting("server.ws", "", "HOST:PORT of MQTT over WebSocket; empty is off"),
    Setting("server.wss", "", "HOST:PORT of MQTT over WebSocket over TLS; empty is off"),
    Setting("server.https", "", "HOST:PORT of HTTP over TLS; empty is off"),
    Setting("tls.certificate", "", "PEM file: the server's certificate, then what stands between it and the CA"),
    Setting("tls.key", "", "PEM file: the certificate's private key, without a password"),
    Setting("tls.client_ca", "", "PEM file: the CAs of client certificates; empty: none are asked for"),
    Setting("tls.client_required", "no", "yes: a client without a certificate is refused", ("no", "yes")),
    Setting("tls.minimum", "1.2", "oldest version of TLS that is spoken", ("1.2", "1.3")),
    Setting("limits.connector_per_s", 1.0, "posts per second and device; 0 is no limit"),
    Setting("limits.rest_per_s", 20.0, "REST requests per second and API token; 0 is no limit"),
    Setting("limits.devices_per_user_max", 100_000, "devices of one user", least=1),
    Setting("limits.channels_per_user_max", 10_000, "channels of one user", least=1),
    Setting("limits.storage_bytes_per_user_max", 0, "what one user may store; 0 is no limit but the disk"),
    Setting("limits.events_per_user_max", 1_000, "events of one user", least=1),
    Setting("limits.payload_bytes_max", 65_536, "bytes of one reading", least=1, most=4 * MIB),
    Setting("limits.json_depth_max", 32, "containers within containers", least=1, most=1_000),
    Setting("limits.key_bytes_max", 256, "bytes of a stream's name", least=1, most=65_536),
    Setting("limits.streams_per_channel_max", 1_024, "streams of one channel", least=1, most=65_536),
    Setting("limits.tags_per_channel_max", 10_000, "tags of one channel", least=1, most=1_000_000),
    Setting("limits.tag_bytes_max", 128, "bytes of a tag's name", least=1, most=255),
    Setting("limits.packet_bytes_max", 131_072, "bytes of one MQTT packet", least=1_024, most=262_144),
    Setting("limits.mqtt_connections_max", 100_000, "MQTT clients at a time", least=1),
    Setting("limits.mqtt_connections_per_user_max", 0, "MQTT clients of one user at a time; 0 is no limit"),
    Setting("limits.http_connections_max", 10_000, "HTTP clients at a time", least=1),
    Setting("limits.connect_timeout_s", 10.0, "until an MQTT client has sent CONNECT", least=0.1),
    Setting("limits.http_idle_s", 120.0, "silence of an HTTP client between requests", least=0.1),
    Setting("limits.partial_timeout_s", 20.0, "until a packet or request that began is complete", least=0.1),
    Setting("limits.input_bytes_max", 256 * MIB, "incomplete packets of all clients together", least=MIB),
    Setting("limits.reply_bytes_max", MIB, "replies that one client leaves unread", least=65_536),
    Setting("limits.http_header_bytes_max", 16_384, "bytes of a request's head", least=1_024),
    Setting("limits.http_body_bytes_max", 8 * MIB, "bytes of a REST request's body", least=1_024),
    Setting("limits.write_rows_max", 100_000, "rows of one write over REST", least=1, most=1_000_000),
    Setting("limits.write_bodies_bytes_max", 64 * MIB, "bodies of all writes at a time together", least=1_024),
    Setting("limits.write_future_s", 86_400.0, "how far ahead a written row's time may be", most=3_155_760_000),
    Setting("limits.write_wait_s", 10.0, "how long a write waits for room before it is refused", least=0.1),
    Setting("limits.write_keys_per_user_max", 100_000, "Idempotency-Keys of one user that are remembered", least=1),
    Setting("limits.write_keys_s", 86_400.0, "how long an Idempotency-Key is remembered", least=60),
    Setting("mqtt.topics", "device", "device: below the own device token; any: any topic", ("device", "any")),
    Setting("mqtt.anonymous", "", "the user whose clients need no credentials; for closed networks"),
    Setting("mqtt.anonymous_anywhere", "no", "whether anonymous clients may come from other machines", ("no", "yes")),
    Setting("mqtt.keepalive_s_max", 0, "longest keepalive of MQTT 5 clients; 0 is no cap", most=65_535),
    Setting("mqtt.session_expiry_s_max", 2**32 - 1, "longest time a session outlives its connection", most=2**32 - 1),
    Setting("mqtt.receive_max", 1_000, "QoS 2 messages of one client between PUBLISH and PUBREL", least=1, most=65_535),
    Setting("mqtt.topic_alias_max", 16, "topic aliases that one client may set", most=65_535),
    Setting("mqtt.inflight_max", 100, "unacknowledged QoS 1 and 2 messages to one client", least=1, most=65_535),
    Setting("mqtt.queued_messages_max", 1_000, "messages that wait for one session", least=1),
    Setting("mqtt.queued_bytes_max", MIB, "bytes of messages that wait for one session", least=1_024),
    Setting("mqtt.when_full", "drop_newest", "which message goes when a queue is full", ("drop_newest", "drop_oldest")),
    Setting("mqtt.subscriptions_max", 1_000, "subscriptions of one session", least=1, most=8_192),
    Setting("mqtt.sessions_max", 100_000, "sessions of one user, live or not", least=1),
    Setting("mqtt.retained_messages_max", 100_000, "retained messages of one user; 0: not available"),
    Setting("mqtt.qos_max", 2, "highest QoS that clients may publish with", most=2),
    Setting("mqtt.empty_client_ids", "yes", "whether a client may leave its id to the daemon", ("no", "yes")),
    Setting("mqtt.strict_client_ids", "no", "whether ids of more than 23 bytes are refused", ("no", "yes")),
    Setting("mqtt.websocket_origins", [], "origins of web pages that may connect by WebSocket; empty: any"),
    Setting("storage.durability", "fsync", "fsync: on disk before the answer; os: left to the kernel", ("fsync", "os")),
    Setting("storage.ring_rows", 1 << 21, "readings in memory", least=1 << 16, most=1 << 28, power_of_two=True),
    Setting("storage.ring_cells", 1 << 23, "values in memory", least=1 << 19, most=1 << 30, power_of_two=True),
    Setting("storage.ring_text_bytes", 64 * MIB, "text in memory", least=16 * MIB, most=1 << 32, power_of_two=True),
    Setting("storage.batch_bytes_max", MIB, "bytes of one log record", least=65_536 * 2, most=64 * MIB),
    Setting("storage.segment_bytes", 64 * MIB, "bytes of one log segment", least=2 * MIB, most=1 << 31),
    Setting("storage.spare_segments", 4, "log segments kept for use again", least=1, most=64),
    Setting("storage.room_bytes", 64 * MIB, "what the log leaves of a disk that fills up, for sealing it"),
    Setting("storage.seal_interval_s", 900.0, "longest time until readings leave the log for a hot file", least=0.05),
    Setting("storage.seal_ring_fill", 0.5, "share of the ring that is sealed at once", least=0.05, most=0.9),
    Setting("storage.seal_log_bytes", 1 << 30, "bytes in the log that are sealed at once", least=MIB),
    Setting("storage.publish_grace_s", 900.0, "after UTC midnight, until a day is published", least=0),
    Setting("storage.part_rows_max", 4_000_000, "readings of one published file", least=1_000),
    Setting("query.threads", 2, "DuckDB's threads", least=1, most=1_024),
    Setting("query.memory_bytes_max", 256 * MIB, "DuckDB's memory in the daemon", least=64 * MIB),
    Setting("query.heavy_rows", 65_536, "rows beyond which a query runs in a worker", least=0),
    Setting("query.worker_memory_bytes_max", 1 << 30, "memory of a worker for a heavy query", least=128 * MIB),
    Setting("query.page_rows_max", 100_000, "what X-PAGELIMIT may ask for", least=1, most=10_000_000),
    Setting("query.buckets_max", 500_000, "buckets x groups x streams of an answer", least=1, most=100_000_000),
    Setting("query.exact_values_max", 8_000_000, "values sorted at once for percentiles", least=1_000),
    Setting("query.concurrent_max", 2, "heavy queries at a time, and as many small ones", least=1, most=1_024),
    Setting("query.lookback_s", 300.0, "how old a value may be that PromQL shows", least=0.001, most=31_536_000),
    Setting(
        "query.prometheus_samples_max", 5_000_000, "samples of a selector in memory", least=1_000, most=100_000_000
    ),
    Setting("live.viewers_max", 2_000, "live viewers at a time", least=1),
    Setting("live.viewers_per_user_max", 500, "live viewers of one user", least=1),
    Setting("live.buffer_bytes_max", MIB, "events that wait for a slow viewer", least=1_024, most=1 << 30),
    Setting("live.resume_rows_max", 10_000, "datapoints that a viewer gets after the fact", most=1_000_000),
    Setting("live.heartbeat_s", 15.0, "silence before a viewer is sent a comment", least=0.1, most=3_600),
    Setting("sql.seconds_max", 30.0, "until the answer of a query in SQL has been taken", least=0.1, most=86_400),
    Setting("sql.memory_bytes_max", 512 * MIB, "memory of one query in SQL", least=64 * MIB),
    Setting("sql.unpublished_bytes_max", 1 << 30, "readings of a channel that a query gets in memory", least=MIB),
    Setting("sql.rows_max", 1_000_000, "rows of one answer; more are cut off", least=1),
    Setting("sql.answer_bytes_max", 1 << 30, "bytes of one answer", least=MIB),
    Setting("sql.threads", 1, "threads of one query", least=1, most=1_024),
    Setting("sql.concurrent_max", 2, "queries in SQL at a time; more wait", least=1, most=1_024),
    Setting("sql.waiting_max", 64, "queries in SQL that wait; more are refused", least=0),
    Setting("sql.without_jail", "no", "yes: also where the system has no Landlock and seccomp", ("no", "yes")),
    Setting("audit.retention_days", 365, "how long the audit log goes back; 0 is for ever", most=36_500),
    Setting("log.level", "info", "least severe message that is logged", ("debug", "info", "warning", "error")),
    Setting("log.format", "auto", "auto: text on a terminal, else JSON", ("auto", "text", "json")),
)  # fmt: skip

# Listeners that are off unless they have an address, and those of them that need a certificate.
# Over HTTP as a WebSocket.
MQTT_LISTENERS: Final = ("server.mqtt", "server.mqtts", "server.ws", "server.wss", "server.http")
FURTHER_LISTENERS: Final = ("server.mqtts", "server.ws", "server.wss", "server.https")
TLS_LISTENERS: Final = ("server.mqtts", "server.wss", "server.https")

# In the environment beside settings: what commands speak to, and as whom (docs/cli.md).
COMMAND_VARIABLES: Final = ("THINGSCALE_URL", "THINGSCALE_TOKEN", "THINGSCALE_ADMIN_TOKEN")

BY_PATH: Final = {setting.path: setting for setting in SETTINGS}


class Config:
    """What is in force, and where each value came from: default, file, environment or flag."""

    def __init__(self, values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
        self.values = dict(values)
        self.origins = dict(origins)

    def __getitem__(self, path: str) -> Any:
        return self.values[path]

    def address(self, path: str) -> tuple[str, int]:
        """HOST:PORT split; [::1]:8080 for IPv6. Raises ConfigError."""
        host, colon, port = self.values[path].rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ConfigError(f"{path}: expected HOST:PORT, not {self.values[path]!r}")
        return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104

    @property
    def data(self) -> Path:
        return Path(self.values["server.data"])


def load(
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Defaults, then the file, the environment, the flags (path -> value, None is not given). Raises ConfigError."""
    values = {setting.path: setting.default for setting in SETTINGS}
    origins = dict.fromkeys(values, "default")
    if file is not None:
        for path, value in _read(file).items():
            values[path], origins[path] = value, str(file)
    for name, text in sorted((os.environ if environment is None else environment).items()):
        if name.startswith("THINGSCALE_") and name not in COMMAND_VARIABLES:
            setting = next((setting for setting in SETTINGS if setting.variable == name), None)
            if setting is None:
                raise ConfigError(f"{name}: no such setting")
            values[setting.path], origins[setting.path] = setting.parse(text), name
    for path, value in (flags or {}).items():
        if value is not None:
            values[path], origins[path] = BY_PATH[path].accept(value), "flag"
    config = Config(values, origins)
    for path in ("server.http", "server.mqtt", *(path for path in FURTHER_LISTENERS if config[path])):
        config.address(path)
    _check_tls(config)
    if config["storage.segment_bytes"] < 2 * config["storage.batch_bytes_max"]:
        raise ConfigError("storage.segment_bytes: must be at least twice storage.batch_bytes_max")
    if config["storage.batch_bytes_max"] < 2 * config["limits.payload_bytes_max"]:
        raise ConfigError("storage.batch_bytes_max: must be at least twice limits.payload_bytes_max")
    if config["storage.batch_bytes_max"] < 2 * config["limits.packet_bytes_max"]:
        raise ConfigError("storage.batch_bytes_max: must be at least twice limits.packet_bytes_max")
    if config["limits.packet_bytes_max"] < config["limits.payload_bytes_max"]:
        raise ConfigError("limits.packet_bytes_max: must be at least limits.payload_bytes_max")
    _check_anonymous(config)
    return config


def _check_anonymous(config: Config) -> None:
    """Whoever reaches a listener that speaks MQTT (over HTTP it is a WebSocket) needs no credentials then."""
    if not config["mqtt.anonymous"] or config["mqtt.anonymous_anywhere"] == "yes":
        return
    for path in MQTT_LISTENERS:
        if config[path] and not is_loopback(config.address(path)[0]):
            raise ConfigError(
                f"mqtt.anonymous: everybody who reaches {path} {config[path]} would be"
                f' {config["mqtt.anonymous"]}; mqtt.anonymous_anywhere = "yes" says that this is meant'
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener on this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_tls(config: Config) -> None:
    for listener in TLS_LISTENERS:
        for path in ("tls.certificate", "tls.key"):
            if config[listener] and not config[path]:
                raise ConfigError(f"{path}: needed by {listener}")
    if config["tls.client_required"] == "yes" and not config["tls.client_ca"]:
        raise ConfigError("tls.client_ca: needed by tls.client_required")


def _read(file: Path) -> dict[str, Any]:
    try:
        tree = tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    found: dict[str, Any] = {}
    for section, keys in tree.items():
        if not isinstance(keys, dict):
            raise ConfigError(f"{section}: expected a section, as in [{section}]")
        for key, value in keys.items():
            path = f"{section}.{key}"
            if path not in BY_PATH:
                raise ConfigError(f"{path}: no such setting")
            found[path] = BY_PATH[path].accept(value)
    return found
