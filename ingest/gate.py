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
        user_of: the user id and device token of an MQTT connection, set once its CONNECT is accepted.
        has_listeners: whether anybody has subscribed to a user's topic: then the broker is to relay it.
    """

    def __init__(
        self,
        admission: Admission,
        user_of: Callable[[int], tuple[str, bytes]],
        has_listeners: Callable[[str, bytes], bool],
    ) -> None:
        self._admission = admission
        self._user_of = user_of
        self._has_listeners = has_listeners
        self._keys: dict[int, object] = {}  # device -> the rate limiter's key

    def route_mqtt(
        self, connection: int, topic: bytes, at_us: int
    ) -> tuple[int, int, int, bytes] | int | None:
        user_id, token = self._user_of(connection)
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
                if self._admission.limiter.per_s:
                    self._keys[device] = (user.user_id, device_id)
                return device, channel
            case refusal:
                return int(refusal)

    def allow(self, device: int, now: float) -> bool:
        return self._admission.limiter.allow(self._keys[device], now)

    def give_back(self, device: int) -> None:
        if device in self._keys:
            self._admission.limiter.give_back(self._keys[device])


assert all(Refusal(number) for number in range(1, len(Refusal) + 1)), "the reactor counts by number"
