from collections.abc import Iterator

from ingest.mqtt.outbox import Outbox
from ingest.mqtt.retained import RetainedMessages
from ingest.mqtt.subscriptions import Granted, SubscriptionTree
from storage.notes import Message

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

    slot: int
    protocol: int
    session: Session | None
    keepalive_s: int
    connected_at_us: int
    window: int
    packet_bytes_max: int
    explains: bool
    aliases_in: dict[int, bytes] | None
    aliases_out: dict[bytes, int] | None
    alias_max: int
    is_clean: bool
    token: bytes | None
    def __init__(self, slot: int) -> None: ...

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

    namespace: Namespace
    client_id: bytes
    number: int
    expiry_s: int
    connection: Connection | None
    closed_at_us: int
    subscriptions: dict[bytes, Granted]
    outbox: Outbox | None
    inbound: frozenset[int] | set[int]
    will: Message | None
    will_delay_s: int
    will_due_us: int
    def __init__(self, namespace: Namespace, client_id: bytes) -> None: ...
    @property
    def expires_at_us(self) -> int:
        """When it ends if the client does not come back; 0 for never."""
    def subscribe(self, text: bytes, granted: Granted) -> bool:
        """Whether there was a subscription to the same filter."""
    def unsubscribe(self, text: bytes) -> bool:
        """Whether there was one."""
    def take_inbound(self, packet_id: int) -> int:
        """A QoS 2 message was taken: one with the same id is the same message, until PUBREL."""
    def release_inbound(self, packet_id: int) -> bool:
        """PUBREL; whether the id was taken."""

class Namespace:
    """One user's topics and clients.

    Attributes:
        token: the user's device token, the first level of the topics.
        previous: device tokens that were replaced and still work. A topic that begins with one of them is the same
            topic as with any other.
        connections: how many of the sessions are connected.
    """

    user_id: str
    token: bytes
    previous: tuple[bytes, ...]
    sessions: dict[bytes, Session]
    connections: int
    tree: SubscriptionTree[Session]
    retained: RetainedMessages
    def __init__(self, user_id: str, token: bytes) -> None: ...
    def token_in(self, topic: bytes) -> bytes:
        """The one of the tokens that a topic (or a password) begins with; the current one if it is none."""
    def twins(self, topic: bytes) -> list[bytes]:
        """The topic's other names: the same behind each other token."""
    def live(self) -> Iterator[tuple[Session, Connection]]:
        """The sessions that are connected."""
