"""The User service (contract 3.5)."""

import shutil
from typing import Any

from fastapi import APIRouter, Request, Response

from query.errors import ApiError
from query.ports import Backend
from query.requests import object_of, reply, user_of
from storage.registry import USER_TEXTS, FieldError, User

# What an unsealed reading counts as, until its seal counts it: a row and four cells in the ring.
FRESH_BYTES = 96


def storage_of(backend: Backend, user: User) -> dict[str, int]:
    """The four figures of contract 1.2; there is no cap but the disk's."""
    store = backend.store
    count = size = 0
    for channel in store.registry.channels(user.user_id):
        sealed = store.catalog.channel_statistics(channel.id)
        fresh = len(store.ring.unsealed(channel.id, store.ring.sealed, store.ring.durable))
        count += fresh + (sealed.rows if sealed else 0)
        size += fresh * FRESH_BYTES + (sealed.bytes if sealed else 0)
    return {
        "count": count,
        "usage_bytes": size,
        "maxSize": size + shutil.disk_usage(backend.data).free,
        "avg_obj_size": size // count if count else 0,
    }


def shown(backend: Backend, user: User) -> dict[str, Any]:
    names = ("user_id", "api_token", "device_token", *USER_TEXTS)
    return {**{name: getattr(user, name) for name in names}, "storage": storage_of(backend, user)}


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["User"])

    @router.get("/v2/user", summary="The account that the token belongs to, as an array")
    async def get_user(request: Request) -> Response:
        return reply([shown(backend, user_of(request, backend))])

    @router.put("/v2/user", summary="Change the account's descriptive fields")
    async def update_user(request: Request) -> Response:
        user = user_of(request, backend)
        body = await object_of(request, required=True)
        fields = {name: body[name] for name in USER_TEXTS if name in body}
        try:
            return reply(shown(backend, backend.store.registry.update_user(user.user_id, **fields)))
        except FieldError as error:
            raise ApiError("BAD_JSON_FORMAT", str(error)) from None

    return router
