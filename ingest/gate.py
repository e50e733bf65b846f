"""The gate: what the compiled lanes ask when they meet a device that their connection has not resolved yet.

Answers are small tuples, or a Refusal's number, so that the reactor needs to know none of our classes.
"""

from collections.abc import Callable

from ingest.admission import Admission, Route
from ingest.topics import DataTopic, NotData, parse_topic
from storage.kinds import PayloadKind, Refusal


class Gate:
    """Implements ``ingest.reactor.Gate``.

    Args:
        admission: decides.
        user_of: the user id of an MQTT connection, once its CONNECT is accepted, and which of the user's device
            tokens the topic may begin with.
        has_listeners: whether anybody has subscribed to a user's topic: then the broker is to relay it.
    """

    def __init__(
        self,
        admission: Admission,
        user_of: Callable[[int, bytes], tuple[str, bytes]],
        has_listeners: Callable[[str, bytes], bool],
    ) -> None:
        self._admission = admission
        self._user_of = user_of
        self._has_listeners = has_listeners
        self._paces: dict[int, tuple[object, float]] = {}  # device -> the rate limiter's key, its rate

    def route_mqtt(
        self, connection: int, topic: bytes, at_us: int
    ) -> tuple[int, int, int, bytes] | int | None:
        user_id, token = self._user_of(connection, topic)
        parsed = parse_topic(topic, token)
        if isinstance(parsed, NotData) or parsed.kind is PayloadKind.STATE:
            return None
        if self._has_listeners(user_id, topic):
            return None
        return self._mqtt(user_id, parsed, at_us)

    def _mqtt(self, user_id: str, topic: DataTopic, at_us: int) -> tuple[int, int, int, bytes] | int:
        match self._admission.route(user_id, topic.device_id, topic.tag, at_us):
            case Route(device, channel):
                return int(topic.kind), device, channel, topic.tag
            case refusal:
                return int(refusal)

    def route_http(
        self, token: bytes | None, device_id: bytes | None, tag: bytes, now: float, at_us: int
    ) -> tuple[int, int] | int:
        match self._admission.route_http(token, device_id, tag, now, at_us):
            case Route(device, channel):
                user = self._admission.user_of(token)
                assert user is not None
                own = user.quotas.connector_per_s
                per_s = self._admission.limiter.per_s if own is None else own
                if per_s:
                    self._paces[device] = (user.user_id, device_id), per_s
                else:
                    self._paces.pop(device, None)
                return device, channel
            case refusal:
                return int(refusal)

    def allow(self, device: int, now: float) -> bool:
        """Whether the device, whose route is known, may post now."""
        found = self._paces.get(device)
        return found is None or self._admission.allow(found[0], now, found[1])

    def retry_s(self) -> int:
        """Seconds that the post which was refused just now is to wait."""
        return self._admission.retry_s

    def give_back(self, device: int) -> None:
        found = self._paces.get(device)
        if found is not None:
            self._admission.limiter.give_back(*found)


assert all(Refusal(number) for number in range(1, len(Refusal) + 1)), "the reactor counts by number"
