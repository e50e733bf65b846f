"""The broker: sessions, and the way of a message from one client to the others.

Everything is decided at once and in one thread. A message is matched, given to each subscriber's session, noted if
any of these sessions is to survive a crash, and sent; the reactor lets the bytes go when the batch with the note is
durable. Nothing here knows a packet's bytes but through ``packets``, nor reads a clock.

A slow subscriber hurts itself only: QoS 0 is dropped while its socket is behind, QoS 1 and 2 wait in its outbox, up to
a bound, and everything dropped is counted.
"""

import functools
import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from ingest.mqtt import packets
from ingest.mqtt.delivery import Counts, Deliveries, room_for
from ingest.mqtt.link import Link
from ingest.mqtt.notebook import NOTE_BYTES, Notebook
from ingest.mqtt.options import BrokerOptions
from ingest.mqtt.outbox import Outbox, Outgoing
from ingest.mqtt.reasons import ReasonCode
from ingest.mqtt.sentences import Why, explained
from ingest.mqtt.sessions import Connection, Namespace, Session
from ingest.mqtt.subscriptions import Granted, Matches, Share, split_share
from storage import notes
from storage.notes import Message
from storage.sessions import SavedBroker, SavedSession

# Wills that are readings and found no room in the ring, of sessions that could not wait for it.
UNSTORED_MAX: Final = 10_000
# Entries of retained messages' ends beyond twice their number: then those that were replaced are thrown out.
ENDS_SPARE: Final = 64
# How long a will of a session that stays waits for room in the ring.
ROOM_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class BrokerStatistics:
    """What there is, and what happened since the start.

    Attributes:
        clients: connected now, by protocol.
        ended: connections that we ended, by reason.
    """

    sessions: int
    durable_sessions: int
    subscriptions: int
    retained: int
    queued: int
    inflight: int
    clients: dict[int, int]
    ended: dict[str, int]
    counts: Counts


@dataclass(slots=True)
class Standing:
    """What there is now. Kept as it changes: with many sessions a walk over them would hold everybody up."""

    sessions: int = 0
    durable_sessions: int = 0
    subscriptions: int = 0
    retained: int = 0


