"""From configuration keys to the options of components: the one place that knows both."""

from typing import Final

from ingest.mqtt.options import BrokerOptions, Topics, WhenFull
from ingest.reactor import Options as ReactorOptions
from ingest.writer import WriterOptions
from query.engine import EngineOptions
from query.live import LiveOptions
from query.readers import ReaderOptions
from query.sql.workers import SqlOptions
from storage.journal import Limits
from storage.store import StoreOptions
from storage.wal import WalOptions
from thingscale.accounts import registry_limits
from thingscale.config import Config

# Descriptors that clients never get, or half of all where there are few: log, SQLite, Parquet files, queries.
DESCRIPTORS_RESERVED: Final = 1_024


def client_limits(config: Config, descriptors: int) -> tuple[int, int]:
    """How many MQTT and HTTP clients at a time: what is configured, and no more than there are descriptors for.

    A client too many would leave none for the next log segment, and the daemon would end. HTTP counts twice, because
    the reactor and the HTTP server count their connections apart.
    """
    mqtt, http = int(config["limits.mqtt_connections_max"]), int(config["limits.http_connections_max"])
    available = descriptors - min(DESCRIPTORS_RESERVED, descriptors // 2)
    if descriptors >= 0 and mqtt + 2 * http > available:  # RLIM_INFINITY is -1
        http = max(1, min(http, available // 10))
        mqtt = max(1, min(mqtt, available - 2 * http))
    return mqtt, http


def reactor_options(config: Config, clients: tuple[int, int]) -> ReactorOptions:
    names = (
        "packet_bytes_max", "payload_bytes_max", "connect_timeout_s", "http_idle_s", "partial_timeout_s",
        "input_bytes_max", "reply_bytes_max",
    )  # fmt: skip
    values = {name: config[f"limits.{name}"] for name in names}
    return ReactorOptions(*clients, **values, rate_limited=config["limits.connector_per_s"] > 0)


def broker_options(config: Config) -> BrokerOptions:
    names = (
        "anonymous", "keepalive_s_max", "session_expiry_s_max", "receive_max", "topic_alias_max", "inflight_max",
        "queued_messages_max", "queued_bytes_max", "subscriptions_max", "sessions_max", "retained_messages_max",
        "qos_max",
    )  # fmt: skip
    return BrokerOptions(
        topics=Topics(config["mqtt.topics"]),
        when_full=WhenFull(config["mqtt.when_full"]),
        empty_client_ids=config["mqtt.empty_client_ids"] == "yes",
        strict_client_ids=config["mqtt.strict_client_ids"] == "yes",
        packet_bytes_max=config["limits.packet_bytes_max"],
        connections_per_user_max=config["limits.mqtt_connections_per_user_max"],
        **{name: config[f"mqtt.{name}"] for name in names},
    )


def sql_options(config: Config) -> SqlOptions:
    names = (
        "memory_bytes_max", "unpublished_bytes_max", "rows_max", "answer_bytes_max", "threads", "concurrent_max",
        "waiting_max",
    )  # fmt: skip
    return SqlOptions(
        seconds=config["sql.seconds_max"],
        without_jail=config["sql.without_jail"] == "yes",
        **{name: config[f"sql.{name}"] for name in names},
    )


def writer_options(config: Config) -> WriterOptions:
    """A batch's worth is half a batch, so that one that has begun to fill has room, and no more than the ring takes."""
    return WriterOptions(
        batch_bytes=min(
            config["storage.batch_bytes_max"] // 2,
            config["storage.ring_text_bytes"] // 4,
            config["storage.ring_cells"],
            config["storage.ring_rows"] * 8,
        ),
        wait_s=config["limits.write_wait_s"],
        keys_per_user_max=config["limits.write_keys_per_user_max"],
    )


def live_options(config: Config) -> LiveOptions:
    names = ("viewers_max", "viewers_per_user_max", "buffer_bytes_max", "resume_rows_max", "heartbeat_s")
    return LiveOptions(**{name: config[f"live.{name}"] for name in names})


def engine_options(config: Config) -> EngineOptions:
    return EngineOptions(
        config["query.threads"],
        config["query.memory_bytes_max"],
        config.data.absolute() / "spill",
        config["query.worker_memory_bytes_max"] // 2,
    )


def reader_options(config: Config) -> ReaderOptions:
    return ReaderOptions(
        heavy_rows=config["query.heavy_rows"],
        concurrent_max=config["query.concurrent_max"],
        memory_bytes_max=config["query.worker_memory_bytes_max"],
        spill=engine_options(config).spill,
    )


def store_options(config: Config) -> StoreOptions:
    limits = Limits(**{name: config[f"limits.{name}"] for name in Limits._fields})
    wal = WalOptions(
        config["storage.segment_bytes"],
        config["storage.spare_segments"],
        config["storage.batch_bytes_max"] + 4_096,
        config["storage.durability"],
        config["storage.room_bytes"],
    )
    return StoreOptions(
        ring_rows=config["storage.ring_rows"],
        ring_cells=config["storage.ring_cells"],
        ring_text_bytes=config["storage.ring_text_bytes"],
        batch_bytes_max=config["storage.batch_bytes_max"],
        part_rows_max=config["storage.part_rows_max"],
        registry=registry_limits(config),
        limits=limits,
        wal=wal,
        write_keys_us=int(config["limits.write_keys_s"] * 1e6),
    )
