"""What the REST services answer when they refuse: a status, a token of the contract, and words for a person."""

from collections.abc import Mapping

TOKENS = {
    "ADMIN_REQUIRED": 403,
    "AUTH_REQUIRED": 401,
    "BAD_AGGREGATE": 400,
    "BAD_BODY_FORMAT": 400,
    "BAD_CSV_FORMAT": 400,
    "BAD_JSON_FORMAT": 400,
    "BAD_PARAMETER": 400,
    "BAD_SQL": 400,
    "BAD_TIME_FORMAT": 400,
    "BODY_TOO_LARGE": 413,
    "BULK_REFUSED": 400,
    "CHANNEL_INUSE": 403,
    "DEVICE_ID_INVALID": 400,
    "DEVICE_ID_ZERO": 400,
    "DEVICE_INUSE": 403,
    "IDEMPOTENCY_MISMATCH": 422,
    "JSON_TOO_DEEP": 400,
    "KEY_TOO_LONG": 400,
    "MAX_CHANNEL_REACH": 403,
    "MAX_DEVICE_REACH": 403,
    "MAX_EVENT_REACH": 403,
    "MAX_STREAM_REACH": 403,
    "METHOD_NOT_ALLOWED": 405,
    "NOT_FOUND": 404,
    "NOT_READY": 503,
    "NO_CHANNEL": 404,
    "NO_DEVICE": 404,
    "NO_EVENT": 404,
    "NO_SESSION": 404,
    "NO_STREAM": 404,
    "NO_USER": 404,
    "NUMBER_OUT_OF_RANGE": 400,
    "PAYLOAD_TOO_LARGE": 413,
    "QUERY_MEMORY": 422,
    "QUERY_TIMEOUT": 422,
    "QUERY_TOO_LARGE": 422,
    "SQL_FORBIDDEN": 403,
    "SQL_UNAVAILABLE": 501,
    "TAG_INVALID": 400,
    "TOO_MANY_REQUESTS": 429,
    "TOO_MANY_STREAMS": 400,
    "TOO_MANY_TAGS": 400,
    "UNAVAILABLE": 503,
    "USER_DISABLED": 403,
}

