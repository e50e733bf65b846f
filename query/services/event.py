"""The Event service (contract 3.4): what somebody wants to be told of. What events do is not decided here."""

import math
from typing import Any

from fastapi import APIRouter, Request, Response

from query.errors import ApiError
from query.lists import reply_rows
from query.models import event as about
from query.ports import Backend
from query.requests import boolean, change, mapped_channel, object_of, only_parameters, reply, user_of
from storage.registry import Event, EventLimitError, FieldError, User

SHOWN = (
    "event_id", "mapped_ch", "description", "notify_type", "post_url", "enabled", "source", "operator", "threshold",
)  # fmt: skip
TEXTS = ("description", "notify_type", "post_url", "source", "operator")


def shown(event: Event) -> dict[str, Any]:
    """An event as the API shows it (contract 1.7)."""
    return {name: getattr(event, name) for name in SHOWN}


def threshold_of(value: Any) -> str:
    """Text; a number is taken as the text that JSON has for it. Raises ApiError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if not isinstance(value, str):
        raise ApiError("BAD_JSON_FORMAT", "threshold: expected a text or a number")
    return value


def fields_of(backend: Backend, user: User, body: dict[str, Any]) -> dict[str, Any]:
    """What a body wants, in the registry's words; keys that the API does not know are ignored.

    Raises:
        ApiError: BAD_JSON_FORMAT, NO_CHANNEL.
    """
    fields: dict[str, Any] = {name: body[name] for name in TEXTS if name in body}
    if "enabled" in body:
        fields["enabled"] = boolean("enabled", body["enabled"])
    if "threshold" in body:
        fields["threshold"] = threshold_of(body["threshold"])
    if "mapped_ch" in body:
        fields["channel"] = mapped_channel(backend, user, body["mapped_ch"])
    return fields


def number_of_event(text: str) -> int:
    """0, which no event has, for what cannot be one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Event"])
    registry = backend.store.registry

    def known(user: User, number: str) -> Event:
        event = registry.event(user.user_id, number_of_event(number))
        if event is None:
            raise ApiError("NO_EVENT", f"there is no event {number}")
        return event

    @router.get("/v2/event", **about.LIST)
    async def list_events(request: Request) -> Response:
        user = user_of(request, backend)
        only_parameters(request, ())
        return await reply_rows(shown(event) for event in registry.events(user.user_id))

    @router.get("/v2/event/{event_id}", **about.GET)
    async def get_event(request: Request, event_id: str) -> Response:
        user = user_of(request, backend)
        only_parameters(request, ())
        return reply([shown(known(user, event_id))])

    @router.post("/v2/event", **about.ADD)
    async def add_event(request: Request) -> Response:
        user = user_of(request, backend)
        fields = fields_of(backend, user, await object_of(request, required=False))
        try:
            with change(backend, user.user_id):
                event = registry.add_event(user.user_id, **fields)
        except FieldError as error:
            raise ApiError("BAD_JSON_FORMAT", str(error)) from None
        except EventLimitError as error:
            raise ApiError("MAX_EVENT_REACH", str(error)) from None
        return reply(shown(event), 201)

    @router.put("/v2/event/{event_id}", **about.UPDATE)
    async def update_event(request: Request, event_id: str) -> Response:
        user = user_of(request, backend)
        body = await object_of(request, required=True)
        event = known(user, event_id)
        fields = fields_of(backend, user, body)
        try:
            with change(backend, user.user_id):
                event = registry.update_event(user.user_id, event.event_id, **fields)
        except FieldError as error:
            raise ApiError("BAD_JSON_FORMAT", str(error)) from None
        return reply(shown(event))

    @router.delete("/v2/event/{event_id}", **about.DELETE)
    async def delete_event(request: Request, event_id: str) -> Response:
        user = user_of(request, backend)
        only_parameters(request, ())
        event = known(user, event_id)
        with change(backend, user.user_id):
            registry.delete_event(user.user_id, event.event_id)
        return reply({})

    return router
