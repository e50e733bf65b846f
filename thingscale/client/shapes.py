"""What the server's objects look like; the same keys as in docs/api.md and /openapi.json."""

from typing import Any, NotRequired, TypedDict


class Device(TypedDict):
    """A device as it is registered."""

    device_id: str
    description: str
    enabled: bool
    mapped_ch: int | None
    device_type: str
    location: str
    manufacturer: str
    activate_at: str
    state: NotRequired[dict[str, Any]]


class Channel(TypedDict):
    """A channel, or one of its tags."""

    channel: int
    tag: str | None
    channel_name: str
    last_update: str | None


class ArchivedChannel(Channel):
    """A channel that was deleted with its data kept."""

    archived_at: str
    directory: str
    waiting_rows: int


class Stream(TypedDict):
    """A stream of a channel."""

    channel: int
    stream: str
    kind: str | None
    kinds: list[str]
    label: str
    unit: str
    description: str


class Event(TypedDict):
    """What somebody wants to be told of."""

    event_id: int
    mapped_ch: int | None
    description: str
    notify_type: str
    post_url: str
    enabled: bool
    source: str
    operator: str
    threshold: str


class Session(TypedDict):
    """A connected MQTT client."""

    client_id: str
    ipaddress: str
    clean_sess: bool
    proto_ver: int
    keepalive: int
    connected_at: str


class Storage(TypedDict):
    """What an account has stored."""

    count: int
    usage_bytes: int
    maxSize: int
    avg_obj_size: int


class User(TypedDict):
    """The account."""

    user_id: str
    api_token: str
    device_token: str
    email1: str
    email2: str
    organization: str
    locale: str
    user_alias: str
    storage: Storage


class Rotated(TypedDict):
    """A new token."""

    user_id: str
    which: str
    token: str
    previous_ends_at: str | None


class AuditRow(TypedDict):
    """Something that somebody changed."""

    id: int
    at: str
    actor: str
    user_id: str | None
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Listed(TypedDict):
    """An account in an admin's list."""

    user_id: str
    email1: str
    email2: str
    organization: str
    locale: str
    user_alias: str
    enabled: bool
    created_at: str
    updated_at: str
    quotas: dict[str, float | None]


class Account(Listed):
    """An account as an admin sees it; tokens only when it was just made."""

    devices: int
    channels: int
    storage: Storage
    api_token: NotRequired[str]
    device_token: NotRequired[str]
