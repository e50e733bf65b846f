"""The values and parameters that several services have, with their forms."""

from typing import Annotated, Final, Literal

from pydantic import Field

from query.openapi import Parameter
from storage.registry import CHANNEL_NUMBER_MAX, TEXT_BYTES_MAX

# Contract 4, row 3: both forms of an offset, each where existing programs expect it.
Time = Annotated[
    str,
    Field(
        description="local to the zone, whole seconds, an offset without a colon",
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}$",
        examples=["2024-05-02T10:00:00+0900"],
    ),
]
ColonTime = Annotated[
    str,
    Field(
        description="local to the zone, whole seconds, an offset with a colon",
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$",
        examples=["2024-05-02T10:00:00+09:00"],
    ),
]
ChannelNumber = Annotated[int, Field(ge=0, le=CHANNEL_NUMBER_MAX, description="a channel's number")]
Text = Annotated[str, Field(description=f"up to {TEXT_BYTES_MAX} bytes of UTF-8")]
# Words are taken as well where true or false is meant (contract 3.1).
Flag = bool | Literal["true", "false", "yes", "no", "on", "off", "1", "0"]

CHANNEL: Final = Parameter("number", "the channel's number", where="path", kind=ChannelNumber, example=3)
