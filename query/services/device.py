"""The Device service (contract 3.1)."""

from collections import Counter
from typing import Any, cast

import trio
from fastapi import APIRouter, Request, Response

from query.background import in_background
from query.errors import ApiError
from query.fleet import Row, decode_cursor, encode_cursor, filter_of, rows_of, sort_of
from query.lists import array_of, reply_rows
from query.models import device as about
from query.ports import Backend
from query.requests import (
    boolean,
    change,
    mapped_channel,
    number_from,
    object_of,
    only_parameters,
    point_to_next,
    reply,
    to_json,
    user_of,
)
from query.times import format_time, zone_of
from storage.registry import (
    DEVICE_TEXTS,
    Device,
    DeviceFilter,
    DeviceLimitError,
    FieldError,
    InUseError,
    Registry,
    UnknownError,
    User,
)
from storage.states import parse_state

DEVICE_ID_BYTES_MAX = 256
# Without a limit a list has every device; a page has at most so many.
DEVICES_MAX = 1 << 40
PAGE_ROWS_MAX = 10_000
# So many devices are looked through at once, in a millisecond; a larger fleet's list is made beside what goes on.
FLEET_AT_ONCE = 100
LISTS_MAX = 2
# Of a table: in one transaction, during which nothing else goes on. A device takes some 50 µs.
ROWS_AT_A_TIME = 50
ATOMIC_ROWS_MAX = 2_000
ON_EXISTING = ("error", "skip", "update")
PROVISIONED = ("on_existing", "atomic")
RESULTS = ("created", "updated", "skipped", "failed")
REFUSED = {InUseError: "DEVICE_INUSE", DeviceLimitError: "MAX_DEVICE_REACH", FieldError: "BAD_JSON_FORMAT"}


def shown(device: Device, user: User) -> about.DeviceShown:
    """A device as the API shows it (contract 1.3)."""
    zone = zone_of(user.locale)
    value: about.DeviceShown = {
        "device_id": device.device_id,
        "description": device.description,
        "enabled": device.enabled,
        "mapped_ch": device.mapped_ch,
        "device_type": device.device_type,
        "location": device.location,
        "manufacturer": device.manufacturer,
        "activate_at": format_time(device.activate_at_us, zone, colon=True),
    }
    if device.state is not None and device.state_at_us is not None:
        last_update = format_time(device.state_at_us, zone, colon=True)
        state = {**(parse_state(device.state) or {}), "last_update": last_update}
        value["state"] = cast("about.DeviceState", state)
    return value


def fields_of(backend: Backend, user: User, body: dict[str, Any]) -> dict[str, Any]:
    """What a body wants changed, in the registry's words; keys that the API does not know are ignored.

    Raises:
        ApiError: BAD_JSON_FORMAT, NO_CHANNEL.
    """
    fields: dict[str, Any] = {name: body[name] for name in DEVICE_TEXTS if name in body}
    for key in ("enable", "enabled"):
        if key in body:
            fields["enabled"] = boolean(key, body[key])
    if "mapped_ch" in body:
        fields["channel"] = mapped_channel(backend, user, body["mapped_ch"])
    return fields


def check_device_id(device_id: str) -> None:
    """Raises ApiError."""
    if device_id in ("", "0"):
        raise ApiError("DEVICE_ID_ZERO", "a device id is neither empty nor 0")
    if len(device_id.encode()) > DEVICE_ID_BYTES_MAX or not device_id.isprintable():
        raise ApiError(
            "DEVICE_ID_INVALID", f"a device id is printable and at most {DEVICE_ID_BYTES_MAX} bytes long"
        )


class UndoneError(Exception):
    """All or nothing, and it is nothing."""


def check_all(report: list[dict[str, Any]]) -> None:
    """Raises UndoneError, which undoes the transaction around it."""
    if any("error" in line for line in report):
        raise UndoneError


