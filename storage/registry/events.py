"""Events: what somebody wants to be told of (contract 1.7 and 3.4). Their meaning is section 5's, not the registry's.

Ids count from 1 in each account and are never used again.
"""

from dataclasses import dataclass
from typing import Any, Final

from storage.registry.devices import Devices
from storage.registry.fields import (
    URL_PATTERN,
    EventLimitError,
    FieldError,
    UnknownError,
    check_flag,
    check_names,
    check_pattern,
    check_texts,
)

EVENT_TEXTS: Final = ("description", "post_url", "source", "threshold")
NOTIFY_TYPES: Final = ("email", "http")
OPERATORS: Final = ("<", ">", "<=", ">=", "=", "!=")
EVENT_ID_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Event:
    """An event. ``channel`` is the channel's id, ``mapped_ch`` its number; both None while it watches none."""

    user_id: str
    event_id: int
    channel: int | None
    mapped_ch: int | None
    description: str
    notify_type: str
    post_url: str
    enabled: bool
    source: str
    operator: str
    threshold: str


EVENT_COLUMNS: Final = (
    "event.user_id, event_id, channel, number, description, notify_type, post_url, enabled, source, operator, "
    "threshold"
)
EVENT_FROM: Final = "FROM event LEFT JOIN channel ON channel.id = event.channel"


def audited(event: Event) -> dict[str, Any]:
    """What the audit log says of an event."""
    names = ("mapped_ch", "enabled", "notify_type", "operator", *EVENT_TEXTS)
    return {name: getattr(event, name) for name in names}


class Events(Devices):
    """The registry's events."""

    def _events(self, where: str, *parameters: object) -> list[Event]:
        rows = self._database.execute(
            f"SELECT {EVENT_COLUMNS} {EVENT_FROM} WHERE {where} ORDER BY event.user_id, event_id", parameters
        )
        found: list[list[Any]] = [[*row[:7], bool(row[7]), *row[8:]] for row in rows]
        return [Event(*fields) for fields in found]

    def event(self, user_id: str, event_id: int) -> Event | None:
        if not 0 < event_id <= EVENT_ID_MAX:
            return None
        found = self._events("event.user_id = ? AND event_id = ?", user_id, event_id)
        return found[0] if found else None

    def _known_event(self, user_id: str, event_id: int) -> Event:
        event = self.event(user_id, event_id)
        if event is None:
            raise UnknownError(f"there is no event {event_id}")
        return event

    def events(self, user_id: str) -> list[Event]:
        return self._events("event.user_id = ?", user_id)

    def events_on(self, channel: int) -> list[Event]:
        """The enabled events that watch the channel with this id."""
        return self._events("event.channel = ? AND enabled", channel)

    def add_event(self, user_id: str, /, **fields: Any) -> Event:
        """A new event; without fields a blank one. Raises EventLimitError, FieldError, UnknownError."""
        self._check_event(fields)
        with self.transaction():
            self._known_user(user_id)
            count, limit = self.count_of("event", user_id), self.limits.events_per_user_max
            if count >= limit:
                raise EventLimitError(f"the user has {count} events, and the limit is {limit}")
            event_id = self._value(
                "UPDATE user SET event_id_last = event_id_last + 1 WHERE user_id = ? RETURNING event_id_last",
                user_id,
            )
            self._database.execute(
                "INSERT INTO event VALUES (?, ?, NULL, '', 'email', '', 0, '', '=', '')", (user_id, event_id)
            )
            self._counts["event", user_id] += 1
            self._set_event(user_id, event_id, fields)
            event = self._known_event(user_id, event_id)
            self._audit("event.add", user_id, str(event_id), None, audited(event))
        return event

    def update_event(self, user_id: str, event_id: int, /, **fields: Any) -> Event:
        """Change fields; ``channel`` is a channel's id or None. Raises UnknownError, FieldError."""
        self._check_event(fields)
        with self.transaction():
            before = self._known_event(user_id, event_id)
            self._set_event(user_id, event_id, fields)
            event = self._known_event(user_id, event_id)
            self._audit("event.update", user_id, str(event_id), audited(before), audited(event))
        return event

    def _set_event(self, user_id: str, event_id: int, fields: dict[str, Any]) -> None:
        self._check_channel(user_id, fields.get("channel"))
        for name, value in fields.items():
            self._database.execute(
                f"UPDATE event SET {name} = ? WHERE user_id = ? AND event_id = ?", (value, user_id, event_id)
            )
        self._changed_events()

    def delete_event(self, user_id: str, event_id: int) -> None:
        """Raises UnknownError."""
        with self.transaction():
            before = self._known_event(user_id, event_id)
            self._database.execute(
                "DELETE FROM event WHERE user_id = ? AND event_id = ?", (user_id, event_id)
            )
            self._counts.pop(("event", user_id), None)
            self._changed_events()
            self._audit("event.delete", user_id, str(event_id), audited(before), None)

    @staticmethod
    def _check_event(fields: dict[str, Any]) -> None:
        check_names(fields, (*EVENT_TEXTS, "notify_type", "operator", "enabled", "channel"), "an event")
        check_texts(fields, EVENT_TEXTS)
        check_pattern(fields, "post_url", URL_PATTERN, "http:// or https://, a host, and no user or password")
        check_flag(fields, "enabled")
        for name, words in (("notify_type", NOTIFY_TYPES), ("operator", OPERATORS)):
            if name in fields and fields[name] not in words:
                raise FieldError(f"{name}: expected one of {' '.join(words)}")
