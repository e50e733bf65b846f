"""Events (contract 1.7, 3.4)."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from query.models import CLOSED, OPEN
from query.models.scalars import ChannelNumber, Flag, Text
from query.openapi import DELETED, Body, Parameter, Reply, described
from storage.registry import URL_PATTERN

Operator = Literal["<", ">", "<=", ">=", "=", "!="]
Notify = Literal["email", "http"]


@with_config(CLOSED)
class EventShown(TypedDict):
    """What somebody wants to be told of."""

    event_id: Annotated[int, Field(ge=1)]
    mapped_ch: Annotated[ChannelNumber | None, Field(description="the channel that it watches; null: none")]
    description: Text
    notify_type: Notify
    post_url: Text
    enabled: bool
    source: Annotated[Text, Field(description="the way to the value, its steps parted by `:`")]
    operator: Operator
    threshold: Text


@with_config(OPEN)
class EventFields(TypedDict, total=False):
    """What can be said of an event; keys that are not known are ignored."""

    mapped_ch: Annotated[ChannelNumber | None, Field(description="null: it watches none")]
    description: Text
    notify_type: Notify
    post_url: Annotated[
        Text, Field(pattern=f"^{URL_PATTERN}$", description="absolute, http or https, no user or password")
    ]
    enabled: Flag
    source: Text
    operator: Operator
    threshold: Annotated[
        Text | float, Field(description="a number is shown as the text that JSON has for it")
    ]


FIELDS: Final[dict[str, Any]] = {
    "mapped_ch": 3,
    "description": "boiler hot",
    "notify_type": "http",
    "post_url": "https://ops.example/hook",
    "enabled": True,
    "source": "temp",
    "operator": ">=",
    "threshold": "75",
}
EXAMPLE: Final[dict[str, Any]] = {"event_id": 4, **FIELDS}
EVENT_ID: Final = Parameter(
    "event_id", "the event's number", where="path", kind=Annotated[int, Field(ge=1)], example=4
)

LIST: Final = described(
    "All events",
    "In the order of their numbers.",
    Reply(list[EventShown], [EXAMPLE], "the events, perhaps none"),
    errors=["BAD_PARAMETER"],
)
GET: Final = described(
    "One event, as an array",
    "The array has one element.",
    Reply(list[EventShown], [EXAMPLE], "an array with the event"),
    parameters=[EVENT_ID],
    errors=["BAD_PARAMETER", "NO_EVENT"],
)
ADD: Final = described(
    "Make an event; without a body a blank one",
    "The daemon numbers them, from 1.",
    Reply(EventShown, EXAMPLE, "the event", status=201),
    takes=Body(EventFields, FIELDS, is_needed=False),
    errors=["BAD_JSON_FORMAT", "MAX_EVENT_REACH", "NO_CHANNEL", "UNAVAILABLE"],
)
UPDATE: Final = described(
    "Change an event",
    "Only the keys that are there are changed.",
    Reply(EventShown, EXAMPLE, "the event as it is now"),
    takes=Body(EventFields, {"enabled": False}),
    parameters=[EVENT_ID],
    errors=["BAD_JSON_FORMAT", "NO_CHANNEL", "NO_EVENT", "UNAVAILABLE"],
)
DELETE: Final = described(
    "Delete an event",
    "Its number does not come back.",
    DELETED,
    parameters=[EVENT_ID],
    errors=["BAD_PARAMETER", "NO_EVENT", "UNAVAILABLE"],
)
