"""Channels and their tags (contract 1.4, 3.2)."""

from typing import Annotated, Final, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from query.models import CLOSED, OPEN
from query.models.scalars import CHANNEL, ChannelNumber, Text, Time
from query.openapi import DELETED, Body, Parameter, Reply, described


@with_config(CLOSED)
class ChannelShown(TypedDict):
    """A channel, or one of its tags."""

    channel: ChannelNumber
    tag: Annotated[str | None, Field(description="null: the channel itself")]
    channel_name: Text
    last_update: Annotated[
        Time | None, Field(description="of the newest datapoint; null if there never was one")
    ]


@with_config(CLOSED)
class ArchivedChannel(ChannelShown):
    """A channel that was deleted with its data kept."""

    archived_at: Annotated[Time, Field(description="when it was deleted")]
    directory: Annotated[str, Field(description="of its published files, below the data directory")]
    waiting_rows: Annotated[
        int, Field(ge=0, description="datapoints that are on their way into published files")
    ]


@with_config(OPEN)
class ChannelFields(TypedDict, total=False):
    """What can be said of a channel or a tag; keys that are not known are ignored."""

    channel_name: Text | None
    state: Annotated[
        Literal["active"] | None, Field(description="of PUT: an archived channel is to be active again")
    ]


EXAMPLE: Final = {
    "channel": 3,
    "tag": None,
    "channel_name": "Boiler room",
    "last_update": "2024-05-02T10:00:00+0900",
}
WITH_TAG: Final = Parameter(
    "X-WITHTAG",
    "also a row for each tag; anything but `0`, `false`, `no`, `off`",
    where="header",
    example="true",
)
TAG_NAME: Final = Parameter(
    "X-TAGNAME", "UTF-8: the tag, instead of the channel", where="header", example="north"
)
STATE: Final = Parameter(
    "state",
    "`archived`: channels that were deleted with their data kept, instead; without rows for tags",
    kind=Literal["active", "archived"],
    example="active",
)

LIST: Final = described(
    "All channels",
    "In the order of their numbers.",
    Reply(list[ChannelShown | ArchivedChannel], [EXAMPLE], "the channels, perhaps none"),
    parameters=[WITH_TAG, STATE],
    errors=["BAD_PARAMETER"],
)
GET: Final = described(
    "One channel, as an array",
    "The array has one element, and one for each tag if they are asked for.",
    Reply(
        list[ChannelShown | ArchivedChannel],
        [EXAMPLE, EXAMPLE | {"tag": "north"}],
        "an array with the channel",
    ),
    parameters=[CHANNEL, WITH_TAG, STATE],
    errors=["BAD_PARAMETER", "NO_CHANNEL"],
)
ADD: Final = described(
    "Create a channel, or a tag of it",
    "The client chooses the number. Without a name it is called `NEW_CH<number>`. Tags also come into being with the "
    "first datapoint that has them.",
    Reply(ChannelShown, EXAMPLE | {"last_update": None}, "the channel or the tag", status=201),
    takes=Body(ChannelFields, {"channel_name": "Boiler room"}, is_needed=False),
    parameters=[CHANNEL, TAG_NAME],
    errors=[
        "BAD_JSON_FORMAT", "CHANNEL_INUSE", "MAX_CHANNEL_REACH", "NO_CHANNEL", "TAG_INVALID", "TOO_MANY_TAGS",
        "UNAVAILABLE",
    ],
)  # fmt: skip
UPDATE: Final = described(
    "Rename a channel, or a tag of it; restore an archived channel",
    "Only the keys that are there are changed. An archived channel is there for no request but one with "
    '`{"state": "active"}`, which restores it with all its datapoints; devices and events are mapped to it anew.',
    Reply(ChannelShown, EXAMPLE, "the channel or the tag, as it is now"),
    takes=Body(ChannelFields, {"channel_name": "Boiler room"}),
    parameters=[CHANNEL, TAG_NAME],
    errors=["BAD_JSON_FORMAT", "NO_CHANNEL", "UNAVAILABLE"],
)
DELETE: Final = described(
    "Delete a channel with or without its entries, or a tag with all its entries",
    "The devices of a deleted channel are not mapped any more. With `data=keep` the channel is archived: its number, "
    "its datapoints and what they count stay, all of them become published files, and nothing but `state=archived` "
    "shows it; with `data=delete` it goes for good, also when it was archived. With `X-TAGNAME` only that tag and the "
    "entries that have it go: no answer has them from then on, and files lose them soon. What comes later under the "
    "tag is there again.",
    DELETED,
    parameters=[
        CHANNEL,
        TAG_NAME,
        Parameter(
            "data",
            "what becomes of the entries; `delete`, which is the default, has to be said of an archived channel",
            kind=Literal["keep", "delete"],
            example="delete",
        ),
    ],
    errors=["BAD_PARAMETER", "NO_CHANNEL", "UNAVAILABLE"],
)
