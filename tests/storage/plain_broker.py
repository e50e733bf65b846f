"""What notes mean, in plain Python: one dictionary per thing, one note at a time, nothing gathered."""

from dataclasses import dataclass, field, replace

from storage.notes import (
    Done,
    InboundReleased,
    InboundTaken,
    Message,
    Note,
    Queued,
    Received,
    Retained,
    Sent,
    SessionClosed,
    SessionEnded,
    SessionOpened,
    Subscribed,
    Unsubscribed,
    UserForgotten,
    WillCleared,
    WillSet,
    Written,
)
from storage.sessions import SavedBroker, SavedDelivery, SavedRetained, SavedSession, SavedSubscription


@dataclass
class PlainBroker:
    """Everything that was noted until now."""

    number: int = 0
    session_max: int = 0
    message_max: int = 0
    sessions: dict[int, SavedSession] = field(default_factory=dict)
    subscriptions: dict[tuple[int, bytes], SavedSubscription] = field(default_factory=dict)
    deliveries: dict[tuple[int, int], SavedDelivery] = field(default_factory=dict)  # by message, session
    inbound: set[tuple[int, int]] = field(default_factory=set)
    wills: dict[int, tuple[Message, int]] = field(default_factory=dict)
    retained: dict[tuple[str, bytes], Message] = field(default_factory=dict)
    written: dict[tuple[str, int, str], Written] = field(default_factory=dict)

    def take(self, number: int, note: Note) -> None:  # noqa: C901
        self.number = number
        match note:
            case SessionOpened(session, user, client, expiry_s, protocol, at_us):
                self.session_max = max(self.session_max, session)
                self.sessions[session] = SavedSession(
                    session, user, client, expiry_s, protocol, True, at_us, 0, None
                )
            case SessionClosed(session, expiry_s, at_us):
                if session in self.sessions:
                    self.sessions[session] = replace(
                        self.sessions[session], connected=False, expiry_s=expiry_s, closed_at_us=at_us
                    )
            case SessionEnded(session):
                self.end(session)
            case Subscribed(session, pattern, options, identifier):
                if session in self.sessions:
                    self.subscriptions[session, pattern] = SavedSubscription(pattern, options, identifier)
            case Unsubscribed(session, pattern):
                self.subscriptions.pop((session, pattern), None)
            case Queued(message, content, deliveries):
                self.message_max = max(self.message_max, message)
                for each in deliveries:
                    if each.session in self.sessions:
                        self.deliveries[message, each.session] = SavedDelivery(
                            message, content, each.qos, each.packet_id, False, each.retain, each.identifiers
                        )
            case Sent(session, message, packet_id):
                if (message, session) in self.deliveries:
                    delivery = self.deliveries[message, session]
                    self.deliveries[message, session] = delivery._replace(packet_id=packet_id)
            case Received(session, message):
                if (message, session) in self.deliveries:
                    delivery = self.deliveries[message, session]
                    self.deliveries[message, session] = delivery._replace(received=True)
            case Done(session, message):
                self.deliveries.pop((message, session), None)
            case InboundTaken(session, packet_id):
                if session in self.sessions:
                    self.inbound.add((session, packet_id))
            case InboundReleased(session, packet_id):
                self.inbound.discard((session, packet_id))
            case Retained(user, topic, None):
                self.retained.pop((user, topic), None)
            case Retained(user, topic, content):
                self.retained[user, topic] = content
            case WillSet(session, content, delay_s):
                if session in self.sessions:
                    self.wills[session] = content, delay_s
            case WillCleared(session):
                self.wills.pop(session, None)
            case Written(user, channel, key):
                self.written[user, channel, key] = note
            case UserForgotten(user):
                self.written = {key: each for key, each in self.written.items() if key[0] != user}
                for session in [each.session for each in self.sessions.values() if each.user_id == user]:
                    self.end(session)
                self.retained = {key: content for key, content in self.retained.items() if key[0] != user}

    def end(self, session: int) -> None:
        self.sessions.pop(session, None)
        self.wills.pop(session, None)
        self.subscriptions = {key: value for key, value in self.subscriptions.items() if key[0] != session}
        self.deliveries = {key: value for key, value in self.deliveries.items() if key[1] != session}
        self.inbound = {key for key in self.inbound if key[0] != session}

    def saved(self) -> SavedBroker:
        """As SessionStore.load tells it."""
        sessions = [
            replace(
                self.sessions[number],
                will=self.wills.get(number),
                subscriptions=sorted(value for key, value in self.subscriptions.items() if key[0] == number),
                deliveries=[value for key, value in sorted(self.deliveries.items()) if key[1] == number],
                inbound={packet_id for session, packet_id in self.inbound if session == number},
            )
            for number in sorted(self.sessions)
        ]
        retained = [SavedRetained(*key, content) for key, content in sorted(self.retained.items())]
        return SavedBroker(self.number + 1, self.session_max + 1, self.message_max + 1, sessions, retained)
