"""From configuration keys to the options of components: the one place that knows both."""

from ingest.reactor import Options as ReactorOptions
from query.engine import EngineOptions
from storage.journal import Limits
from storage.store import StoreOptions
from storage.wal import WalOptions
from thingscale.config import Config


def reactor_options(config: Config) -> ReactorOptions:
    names = (
        "mqtt_connections_max", "http_connections_max", "packet_bytes_max", "payload_bytes_max", "connect_timeout_s",
        "http_idle_s", "partial_timeout_s", "input_bytes_max", "reply_bytes_max",
    )  # fmt: skip
    values = {name: config[f"limits.{name}"] for name in names}
    return ReactorOptions(**values, rate_limited=config["limits.connector_per_s"] > 0)


def engine_options(config: Config) -> EngineOptions:
    return EngineOptions(
        config["query.threads"], config["query.memory_bytes_max"], config.data.absolute() / "spill"
    )


def store_options(config: Config) -> StoreOptions:
    limits = Limits(**{name: config[f"limits.{name}"] for name in Limits._fields})
    wal = WalOptions(
        config["storage.segment_bytes"],
        config["storage.spare_segments"],
        config["storage.batch_bytes_max"] + 4_096,
        config["storage.durability"],
    )
    return StoreOptions(
        ring_rows=config["storage.ring_rows"],
        ring_cells=config["storage.ring_cells"],
        ring_text_bytes=config["storage.ring_text_bytes"],
        batch_bytes_max=config["storage.batch_bytes_max"],
        part_rows_max=config["storage.part_rows_max"],
        devices_per_user_max=config["limits.devices_per_user_max"],
        limits=limits,
        wal=wal,
    )
