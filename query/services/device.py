"""The Device service (contract 3.1)."""

from typing import Any

from fastapi import APIRouter, Request, Response

from query.errors import ApiError
from query.ports import Backend
from query.requests import boolean, change, number_of_channel, object_of, reply, user_of
from query.times import format_time, zone_of
from storage.registry import (
    DEVICE_TEXTS,
    Device,
    DeviceLimitError,
    FieldError,
    InUseError,
    UnknownError,
    User,
)
from storage.states import parse_state

DEVICE_ID_BYTES_MAX = 256


def shown(device: Device, user: User) -> dict[str, Any]:
    """A device as the API shows it (contract 1.3)."""
    zone = zone_of(user.locale)
    value: dict[str, Any] = {
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
        state = parse_state(device.state) or {}
        value["state"] = {**state, "last_update": format_time(device.state_at_us, zone, colon=True)}
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
        fields["channel"] = None
        if body["mapped_ch"] is not None:
            number = number_of_channel(body["mapped_ch"])
            if number is None:
                raise ApiError("BAD_JSON_FORMAT", "mapped_ch: expected a channel number or null")
            channel = backend.store.registry.channel(user.user_id, number)
            if channel is None:
                raise ApiError("NO_CHANNEL", f"mapped_ch: there is no channel {number}")
            fields["channel"] = channel.id
    return fields


def check_device_id(device_id: str) -> None:
    """Raises ApiError."""
    if device_id in ("", "0"):
        raise ApiError("DEVICE_ID_ZERO", "a device id is neither empty nor 0")
    if len(device_id.encode()) > DEVICE_ID_BYTES_MAX or not device_id.isprintable():
        raise ApiError(
            "DEVICE_ID_INVALID", f"a device id is printable and at most {DEVICE_ID_BYTES_MAX} bytes long"
        )


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Device"])
    registry = backend.store.registry

    def no_device(device_id: str) -> ApiError:
        return ApiError("NO_DEVICE", f"there is no device {device_id}")

    @router.get("/v2/device", summary="All devices")
    async def list_devices(request: Request) -> Response:
        user = user_of(request, backend)
        backend.store.flush_states()
        return reply([shown(device, user) for device in registry.devices(user.user_id)])

    @router.get("/v2/device/{device_id:path}", summary="One device, as an array")
    async def get_device(request: Request, device_id: str) -> Response:
        user = user_of(request, backend)
        backend.store.flush_states()
        device = registry.device(user.user_id, device_id)
        if device is None:
            raise no_device(device_id)
        return reply([shown(device, user)])

    @router.post("/v2/device/{device_id:path}", summary="Register a device", status_code=201)
    async def add_device(request: Request, device_id: str) -> Response:
        user = user_of(request, backend)
        check_device_id(device_id)
        fields = fields_of(backend, user, await object_of(request, required=False))
        try:
            with change(backend, user.user_id):
                device = registry.add_device(user.user_id, device_id, backend.now()[1], **fields)
        except InUseError as error:
            raise ApiError("DEVICE_INUSE", str(error)) from None
        except DeviceLimitError as error:
            raise ApiError("MAX_DEVICE_REACH", str(error)) from None
        except FieldError as error:
            raise ApiError("BAD_JSON_FORMAT", str(error)) from None
        return reply(shown(device, user), 201)

    @router.put("/v2/device/{device_id:path}", summary="Change a device")
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

    @router.delete("/v2/device/{device_id:path}", summary="Forget a device; its readings stay")
    async def delete_device(request: Request, device_id: str) -> Response:
        user = user_of(request, backend)
        try:
            with change(backend, user.user_id):
                registry.delete_device(user.user_id, device_id, backend.now()[1])
        except UnknownError:
            raise no_device(device_id) from None
        return reply({})

    return router