def provision_one(backend: Backend, user: User, row: Row, on_existing: str) -> dict[str, Any]:
    """Register or change the device of one line; what the report says of it."""
    registry, device_id = backend.store.registry, row.values.get("device_id")
    line: dict[str, Any] = {"line": row.line, "device_id": device_id, "result": "failed"}
    if row.fault or not isinstance(device_id, str):
        return {**line, "error": "BAD_JSON_FORMAT", "detail": row.fault or "device_id: expected a text"}
    try:
        check_device_id(device_id)
        fields = fields_of(backend, user, row.values)
        exists = registry.device(user.user_id, device_id) is not None
        if exists and on_existing == "skip":
            return {**line, "result": "skipped"}
        if exists and on_existing == "update":
            registry.update_device(user.user_id, device_id, **fields)
            return {**line, "result": "updated"}
        registry.add_device(user.user_id, device_id, backend.now()[1], **fields)
    except ApiError as error:
        return {**line, "error": error.token, "detail": error.detail}
    except (InUseError, DeviceLimitError, FieldError) as error:
        return {**line, "error": REFUSED[type(error)], "detail": str(error)}
    return {**line, "result": "created"}


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Device"])
    registry = backend.store.registry
    lists = trio.CapacityLimiter(LISTS_MAX)

    def no_device(device_id: str) -> ApiError:
        return ApiError("NO_DEVICE", f"there is no device {device_id}")

    @router.get("/v2/device", **about.LIST)
    async def list_devices(request: Request) -> Response:
        user = user_of(request, backend)
        asked, (sort, descending) = filter_of(request), sort_of(request)
        limit = number_from(request, "limit", DEVICES_MAX, PAGE_ROWS_MAX)
        after = decode_cursor(request.query_params.get("cursor"), sort)
        backend.store.flush_states()

        def page(registry: Registry) -> tuple[bytes, str | None]:
            found = registry.find_devices(
                user.user_id, asked, limit + 1, sort=sort, descending=descending, after=after
            )
            body = array_of(shown(device, user) for device in found[:limit])
            if len(found) <= limit:
                return body, None
            last = found[limit - 1]
            return body, encode_cursor(sort, DeviceFilter.sorted_by(last, sort), last.device_id)

        def page_beside() -> tuple[bytes, str | None]:
            with registry.beside() as other:
                return page(other)

        if registry.count_of("device", user.user_id) <= FLEET_AT_ONCE:
            body, cursor = page(registry)
        else:
            body, cursor = await in_background(page_beside, limiter=lists)
        response = Response(body, media_type="application/json")
        if cursor is not None:
            point_to_next(request, response, "cursor", cursor)
        return response

    @router.post("/v2/device", **about.PROVISION)
    async def provision(request: Request) -> Response:
        user = user_of(request, backend)
        given = only_parameters(request, PROVISIONED)
        on_existing = given.get("on_existing", "error")
        if on_existing not in ON_EXISTING:
            raise ApiError("BAD_PARAMETER", f"on_existing: expected one of {', '.join(ON_EXISTING)}")
        atomic = given.get("atomic", "false")
        if atomic not in ("true", "false"):
            raise ApiError("BAD_PARAMETER", f"atomic: expected true or false, not {atomic!r}")
        is_atomic = atomic == "true"
        rows = await in_background(rows_of, await request.body(), request.headers.get("content-type", ""))
        if is_atomic and len(rows) > ATOMIC_ROWS_MAX:
            raise ApiError("BULK_REFUSED", f"more than {ATOMIC_ROWS_MAX} devices cannot be all or nothing")
        at_a_time = len(rows) or 1 if is_atomic else ROWS_AT_A_TIME
        report: list[dict[str, Any]] = []
        try:
            for first in range(0, len(rows), at_a_time):
                with change(backend, user.user_id):
                    report += [
                        provision_one(backend, user, row, on_existing)
                        for row in rows[first : first + at_a_time]
                    ]
                    if is_atomic:
                        check_all(report)
                await trio.lowlevel.checkpoint()
        except UndoneError:
            failed = [line for line in report if "error" in line]
            words = f"{len(failed)} of {len(rows)} lines cannot be done, so nothing was"
            return reply({"error": "BULK_REFUSED", "detail": words, "devices": failed}, 400)
        counts = Counter(line["result"] for line in report)
        head = to_json({result: counts[result] for result in RESULTS})
        return await reply_rows(report, f'{head[:-1]},"devices":', "}")

    @router.get("/v2/device/{device_id:path}", **about.GET)
    async def get_device(request: Request, device_id: str) -> Response:
        user = user_of(request, backend)
        only_parameters(request, ())
        backend.store.flush_states()
        device = registry.device(user.user_id, device_id)
        if device is None:
            raise no_device(device_id)
        return reply([shown(device, user)])

    @router.post("/v2/device/{device_id:path}", **about.ADD)
    async def add_device(request: Request, device_id: str) -> Response:
        user = user_of(request, backend)
        check_device_id(device_id)
        fields = fields_of(backend, user, await object_of(request, required=False))
        try:
            with change(backend, user.user_id):
                device = registry.add_device(user.user_id, device_id, backend.now()[1], **fields)
        except (InUseError, DeviceLimitError, FieldError) as error:
            raise ApiError(REFUSED[type(error)], str(error)) from None
        return reply(shown(device, user), 201)

    @router.put("/v2/device/{device_id:path}", **about.UPDATE)
    async def update_device(request: Request, device_id: str) -> Response:
        user = user_of(request, backend)
        body = await object_of(request, required=True)
        if registry.device(user.user_id, device_id) is None:
            raise no_device(device_id)
        try:
            fields = fields_of(backend, user, body)
            with change(backend, user.user_id):
                device = registry.update_device(user.user_id, device_id, **fields)
        except FieldError as error:
            raise ApiError("BAD_JSON_FORMAT", str(error)) from None
        return reply(shown(device, user))

    @router.delete("/v2/device/{device_id:path}", **about.DELETE)
    async def delete_device(request: Request, device_id: str) -> Response:
        user = user_of(request, backend)
        only_parameters(request, ())
        try:
            with change(backend, user.user_id):
                registry.delete_device(user.user_id, device_id, backend.now()[1])
        except UnknownError:
            raise no_device(device_id) from None
        return reply({})

    return router
