"""A channel's streams: what the platform found, and what people say of them (label, unit, description)."""

from typing import Any

from fastapi import APIRouter, Request, Response

from query.errors import ApiError
from query.models import stream_description as about
from query.ports import Backend
from query.requests import change, channel_of, object_of, only_parameters, reply, user_of
from storage.kinds import Kind
from storage.naming import stream_name
from storage.registry import STREAM_TEXTS, Channel, FieldError, LimitError, StreamDescription
from storage.store import Store


def streams_of(store: Store, channel: Channel) -> list[dict[str, Any]]:
    """Every stream that has data or a description; ``kind`` as in results, null before there is a value."""
    described = store.registry.stream_descriptions(channel.id)
    kinds: dict[str, list[str]] = {}
    for column in store.schema.columns_of(channel.id):
        kinds.setdefault(stream_name(column.name), []).append(kind_name(column.kind))
    return [
        {
            "channel": channel.number,
            "stream": name,
            "kind": owner_of(kinds.get(name, [])),
            "kinds": kinds.get(name, []),
            **texts(described.get(name)),
        }
        for name in sorted({*kinds, *described})
    ]


def owner_of(kinds: list[str]) -> str | None:
    """The kind that has the stream's own name, as in storage/naming.py: JSON only if there is no other."""
    return next((kind for kind in kinds if kind != "json"), kinds[0] if kinds else None)


def kind_name(kind: int) -> str:
    """As SQL and results call it."""
    return Kind(kind).name.lower()


def texts(description: StreamDescription | None) -> dict[str, str]:
    return {name: getattr(description, name, "") for name in STREAM_TEXTS}


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Channel"])
    store, registry = backend.store, backend.store.registry

    def one(channel: Channel, name: str) -> dict[str, Any]:
        found = [stream for stream in streams_of(store, channel) if stream["stream"] == name]
        if not found:
            raise ApiError("NO_STREAM", f"channel {channel.number} has no stream {name}")
        return found[0]

    @router.get("/v2/channel/{number}/stream", **about.LIST)
    async def list_streams(request: Request, number: str) -> Response:
        user = user_of(request, backend)
        only_parameters(request, ())
        channel = channel_of(backend, user, number)
        return reply(streams_of(store, channel))

    @router.get("/v2/channel/{number}/stream/{name:path}", **about.GET)
    async def get_stream_description(request: Request, number: str, name: str) -> Response:
        user = user_of(request, backend)
        only_parameters(request, ())
        channel = channel_of(backend, user, number)
        return reply([one(channel, name)])

    @router.put("/v2/channel/{number}/stream/{name:path}", **about.UPDATE)
    async def describe_stream(request: Request, number: str, name: str) -> Response:
        user = user_of(request, backend)
        body = await object_of(request, required=True)
        channel = channel_of(backend, user, number)
        try:
            with change(backend, user.user_id):
                registry.describe_stream(
                    channel.id, name, **{key: body[key] for key in STREAM_TEXTS if key in body}
                )
        except FieldError as error:
            raise ApiError("BAD_JSON_FORMAT", str(error)) from None
        except LimitError as error:
            raise ApiError("MAX_STREAM_REACH", str(error)) from None
        return reply(one(channel, name))

    @router.delete("/v2/channel/{number}/stream/{name:path}", **about.DELETE)
    async def forget_stream(request: Request, number: str, name: str) -> Response:
        user = user_of(request, backend)
        only_parameters(request, ())
        channel = channel_of(backend, user, number)
        one(channel, name)
        with change(backend, user.user_id):
            registry.forget_stream_description(channel.id, name)
        return reply({})

    return router
