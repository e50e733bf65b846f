"""The door: packets of MQTT connections that the lane declines, between reactor, broker, registry and journal.

It holds to the order of things: CONNECT first and once, nothing after the end, the decision about a packet before the
next one is looked at. A client that breaks the protocol loses its connection; MQTT 5 is told why. Whatever must
survive a crash needs room in the log batch first: without it a packet is offered again later (``on_packet`` says
False), and what cannot wait, like the end of a connection, is put off.

A message on a data topic of the client's own user is stored like a reading of the lane and relayed to whoever has
subscribed; what it is refused for as a reading does not keep it from subscribers (contract 2.3.5), but the publisher
is told.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Final

from ingest.admission import Admission, Route
from ingest.mqtt import packets
from ingest.mqtt.broker import Broker
from ingest.mqtt.entrance import Entrance
from ingest.mqtt.link import DoorLink
from ingest.mqtt.messages import message_of
from ingest.mqtt.notebook import NOTE_BYTES
from ingest.mqtt.options import SEPARATORS_MAX, Topics
from ingest.mqtt.packets import Property, ProtocolError, ReasonCode
from ingest.mqtt.relay import Relay
from ingest.mqtt.sentences import Why, explained, words_of
from ingest.mqtt.sessions import Connection, Namespace, Session
from ingest.mqtt.subscriptions import split_share
from ingest.refusals import REASONS
from ingest.topics import DataTopic, NotData, parse_topic
from storage.journal import FULL, Journal
from storage.kinds import PayloadKind, Refusal
from storage.notes import InboundReleased, InboundTaken, Message
from storage.states import parse_state

# What brokers tell of themselves; nobody publishes there.
SYSTEM: Final = b"$SYS/"


@dataclass(frozen=True, slots=True)
class DoorStatistics:
    """Since the start, by reason and protocol, which is 0 where it is not known.

    Attributes:
        accepted: CONNECTs, by protocol.
        refused: CONNECTs.
        protocol_errors: connections that broke the protocol.
        refused_filters: of SUBSCRIBEs.
    """

    accepted: dict[int, int]
    refused: dict[tuple[str, int], int]
    protocol_errors: dict[tuple[str, int], int]
    refused_filters: dict[tuple[str, int], int]


class MqttDoor:
    """Implements ``ingest.reactor.Door``; ``link`` is set by whoever made both."""

    def __init__(self, admission: Admission, journal: Journal, broker: Broker) -> None:
        self._admission = admission
        self._journal = journal
        self.broker = broker
        broker.store = self._store_will
        self._link: DoorLink
        self._connections: dict[int, Connection] = {}
        self._entrance = Entrance(admission, broker, self._may_use)
        self.relay = Relay(
            self._connections, broker.deliveries, broker.notebook, admission, self._may_use, broker.options
        )
        self._closing: list[Connection] = []
        self._is_closing = False
        # Begun with what happens to everybody some day: a counter that is there can be watched.
        usual = ReasonCode.MALFORMED_PACKET, ReasonCode.PROTOCOL_ERROR
        self._protocol_errors = Counter(
            {(code.name, protocol): 0 for code in usual for protocol in (3, 4, 5)}
        )
        self._refused_filters = Counter(
            {(ReasonCode.NOT_AUTHORIZED.name, protocol): 0 for protocol in (3, 4, 5)}
        )

    @property
    def link(self) -> DoorLink:
        """The reactor."""
        return self._link

    @link.setter
    def link(self, link: DoorLink) -> None:
        self._link = self.broker.link = self._entrance.link = link

    def user_of(self, slot: int, topic: bytes) -> tuple[str, bytes]:
        """User id of an accepted connection, and the one of the user's device tokens that the topic may begin with."""
        namespace = self._session(self._connections[slot]).namespace
        return namespace.user_id, namespace.token_in(topic)

    # ---- called by the reactor

    def on_packet(self, slot: int, frame: bytes, now: float, at_us: int) -> bool:
        """One complete packet; False when ring or batch is full and it must be offered again."""
        connection = self._connections.get(slot)
        if connection is None:
            connection = self._connections[slot] = Connection(slot)
        if not self.broker.notebook.catch_up(at_us):
            return False
        try:
            packet = packets.decode(frame, connection.protocol)
            return self._receive(connection, packet, at_us)
        except ProtocolError as error:
            self._fail(connection, frame, error)
            return True

    def on_malformed(self, slot: int, reason: str) -> None:
        """The reactor could not even find the packet's end, or it announced too much; it closes by itself."""
        why = Why.PACKET_TOO_LARGE if reason == "packet_bytes_max" else Why.NO_PACKET
        connection = self._connections.get(slot)
        self._protocol_errors[why.code.name, 0 if connection is None else connection.protocol] += 1
        self._say_why(slot, why)

    def on_timeout(self, slot: int) -> None:
        """Nothing came for one and a half keepalives; the reactor closes [MQTT-3.1.2-24]."""
        self._say_why(slot, Why.SILENT)

    def say_goodbye(self) -> None:
        """The daemon stops: every client of MQTT 5 is told before the reactor closes its connection."""
        for slot in list(self._connections):
            self._say_why(slot, Why.SHUTTING_DOWN)

    def _say_why(self, slot: int, why: Why) -> None:
        """The reactor is about to close an accepted client's connection; MQTT 5 is told."""
        connection = self._connections.get(slot)
        if connection is None or connection.session is None:
            return
        self.broker.count_ended(why.code)
        if connection.protocol == 5:
            self.link.send(slot, explained(connection, partial(packets.disconnect, why.code), why.words))

    def on_writable(self, slot: int, at_us: int) -> None:
        """The client's socket has taken everything: what waited for that goes on."""
        connection = self._connections.get(slot)
        if connection is not None and connection.session is not None:
            self.broker.deliveries.drain(connection.session, at_us)

    def on_closed(self, slot: int, at_us: int) -> None:
        """The connection is gone. Not before another one's end, which this may be part of, is through."""
        connection = self._connections.pop(slot, None)
        if connection is None or connection.session is None:
            return
        self._closing.append(connection)
        if self._is_closing:
            return
        self._is_closing = True
        try:
            while self._closing:
                self._end(self._closing.pop(), at_us)
        finally:
            self._is_closing = False

    def _end(self, connection: Connection, at_us: int) -> None:
        session = connection.session
        if session is None:
            return

        def close(now_us: int) -> None:
            if connection.session is session:
                self.broker.close_session(session, now_us, has_will=True)

        self.broker.notebook.when_there_is_room(self.broker.room_to_close(session), close, at_us)

    def on_room(self, at_us: int) -> None:
        """The batch has room again: what was put off for want of it goes on."""
        self.broker.notebook.catch_up(at_us)

    def on_tick(self, at_us: int) -> None:
        """Once a second: what was put off, and what is due."""
        self.broker.notebook.catch_up(at_us)
        self.broker.tick(at_us)

    # ---- packets

    def _receive(self, connection: Connection, packet: packets.Packet, at_us: int) -> bool:
        if connection.session is None:
            if not isinstance(packet, packets.Connect) or connection.protocol:
                raise ProtocolError("not CONNECT, or not the first [MQTT-3.1.0-1]", ReasonCode.PROTOCOL_ERROR)
            return self._entrance.open(connection, packet, at_us)
        session = connection.session
        match packet:
            case packets.Publish():
                return self._publish(connection, session, packet, at_us)
            case packets.Puback(packet_id, code):
                return self._acknowledged(session, 4, packet_id, code, at_us)
            case packets.Pubrec(packet_id, code):
                return self._acknowledged(session, 5, packet_id, code, at_us)
            case packets.Pubcomp(packet_id, code):
                return self._acknowledged(session, 7, packet_id, code, at_us)
            case packets.Pubrel(packet_id):
                return self._release(connection, session, packet_id, at_us)
            case packets.Subscribe():
                return self._subscribe(connection, session, packet, at_us)
            case packets.Unsubscribe():
                return self._unsubscribe(connection, session, packet, at_us)
            case packets.Pingreq():
                self.link.send(connection.slot, packets.PINGRESP)
            case packets.Disconnect():
                return self._disconnect(connection, session, packet, at_us)
            case packets.Auth():
                raise ProtocolError(
                    "AUTH without an authentication method [MQTT-4.12.0-6]", ReasonCode.PROTOCOL_ERROR
                )
            case packets.Connect():
                raise ProtocolError("a second CONNECT [MQTT-3.1.0-2]", ReasonCode.PROTOCOL_ERROR)
        return True

    def _fail(self, connection: Connection, frame: bytes, error: ProtocolError) -> None:
        """The peer broke the protocol: its connection ends (3.1.1 section 4.8, 5.0 section 4.13).

        A CONNECT of 5.0 is told why [MQTT-3.1.4-1], unless it takes no CONNACK.
        """
        protocol = connection.protocol or packets.form_of(frame) or 0
        self._protocol_errors[error.code.name, protocol] += 1
        if connection.session is not None:
            self.broker.disconnect(connection, error.code, error.reason)
        elif connection.protocol or error.code is ReasonCode.PACKET_TOO_LARGE or packets.form_of(frame) != 5:
            self.link.close(connection.slot)
        else:
            connection.protocol = 5
            self._entrance.turn_away(connection, error.code, f"{error.code.name}: {error.reason}")

    @staticmethod
    def _session(connection: Connection) -> Session:
        assert connection.session is not None
        return connection.session

    # ---- DISCONNECT

    def _disconnect(
        self, connection: Connection, session: Session, packet: packets.Disconnect, at_us: int
    ) -> bool:
        room = self.broker.room_to_close(session)
        if room and not self.broker.notebook.has_room(room):
            return False
        expiry_s = packet.properties.get(Property.SESSION_EXPIRY_INTERVAL)
        if expiry_s is not None:
            if expiry_s and not session.expiry_s:
                raise ProtocolError(
                    "a session that was to end gets an expiry [MQTT-3.14.2-2]", ReasonCode.PROTOCOL_ERROR
                )
            session.expiry_s = min(expiry_s, self.broker.options.session_expiry_s_max)
        has_will = packet.code != ReasonCode.SUCCESS  # [MQTT-3.14.4-3]
        self.broker.close_session(session, at_us, has_will=has_will)
        self.link.close(connection.slot)
        return True

    # ---- PUBLISH

    def _publish(self, connection: Connection, session: Session, packet: packets.Publish, at_us: int) -> bool:
        topic = self._topic(connection, packet)
        if packet.qos == 2 and packet.packet_id in session.inbound:
            self._acknowledge(connection, packet, ReasonCode.SUCCESS, "")
            return True
        self._check_announced(session, packet)
        namespace = session.namespace
        is_relayed = self._may_use(namespace, topic)
        message = message_of(topic, packet.payload, packet.qos, packet.retain, packet.properties, at_us)
        room = self.broker.room_for(namespace, message) if is_relayed else 0
        if (room or packet.qos == 2) and not self.broker.notebook.has_room(
            room + NOTE_BYTES + len(packet.payload)
        ):
            return False
        refusal = self._store(namespace, topic, packet.payload, at_us)
        if refusal == FULL:
            return False
        deliveries = self.broker.address(namespace, message, session, at_us) if is_relayed else []
        is_for_nobody = packet.qos == 1 and not deliveries and self._is_for_nobody(namespace, topic)
        reason, words = _answer(packet, refusal, is_relayed=bool(deliveries), is_for_nobody=is_for_nobody)
        # PUBREC with a reason ends the exchange in 5.0 [MQTT-4.3.3-9]; 3.1.1 knows no reasons.
        if packet.qos == 2 and (reason < 0x80 or connection.protocol < 5):
            session.take_inbound(packet.packet_id)
            if session.number:
                self.broker.notebook.note(InboundTaken(session.number, packet.packet_id), at_us)
        # Before the message itself, which may be for the same client; but behind the notes, for whose batch it waits.
        is_noted = any(outgoing.qos and receiver.number for receiver, outgoing in deliveries)
        if is_noted:
            self.broker.deliver(deliveries, at_us)
        if packet.qos:
            self._acknowledge(connection, packet, reason, words)
        if not is_noted:
            self.broker.deliver(deliveries, at_us)
        return True

    @staticmethod
    def _is_for_nobody(namespace: Namespace, topic: bytes) -> bool:
        """Whether a message is no reading, and there is no subscription that it fits."""
        return parse_topic(topic, namespace.token_in(topic)) is NotData.FOREIGN and not namespace.tree.match(
            topic
        )

    def _check_announced(self, session: Session, packet: packets.Publish) -> None:
        """Raises ProtocolError when it goes beyond what CONNACK said."""
        options = self.broker.options
        if packet.qos > options.qos_max:
            raise ProtocolError(
                "a QoS beyond the announced maximum [MQTT-3.2.2-11]", ReasonCode.QOS_NOT_SUPPORTED
            )
        if packet.retain and not options.retained_messages_max:
            raise ProtocolError("RETAIN is not available [MQTT-3.2.2-14]", ReasonCode.RETAIN_NOT_SUPPORTED)
        if packet.qos == 2 and len(session.inbound) >= options.receive_max:
            raise ProtocolError(
                "more QoS 2 messages than announced [MQTT-3.3.4-9]", ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
            )

    def _acknowledge(
        self, connection: Connection, packet: packets.Publish, reason: ReasonCode, words: str
    ) -> None:
        kind = 4 if packet.qos == 1 else 5
        answer = partial(packets.acknowledgement, connection.protocol, kind, packet.packet_id, reason)
        self.link.send(connection.slot, explained(connection, answer, words))

    def _topic(self, connection: Connection, packet: packets.Publish) -> bytes:
        """The topic's name, through its alias (5.0 section 3.3.2.3.4)."""
        alias = packet.properties.get(Property.TOPIC_ALIAS)
        topic = packet.topic
        if alias is not None:
            if alias > self.broker.options.topic_alias_max:
                raise ProtocolError(
                    "a topic alias beyond the announced maximum [MQTT-3.3.2-9]",
                    ReasonCode.TOPIC_ALIAS_INVALID,
                )
            if connection.aliases_in is None:
                connection.aliases_in = {}
            if topic:
                connection.aliases_in[alias] = topic
            else:
                topic = connection.aliases_in.get(alias, b"")
                if not topic:
                    raise ProtocolError("an alias that was not set [MQTT-3.3.2-8]", ReasonCode.PROTOCOL_ERROR)
        if topic.count(b"/") > SEPARATORS_MAX:
            raise ProtocolError(
                f"a topic of more than {SEPARATORS_MAX + 1} levels", ReasonCode.TOPIC_NAME_INVALID
            )
        return topic

    def _may_use(self, namespace: Namespace, topic: bytes) -> bool:
        """Whether the user's clients may publish to the topic, or subscribe to the filter (contract 2.3.4)."""
        if topic.split(b"/", 1)[0] == namespace.token_in(topic):
            return True
        return self.broker.options.topics is Topics.ANY and not topic.startswith((SYSTEM, b"$share/"))

    def _store(self, namespace: Namespace, topic: bytes, payload: bytes, at_us: int) -> int:
        """Store a message that is a reading. Its Refusal, or 0; FULL when there is no room now."""
        parsed = parse_topic(topic, namespace.token_in(topic))
        if parsed is NotData.FOREIGN:
            if self._may_use(namespace, topic):
                return 0
            return self._refused_reading(Refusal.FOREIGN_TOPIC)
        if parsed is NotData.UNKNOWN:
            return self._refused_reading(Refusal.UNKNOWN_TOPIC)
        if not isinstance(parsed, DataTopic):
            return 0  # a command to a device
        route = self._admission.route(namespace.user_id, parsed.device_id, parsed.tag, at_us)
        if not isinstance(route, Route):
            return self._refused_reading(route)
        if parsed.kind is PayloadKind.STATE and parse_state(payload) is None:
            return self._refused_reading(Refusal.BAD_FORM_FORMAT)
        answer = self._journal.append(at_us, parsed.kind, route.device, route.channel, parsed.tag, payload)
        if answer == FULL:
            return FULL
        if answer < 0:
            return self._refused_reading(Refusal(-answer))
        self.link.count_stored("mqtt")
        return 0

    def _store_will(self, namespace: Namespace, will: Message, at_us: int) -> bool:
        """Like any message of its client (contract 2.3.4); False when there is no room now."""
        return self._store(namespace, will.topic, will.payload, at_us) != FULL

    def _refused_reading(self, refusal: Refusal) -> Refusal:
        self.link.count_refusal("mqtt", refusal)
        return refusal

    # ---- acknowledgements

    def _acknowledged(self, session: Session, kind: int, packet_id: int, code: int, at_us: int) -> bool:
        if session.number and not self.broker.notebook.has_room(2 * NOTE_BYTES):
            return False
        if not self.broker.deliveries.acknowledged(session, kind, packet_id, code, at_us):
            raise ProtocolError(
                f"packet type {kind} is not the answer to this packet id [MQTT-4.3.2-1, MQTT-4.3.3-4]",
                ReasonCode.PROTOCOL_ERROR,
            )
        return True

    def _release(self, connection: Connection, session: Session, packet_id: int, at_us: int) -> bool:
        if session.number and not self.broker.notebook.has_room(NOTE_BYTES):
            return False
        is_known = session.release_inbound(packet_id)
        if is_known and session.number:
            self.broker.notebook.note(InboundReleased(session.number, packet_id), at_us)
        # Also for an id that is not known: the client may have lost our PUBCOMP [MQTT-4.3.3-2].
        code, words = (ReasonCode.SUCCESS, "") if is_known else (Why.PACKET_ID.code, Why.PACKET_ID.words)
        answer = partial(packets.acknowledgement, connection.protocol, 7, packet_id, code)
        self.link.send(connection.slot, explained(connection, answer, words))
        return True

    # ---- SUBSCRIBE and UNSUBSCRIBE

    def _subscribe(
        self, connection: Connection, session: Session, packet: packets.Subscribe, at_us: int
    ) -> bool:
        options = self.broker.options
        subscriptions = packet.subscriptions
        room = sum(NOTE_BYTES + len(each.filter) for each in subscriptions[: options.subscriptions_max])
        if session.number and not self.broker.notebook.has_room(room):
            return False
        (identifier,) = packet.properties.get(Property.SUBSCRIPTION_IDENTIFIER, (0,))
        codes = bytearray()
        made = []
        refused: dict[str, None] = {}
        for each in subscriptions:
            why = self._refused_filter(session, each.filter)
            if why is not None:
                codes.append(why.code if connection.protocol == 5 else 0x80)
                refused[why.words] = None
                self._refused_filters[why.code.name, connection.protocol] += 1
                continue
            granted, existed = self.broker.subscribe(session, each, identifier, at_us)
            codes.append(granted.qos)
            if each.retain_handling == 0 or (each.retain_handling == 1 and not existed):
                made.append((each.filter, granted))
        answer = partial(packets.suback, connection.protocol, packet.packet_id, bytes(codes))
        self.link.send(connection.slot, explained(connection, answer, "; ".join(refused)))
        for text, granted in made:
            self.broker.send_retained(session, text, granted, at_us)
        return True

    def _refused_filter(self, session: Session, text: bytes) -> Why | None:
        """Why the filter is refused; None when it is not."""
        _, inner = split_share(text)
        # Nothing comes from $SYS, but dashboards ask for it and take a refusal for a broken broker.
        is_system = inner.startswith(SYSTEM) and self.broker.options.topics is Topics.ANY
        if not is_system and not self._may_use(session.namespace, inner):
            return Why.FOREIGN_FILTER
        if inner.count(b"/") > SEPARATORS_MAX:
            return Why.FILTER_TOO_DEEP
        if (
            len(session.subscriptions) >= self.broker.options.subscriptions_max
            and text not in session.subscriptions
        ):
            return Why.SUBSCRIPTIONS_MAX
        return None

    def _unsubscribe(
        self, connection: Connection, session: Session, packet: packets.Unsubscribe, at_us: int
    ) -> bool:
        if session.number and not self.broker.notebook.has_room(
            sum(NOTE_BYTES + len(text) for text in packet.filters if text in session.subscriptions)
        ):
            return False
        codes = bytes(
            ReasonCode.SUCCESS
            if self.broker.unsubscribe(session, text, at_us)
            else ReasonCode.NO_SUBSCRIPTION_EXISTED
            for text in packet.filters
        )
        self.link.send(connection.slot, packets.unsuback(connection.protocol, packet.packet_id, codes))
        return True

    def statistics(self) -> DoorStatistics:
        return DoorStatistics(
            dict(self._entrance.accepted),
            dict(self._entrance.refused),
            dict(self._protocol_errors),
            dict(self._refused_filters),
        )


def _answer(
    packet: packets.Publish, refusal: int, *, is_relayed: bool, is_for_nobody: bool
) -> tuple[ReasonCode, str]:
    """What a publisher is told: the refusal of its reading, if there is one, whether it was relayed or not.

    With QoS 2 a relayed one is told in words alone: a reason would end the exchange [MQTT-4.3.3-9], and the message,
    sent again, would be relayed twice.
    """
    is_used = refusal != Refusal.FOREIGN_TOPIC and (is_relayed or packet.retain)
    if refusal and not (is_used and refusal == Refusal.UNKNOWN_TOPIC):
        code = ReasonCode.SUCCESS if is_used and packet.qos == 2 else REASONS[Refusal(refusal)]
        return code, words_of(Refusal(refusal))
    if is_for_nobody:
        return ReasonCode.NO_MATCHING_SUBSCRIBERS, ""
    return ReasonCode.SUCCESS, ""
