"""The Channel service (contract 3.2)."""

from collections.abc import Iterator
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from query.errors import ApiError
from query.lists import reply_rows
from query.models import channel as about
from query.ports import Backend
from query.requests import (
    change,
    channel_of,
    header,
    is_true,
    number_of_channel,
    object_of,
    only_parameters,
    reply,
    user_of,
)
from query.times import format_time, zone_of
from storage.archive import waiting_rows
from storage.cover import channel_directory
from storage.registry import Channel, ChannelLimitError, FieldError, InUseError, User
from storage.store import Store

STATES: Final = ("active", "archived")


def last_update(store: Store, channel: Channel, user: User, tag: int = -1) -> str | None:
    at_us = store.last_update_us(channel, tag)
    return None if at_us is None else format_time(at_us, zone_of(user.locale))


def shown(store: Store, channel: Channel, user: User) -> about.ChannelShown:
    """The channel's own row (contract 1.4)."""
    return {
        "channel": channel.number,
        "tag": None,
        "channel_name": channel.channel_name,
        "last_update": last_update(store, channel, user),
    }


def archived_shown(store: Store, channel: Channel, user: User) -> about.ArchivedChannel:
    """The row of an archived channel: also where its files are, and how many rows are not in them yet."""
    assert channel.archived_at_us is not None
    return {
        **shown(store, channel, user),
        "archived_at": format_time(channel.archived_at_us, zone_of(user.locale)),
        "directory": f"data/{channel_directory(user.user_id, channel.number)}",
        "waiting_rows": waiting_rows(store, channel.id),
    }


def tags_shown(store: Store, channel: Channel, user: User) -> Iterator[about.ChannelShown]:
    """One row per tag: those that readings brought and those that were made."""
    named = store.registry.tag_names(channel.id)
    ids = {tag.name: tag.id for tag in store.schema.tags_of(channel.id)}
    for tag in sorted({*named, *ids}):
        last = last_update(store, channel, user, ids[tag]) if tag in ids else None
        if last is None and tag not in named:
            continue  # met by a reading that is not durable yet
        name = named.get(tag, channel.channel_name)
        yield {"channel": channel.number, "tag": tag, "channel_name": name, "last_update": last}


def tag_of(request: Request) -> str | None:
    """X-TAGNAME."""
    return header(request, "x-tagname") or None


def check_tag(tag: str | None, bytes_max: int) -> None:
    """Whether readings could have it. Raises ApiError: TAG_INVALID."""
    if tag is None:
        return
    if len(tag.encode()) > bytes_max:
        raise ApiError("TAG_INVALID", f"X-TAGNAME: longer than {bytes_max} bytes ([limits] tag_bytes_max)")
    if not tag.isprintable():
        raise ApiError("TAG_INVALID", f"X-TAGNAME: {tag!r} has characters that cannot be printed")


def name_of(body: dict[str, Any]) -> str | None:
    name = body.get("channel_name")
    if name is not None and not isinstance(name, str):
        raise ApiError("BAD_JSON_FORMAT", "channel_name: expected a string")
    return name


def is_archived_asked(request: Request) -> bool:
    """``state``. Raises ApiError: BAD_PARAMETER."""
    state = only_parameters(request, ["state"]).get("state", "active")
    if state not in STATES:
        raise ApiError("BAD_PARAMETER", f"state: expected {' or '.join(STATES)}, not {state!r}")
    return state == "archived"


