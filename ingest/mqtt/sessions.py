"""Sessions and the namespaces they live in.

A session is what MQTT remembers of a client: subscriptions, messages owed to it, packet ids of its own QoS 2 messages,
its will. It may outlive its connection; then it has a number, and every change of it is noted in the log. A namespace
is a user's topics and clients; nothing passes from one to another.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ingest.mqtt.options import NEVER
from ingest.mqtt.retained import RetainedMessages
from ingest.mqtt.subscriptions import Granted, SubscriptionTree

if TYPE_CHECKING:
    from ingest.mqtt.outbox import Outbox
    from storage.notes import Message

NO_SUBSCRIPTIONS: dict[bytes, Granted] = {}
NO_IDS: frozenset[int] = frozenset()


class Connection:
    """An open MQTT connection. Small: there are many.

    Attributes:
        slot: its number in the reactor.
        protocol: 3, 4 or 5; 0 before CONNECT.
        session: None before CONNECT and after the session was taken over.
        keepalive_s, connected_at_us: for the Session service.
        window: QoS 1 and 2 messages that it lets be in flight.
        packet_bytes_max: the longest packet that it takes, 0 for any (5.0).
        explains: whether reason strings may be sent to it (5.0).
        aliases_in: topics by alias, as the client set them; None for none.
        aliases_out: aliases by topic, as we set them; None for none.
        alias_max: how many of ours it takes.
        is_clean: as its CONNECT said.
        token: the device token that it came in with; None for an anonymous one.
    """

    __slots__ = (
        "alias_max", "aliases_in", "aliases_out", "connected_at_us", "explains", "is_clean", "keepalive_s",
        "packet_bytes_max", "protocol", "session", "slot", "token", "window",
    )  # fmt: skip

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.protocol = 0
        self.session: Session | None = None
        self.keepalive_s = 0
        self.connected_at_us = 0
        self.window = 0
        self.packet_bytes_max = 0
        self.explains = True
        self.aliases_in: dict[int, bytes] | None = None
        self.aliases_out: dict[bytes, int] | None = None
        self.alias_max = 0
        self.is_clean = True
        self.token: bytes | None = None


class Session:
    """What is remembered of one client.

    Attributes:
        namespace, client_id: whose it is.
        number: its number in the log; 0 when it ends with its connection.
        expiry_s: how long it outlives its connection.
        connection: None while the client is away.
        closed_at_us: since when.
        subscriptions: by filter.
        outbox: messages of QoS 1 and 2; None until the first one.
        inbound: packet ids of QoS 2 messages between PUBLISH and PUBREL.
        will, will_delay_s: to be published when the client goes without a word.
        will_due_us: when it is to be, once the client is gone; 0 for none.
    """

    __slots__ = (
        "client_id", "closed_at_us", "connection", "expiry_s", "inbound", "namespace", "number", "outbox",
        "subscriptions", "will", "will_delay_s", "will_due_us",
    )  # fmt: skip

    def __init__(self, namespace: "Namespace", client_id: bytes) -> None:
        self.namespace = namespace
        self.client_id = client_id
        self.number = 0
        self.expiry_s = 0
        self.connection: Connection | None = None
        self.closed_at_us = 0
        self.subscriptions = NO_SUBSCRIPTIONS
        self.outbox: Outbox | None = None
        self.inbound: frozenset[int] | set[int] = NO_IDS
        self.will: Message | None = None
        self.will_delay_s = 0
        self.will_due_us = 0

    @property
    def expires_at_us(self) -> int:
        """When it ends if the client does not come back; 0 for never."""
        return 0 if self.expiry_s == NEVER else self.closed_at_us + self.expiry_s * 1_000_000

    def subscribe(self, text: bytes, granted: Granted) -> bool:
        """Whether there was a subscription to the same filter."""
        if self.subscriptions is NO_SUBSCRIPTIONS:
            self.subscriptions = {}
        self.subscriptions[text] = granted
        return self.namespace.tree.add(text, self, granted)

    def unsubscribe(self, text: bytes) -> bool:
        """Whether there was one."""
        if self.subscriptions.pop(text, None) is None:
            return False
        return self.namespace.tree.remove(text, self)

    def take_inbound(self, packet_id: int) -> None:
        """A QoS 2 message was taken: one with the same id is the same message, until PUBREL."""
        if isinstance(self.inbound, frozenset):
            self.inbound = set()
        self.inbound.add(packet_id)

    def release_inbound(self, packet_id: int) -> bool:
        """PUBREL; whether the id was taken."""
        if isinstance(self.inbound, frozenset) or packet_id not in self.inbound:
            return False
        self.inbound.remove(packet_id)
        return True


class Namespace:
    """One user's topics and clients.

    Attributes:
        token: the user's device token, the first level of the topics.
        previous: device tokens that were replaced and still work. A topic that begins with one of them is the same
            topic as with any other.
        connections: how many of the sessions are connected.
    """

    __slots__ = ("connections", "previous", "retained", "sessions", "token", "tree", "user_id")

    def __init__(self, user_id: str, token: bytes) -> None:
        self.user_id = user_id
        self.token = token
        self.previous: tuple[bytes, ...] = ()
        self.sessions: dict[bytes, Session] = {}
        self.connections = 0
        self.tree: SubscriptionTree[Session] = SubscriptionTree()
        self.retained = RetainedMessages()

    def token_in(self, topic: bytes) -> bytes:
        """The one of the tokens that a topic (or a password) begins with; the current one if it is none."""
        if self.previous:
            first = topic.split(b"/", 1)[0]
            for token in self.previous:
                if token == first:
                    return token
        return self.token

    def twins(self, topic: bytes) -> list[bytes]:
        """The topic's other names: the same behind each other token."""
        if not self.previous:
            return []
        first, slash, rest = topic.partition(b"/")
        tokens = (self.token, *self.previous)
        if first not in tokens:
            return []
        return [token + slash + rest for token in tokens if token != first]

    def live(self) -> Iterator[tuple[Session, Connection]]:
        """The sessions that are connected."""
        for session in self.sessions.values():
            if session.connection is not None:
                yield session, session.connection
