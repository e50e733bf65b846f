"""Channels and their tags (contract 1.4, 3.2)."""

from typing import Annotated, Final

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


@with_config(OPEN)
class ChannelFields(TypedDict, total=False):
    """What can be said of a channel or a tag; keys that are not known are ignored."""

    channel_name: Text | None


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

LIST: Final = described(
    "All channels",
    "In the order of their numbers.",
    Reply(list[ChannelShown], [EXAMPLE], "the channels, perhaps none"),
    parameters=[WITH_TAG],
)
GET: Final = described(
    "One channel, as an array",
    "The array has one element, and one for each tag if they are asked for.",
    Reply(list[ChannelShown], [EXAMPLE, EXAMPLE | {"tag": "north"}], "an array with the channel"),
    parameters=[CHANNEL, WITH_TAG],
    errors=["NO_CHANNEL"],
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
    "Rename a channel, or a tag of it",
    "Only the keys that are there are changed.",
    Reply(ChannelShown, EXAMPLE, "the channel or the tag, as it is now"),
    takes=Body(ChannelFields, {"channel_name": "Boiler room"}),
    parameters=[CHANNEL, TAG_NAME],
    errors=["BAD_JSON_FORMAT", "NO_CHANNEL", "UNAVAILABLE"],
)
DELETE: Final = described(
    "Delete a channel with all its entries, or a tag with all its entries",
    "The devices of a deleted channel are not mapped any more. With `X-TAGNAME` only that tag and the entries that "
    "have it go: no answer has them from then on, and files lose them soon. What comes later under the tag is there "
    "again.",
    DELETED,
    parameters=[CHANNEL, TAG_NAME],
    errors=["BAD_PARAMETER", "NO_CHANNEL", "UNAVAILABLE"],
)
