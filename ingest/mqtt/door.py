"""The door: drives a session machine for every MQTT connection, between reactor, registry and journal.

The reactor calls it for the packets that its lane declines. Everything here is decided at once: there is nothing to
wait for, because replies that must wait for durability do so in the reactor's arena.
"""

import secrets
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from ingest.admission import Admission, Route
from ingest.mqtt import packets
from ingest.mqtt.session import Authenticate, Close, ConnectRefusal, Effect, Ingest, Send, Session
from ingest.topics import DataTopic, NotData, parse_topic
from storage.journal import FULL, Journal
from storage.kinds import PayloadKind, Refusal
from storage.states import parse_state

# The grace on top of the keepalive [MQTT-3.1.2-24].
KEEPALIVE_FACTOR: Final = 1.5


class Link(Protocol):
    """The reactor, as far as the door uses it."""

    def send(self, slot: int, data: bytes) -> None: ...
    def close(self, slot: int) -> None: ...
    def set_keepalive(self, slot: int, deadline_s: float) -> None: ...
    def admit(self, slot: int) -> None: ...
    def peer(self, slot: int) -> str: ...
    def count_refusal(self, speaks: str, refusal: int) -> None: ...
    def count_stored(self, speaks: str) -> None: ...


@dataclass(slots=True, eq=False)
class Client:
    """One accepted MQTT client (contract 3.7)."""

    session: Session
    user_id: str = ""
    token: bytes = b""
    client_id: bytes = b""
    clean_session: bool = True
    keepalive_s: int = 0
    connected_at_us: int = 0


@dataclass(frozen=True, slots=True)
class DoorStatistics:
    """Since the start: CONNECTs accepted, refused by code, take-overs, protocol errors."""

    accepted: int
    refused: dict[str, int]
    taken_over: int
    protocol_errors: int


class MqttDoor:
    """Implements ``ingest.reactor.Door``; ``link`` is set by whoever made both."""

    link: Link

    def __init__(self, admission: Admission, journal: Journal) -> None:
        self._admission = admission
        self._journal = journal
        self._clients: dict[int, Client] = {}
        self._by_id: dict[tuple[str, bytes], int] = {}
        self._accepted = self._taken_over = self._protocol_errors = 0
        self._refused = dict.fromkeys(ConnectRefusal, 0)

    def user_of(self, connection: int) -> tuple[str, bytes]:
        """User id and device token of an accepted connection."""
        client = self._clients[connection]
        return client.user_id, client.token

    # ---- called by the reactor

    def on_packet(self, connection: int, frame: bytes, now: float, at_us: int) -> bool:
        """One complete packet; False when ring or batch is full and it must be offered again."""
        client = self._clients.get(connection)
        if client is None:
            client = self._clients[connection] = Client(Session())
        try:
            effects = client.session.receive(frame)
        except packets.ProtocolError:
            self._protocol_errors += 1
            self.link.close(connection)
            return True
        return self._perform(connection, client, effects, at_us)

    def on_malformed(self, connection: int, reason: str) -> None:
        """The reactor could not even find the packet's end, or it announced too much; it closes by itself."""
        self._protocol_errors += 1

    def on_closed(self, connection: int) -> None:
        client = self._clients.pop(connection, None)
        if client is not None and self._by_id.get((client.user_id, client.client_id)) == connection:
            del self._by_id[client.user_id, client.client_id]

    def _perform(self, connection: int, client: Client, effects: list[Effect], at_us: int) -> bool:
        for effect in effects:
            match effect:
                case Send(data):
                    self.link.send(connection, data)
                case Close():
                    self.link.close(connection)
                case Authenticate(connect):
                    self._perform(connection, client, self._decide(connection, client, connect, at_us), at_us)
                case Ingest(publish, acknowledgement):
                    if not self._ingest(client, publish, at_us):
                        return False
                    client.session.ingested(publish)
                    self.link.send(connection, acknowledgement)
                case _:
                    assert_never(effect)
        return True

    # ---- CONNECT

    def _decide(self, connection: int, client: Client, connect: packets.Connect, at_us: int) -> list[Effect]:
        user = self._admission.user_of(connect.password)
        if user is None or connect.username != user.user_id.encode():
            self._refused[ConnectRefusal.CREDENTIALS] += 1
            return client.session.refuse(ConnectRefusal.CREDENTIALS)
        client.user_id = user.user_id
        client.token = user.device_token.encode()
        client.client_id = connect.client_id or b"auto-" + secrets.token_hex(8).encode()
        client.clean_session = connect.clean_session
        client.keepalive_s = connect.keepalive_s
        client.connected_at_us = at_us
        other = self._by_id.get((client.user_id, client.client_id))
        if other is not None:
            # The same client again: the older connection goes [MQTT-3.1.4-2].
            self._taken_over += 1
            self.link.close(other)
        self._by_id[client.user_id, client.client_id] = connection
        self._accepted += 1
        self.link.admit(connection)
        self.link.set_keepalive(connection, KEEPALIVE_FACTOR * connect.keepalive_s)
        return client.session.accept()

    # ---- PUBLISH beside the lane

    def _ingest(self, client: Client, publish: packets.Publish, at_us: int) -> bool:
        """Store it, or count why not. False when there is no room now."""
        topic = parse_topic(publish.topic, client.token)
        if topic is NotData.FOREIGN:
            self.link.count_refusal("mqtt", Refusal.FOREIGN_TOPIC)
            return True
        if topic is NotData.UNKNOWN:
            self.link.count_refusal("mqtt", Refusal.UNKNOWN_TOPIC)
            return True
        if not isinstance(topic, DataTopic):
            return True  # a command: there are no subscribers to relay it to yet
        route = self._admission.route(client.user_id, topic.device_id, topic.tag, at_us)
        if not isinstance(route, Route):
            self.link.count_refusal("mqtt", route)
            return True
        if topic.kind is PayloadKind.STATE and parse_state(publish.payload) is None:
            self.link.count_refusal("mqtt", Refusal.BAD_FORM_FORMAT)
            return True
        answer = self._journal.append(
            at_us, topic.kind, route.device, route.channel, topic.tag, publish.payload
        )
        if answer == FULL:
            return False
        if answer < 0:
            self.link.count_refusal("mqtt", -answer)
        else:
            self.link.count_stored("mqtt")
        return True

    # ---- who is connected

    def clients(self, user_id: str) -> list[tuple[int, Client]]:
        """The user's connected clients with their connections."""
        return [(slot, client) for (user, _), slot in self._by_id.items() if user == user_id
                for client in (self._clients[slot],)]  # fmt: skip

    def statistics(self) -> DoorStatistics:
        refused = {refusal.name: count for refusal, count in self._refused.items()}
        return DoorStatistics(self._accepted, refused, self._taken_over, self._protocol_errors)
