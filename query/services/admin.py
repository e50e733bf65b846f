"""The Admin service: accounts, their quotas and tokens, and the audit log, for whoever has an admin's token."""

from typing import Any

from fastapi import APIRouter, Request, Response

from query.errors import ApiError
from query.models import admin as about
from query.ports import Backend
from query.requests import (
    admin_of,
    boolean,
    change,
    number_from,
    object_of,
    only_parameters,
    point_to_next,
    reply,
)
from query.services.audit import PAGED, audit_page
from query.services.user import rotate, rotation_of, storage_of
from query.times import format_time, zone_of
from storage.registry import QUOTAS, USER_TEXTS, AdminToken, FieldError, UnknownError, User

UTC = zone_of("UTC")
LISTED = ("limit", "after", "search", "enabled")
PAGE_ROWS = 100
PAGE_ROWS_MAX = 1_000
DATA = {"keep": True, "delete": False}


def shown(user: User) -> dict[str, Any]:
    """An account as an admin sees it: without tokens."""
    return {
        "user_id": user.user_id,
        **{name: getattr(user, name) for name in USER_TEXTS},
        "enabled": user.enabled,
        "created_at": format_time(user.created_at_us, UTC, colon=True),
        "updated_at": format_time(user.updated_at_us, UTC, colon=True),
        "quotas": {name: getattr(user.quotas, name) for name in QUOTAS},
    }


def fields_of(body: dict[str, Any]) -> dict[str, Any]:
    """What a body wants changed, in the registry's words; keys that are not known are ignored, but not of quotas.

    Raises:
        ApiError: BAD_JSON_FORMAT.
    """
    fields: dict[str, Any] = {name: body[name] for name in USER_TEXTS if name in body}
    if "enabled" in body:
        fields["enabled"] = boolean("enabled", body["enabled"])
    quotas = body.get("quotas", {})
    if not isinstance(quotas, dict) or not quotas.keys() <= set(QUOTAS):
        raise ApiError("BAD_JSON_FORMAT", f"quotas: expected an object with some of {', '.join(QUOTAS)}")
    return {**fields, **quotas}


def actor_of(admin: AdminToken) -> str:
    return f"admin:{admin.name}"


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Admin"])
    registry = backend.store.registry

    def known(user_id: str) -> User:
        user = registry.user(user_id)
        if user is None:
            raise ApiError("NO_USER", f"there is no user {user_id}")
        return user

    def shown_whole(user: User) -> dict[str, Any]:
        counts = {
            "devices": registry.count_of("device", user.user_id),
            "channels": registry.count_of("channel", user.user_id),
        }
        return {**shown(user), **counts, "storage": storage_of(backend, user)}

    @router.get("/v2/admin/users", **about.LIST)
    async def list_users(request: Request) -> Response:
        admin_of(request, backend)
        limit = number_from(request, "limit", PAGE_ROWS, PAGE_ROWS_MAX)
        parameters = only_parameters(request, LISTED)
        enabled = parameters.get("enabled")
        if enabled not in (None, "true", "false"):
            raise ApiError("BAD_PARAMETER", f"enabled: expected true or false, not {enabled!r}")
        users = registry.find_users(
            parameters.get("after", ""),
            limit + 1,
            search=parameters.get("search", ""),
            enabled=None if enabled is None else enabled == "true",
        )
        response = reply([shown(user) for user in users[:limit]])
        if len(users) > limit:
            point_to_next(request, response, "after", users[limit - 1].user_id)
        return response

    @router.post("/v2/admin/users", **about.ADD)
    async def add_user(request: Request) -> Response:
        admin = admin_of(request, backend)
        fields = fields_of(await object_of(request, required=False))
        try:
            with change(backend, actor_of(admin)):
                user = registry.add_user(backend.now()[1], **fields)
        except FieldError as error:
            raise ApiError("BAD_JSON_FORMAT", str(error)) from None
        tokens = {"api_token": user.api_token, "device_token": user.device_token}
        return reply({**shown_whole(user), **tokens}, 201)

    @router.get("/v2/admin/users/{user_id}", **about.GET)
    async def get_user(request: Request, user_id: str) -> Response:
        admin_of(request, backend)
        return reply([shown_whole(known(user_id))])

    @router.put("/v2/admin/users/{user_id}", **about.UPDATE)
    async def update_user(request: Request, user_id: str) -> Response:
        admin = admin_of(request, backend)
        fields = fields_of(await object_of(request, required=True))
        known(user_id)
        try:
            with change(backend, actor_of(admin)):
                user = registry.update_user(user_id, **fields)
        except FieldError as error:
            raise ApiError("BAD_JSON_FORMAT", str(error)) from None
        return reply(shown_whole(user))

    @router.delete("/v2/admin/users/{user_id}", **about.DELETE)
    async def delete_user(request: Request, user_id: str) -> Response:
        admin = admin_of(request, backend)
        data = only_parameters(request, ["data"]).get("data", "keep")
        if data not in DATA:
            raise ApiError("BAD_PARAMETER", f"data: expected keep or delete, not {data!r}")
        try:
            with change(backend, actor_of(admin)):
                registry.delete_user(user_id, backend.now()[1], keeps_data=DATA[data])
        except UnknownError as error:
            raise ApiError("NO_USER", str(error)) from None
        return reply({})

    @router.post("/v2/admin/users/{user_id}/token", **about.ROTATE)
    async def rotate_token(request: Request, user_id: str) -> Response:
        admin = admin_of(request, backend)
        which, overlap_s = rotation_of(await object_of(request, required=True))
        user = known(user_id)
        with change(backend, actor_of(admin)):
            told = rotate(registry, user, which, overlap_s, backend.now()[1])
        return reply(told, 201)

    @router.get("/v2/admin/audit", **about.AUDIT)
    async def audit(request: Request) -> Response:
        admin_of(request, backend)
        parameters = only_parameters(request, [*PAGED, "user"])
        return audit_page(request, backend, parameters.get("user"), UTC)

    return router