# What each says to whoever meets it, the HTTP server's own (query/http/errors.py) too; docs/api.md has the same words.
MEANINGS = {
    "ADMIN_REQUIRED": "an account's token where an admin's is needed",
    "AUTH_REQUIRED": "`X-APITOKEN` (or `Authorization`) is missing, or nobody has this token",
    "BAD_AGGREGATE": "`X-AGGREGATE` names an aggregate that there is not, or too many",
    "BAD_BODY_FORMAT": "the body is not CSV, Arrow or Parquet, or has a column that cannot be stored",
    "BAD_CSV_FORMAT": (
        "the body is not CSV, has too many lines, or its first line names other columns than there are"
    ),
    "BAD_JSON_FORMAT": "the body is not a JSON object, or one of its values is not acceptable",
    "BAD_PARAMETER": "a header or parameter has a value, or a name, that there is not",
    "BAD_REQUEST": "not a request of HTTP/1.1, or one that two readers could read differently",
    "BAD_SQL": "the SQL has a fault, or no rows to give",
    "BAD_TIME_FORMAT": "a time cannot be read, `X-ENDTIME` is missing, or an aggregate has no range",
    "BODY_TOO_LARGE": (
        "a write has more than `limits.write_rows_max` rows, or more than "
        "`limits.http_body_bytes_max` bytes of values"
    ),
    "BULK_REFUSED": "a table that was to be done whole cannot be",
    "CHANNEL_INUSE": "the channel, or the tag, exists already, or the channel is archived",
    "CONTENT_TOO_LARGE": "the body is larger than `limits.http_body_bytes_max`",
    "DEVICE_ID_INVALID": "the device id is not printable, or too long, or cannot be part of a topic",
    "DEVICE_ID_ZERO": "the device id is empty or `0`",
    "DEVICE_INUSE": "the device exists already",
    "EXPECTATION_FAILED": "`Expect` with something else than `100-continue`",
    "HEADERS_TOO_LARGE": "the head is larger than `limits.http_header_bytes_max`, or has more than 100 fields",
    "HTTP_VERSION_NOT_SUPPORTED": "neither HTTP/1.1 nor HTTP/1.0",
    "IDEMPOTENCY_MISMATCH": "something else was written with this `Idempotency-Key`",
    "INTERNAL_ERROR": "our fault; the log says more",
    "JSON_TOO_DEEP": "a written value is deeper than `limits.json_depth_max`",
    "KEY_TOO_LONG": "a written stream's name is longer than `limits.key_bytes_max`",
    "MAX_CHANNEL_REACH": (
        "the account has as many channels as its quota, or `limits.channels_per_user_max`, allows"
    ),
    "MAX_DEVICE_REACH": (
        "the account has as many devices as its quota, or `limits.devices_per_user_max`, allows"
    ),
    "MAX_EVENT_REACH": "the account has as many events as `limits.events_per_user_max` allows",
    "MAX_STREAM_REACH": (
        "the channel has as many described streams as `limits.streams_per_channel_max` allows"
    ),
    "METHOD_NOT_ALLOWED": "the path is right, the method is not; `Allow` says which are",
    "MISDIRECTED_REQUEST": "`https` where there is none",
    "NOT_FOUND": "there is no such path",
    "NOT_IMPLEMENTED": "a method, or a transfer coding, that nobody knows here",
    "NOT_READY": "the daemon is starting or stopping",
    "NO_CHANNEL": (
        "there is no such channel, or it has no such tag, or it is archived, or this cannot be a channel's number"
    ),
    "NO_DEVICE": "there is no such device",
    "NO_EVENT": "there is no such event",
    "NO_SESSION": "no such client is connected",
    "NO_STREAM": "the channel has no such stream",
    "NO_USER": "there is no such account",
    "NUMBER_OUT_OF_RANGE": "a written number is beyond the largest double",
    "OVERLOADED": "more clients than `limits.http_connections_max`",
    "PAYLOAD_TOO_LARGE": (
        "a written value is longer than `limits.payload_bytes_max`, or a message for a device than "
        "`limits.packet_bytes_max`"
    ),
    "QUERY_MEMORY": (
        "a query in SQL needs more than `sql.memory_bytes_max`, or another one more than "
        "`query.worker_memory_bytes_max`"
    ),
    "QUERY_TIMEOUT": "a query in SQL took longer than `sql.seconds_max`",
    "QUERY_TOO_LARGE": "an answer in SQL is longer than `sql.answer_bytes_max`",
    "REQUEST_TIMEOUT": "the request did not become complete in time",
    "SQL_FORBIDDEN": "something else than one SELECT, or a SELECT of something that is not the account's",
    "SQL_UNAVAILABLE": "this system has no Landlock and seccomp, and `sql.without_jail` is `no`",
    "TAG_INVALID": "a tag has control characters, or is longer than `limits.tag_bytes_max`",
    "TOO_MANY_REQUESTS": (
        "more requests than `limits.rest_per_s`, or the account's own rate, allows, or more keys "
        "than `limits.write_keys_per_user_max`"
    ),
    "TOO_MANY_STREAMS": "the channel would have more streams than `limits.streams_per_channel_max`",
    "TOO_MANY_TAGS": "the channel would have more tags than `limits.tags_per_channel_max`",
    "UNAVAILABLE": (
        "nothing can be written now (the disk is full, the registry is locked, a queue has no "
        "room); nothing was changed, try again"
    ),
    "URI_TOO_LONG": "the request line is too long",
    "USER_DISABLED": "the account is disabled",
}


class ApiError(Exception):
    """A refusal: the reply is ``{"error": token, "detail": detail}`` with the token's status, and ``more`` keys."""

    def __init__(
        self,
        token: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.token = token
        self.status = TOKENS[token]
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = dict(more or {})
