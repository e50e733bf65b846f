"""What the REST services answer when they refuse: a status, a token of the contract, and words for a person."""

from collections.abc import Mapping

TOKENS = {
    "ADMIN_REQUIRED": 403,
    "AUTH_REQUIRED": 401,
    "BAD_AGGREGATE": 400,
    "BAD_CSV_FORMAT": 400,
    "BAD_JSON_FORMAT": 400,
    "BAD_PARAMETER": 400,
    "BAD_SQL": 400,
    "BAD_TIME_FORMAT": 400,
    "BULK_REFUSED": 400,
    "CHANNEL_INUSE": 403,
    "DEVICE_ID_INVALID": 400,
    "DEVICE_ID_ZERO": 400,
    "DEVICE_INUSE": 403,
    "MAX_CHANNEL_REACH": 403,
    "MAX_DEVICE_REACH": 403,
    "MAX_EVENT_REACH": 403,
    "MAX_STREAM_REACH": 403,
    "METHOD_NOT_ALLOWED": 405,
    "NOT_FOUND": 404,
    "NOT_IMPLEMENTED": 501,
    "NOT_READY": 503,
    "NO_CHANNEL": 404,
    "NO_DEVICE": 404,
    "NO_EVENT": 404,
    "NO_SESSION": 404,
    "NO_STREAM": 404,
    "NO_USER": 404,
    "QUERY_MEMORY": 422,
    "QUERY_TIMEOUT": 422,
    "QUERY_TOO_LARGE": 422,
    "SQL_FORBIDDEN": 403,
    "SQL_UNAVAILABLE": 501,
    "TOO_MANY_REQUESTS": 429,
    "UNAVAILABLE": 503,
    "USER_DISABLED": 403,
}


class ApiError(Exception):
    """A refusal: the reply is ``{"error": token, "detail": detail}`` with the token's status."""

    def __init__(self, token: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.token = token
        self.status = TOKENS[token]
        self.detail = detail
        self.headers = dict(headers or {})
