"""What a change of the registry means to everybody else: routes, rate limits, and who may stay.

The registry is changed by the REST services, by the command line, and by time, which ends replaced tokens. ``look`` is
called after each change of our own and a few times a second for the others'; it costs nothing when nothing has changed.
"""

from ingest.mqtt.broker import Broker
from ingest.reactor import Reactor
from storage.registry import Registry
from thingscale.clocks import now


class RegistryChanges:
    """Tells reactor and broker.

    Args:
        registry: what may have changed.
        reactor: knows routes.
        broker: knows the clients that are connected.
        connector_per_s: the rate for users who have none of their own.
    """

    def __init__(self, registry: Registry, reactor: Reactor, broker: Broker, connector_per_s: float) -> None:
        self._registry = registry
        self._reactor = reactor
        self._broker = broker
        self._connector_per_s = connector_per_s
        self._version = self._users_version = -1

    def look(self) -> None:
        """Act on what has changed since the last time."""
        registry = self._registry
        if registry.version != self._version:
            self._version = registry.version
            self._reactor.invalidate_routes()
        if registry.users_version != self._users_version:
            self._users_version = registry.users_version
            self._reactor.set_rate_limited(self._connector_per_s > 0 or registry.has_connector_rates())
            for user_id in self._broker.users():
                self._look_at(user_id)

    def _look_at(self, user_id: str) -> None:
        user = self._registry.user(user_id)
        if user is None:
            self._broker.forget_user(user_id, now()[1])
            return
        previous = self._registry.previous_tokens(user_id, "device_token")
        tokens = [user.device_token, *(each.token for each in previous)]
        self._broker.set_tokens(user_id, [token.encode() for token in tokens])
        if not user.enabled:
            self._broker.shut(user_id)