def is_restoring(body: dict[str, Any]) -> bool:
    """Whether an archived channel is to be active again. Raises ApiError: BAD_JSON_FORMAT."""
    state = body.get("state")
    if state not in (None, "active"):
        raise ApiError("BAD_JSON_FORMAT", "state: expected active; DELETE with data=keep archives a channel")
    return state is not None


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Channel"])
    store, registry = backend.store, backend.store.registry

    def rows(request: Request, channel: Channel, user: User) -> Iterator[about.ChannelShown]:
        yield shown(store, channel, user)
        if is_true(request.headers.get("x-withtag")):
            yield from tags_shown(store, channel, user)

    def has_tag(channel: Channel, tag: str) -> bool:
        return tag in registry.tag_names(channel.id) or store.has_entries(channel, tag)

    def check_room(channel: Channel) -> None:
        """For one more tag. Raises ApiError."""
        most = registry.limits.tags_per_channel_max
        met = {tag.name for tag in store.schema.tags_of(channel.id)}
        if len(met.union(registry.tag_names(channel.id))) >= most:
            raise ApiError("TOO_MANY_TAGS", f"channel {channel.number} has {most} tags, which is the limit")

    @router.get("/v2/channel", **about.LIST)
    async def list_channels(request: Request) -> Response:
        user = user_of(request, backend)
        if is_archived_asked(request):
            stored = registry.stored_channels(user.user_id)
            archived = (each for each in stored if each.archived_at_us is not None)
            return await reply_rows(archived_shown(store, each, user) for each in archived)
        channels = registry.channels(user.user_id)
        return await reply_rows(row for channel in channels for row in rows(request, channel, user))

    @router.get("/v2/channel/{number}", **about.GET)
    async def get_channel(request: Request, number: str) -> Response:
        user = user_of(request, backend)
        if is_archived_asked(request):
            channel = channel_of(backend, user, number, with_archived=True)
            if channel.archived_at_us is None:
                raise ApiError("NO_CHANNEL", f"channel {number} is not archived")
            return reply([archived_shown(store, channel, user)])
        return await reply_rows(rows(request, channel_of(backend, user, number), user))

    @router.post("/v2/channel/{number}", **about.ADD)
    async def add_channel(request: Request, number: str) -> Response:
        user = user_of(request, backend)
        tag, name = tag_of(request), name_of(await object_of(request, required=False))
        check_tag(tag, registry.limits.tag_bytes_max)
        known = number_of_channel(number)
        if known is None:
            raise ApiError("NO_CHANNEL", f"{number} cannot be a channel's number: expected 0 .. {2**31 - 1}")
        channel = registry.channel(user.user_id, known)
        try:
            with change(backend, user.user_id):
                if channel is None or tag is None:
                    channel = registry.add_channel(user.user_id, known, None if tag else name)
                elif has_tag(channel, tag):
                    raise ApiError("CHANNEL_INUSE", f"channel {known} has a tag {tag}")
                else:
                    check_room(channel)
                if tag is not None:
                    registry.put_tag_name(channel.id, tag, name or channel.channel_name)
        except InUseError as error:
            raise ApiError("CHANNEL_INUSE", str(error)) from None
        except ChannelLimitError as error:
            raise ApiError("MAX_CHANNEL_REACH", str(error)) from None
        except FieldError as error:
            raise ApiError("BAD_JSON_FORMAT", str(error)) from None
        shown_name = registry.tag_names(channel.id)[tag] if tag else channel.channel_name
        value: about.ChannelShown = {
            "channel": channel.number,
            "tag": tag,
            "channel_name": shown_name,
            "last_update": None,
        }
        return reply(value, 201)

    @router.put("/v2/channel/{number}", **about.UPDATE)
    async def update_channel(request: Request, number: str) -> Response:
        user = user_of(request, backend)
        body = await object_of(request, required=True)
        tag, name = tag_of(request), name_of(body)
        channel = channel_of(backend, user, number, with_archived=is_restoring(body))
        if tag is not None and not has_tag(channel, tag):
            raise ApiError("NO_CHANNEL", f"channel {channel.number} has no tag {tag}")
        try:
            with change(backend, user.user_id):
                if channel.archived_at_us is not None:
                    registry.restore_channel(channel.id)
                if name is not None and tag is not None:
                    registry.put_tag_name(channel.id, tag, name)
                elif name is not None:
                    registry.rename_channel(channel.id, name)
        except FieldError as error:
            raise ApiError("BAD_JSON_FORMAT", str(error)) from None
        if tag is not None:
            return reply(next(row for row in tags_shown(store, channel, user) if row["tag"] == tag))
        return reply(shown(store, channel_of(backend, user, number), user))

    @router.delete("/v2/channel/{number}", **about.DELETE)
    async def delete_channel(request: Request, number: str) -> Response:
        user = user_of(request, backend)
        tag, data = tag_of(request), only_parameters(request, ["data"]).get("data")
        if data not in (None, "keep", "delete"):
            raise ApiError("BAD_PARAMETER", f"data: expected keep or delete, not {data!r}")
        if tag is not None and data == "keep":
            raise ApiError("BAD_PARAMETER", "data: a tag is deleted with its entries, or not at all")
        # For who knows nothing of archives an archived channel is not there.
        is_for_good = data == "delete" and tag is None
        channel = channel_of(backend, user, number, with_archived=is_for_good)
        if tag is not None and not has_tag(channel, tag):
            raise ApiError("NO_CHANNEL", f"channel {channel.number} has no tag {tag}")
        with change(backend, user.user_id):
            if tag is not None:
                registry.delete_tag_name(channel.id, tag)
                store.delete_tag(channel, tag)
            elif data == "keep":
                registry.archive_channel(channel.id, backend.now()[1])
            else:
                registry.delete_channel(channel.id, backend.now()[1])
        return reply({})

    return router
