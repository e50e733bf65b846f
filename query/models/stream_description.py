"""The streams of a channel, and what people say of them."""

from typing import Annotated, Final

from pydantic import Field, with_config
from typing_extensions import TypedDict

from query.models import CLOSED, OPEN
from query.models.scalars import CHANNEL, ChannelNumber, Text
from query.openapi import DELETED, Body, Parameter, Reply, described


@with_config(CLOSED)
class StreamShown(TypedDict):
    """A stream that has data or a description."""

    channel: ChannelNumber
    stream: str
    kind: Annotated[str | None, Field(description="what its first value was; null before there is one")]
    kinds: Annotated[list[str], Field(description="the kinds of its values")]
    label: Text
    unit: Text
    description: Text


@with_config(OPEN)
class StreamFields(TypedDict, total=False):
    """What can be said of a stream; keys that are not known, or that the platform decides, are ignored."""

    label: Text
    unit: Text
    description: Text


FIELDS: Final = {"label": "Temperature", "unit": "°C", "description": "of the boiler"}
EXAMPLE: Final = {"channel": 3, "stream": "temp", "kind": "number", "kinds": ["number"], **FIELDS}
NAME: Final = Parameter(
    "name", "the stream's name, percent-encoded; `value` is a literal's",
    where="path", kind={"type": "string", "pattern": "[^/]$"}, example="temp",
)  # fmt: skip

LIST: Final = described(
    "A channel's streams",
    "In the order of their names.",
    Reply(list[StreamShown], [EXAMPLE], "the streams, perhaps none"),
    parameters=[CHANNEL],
    errors=["BAD_PARAMETER", "NO_CHANNEL"],
)
GET: Final = described(
    "One stream, as an array",
    "The array has one element.",
    Reply(list[StreamShown], [EXAMPLE], "an array with the stream"),
    parameters=[CHANNEL, NAME],
    errors=["BAD_PARAMETER", "NO_CHANNEL", "NO_STREAM"],
)
UPDATE: Final = described(
    "Describe a stream: label, unit, description",
    "Also before it has a value. Only the keys that are there are changed.",
    Reply(StreamShown, EXAMPLE, "the stream as it is described now"),
    takes=Body(StreamFields, FIELDS),
    parameters=[CHANNEL, NAME],
    errors=["BAD_JSON_FORMAT", "MAX_STREAM_REACH", "NO_CHANNEL", "NO_STREAM", "UNAVAILABLE"],
)
DELETE: Final = described(
    "Forget a stream's description, not its data",
    "A stream without data is not listed any more.",
    DELETED,
    parameters=[CHANNEL, NAME],
    errors=["BAD_PARAMETER", "NO_CHANNEL", "NO_STREAM", "UNAVAILABLE"],
)
