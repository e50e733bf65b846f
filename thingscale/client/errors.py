"""What a server refuses, as exceptions: by token, in families; the token and the words are attributes."""

from collections.abc import Mapping
from typing import Any, Final


class ThingscaleError(Exception):
    """A refusal.

    Attributes:
        token: for programs, as in docs/api.md.
        status: of HTTP.
        detail: for a person.
        body: the whole answer, where it was an object.
    """

    def __init__(self, token: str, status: int, detail: str, body: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{token}: {detail}")
        self.body = body or {}
        self.token = token
        self.status = status
        self.detail = detail


class AuthError(ThingscaleError):
    """The token opens nothing, or not this."""


class NotFoundError(ThingscaleError):
    """There is no such device, channel, stream, event, session, user or path."""


class InUseError(ThingscaleError):
    """It exists already."""


class LimitReachedError(ThingscaleError):
    """There are as many as the account may have."""


class BadRequestError(ThingscaleError):
    """The request is wrong, and stays so."""


class QueryError(BadRequestError):
    """SQL that is wrong, not allowed, or takes too much."""


class TooManyRequestsError(ThingscaleError):
    """The rate limit, still after all tries."""


class UnavailableError(ThingscaleError):
    """The server cannot do it now."""


class MissedError(Exception):
    """Datapoints that a live stream could not give again; a range has them.

    Attributes:
        first_seq, last_seq: of what is missing.
    """

    def __init__(self, first_seq: int, last_seq: int) -> None:
        super().__init__(f"datapoints {first_seq} .. {last_seq} were not sent")
        self.first_seq = first_seq
        self.last_seq = last_seq


BY_TOKEN: Final[dict[str, type[ThingscaleError]]] = {
    **dict.fromkeys(("AUTH_REQUIRED", "ADMIN_REQUIRED", "USER_DISABLED"), AuthError),
    **dict.fromkeys(("CHANNEL_INUSE", "DEVICE_INUSE"), InUseError),
    **dict.fromkeys(
        ("BAD_SQL", "SQL_FORBIDDEN", "QUERY_MEMORY", "QUERY_TIMEOUT", "QUERY_TOO_LARGE"), QueryError
    ),
}
BY_STATUS: Final[dict[int, type[ThingscaleError]]] = {
    401: AuthError,
    403: LimitReachedError,
    404: NotFoundError,
    429: TooManyRequestsError,
}


def error_of(token: str, status: int, detail: str, body: Mapping[str, Any] | None = None) -> ThingscaleError:
    """The exception for a refusal."""
    family = BY_TOKEN.get(token) or BY_STATUS.get(status)
    if family is None:
        family = UnavailableError if status >= 500 else BadRequestError
    return family(token, status, detail, body)
