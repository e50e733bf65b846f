"""Admission: may this device's reading be stored, and where?

The order of the contract (2.2): rate limit, token, device id, unknown device (registered on the spot), no channel,
disabled. The same for both connectors, except that MQTT knows no rate limit.
"""

from dataclasses import dataclass
from typing import Final

from ingest.pace import RateLimiter
from storage.disk import DiskFullError
from storage.kinds import Refusal
from storage.registry import DeviceLimitError, Registry, RegistryBusyError, UnknownError, User

DEVICE_ID_BYTES_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class Route:
    """Where a reading goes: registry ids of the device and of its channel."""

    device: int
    channel: int


def text_of(raw: bytes, bytes_max: int) -> str | None:
    """A name out of a header or topic level: UTF-8, printable, not too long; None otherwise."""
    if len(raw) > bytes_max:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    if any(character < " " or character == "\x7f" for character in text):
        return None
    return text


class Admission:
    """Resolves devices to routes.

    Args:
        registry: users, devices, channels.
        limiter: for the HTTP connector, keyed by device.
        tag_bytes_max: beyond it TAG_INVALID.

    Attributes:
        retry_s: seconds that the device whom the rate limit refused last is to wait.
    """

    def __init__(self, registry: Registry, limiter: RateLimiter, tag_bytes_max: int = 128) -> None:
        self._registry = registry
        self.limiter = limiter
        self._tag_bytes_max = tag_bytes_max
        self.retry_s = 1

    def user_of(self, token: bytes | None) -> User | None:
        """The user whose device token this is, or was until a while ago; not one who is disabled."""
        if not token or not token.isascii():
            return None
        return _enabled(self._registry.user_by_device_token(token.decode()))

    def previous_tokens(self, user_id: str) -> tuple[bytes, ...]:
        """The user's device tokens that were replaced and still work."""
        found = self._registry.previous_tokens(user_id, "device_token")
        return tuple(previous.token.encode() for previous in found)

    def user(self, user_id: str) -> User | None:
        """The user with this id, unless it is disabled."""
        return _enabled(self._registry.user(user_id))

    def route_http(
        self, token: bytes | None, device_id: bytes | None, tag: bytes, now: float, at_us: int
    ) -> Route | Refusal:
        """A post's route; takes a token of the rate limit."""
        user = self.user_of(token)
        # The limit comes first for the client, but its key needs the user; nobody gains by posting with a wrong token.
        if user is None:
            return Refusal.AUTH_REQUIRED
        if not self.allow((user.user_id, device_id), now, user.quotas.connector_per_s):
            return Refusal.TOO_MANY_REQUESTS
        return self.route(user.user_id, device_id or b"", tag, at_us)

    def allow(self, key: object, now: float, per_s: float | None) -> bool:
        """Whether the rate limit lets it pass; otherwise ``retry_s`` is its wait."""
        if self.limiter.allow(key, now, per_s):
            return True
        self.retry_s = self.limiter.retry_s(key, per_s)
        return False

    def known_route(self, user_id: str, device_id: bytes, tag: bytes) -> Route | None:
        """Where the device's readings go if they would be taken; nothing is registered."""
        name = text_of(device_id, DEVICE_ID_BYTES_MAX)
        if name is None or self._registry.device(user_id, name) is None:
            return None
        route = self.route(user_id, device_id, tag, 0)
        return route if isinstance(route, Route) else None

    def route(self, user_id: str, device_id: bytes, tag: bytes, at_us: int) -> Route | Refusal:
        """Where the device's readings go. An unknown device is registered: NEW_DEVICE_FOUND."""
        name = text_of(device_id, DEVICE_ID_BYTES_MAX)
        if name is None:
            return Refusal.DEVICE_ID_INVALID
        if name in ("", "0"):
            return Refusal.DEVICE_ID_ZERO
        device = self._registry.device(user_id, name)
        if device is None:
            try:
                self._registry.provision_device(user_id, name, at_us)
            except DeviceLimitError:
                return Refusal.MAX_DEVICE_REACH
            except UnknownError:  # the user was deleted a moment ago
                return Refusal.AUTH_REQUIRED
            except (DiskFullError, RegistryBusyError):
                return Refusal.UNAVAILABLE
            return Refusal.NEW_DEVICE_FOUND
        if device.channel is None:
            return Refusal.NO_MAPPED_CH
        if not device.enabled:
            return Refusal.DEVICE_DISABLED
        if tag and text_of(tag, self._tag_bytes_max) is None:
            return Refusal.TAG_INVALID
        return Route(device.id, device.channel)


def _enabled(user: User | None) -> User | None:
    return user if user is not None and user.enabled else None
