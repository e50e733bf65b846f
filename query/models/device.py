"""Devices (contract 1.3, 3.1)."""

from typing import Annotated, Any, Final, Literal, NotRequired, Required

from pydantic import Field, with_config
from typing_extensions import TypedDict

from query.models import CLOSED, OPEN
from query.models.scalars import ChannelNumber, ColonTime, Flag, Text
from query.openapi import DELETED, PAGED, Body, Parameter, Reply, described
from storage.registry import DEVICE_SORTS


@with_config(OPEN)
class DeviceState(TypedDict):
    """What the device last sent on its state topic, and when."""

    last_update: ColonTime


@with_config(CLOSED)
class DeviceShown(TypedDict):
    """A device as it is registered."""

    device_id: str
    description: Text
    enabled: Annotated[bool, Field(description="false: its readings are refused")]
    mapped_ch: Annotated[
        ChannelNumber | None, Field(description="where its readings go; null: they are refused")
    ]
    device_type: Text
    location: Text
    manufacturer: Text
    activate_at: Annotated[ColonTime, Field(description="when it was registered")]
    state: NotRequired[DeviceState]


@with_config(OPEN)
class DeviceFields(TypedDict, total=False):
    """What can be said of a device; keys that are not known are ignored."""

    description: Text
    enabled: Flag
    enable: Annotated[Flag, Field(description="`enabled`, as it once was called")]
    mapped_ch: Annotated[ChannelNumber | None, Field(description="null takes the mapping away")]
    device_type: Text
    location: Text
    manufacturer: Text


@with_config(OPEN)
class DeviceLine(DeviceFields):
    """A line of a table of devices."""

    device_id: Required[str]


@with_config(CLOSED)
class LineDone(TypedDict):
    """What became of a line."""

    line: Annotated[int, Field(ge=1, description="counted from 1; of CSV including the names")]
    device_id: Annotated[Any, Field(description="as the line has it")]
    result: Literal["created", "updated", "skipped", "failed"]
    error: NotRequired[Annotated[str, Field(description="a token")]]
    detail: NotRequired[str]


@with_config(CLOSED)
class Provisioned(TypedDict):
    """What was done with a table of devices."""

    created: int
    updated: int
    skipped: int
    failed: int
    devices: list[LineDone]


EXAMPLE: Final[dict[str, Any]] = {
    "device_id": "pump-7",
    "description": "",
    "enabled": True,
    "mapped_ch": 3,
    "device_type": "",
    "location": "",
    "manufacturer": "",
    "activate_at": "2024-05-01T09:00:00+09:00",
    "state": {"load": 5.5, "last_update": "2024-05-02T10:00:00+09:00"},
}
FIELDS: Final = {"description": "boiler house", "enabled": True, "mapped_ch": 3}
DEVICE_ID: Final = Parameter(
    "device_id", "percent-encoded; a slash may be in it, but not at its end",
    where="path", kind={"type": "string", "pattern": "[^/]$", "maxLength": 256}, example="pump-7",
)  # fmt: skip

SORTS: Final = {"enum": [f"{way}{key}" for key in DEVICE_SORTS for way in ("", "-")]}
LIST: Final = described(
    "All devices",
    "In the order of their ids if nothing else is said, whole without `limit`.",
    Reply(list[DeviceShown], [EXAMPLE], "the devices, perhaps none", headers=PAGED),
    parameters=[
        Parameter("search", "only devices that have this in their id or description"),
        Parameter("enabled", "only those that are, or are not", Literal["true", "false"]),
        Parameter(
            "mapped_ch", "only those of this channel, or of `none`", ChannelNumber | Literal["none", "null"]
        ),
        *(
            Parameter(name, "only those with this text")
            for name in ("device_type", "location", "manufacturer")
        ),
        Parameter("sort", "by what; downwards with a `-`", SORTS),
        Parameter("limit", "devices of a page", Annotated[int, Field(ge=1, le=10_000)], example=100),
        Parameter("cursor", "where the next page begins, as an earlier reply said"),
    ],
    errors=["BAD_PARAMETER"],
)
PROVISION: Final = described(
    "Register or change many devices, out of a table",
    "Up to 10,000 devices, as a JSON array of objects, or as CSV whose first line has names (`Content-Type: text/csv`)."
    " With `atomic=true` (up to 2,000) one failure means that nothing is done: `BULK_REFUSED`, and the failed lines are"
    " in `devices`.",
    Reply(
        Provisioned,
        {
            "created": 1,
            "updated": 0,
            "skipped": 0,
            "failed": 0,
            "devices": [{"line": 1, "device_id": "pump-8", "result": "created"}],
        },
        "what was done, line by line",
    ),
    takes=Body(
        list[DeviceLine],
        [{"device_id": "pump-8", "enabled": True, "mapped_ch": 3}],
        other={"text/csv": "columns `device_id` and some of a device's"},
    ),
    parameters=[
        Parameter("on_existing", "what becomes of a device that exists", Literal["error", "skip", "update"]),
        Parameter("atomic", "all or nothing", Literal["true", "false"]),
    ],
    errors=["BAD_CSV_FORMAT", "BAD_JSON_FORMAT", "BAD_PARAMETER", "BULK_REFUSED", "UNAVAILABLE"],
)
GET: Final = described(
    "One device, as an array",
    "The array has one element.",
    Reply(list[DeviceShown], [EXAMPLE], "an array with the device"),
    parameters=[DEVICE_ID],
    errors=["BAD_PARAMETER", "NO_DEVICE"],
)
ADD: Final = described(
    "Register a device",
    "Without a body the device is neither enabled nor mapped.",
    Reply(DeviceShown, EXAMPLE, "the device as it is registered now", status=201),
    takes=Body(DeviceFields, FIELDS, is_needed=False),
    parameters=[DEVICE_ID],
    errors=[
        "BAD_JSON_FORMAT", "DEVICE_ID_INVALID", "DEVICE_ID_ZERO", "DEVICE_INUSE", "MAX_DEVICE_REACH",
        "NO_CHANNEL", "UNAVAILABLE",
    ],
)  # fmt: skip
UPDATE: Final = described(
    "Change a device",
    "Only the keys that are there are changed.",
    Reply(DeviceShown, EXAMPLE, "the device as it is now"),
    takes=Body(DeviceFields, FIELDS),
    parameters=[DEVICE_ID],
    errors=["BAD_JSON_FORMAT", "NO_CHANNEL", "NO_DEVICE", "UNAVAILABLE"],
)
DELETE: Final = described(
    "Forget a device; its readings stay",
    "A reading that it sends later registers it anew.",
    DELETED,
    parameters=[DEVICE_ID],
    errors=["BAD_PARAMETER", "NO_DEVICE", "UNAVAILABLE"],
)
