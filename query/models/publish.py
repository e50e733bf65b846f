"""Messages for devices (contract 3.6)."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from query.models import OPEN
from query.models.device import DEVICE_ID
from query.openapi import Body, Reply, described


@with_config(OPEN)
class _Needed(TypedDict):
    payload: Annotated[
        str | int | float | bool | list[Any] | dict[str, Any],
        Field(description="a text goes out byte for byte, anything else as JSON text"),
    ]


@with_config(OPEN)
class Message(_Needed, total=False):
    """What a device is sent."""

    qos: Annotated[Literal[0, 1], Field(description="0 if it is not there")]


SEND: Final = described(
    "Send a message to a device",
    "To the MQTT topic `<device token>/<device id>/subscribe`, not retained. The reply does not depend on who is "
    "connected; with QoS 1 the message is durable by then for every session that it is queued for.",
    Reply(dict[str, None], {}, "it is on its way"),
    takes=Body(Message, {"qos": 1, "payload": "valve=open"}),
    parameters=[DEVICE_ID],
    errors=["BAD_JSON_FORMAT", "DEVICE_ID_INVALID", "NO_DEVICE", "PAYLOAD_TOO_LARGE", "UNAVAILABLE"],
)
