"""Connected clients (contract 1.8, 3.7)."""

from typing import Annotated, Final

from pydantic import Field, with_config
from typing_extensions import TypedDict

from query.models import CLOSED
from query.models.scalars import Time
from query.openapi import DELETED, Parameter, Reply, described


@with_config(CLOSED)
class SessionShown(TypedDict):
    """A client that is connected over MQTT, by whatever transport."""

    client_id: str
    ipaddress: str
    clean_sess: Annotated[bool, Field(description="what the client asked for")]
    proto_ver: Annotated[int, Field(description="3: MQTT 3.1, 4: 3.1.1, 5: 5.0")]
    keepalive: Annotated[int, Field(ge=0, description="seconds; 0 is none")]
    connected_at: Time


EXAMPLE: Final = {
    "client_id": "pump-7_a1b2",
    "ipaddress": "203.0.113.9",
    "clean_sess": True,
    "proto_ver": 4,
    "keepalive": 60,
    "connected_at": "2024-05-02T10:00:00+0900",
}

LIST: Final = described(
    "The connected MQTT clients",
    "The longest connected first.",
    Reply(list[SessionShown], [EXAMPLE], "the clients, perhaps none"),
    errors=["BAD_PARAMETER"],
)
KICK: Final = described(
    "Disconnect a client",
    "It may come again.",
    DELETED,
    parameters=[
        Parameter(
            "client_id", "percent-encoded; a slash may be in it, but not at its end",
            where="path", kind={"type": "string", "pattern": "[^/]$"}, example="pump-7_a1b2",
        )
    ],
    errors=["BAD_PARAMETER", "NO_SESSION"],
)  # fmt: skip
