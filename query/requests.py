"""What every REST request has in common: who asks, how often, and its body, which is JSON whatever its label says."""

import base64
import json
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from query.errors import ApiError
from query.pacing import PACE
from query.ports import Backend
from storage.registry import AdminToken, Channel, Registry, User

# json.dumps with such options makes an encoder at each call.
to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

FALSE_WORDS = ("", "0", "false", "no", "off")
TRUE_WORDS = ("1", "true", "yes", "on")


def reply(value: Any, status: int = 200) -> Response:
    """JSON."""
    return Response(to_json(value), status, media_type="application/json")


def token_of(request: Request) -> str:
    """What a request carries: X-APITOKEN, or Authorization as Bearer, or as Basic with the token for a password."""
    token = request.headers.get("x-apitoken", "")
    if token:
        return token
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic":
            try:
                text = base64.b64decode(credentials.strip(), validate=True).decode()
            except ValueError:
                return ""
            return text.partition(":")[2]
    return ""


def user_of(request: Request, backend: Backend) -> User:
    """Whose API token the request carries.

    Raises:
        ApiError: AUTH_REQUIRED, USER_DISABLED, or TOO_MANY_REQUESTS beyond the rate limit.
    """
    token = token_of(request)
    user = backend.store.registry.user_by_api_token(token) if token else None
    if user is None:
        raise ApiError("AUTH_REQUIRED", "X-APITOKEN (or Authorization) is missing, or nobody has this token")
    own = user.quotas.rest_per_s
    name = "limits.rest_per_s allows" if own is None else "the account's quota rest_per_s allows"
    keep_pace(request, backend, user.user_id, own, name)
    if not user.enabled:
        raise ApiError("USER_DISABLED", "the account is disabled")
    return user


def admin_of(request: Request, backend: Backend) -> AdminToken:
    """Whose admin token the request carries.

    Raises:
        ApiError: AUTH_REQUIRED, ADMIN_REQUIRED, or TOO_MANY_REQUESTS beyond the rate limit.
    """
    token, registry = token_of(request), backend.store.registry
    admin = registry.admin_by_token(token) if token else None
    if admin is None and token and registry.user_by_api_token(token) is not None:
        raise ApiError("ADMIN_REQUIRED", "this is the token of an account, not of an admin")
    if admin is None:
        raise ApiError(
            "AUTH_REQUIRED", "X-APITOKEN (or Authorization) is missing, or no admin has this token"
        )
    keep_pace(request, backend, admin.id, None, "limits.rest_per_s allows")
    return admin


def keep_pace(request: Request, backend: Backend, key: object, per_s: float | None, words: str) -> None:
    """Take a token of the rate limit; the answer will say what is left (query/pacing.py). Raises ApiError."""
    pace = backend.limiter.take(key, backend.now()[0], per_s)
    if pace is None:
        return
    request.scope[PACE].append(pace)
    if not pace.allowed:
        rate = f"{words}: {pace.limit} at once"
        raise ApiError("TOO_MANY_REQUESTS", f"more requests than {rate}", {"Retry-After": str(pace.retry_s)})


@contextmanager
def change(backend: Backend, actor: str) -> Iterator[Registry]:
    """A transaction of the registry for what somebody changes: audited, and everybody concerned is told afterwards.

    Args:
        backend: the daemon.
        actor: the user's id, or ``admin:NAME``.
    """
    registry = backend.store.registry
    with registry.by(actor, backend.now()[1]):
        yield registry
    backend.on_registry_change()


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


def mapped_channel(backend: Backend, user: User, value: Any) -> int | None:
    """The registry id of what ``mapped_ch`` says, which may be null. Raises ApiError: BAD_JSON_FORMAT, NO_CHANNEL."""
    if value is None:
        return None
    number = number_of_channel(value)
    if number is None:
        raise ApiError("BAD_JSON_FORMAT", "mapped_ch: expected a channel number or null")
    channel = backend.store.registry.channel(user.user_id, number)
    if channel is None:
        raise ApiError("NO_CHANNEL", f"mapped_ch: there is no channel {number}")
    return channel.id


def channel_of(backend: Backend, user: User, number: str, *, with_archived: bool = False) -> Channel:
    """Raises ApiError: NO_CHANNEL."""
    known = number_of_channel(number)
    channel = None if known is None else backend.store.registry.stored_channel(user.user_id, known)
    if channel is None:
        raise ApiError("NO_CHANNEL", f"there is no channel {number}")
    if channel.archived_at_us is not None and not with_archived:
        raise ApiError("NO_CHANNEL", f"channel {number} is archived")
    return channel


def only_parameters(request: Request, names: Collection[str]) -> QueryParams:
    """The URL's parameters; a misspelled one is refused, not passed over. Raises ApiError: BAD_PARAMETER."""
    given = request.query_params
    for name in given:
        if name not in names:
            raise ApiError(
                "BAD_PARAMETER", f"{name}: no such parameter; there are {', '.join(names) or 'none'}"
            )
    return given


def number_from(request: Request, name: str, default: int, most: int) -> int:
    """A parameter of the URL, 1 .. most. Raises ApiError."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and 1 <= int(text) <= most):
        raise ApiError("BAD_PARAMETER", f"{name}: expected 1 .. {most}, not {text!r}")
    return int(text)


def point_to_next(request: Request, response: Response, name: str, cursor: str) -> None:
    """Say where the next page is: X-NEXT-CURSOR, and a link (RFC 8288)."""
    kept = [(key, value) for key, value in request.query_params.multi_items() if key != name]
    response.headers["x-next-cursor"] = cursor
    response.headers["link"] = f'<{request.url.path}?{urlencode([*kept, (name, cursor)])}>; rel="next"'