class Broker:
    """All namespaces. ``link`` and ``store`` are set by whoever made both.

    Attributes:
        store: stores a will that is a reading, or refuses it; whether there was room for that.

    Args:
        options: limits and policies.
        notebook: where what must survive is written.
    """

    store: Callable[[Namespace, Message, int], bool]

    def __init__(self, options: BrokerOptions, notebook: Notebook) -> None:
        self.options = options
        self.notebook = notebook
        self.counts = Counts()
        self._standing = Standing()
        self._clients = {3: 0, 4: 0, 5: 0}
        self._ended = Counter({why.code.name: 0 for why in (Why.TAKEN_OVER, Why.SENT_AWAY, Why.SILENT)})
        self.deliveries = Deliveries(options, notebook, self.counts)
        self._namespaces: dict[str, Namespace] = {}
        self._next_session = 1
        self._timers: list[tuple[int, int, Session]] = []  # due, tie-breaker
        self._ends: list[tuple[int, int, Namespace, bytes]] = []  # of retained messages: due, tie-breaker
        self._unstored: deque[tuple[Namespace, Message]] = deque()
        self._tie = itertools.count()

    @property
    def link(self) -> Link:
        """The reactor."""
        return self.deliveries.link

    @link.setter
    def link(self, link: Link) -> None:
        self.deliveries.link = link

    def namespace(self, user_id: str, token: bytes) -> Namespace:
        """The user's; made when it is first asked for."""
        found = self._namespaces.get(user_id)
        if found is None:
            found = self._namespaces[user_id] = Namespace(user_id, token)
        if found.token != token:
            # Replaced a moment ago. Whether the old one still works is said by ``set_tokens``.
            found.previous = (found.token, *(each for each in found.previous if each != token))
            found.token = token
        return found

    def users(self) -> list[str]:
        """Whose namespaces there are."""
        return list(self._namespaces)

    def set_tokens(self, user_id: str, tokens: list[bytes]) -> None:
        """These are the user's device tokens now, the current one first; clients with others are sent away."""
        namespace = self._namespaces[user_id]
        namespace.token, namespace.previous = tokens[0], tuple(tokens[1:])
        gone = [
            connection
            for _, connection in namespace.live()
            if connection.token is not None and connection.token not in tokens
        ]
        self._send_away(gone, Why.TOKEN_ENDED)

    def shut(self, user_id: str) -> None:
        """The user is disabled: nobody of its clients stays; their sessions do."""
        self._send_away([connection for _, connection in self._namespaces[user_id].live()], Why.USER_GONE)

    def forget_user(self, user_id: str, at_us: int) -> None:
        """The user is gone, with its clients, their sessions and wills, and its retained messages."""
        namespace = self._namespaces.pop(user_id, None)
        if namespace is not None:
            gone = []
            for session in namespace.sessions.values():
                if session.connection is not None:
                    session.connection.session = None
                    gone.append(session.connection)
                self._leave(session)
                session.connection = session.will = None
                session.number = session.will_due_us = 0
            namespace.sessions.clear()
            self._standing.retained -= namespace.retained.count
            self._send_away(gone, Why.USER_GONE)
            self.link.invalidate_routes()
        forgotten = notes.UserForgotten(user_id)
        size = NOTE_BYTES + len(user_id)
        self.notebook.when_there_is_room(size, lambda now_us: self.notebook.note(forgotten, now_us), at_us)

    def _send_away(self, connections: list[Connection], why: Why) -> None:
        for connection in connections:
            self.disconnect(connection, why.code, why.words)

    def has_listeners(self, user_id: str, topic: bytes) -> bool:
        """Whether anybody would get a message on this topic: then it is not for the lane."""
        namespace = self._namespaces.get(user_id)
        if namespace is None:
            return False
        return any(namespace.tree.match(each) for each in (topic, *namespace.twins(topic)))

    # ---- sessions

    def open_session(
        self,
        namespace: Namespace,
        connection: Connection,
        client_id: bytes,
        *,
        is_clean: bool,
        expiry_s: int,
        at_us: int,
    ) -> tuple[Session, bool]:
        """The session of a client whose CONNECT is accepted, and whether it was there before.

        An older connection of the same client id is closed first [MQTT-3.1.4-2].
        """
        session = namespace.sessions.get(client_id)
        if session is not None and session.connection is not None:
            self.counts.taken_over += 1
            older = session.connection
            self.close_session(session, at_us, has_will=True, comes_back=not is_clean)
            self.disconnect(older, Why.TAKEN_OVER.code, Why.TAKEN_OVER.words)
            session = namespace.sessions.get(client_id)
        if session is not None and is_clean:
            self._publish_will_due(session, at_us)
            self._end(session, at_us)
            session = None
        is_present = session is not None
        if session is None:
            session = namespace.sessions[client_id] = Session(namespace, client_id)
            self._standing.sessions += 1
        session.connection = connection
        namespace.connections += 1
        self._clients[connection.protocol] += 1
        session.expiry_s = expiry_s
        session.will_due_us = 0
        connection.session = session
        if expiry_s and not session.number:
            session.number, self._next_session = self._next_session, self._next_session + 1
            self._standing.durable_sessions += 1
        if session.number:
            opened = notes.SessionOpened(
                session.number, namespace.user_id, client_id, expiry_s, connection.protocol, at_us
            )
            self.notebook.note(opened, at_us)
        return session, is_present

    def set_will(self, session: Session, will: Message | None, delay_s: int, at_us: int) -> None:
        """What is to be published when the client goes without DISCONNECT; None for nothing."""
        had_will, session.will, session.will_delay_s = session.will is not None, will, delay_s
        if session.number and will is not None:
            self.notebook.note(notes.WillSet(session.number, will, delay_s), at_us)
        elif session.number and had_will:
            self.notebook.note(notes.WillCleared(session.number), at_us)

    def close_session(
        self, session: Session, at_us: int, *, has_will: bool, comes_back: bool = False
    ) -> None:
        """The connection is gone. ``comes_back``: its client has connected already and goes on with it."""
        assert session.connection is not None
        self._clients[session.connection.protocol] -= 1
        session.connection.session = None
        session.connection = None
        session.namespace.connections -= 1
        session.closed_at_us = at_us
        if not has_will and session.will is not None:
            self.set_will(session, None, 0, at_us)
        if session.will is not None:
            delay_s = min(session.will_delay_s, session.expiry_s)
            session.will_due_us = at_us + delay_s * 1_000_000
            if delay_s == 0:
                self._publish_will_due(session, at_us, stays=session.expiry_s > 0 and not comes_back)
            elif not comes_back:
                self._set_timer(session.will_due_us, session)
        if session.expiry_s == 0:
            self._end(session, at_us)
            return
        self.notebook.note(notes.SessionClosed(session.number, session.expiry_s, at_us), at_us)
        if session.expires_at_us and not comes_back:
            self._set_timer(session.expires_at_us, session)

    def room_to_close(self, session: Session) -> int:
        """Bytes of notes that close_session may write, the will's deliveries included."""
        if session.will is None:
            return 2 * NOTE_BYTES if session.number else 0
        reading = NOTE_BYTES + len(session.will.topic) + len(session.will.payload)
        return 4 * NOTE_BYTES + reading + self.room_for(session.namespace, session.will)

    def count_ended(self, code: ReasonCode) -> None:
        """One connection that we end."""
        self._ended[code.name] += 1

    def disconnect(self, connection: Connection, code: ReasonCode, words: str) -> None:
        """Close from our side; MQTT 5 is told why."""
        self.count_ended(code)
        if connection.protocol == 5:
            answer = functools.partial(packets.disconnect, code)
            self.link.send(connection.slot, explained(connection, answer, words))
        self.link.close(connection.slot)

    def _end(self, session: Session, at_us: int) -> None:
        """Forget the session."""
        self._leave(session)
        if session.subscriptions:
            for text in list(session.subscriptions):
                session.unsubscribe(text)
            self.link.invalidate_routes()
        session.namespace.sessions.pop(session.client_id, None)
        if session.number:
            self.notebook.note(notes.SessionEnded(session.number), at_us)
            session.number = 0

    def _leave(self, session: Session) -> None:
        """What is counted of a session that is about to be forgotten; its messages are owed no more."""
        self._standing.sessions -= 1
        self._standing.durable_sessions -= session.number > 0
        self._standing.subscriptions -= len(session.subscriptions)
        if session.outbox is not None:
            session.outbox.forget()
            session.outbox = None

    # ---- time

    def _set_timer(self, due_us: int, session: Session) -> None:
        heapq.heappush(self._timers, (due_us, next(self._tie), session))

    def tick(self, at_us: int) -> None:
        """Delayed wills, and sessions and retained messages whose time is over."""
        while self._unstored and self.store(*self._unstored[0], at_us):
            self._unstored.popleft()
        self._end_retained(at_us)
        while self._timers and self._timers[0][0] <= at_us:
            _, _, session = heapq.heappop(self._timers)
            over = functools.partial(self._time_is_over, session)
            self.notebook.when_there_is_room(self.room_to_close(session), over, at_us)

    def _end_retained(self, at_us: int) -> None:
        """Forget retained messages whose expiry interval is over, as far as there is room to note it."""
        while self._ends and self._ends[0][0] <= at_us:
            _, _, namespace, topic = self._ends[0]
            if not self.notebook.has_room(NOTE_BYTES + len(topic)):
                return
            heapq.heappop(self._ends)
            message = namespace.retained.get(topic)
            is_over = message is not None and 0 < message.expires_at_us <= at_us
            if is_over and self._namespaces.get(namespace.user_id) is namespace:
                self._remove_retained(namespace, topic, at_us)

    def _remove_retained(self, namespace: Namespace, topic: bytes, at_us: int) -> None:
        if namespace.retained.remove(topic):
            self._standing.retained -= 1
            self.notebook.note(notes.Retained(namespace.user_id, topic, None), at_us)

    def _put_retained(self, namespace: Namespace, message: Message) -> None:
        self._standing.retained += namespace.retained.put(message)
        if not message.expires_at_us:
            return
        heapq.heappush(self._ends, (message.expires_at_us, next(self._tie), namespace, message.topic))
        if len(self._ends) > 2 * self._standing.retained + ENDS_SPARE:
            self._ends = [
                (each.expires_at_us, next(self._tie), space, each.topic)
                for space in self._namespaces.values()
                for each in space.retained
                if each.expires_at_us
            ]
            heapq.heapify(self._ends)

    def _time_is_over(self, session: Session, at_us: int) -> None:
        if session.connection is not None or session.namespace.sessions.get(session.client_id) is not session:
            return
        if session.will_due_us and session.will_due_us <= at_us:
            self._publish_will_due(session, at_us, stays=True)
            if session.will_due_us:
                return
        if session.expires_at_us and session.expires_at_us <= at_us:
            self.counts.expired_sessions += 1
            self._end(session, at_us)

    def _publish_will_due(self, session: Session, at_us: int, *, stays: bool = False) -> None:
        """A session's end or its will's hour: publish the will if it is still owed, and store it if it is a reading.

        In one batch with the note that it is owed no more: exactly once, also over restarts. If the ring is full the
        will of a session that ``stays`` is due a little later; another's is relayed now and stored later.
        """
        will = session.will
        if will is not None and not self.store(session.namespace, will, at_us):
            if stays:
                session.will_due_us = at_us
                self._set_timer(at_us + ROOM_US, session)
                return
            if len(self._unstored) < UNSTORED_MAX:
                self._unstored.append((session.namespace, will))
            else:
                self.counts.dropped_full += 1
        session.will_due_us = 0
        if will is None:
            return
        self.set_will(session, None, 0, at_us)
        if will.expires_at_us:
            # Its time begins when it is published (5.0 section 3.1.3.2.4).
            expires_at_us = at_us + will.expires_at_us - will.at_us
            will = msgspec.structs.replace(will, expires_at_us=expires_at_us, at_us=at_us)
        self.publish(session.namespace, will, session, at_us)

    # ---- subscriptions

    def subscribe(
        self, session: Session, subscription: packets.Subscription, identifier: int, at_us: int
    ) -> tuple[Granted, bool]:
        """Subscribe; how it was granted, and whether there was one to the same filter."""
        granted = Granted(
            subscription.qos, subscription.no_local, subscription.retain_as_published, identifier
        )
        existed = session.subscribe(subscription.filter, granted)
        self._standing.subscriptions += not existed
        if session.number:
            options = subscription.qos | subscription.no_local << 2 | subscription.retain_as_published << 3
            self.notebook.note(
                notes.Subscribed(session.number, subscription.filter, options, identifier), at_us
            )
        self.link.invalidate_routes()
        return granted, existed

    def send_retained(self, session: Session, text: bytes, granted: Granted, at_us: int) -> None:
        """The retained messages of a new subscription [MQTT-3.3.1-6]; none for a shared one (5.0 section 4.8.2)."""
        if split_share(text)[0]:
            return
        identifiers = (granted.identifier,) if granted.identifier else ()
        for message in list(session.namespace.retained.matching(text)):
            if message.expires_at_us and message.expires_at_us <= at_us:
                continue
            outgoing = Outgoing(message, 0, min(message.qos, granted.qos), True, identifiers)
            if session.number and outgoing.qos:
                give = functools.partial(self._give_retained, session, outgoing)
                self.notebook.when_there_is_room(outgoing.bytes + NOTE_BYTES, give, at_us)
            else:
                self.deliveries.deliver(message, [(session, outgoing)], 0, at_us)

    def _give_retained(self, session: Session, outgoing: Outgoing, at_us: int) -> None:
        if not session.number:
            return  # it ended before there was room
        outgoing.number = self.deliveries.next_message
        self.deliveries.next_message += 1
        self.deliveries.deliver(outgoing.message, [(session, outgoing)], outgoing.number, at_us)

    def unsubscribe(self, session: Session, text: bytes, at_us: int) -> bool:
        """Whether there was a subscription to exactly this filter."""
        if not session.unsubscribe(text):
            return False
        self._standing.subscriptions -= 1
        if session.number:
            self.notebook.note(notes.Unsubscribed(session.number, text), at_us)
        self.link.invalidate_routes()
        return True

    # ---- messages

    def room_for(self, namespace: Namespace, message: Message) -> int:
        """Bytes of notes that publishing it may take."""
        size = len(message.topic) + len(message.payload) + len(message.properties)
        room = 0
        for topic in (message.topic, *namespace.twins(message.topic)):
            matches = namespace.tree.match(topic)
            room += NOTE_BYTES + size if message.retain else 0
            if message.qos:
                room += room_for(size, len(matches.direct), len(matches.shares))
        return room

    def publish(self, namespace: Namespace, message: Message, origin: Session | None, at_us: int) -> int:
        """Give it to everybody who has subscribed, and retain it if it says so; how many sessions it is for.

        ``room_for`` bytes of room have been asked for. While a replaced token still works, whoever has subscribed
        behind another one gets it, too, under the topic that it knows.
        """
        deliveries = self.address(namespace, message, origin, at_us)
        self.deliver(deliveries, at_us)
        return len(deliveries)

    def address(
        self, namespace: Namespace, message: Message, origin: Session | None, at_us: int
    ) -> list[tuple[Session, Outgoing]]:
        """Retain it if it says so, and find out what each session is to get; ``deliver`` follows at once."""
        if message.retain:
            self._retain(namespace, message, at_us)
        matches = namespace.tree.match(message.topic)
        deliveries = self._address(message, matches, origin)
        for topic in namespace.twins(message.topic):
            twin, others = msgspec.structs.replace(message, topic=topic), namespace.tree.match(topic)
            if message.retain:
                self._retain(namespace, twin, at_us)
            direct = {each: others.direct[each] for each in others.direct if each not in matches.direct}
            shares = tuple(share for share in others.shares if share not in matches.shares)
            deliveries += self._address(twin, Matches(direct, shares), origin)
        return deliveries

    def _address(
        self, message: Message, matches: Matches[Session], origin: Session | None
    ) -> list[tuple[Session, Outgoing]]:
        deliveries: list[tuple[Session, Outgoing]] = []
        for session, grants in matches.direct.items():
            outgoing = _outgoing(message, grants, session is origin)
            if outgoing is not None:
                deliveries.append((session, outgoing))
        for share in matches.shares:
            chosen = self._choose(share)
            if chosen is not None:
                outgoing = _outgoing(message, (chosen[1],), False)
                assert outgoing is not None
                deliveries.append((chosen[0], outgoing))
        return deliveries

    def deliver(self, deliveries: list[tuple[Session, Outgoing]], at_us: int) -> None:
        """Give a message to those to whom it was addressed."""
        if deliveries:
            self.counts.relayed += 1
        while deliveries:
            # Who is a member of groups, too, may get several copies; a number is for one copy a session.
            # And so it is for one topic: who has subscribed behind a replaced token knows the message by another one.
            number, message = self.deliveries.next_message, deliveries[0][1].message
            copies: dict[Session, Outgoing] = {}
            more: list[tuple[Session, Outgoing]] = []
            for session, outgoing in deliveries:
                if session in copies or outgoing.message is not message:
                    more.append((session, outgoing))
                    continue
                copies[session] = outgoing
                if outgoing.qos and session.number:
                    outgoing.number = number
                    self.deliveries.next_message = number + 1
            self.deliveries.deliver(message, list(copies.items()), number, at_us)
            deliveries = more

    def _choose(self, share: Share[Session]) -> tuple[Session, Granted] | None:
        """The member whose turn it is: one that is there and keeps up, else one that will come back."""
        second = None
        for session, granted in share.in_turn():
            if session.connection is not None and not self.deliveries.is_behind(session.connection):
                return session, granted
            if second is None or (second[0].connection is None and session.connection is not None):
                second = session, granted
        return second

    def _retain(self, namespace: Namespace, message: Message, at_us: int) -> None:
        retained = namespace.retained
        if not message.payload:
            self._remove_retained(namespace, message.topic, at_us)
            return
        if retained.count >= self.options.retained_messages_max and retained.get(message.topic) is None:
            self.counts.dropped_full += 1
            return
        self._put_retained(namespace, message)
        self.notebook.note(notes.Retained(namespace.user_id, message.topic, message), at_us)

    # ---- after a restart, and who asks

    def load(self, saved: SavedBroker, token_of: Callable[[str], bytes | None], at_us: int) -> None:
        """Everything as it was. Sessions that were connected have lost their connections now.

        Args:
            saved: what the notes came to.
            token_of: a user's device token; None for a user who is gone.
            at_us: now.
        """
        self._next_session, self.deliveries.next_message = saved.next_session, saved.next_message
        users = {each.user_id for each in saved.sessions} | {each.user_id for each in saved.retained}
        tokens = {user_id: token_of(user_id) for user_id in sorted(users)}
        for each in saved.sessions:
            token = tokens[each.user_id]
            if token is not None:
                self._load_session(self.namespace(each.user_id, token), each, at_us)
        for user_id, _, message in saved.retained:
            token = tokens[user_id]
            if token is not None:
                self._put_retained(self.namespace(user_id, token), message)
        for user_id, token in tokens.items():
            if token is None:
                self.forget_user(user_id, at_us)

    def _load_session(self, namespace: Namespace, saved: SavedSession, at_us: int) -> None:
        session = namespace.sessions[saved.client_id] = Session(namespace, saved.client_id)
        session.number, session.expiry_s = saved.session, saved.expiry_s
        self._standing.sessions += 1
        self._standing.durable_sessions += 1
        self._standing.subscriptions += len(saved.subscriptions)
        for text, options, identifier in saved.subscriptions:
            session.subscribe(text, Granted(options & 3, bool(options & 4), bool(options & 8), identifier))
        if saved.deliveries:
            session.outbox = Outbox(self.deliveries.owed)
        for number, message, qos, packet_id, received, retain, identifiers in saved.deliveries:
            outgoing = Outgoing(message, number, qos, retain, identifiers)
            outgoing.packet_id, outgoing.is_received = packet_id, received
            assert session.outbox is not None
            session.outbox.restore(outgoing)
        for packet_id in saved.inbound:
            session.take_inbound(packet_id)
        session.closed_at_us = at_us if saved.connected else saved.closed_at_us
        if saved.will is not None:
            session.will, session.will_delay_s = saved.will
            delay_s = min(session.will_delay_s, session.expiry_s)
            session.will_due_us = max(1, session.closed_at_us + delay_s * 1_000_000)
            self._set_timer(session.will_due_us, session)
        if session.expires_at_us:
            self._set_timer(session.expires_at_us, session)
        if saved.connected:
            closed = notes.SessionClosed(session.number, session.expiry_s, at_us)
            self.notebook.when_there_is_room(
                NOTE_BYTES, lambda now_us: self.notebook.note(closed, now_us), at_us
            )

    def statistics(self) -> BrokerStatistics:
        standing, owed = self._standing, self.deliveries.owed
        return BrokerStatistics(
            standing.sessions,
            standing.durable_sessions,
            standing.subscriptions,
            standing.retained,
            owed.waiting,
            owed.inflight,
            dict(self._clients),
            dict(self._ended),
            self.counts,
        )


def _outgoing(message: Message, grants: tuple[Granted, ...], is_origin: bool) -> Outgoing | None:
    """The message as a session with these subscriptions gets it: once, at the highest QoS [MQTT-3.3.5-1]."""
    if is_origin and any(granted.no_local for granted in grants):
        grants = tuple(granted for granted in grants if not granted.no_local)
        if not grants:
            return None
    if len(grants) == 1:
        granted = grants[0]
        qos, as_published = granted.qos, granted.retain_as_published
    else:
        qos = max(granted.qos for granted in grants)
        as_published = any(granted.retain_as_published for granted in grants)
    identifiers = tuple(granted.identifier for granted in grants if granted.identifier)
    return Outgoing(message, 0, min(message.qos, qos), message.retain and as_published, identifiers)
