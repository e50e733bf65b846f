"""Accounts as an admin sees them."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from query.models import CLOSED, OPEN
from query.models.scalars import ColonTime, Flag, Text
from query.models.user import AUDITED, BEFORE, LIMIT, ROTATED, ROTATION, Storage, UserFields
from query.openapi import DELETED, PAGED, Body, Parameter, Reply, described


@with_config(CLOSED)
class QuotasShown(TypedDict):
    """What an account may have; null: what the settings say."""

    devices: int | None
    channels: int | None
    storage_bytes: Annotated[int | None, Field(description="0: no limit but the disk")]
    rest_per_s: Annotated[float | None, Field(description="0: no limit")]
    connector_per_s: Annotated[float | None, Field(description="of each device; 0: no limit")]


Count = Annotated[int, Field(ge=0, lt=2**63)]
Rate = Annotated[float, Field(ge=0)]


@with_config(CLOSED)
class QuotaFields(TypedDict, total=False):
    """Quotas to set; null: what the settings say."""

    devices: Count | None
    channels: Count | None
    storage_bytes: Count | None
    rest_per_s: Rate | None
    connector_per_s: Rate | None


@with_config(CLOSED)
class AccountListed(TypedDict):
    """An account, without tokens."""

    user_id: str
    email1: Text
    email2: Text
    organization: Text
    locale: str
    user_alias: Text
    enabled: Annotated[bool, Field(description="false: its tokens open nothing")]
    created_at: ColonTime
    updated_at: ColonTime
    quotas: QuotasShown


@with_config(CLOSED)
class Account(AccountListed):
    """An account, without tokens, with what it has."""

    devices: int
    channels: int
    storage: Storage


@with_config(CLOSED)
class AccountMade(Account):
    """A new account, with its tokens."""

    api_token: str
    device_token: str


@with_config(OPEN)
class AccountFields(UserFields, total=False):
    """What can be said of an account; keys that are not known are ignored, but not of quotas."""

    enabled: Flag
    quotas: QuotaFields


LISTED: Final[dict[str, Any]] = {
    "user_id": "U000002",
    "email1": "",
    "email2": "",
    "organization": "",
    "locale": "Asia/Tokyo",
    "user_alias": "Plant 7",
    "enabled": True,
    "created_at": "2024-05-01T00:00:00+00:00",
    "updated_at": "2024-05-01T00:00:00+00:00",
    "quotas": {
        "devices": 500,
        "channels": None,
        "storage_bytes": None,
        "rest_per_s": 50,
        "connector_per_s": None,
    },
}
EXAMPLE: Final[dict[str, Any]] = {
    **LISTED,
    "devices": 0,
    "channels": 0,
    "storage": {"count": 0, "usage_bytes": 0, "maxSize": 5242880000, "avg_obj_size": 0},
}
TOKENS: Final = {
    "api_token": "0123456789ABCDEF0123456789ABCDEF",
    "device_token": "FEDCBA9876543210FEDCBA9876543210",
}
FIELDS: Final = {
    "user_alias": "Plant 7",
    "locale": "Asia/Tokyo",
    "quotas": {"devices": 500, "rest_per_s": 50},
}
USER_ID: Final = Parameter("user_id", "the account's id", where="path", example="U000002")

LIST: Final = described(
    "Accounts, page by page",
    "In the order in which they were made.",
    Reply(list[AccountListed], [LISTED], "the accounts, perhaps none", headers=PAGED),
    parameters=[
        LIMIT,
        Parameter("after", "only accounts behind this id: the cursor"),
        Parameter("search", "only accounts that have this in their id or texts"),
        Parameter("enabled", "only those that are, or are not", Literal["true", "false"]),
    ],
    errors=["BAD_PARAMETER"],
    who="admin",
)
ADD: Final = described(
    "Make an account; its tokens are in the reply",
    "They are not shown to an admin again.",
    Reply(AccountMade, EXAMPLE | TOKENS, "the account", status=201),
    takes=Body(AccountFields, FIELDS, is_needed=False),
    errors=["BAD_JSON_FORMAT", "UNAVAILABLE"],
    who="admin",
)
GET: Final = described(
    "One account, as an array",
    "With what it has.",
    Reply(list[Account], [EXAMPLE], "an array with the account"),
    parameters=[USER_ID],
    errors=["NO_USER"],
    who="admin",
)
UPDATE: Final = described(
    "Change an account: texts, quotas, enabled or not",
    "Only the keys that are there are changed. A quota takes nothing away that is there already, but for bytes: "
    "then the oldest days go.",
    Reply(Account, EXAMPLE, "the account as it is now"),
    takes=Body(AccountFields, FIELDS),
    parameters=[USER_ID],
    errors=["BAD_JSON_FORMAT", "NO_USER", "UNAVAILABLE"],
    who="admin",
)
DELETE: Final = described(
    "Delete an account, and its data if that is said",
    "Tokens, devices, events, MQTT sessions and retained messages are gone at once. The id never comes back.",
    DELETED,
    parameters=[
        USER_ID,
        Parameter("data", "what becomes of the published files", Literal["keep", "delete"], example="keep"),
    ],
    errors=["BAD_PARAMETER", "NO_USER", "UNAVAILABLE"],
    who="admin",
)
ROTATE: Final = described(
    "Replace a token of an account",
    "The old one may go on working for a while.",
    ROTATED,
    takes=ROTATION,
    parameters=[USER_ID],
    errors=["BAD_JSON_FORMAT", "NO_USER", "UNAVAILABLE"],
    who="admin",
)
AUDIT: Final = described(
    "What was changed, and by whom",
    "The newest first. Tokens stand in no row.",
    AUDITED,
    parameters=[LIMIT, BEFORE, Parameter("user", "only rows of this account", example="U000002")],
    errors=["BAD_PARAMETER"],
    who="admin",
)
