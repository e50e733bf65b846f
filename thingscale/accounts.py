"""The registry of a data directory, as the daemon's settings want it and the command line opens it."""

from storage.lock import DirectoryLock
from storage.registry import Registry, RegistryLimits, RegistryOutdatedError
from thingscale.config import Config


def registry_limits(config: Config) -> RegistryLimits:
    names = (
        "devices_per_user_max",
        "channels_per_user_max",
        "events_per_user_max",
        "streams_per_channel_max",
        "tags_per_channel_max",
        "tag_bytes_max",
    )
    return RegistryLimits(**{name: config[f"limits.{name}"] for name in names})


def open_registry(config: Config) -> Registry:
    """For a command. A file of an older format is upgraded, unless an older daemon is running on it.

    Raises:
        RegistryFormatError, InUseByProcessError, OSError: it cannot be used.
    """
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, limits = config.data / "registry.sqlite3", registry_limits(config)
    try:
        return Registry(path, limits, may_upgrade=False)
    except RegistryOutdatedError:
        with DirectoryLock(config.data):
            return Registry(path, limits)
