"""The registry: users and what is theirs, in one SQLite file that the daemon and the command line share.

``file`` is the connection, ``tables`` the schema and its upgrades; each noun has a module, and ``Registry`` is all of
them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from storage.registry.audit import Audit, AuditRow
from storage.registry.channels import CHANNEL_NUMBER_MAX, STREAM_TEXTS, Channel, StreamDescription
from storage.registry.devices import DEVICE_SORTS, DEVICE_TEXTS, Device, DeviceFilter
from storage.registry.events import EVENT_TEXTS, NOTIFY_TYPES, OPERATORS, Event, Events
from storage.registry.fields import (
    TEXT_BYTES_MAX,
    URL_PATTERN,
    ChannelLimitError,
    DeviceLimitError,
    EventLimitError,
    FieldError,
    InUseError,
    LimitError,
    RegistryBusyError,
    RegistryFormatError,
    RegistryOutdatedError,
    UnknownError,
)
from storage.registry.file import RegistryLimits
from storage.registry.tables import FORMAT
from storage.registry.tokens import OVERLAP_S_MAX, WHICH, AdminToken, PreviousToken, Tokens
from storage.registry.users import QUOTAS, USER_TEXTS, Quotas, User

__all__ = [
    "CHANNEL_NUMBER_MAX", "DEVICE_SORTS", "DEVICE_TEXTS", "EVENT_TEXTS", "FORMAT", "NOTIFY_TYPES", "OPERATORS",
    "OVERLAP_S_MAX", "QUOTAS", "STREAM_TEXTS", "TEXT_BYTES_MAX", "URL_PATTERN", "USER_TEXTS", "WHICH",
    "AdminToken", "AuditRow", "Channel",
    "ChannelLimitError", "Device", "DeviceFilter", "DeviceLimitError", "Event", "EventLimitError", "FieldError",
    "InUseError",
    "LimitError", "PreviousToken", "Quotas", "Registry", "RegistryBusyError", "RegistryFormatError",
    "RegistryLimits", "RegistryOutdatedError", "StreamDescription", "UnknownError", "User",
]  # fmt: skip


class Registry(Events, Tokens, Audit):
    """One connection to registry.sqlite3, with everything that is in it. Used by one thread at a time."""

    @contextmanager
    def beside(self) -> Iterator[Self]:
        """Another connection, for one thread that looks through much: it sees what is committed now. Any thread."""
        other = type(self)(self._path, self.limits, may_upgrade=False)
        try:
            yield other
        finally:
            other.close()
