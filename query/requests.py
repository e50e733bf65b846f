"""What every REST request has in common: who asks, how often, and its body, which is JSON whatever its label says."""

import json
import math
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from query.errors import ApiError
from query.ports import Backend
from storage.registry import Channel, User

FALSE_WORDS = ("", "0", "false", "no", "off")
TRUE_WORDS = ("1", "true", "yes", "on")


def reply(value: Any, status: int = 200) -> Response:
    """JSON."""
    return Response(
        json.dumps(value, ensure_ascii=False, separators=(",", ":")), status, media_type="application/json"
    )


def user_of(request: Request, backend: Backend) -> User:
    """Whose API token the request carries.

    Raises:
        ApiError: AUTH_REQUIRED, or TOO_MANY_REQUESTS beyond the rate limit.
    """
    token = request.headers.get("x-apitoken", "")
    user = backend.store.registry.user_by_api_token(token) if token else None
    if user is None:
        raise ApiError("AUTH_REQUIRED", "the header X-APITOKEN is missing, or nobody has this token")
    if backend.allow is not None and not backend.allow(user.api_token, backend.now()[0]):
        raise ApiError(
            "TOO_MANY_REQUESTS", "more requests than [limits] rest_per_s allows", {"Retry-After": "1"}
        )
    return user


def header(request: Request, name: str) -> str | None:
    """A header that holds a name: UTF-8 as in the connector, though HTTP's own reading of it is Latin-1."""
    value = request.headers.get(name)
    if value is None or value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


async def object_of(request: Request, *, required: bool) -> dict[str, Any]:
    """The body as a JSON object; without one, an empty object unless it is required. Raises ApiError."""
    body = await request.body()
    if not body.strip() and not required:
        return {}
    try:
        value = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ApiError("BAD_JSON_FORMAT", f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError("BAD_JSON_FORMAT", "the body is not a JSON object")
    return value


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def is_true(word: str | None) -> bool:
    """A flag in a header: anything but a word for no (contract 8, row 16)."""
    return word is not None and word.strip().lower() not in FALSE_WORDS


def boolean(name: str, value: Any) -> bool:
    """true, false, or such a word (contract 3.1). Raises ApiError."""
    if isinstance(value, str) and value.strip().lower() in (*TRUE_WORDS, *FALSE_WORDS[1:]):
        return is_true(value)
    if not isinstance(value, bool):
        raise ApiError("BAD_JSON_FORMAT", f"{name}: expected true or false")
    return value


def number_of_channel(value: Any) -> int | None:
    """A channel number as the path or a body says it; None for what cannot be one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def channel_of(backend: Backend, user: User, number: str) -> Channel:
    """Raises ApiError: NO_CHANNEL."""
    known = number_of_channel(number)
    channel = None if known is None else backend.store.registry.channel(user.user_id, known)
    if channel is None:
        raise ApiError("NO_CHANNEL", f"there is no channel {number}")
    return channel
