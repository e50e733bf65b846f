"""The account (contract 1.2, 3.5), its tokens, and the audit log."""

from typing import Annotated, Any, Final

from pydantic import Field, with_config
from typing_extensions import TypedDict

from query.models import CLOSED, OPEN
from query.models.scalars import ColonTime, Text, Time
from query.openapi import PAGED, Body, Parameter, Reply, described
from storage.registry import OVERLAP_S_MAX, WHICH

Which = Annotated[str, Field(pattern=f"^({'|'.join(WHICH)})$")]
Zone = Annotated[str, Field(description="an IANA time zone", examples=["Asia/Tokyo"])]


@with_config(CLOSED)
class Storage(TypedDict):
    """What an account has stored."""

    count: Annotated[int, Field(ge=0, description="datapoints")]
    usage_bytes: Annotated[int, Field(ge=0)]
    maxSize: Annotated[int, Field(ge=0, description="the quota in bytes; without one what the disk allows")]
    avg_obj_size: Annotated[int, Field(ge=0, description="bytes of a datapoint")]


@with_config(CLOSED)
class UserShown(TypedDict):
    """An account as it sees itself."""

    user_id: str
    api_token: Annotated[str, Field(description="opens REST")]
    device_token: Annotated[str, Field(description="opens the devices' side")]
    email1: Text
    email2: Text
    organization: Text
    locale: Zone
    user_alias: Text
    storage: Storage


@with_config(OPEN)
class UserFields(TypedDict, total=False):
    """What an account can change of itself; keys that are not known, or that cannot be changed, are ignored."""

    email1: Text
    email2: Text
    organization: Text
    locale: Zone
    user_alias: Text


@with_config(OPEN)
class _Which(TypedDict):
    which: Which


@with_config(OPEN)
class Rotation(_Which, total=False):
    """A token that is to be replaced."""

    overlap_s: Annotated[
        int,
        Field(
            ge=0,
            le=OVERLAP_S_MAX,
            description="how long the old one goes on working; a day if it is not there",
        ),
    ]


@with_config(CLOSED)
class Rotated(TypedDict):
    """A new token."""

    user_id: str
    which: Which
    token: str
    previous_ends_at: Annotated[Time | None, Field(description="null: the old one is worth nothing any more")]


@with_config(CLOSED)
class AuditShown(TypedDict):
    """Something that somebody changed."""

    id: int
    at: ColonTime
    actor: Annotated[str, Field(description="a user id, `admin:NAME` or `cli`")]
    user_id: Annotated[str | None, Field(description="whose it is")]
    action: str
    subject: str
    before: Annotated[
        dict[str, Any] | None, Field(description="the keys that changed; null: it was not there")
    ]
    after: Annotated[dict[str, Any] | None, Field(description="the same keys; null: it is gone")]


EXAMPLE: Final = {
    "user_id": "U000001",
    "api_token": "0123456789ABCDEF0123456789ABCDEF",
    "device_token": "FEDCBA9876543210FEDCBA9876543210",
    "email1": "a@example.com",
    "email2": "",
    "organization": "Example",
    "locale": "Asia/Tokyo",
    "user_alias": "Ops",
    "storage": {"count": 10, "usage_bytes": 36864, "maxSize": 5242880000, "avg_obj_size": 97},
}
ROTATION: Final = Body(Rotation, {"which": "device_token", "overlap_s": 86_400})
ROTATED: Final = Reply(
    Rotated,
    {
        "user_id": "U000001",
        "which": "device_token",
        "token": "00112233445566778899AABBCCDDEEFF",
        "previous_ends_at": "2024-05-03T10:00:00+0900",
    },
    "the new token",
    status=201,
)
AUDITED: Final = Reply(
    list[AuditShown],
    [
        {
            "id": 17,
            "at": "2024-05-02T01:00:00+00:00",
            "actor": "admin:ops",
            "user_id": "U000002",
            "action": "user.update",
            "subject": "U000002",
            "before": {"enabled": True},
            "after": {"enabled": False},
        }
    ],
    "the rows, perhaps none",
    headers=PAGED,
)
PageRows = Annotated[int, Field(ge=1, le=1_000)]
LIMIT: Final = Parameter("limit", "rows of a page, 100 if it is not there", PageRows, example=50)
BEFORE: Final = Parameter(
    "before", "only rows before this `id`: the cursor", Annotated[int, Field(ge=1, le=10**18 - 1)]
)

GET: Final = described(
    "The account that the token belongs to, as an array",
    "With its tokens and with what it stores.",
    Reply(list[UserShown], [EXAMPLE], "an array with the account"),
    errors=["BAD_PARAMETER"],
)
UPDATE: Final = described(
    "Change the account's descriptive fields",
    "Only the keys that are there are changed. `locale` is the zone of all times, in and out.",
    Reply(UserShown, EXAMPLE, "the account as it is now"),
    takes=Body(UserFields, {"organization": "Example", "locale": "Asia/Tokyo"}),
    errors=["BAD_JSON_FORMAT", "UNAVAILABLE"],
)
ROTATE: Final = described(
    "Replace a token; the old one may go on working for a while",
    "So that devices can be told one by one. With `overlap_s` 0 the old one, and those before it, are worth nothing "
    "at once.",
    ROTATED,
    takes=ROTATION,
    errors=["BAD_JSON_FORMAT", "UNAVAILABLE"],
)
AUDIT: Final = described(
    "What was changed in the account",
    "The newest first. Tokens stand in no row.",
    AUDITED,
    parameters=[LIMIT, BEFORE],
    errors=["BAD_PARAMETER"],
)
