"""The Publish service (contract 3.6): a message for a device, to the topic that it subscribes to.

The payload goes out byte for byte: devices compare it with strings such as ``led:on``.
"""

import json
from typing import Any

from fastapi import APIRouter, Request, Response

from query.errors import ApiError
from query.models import publish as about
from query.ports import Backend
from query.requests import object_of, reply, user_of


def qos_of(body: dict[str, Any]) -> int:
    """0 or 1. Raises ApiError."""
    qos = body.get("qos", 0)
    if isinstance(qos, bool) or not isinstance(qos, int | float) or qos not in (0, 1):
        raise ApiError("BAD_JSON_FORMAT", "qos: expected 0 or 1")
    return int(qos)


def payload_of(body: dict[str, Any]) -> bytes:
    """A string as it is, anything else as JSON text. Raises ApiError."""
    payload = body.get("payload")
    if payload is None:
        raise ApiError("BAD_JSON_FORMAT", "payload: missing")
    try:
        if not isinstance(payload, str):
            payload = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return payload.encode()
    except (ValueError, RecursionError):
        raise ApiError("BAD_JSON_FORMAT", "payload: cannot be written as UTF-8 or JSON") from None


def topic_of(device_token: str, device_id: str) -> bytes:
    """What the device subscribes to. Raises ApiError: DEVICE_ID_INVALID."""
    if "+" in device_id or "#" in device_id:
        raise ApiError("DEVICE_ID_INVALID", "no MQTT topic can have + or #, and this device id has")
    return f"{device_token}/{device_id}/subscribe".encode()


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Publish"])

    @router.post("/v2/publish/{device_id:path}", **about.SEND)
    async def publish(request: Request, device_id: str) -> Response:
        user = user_of(request, backend)
        body = await object_of(request, required=True)
        qos, payload = qos_of(body), payload_of(body)
        if backend.store.registry.device(user.user_id, device_id) is None:
            raise ApiError("NO_DEVICE", f"there is no device {device_id}")
        topic = topic_of(user.device_token, device_id)
        if len(topic) + len(payload) > backend.publisher.message_bytes_max:
            raise ApiError(
                "PAYLOAD_TOO_LARGE", "payload: the message would be longer than limits.packet_bytes_max"
            )
        if not await backend.publisher.publish(user.user_id, topic, payload, qos):
            raise ApiError("UNAVAILABLE", "there is no room for the message now", {"Retry-After": "1"})
        return reply({})

    return router
