"""The User service (contract 3.5), and an account's own tokens and audit log."""

import shutil
from typing import Any

from fastapi import APIRouter, Request, Response

from query.errors import ApiError
from query.models import user as about
from query.ports import Backend
from query.requests import change, object_of, only_parameters, reply, user_of
from query.services.audit import PAGED, audit_page
from query.times import format_time, zone_of
from storage.caps import FRESH_BYTES, fresh_rows
from storage.registry import OVERLAP_S_MAX, USER_TEXTS, WHICH, FieldError, Registry, User

OVERLAP_S = 86_400  # of a rotation that says nothing else


def storage_of(backend: Backend, user: User) -> about.Storage:
    """The four figures of contract 1.2; without a quota the disk is the cap."""
    store = backend.store
    count = size = 0
    for channel in store.registry.stored_channels(user.user_id):
        sealed = store.catalog.channel_statistics(channel.id)
        fresh = fresh_rows(store, channel.id)
        count += fresh + (sealed.rows if sealed else 0)
        size += fresh * FRESH_BYTES + (sealed.bytes if sealed else 0)
    own = user.quotas.storage_bytes
    cap = backend.storage_bytes_max if own is None else own
    return {
        "count": count,
        "usage_bytes": size,
        "maxSize": cap or size + shutil.disk_usage(backend.data).free,
        "avg_obj_size": size // count if count else 0,
    }


def shown(backend: Backend, user: User) -> dict[str, Any]:
    names = ("user_id", "api_token", "device_token", *USER_TEXTS)
    return {**{name: getattr(user, name) for name in names}, "storage": storage_of(backend, user)}


def rotation_of(body: dict[str, Any]) -> tuple[str, int]:
    """Which token a body wants replaced, and how long the old one goes on working. Raises ApiError."""
    which, overlap_s = body.get("which"), body.get("overlap_s", OVERLAP_S)
    if which not in WHICH:
        raise ApiError("BAD_JSON_FORMAT", f"which: expected one of {', '.join(WHICH)}")
    if isinstance(overlap_s, float) and overlap_s.is_integer():
        overlap_s = int(overlap_s)  # 60.0 is an integer of JSON, too
    if isinstance(overlap_s, bool) or not isinstance(overlap_s, int) or not 0 <= overlap_s <= OVERLAP_S_MAX:
        raise ApiError("BAD_JSON_FORMAT", f"overlap_s: expected 0 .. {OVERLAP_S_MAX} seconds")
    return which, overlap_s


def rotate(registry: Registry, user: User, which: str, overlap_s: int, now_us: int) -> about.Rotated:
    """Replace a token; what the caller is told."""
    ends_at_us = now_us + overlap_s * 1_000_000 if overlap_s else 0
    rotated = registry.rotate(user.user_id, which, ends_at_us)
    ends_at = format_time(ends_at_us, zone_of(user.locale)) if overlap_s else None
    return {
        "user_id": user.user_id,
        "which": which,
        "token": getattr(rotated, which),
        "previous_ends_at": ends_at,
    }


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["User"])

    @router.get("/v2/user", **about.GET)
    async def get_user(request: Request) -> Response:
        user = user_of(request, backend)
        only_parameters(request, ())
        return reply([shown(backend, user)])

    @router.put("/v2/user", **about.UPDATE)
    async def update_user(request: Request) -> Response:
        user = user_of(request, backend)
        body = await object_of(request, required=True)
        fields = {name: body[name] for name in USER_TEXTS if name in body}
        try:
            with change(backend, user.user_id) as registry:
                changed = registry.update_user(user.user_id, **fields)
        except FieldError as error:
            raise ApiError("BAD_JSON_FORMAT", str(error)) from None
        return reply(shown(backend, changed))

    @router.post("/v2/user/token", **about.ROTATE)
    async def rotate_token(request: Request) -> Response:
        user = user_of(request, backend)
        which, overlap_s = rotation_of(await object_of(request, required=True))
        with change(backend, user.user_id) as registry:
            told = rotate(registry, user, which, overlap_s, backend.now()[1])
        return reply(told, 201)

    @router.get("/v2/user/audit", **about.AUDIT)
    async def audit(request: Request) -> Response:
        user = user_of(request, backend)
        only_parameters(request, PAGED)
        return audit_page(request, backend, user.user_id, zone_of(user.locale))

    return router
