"""One table: what a refusal is on the wire (contract 2.2).

HTTP connectors answer with a status and the bare token as text. MQTT has no way to say no: the message is acknowledged
and dropped, and counted by the same name (contract 2.3.4).
"""

from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from ingest.mqtt.packets import ReasonCode
from storage.kinds import Refusal


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP connector's answer."""

    status: int
    reason: str
    token: str
    headers: tuple[tuple[str, str], ...] = ()


# In a header's value: how long the rate limit makes this one wait (Admission.retry_s).
RETRY_S: Final = "%d"

STORED: Final = Answer(200, "OK", "OK")

ANSWERS: Final[dict[Refusal, Answer]] = {
    Refusal.AUTH_REQUIRED: Answer(
        401, "Unauthorized", "AUTH_REQUIRED", (("WWW-Authenticate", "X-DEVICETOKEN"),)
    ),
    Refusal.DEVICE_ID_ZERO: Answer(400, "Bad Request", "DEVICE_ID_ZERO"),
    Refusal.NEW_DEVICE_FOUND: Answer(201, "Created", "NEW_DEVICE_FOUND"),
    Refusal.MAX_DEVICE_REACH: Answer(403, "Forbidden", "MAX_DEVICE_REACH"),
    Refusal.NO_MAPPED_CH: Answer(403, "Forbidden", "NO_MAPPED_CH"),
    Refusal.DEVICE_DISABLED: Answer(403, "Forbidden", "DEVICE_DISABLED"),
    Refusal.TOO_MANY_REQUESTS: Answer(
        429, "Too Many Requests", "TOO_MANY_REQUESTS", (("Retry-After", RETRY_S),)
    ),
    Refusal.BAD_JSON_FORMAT: Answer(400, "Bad Request", "BAD_JSON_FORMAT"),
    Refusal.BAD_FORM_FORMAT: Answer(400, "Bad Request", "BAD_FORM_FORMAT"),
    Refusal.PAYLOAD_TOO_LARGE: Answer(413, "Content Too Large", "PAYLOAD_TOO_LARGE"),
    Refusal.JSON_TOO_DEEP: Answer(400, "Bad Request", "JSON_TOO_DEEP"),
    Refusal.KEY_TOO_LONG: Answer(400, "Bad Request", "KEY_TOO_LONG"),
    Refusal.TOO_MANY_STREAMS: Answer(400, "Bad Request", "TOO_MANY_STREAMS"),
    Refusal.NUMBER_OUT_OF_RANGE: Answer(400, "Bad Request", "NUMBER_OUT_OF_RANGE"),
    Refusal.TAG_INVALID: Answer(400, "Bad Request", "TAG_INVALID"),
    Refusal.DEVICE_ID_INVALID: Answer(400, "Bad Request", "DEVICE_ID_INVALID"),
    Refusal.FOREIGN_TOPIC: Answer(403, "Forbidden", "FOREIGN_TOPIC"),
    Refusal.UNKNOWN_TOPIC: Answer(404, "Not Found", "UNKNOWN_TOPIC"),
    Refusal.TOO_MANY_TAGS: Answer(400, "Bad Request", "TOO_MANY_TAGS"),
    Refusal.UNAVAILABLE: Answer(503, "Service Unavailable", "UNAVAILABLE", (("Retry-After", "1"),)),
}


# What an MQTT 5 client is told of a reading that was refused (5.0 section 3.4.2.1).
REASONS: Final[dict[Refusal, ReasonCode]] = {
    Refusal.AUTH_REQUIRED: ReasonCode.NOT_AUTHORIZED,
    Refusal.DEVICE_ID_ZERO: ReasonCode.TOPIC_NAME_INVALID,
    Refusal.NEW_DEVICE_FOUND: ReasonCode.IMPLEMENTATION_SPECIFIC,
    Refusal.MAX_DEVICE_REACH: ReasonCode.QUOTA_EXCEEDED,
    Refusal.NO_MAPPED_CH: ReasonCode.IMPLEMENTATION_SPECIFIC,
    Refusal.DEVICE_DISABLED: ReasonCode.NOT_AUTHORIZED,
    Refusal.TOO_MANY_REQUESTS: ReasonCode.QUOTA_EXCEEDED,
    Refusal.BAD_JSON_FORMAT: ReasonCode.PAYLOAD_FORMAT_INVALID,
    Refusal.BAD_FORM_FORMAT: ReasonCode.PAYLOAD_FORMAT_INVALID,
    Refusal.PAYLOAD_TOO_LARGE: ReasonCode.QUOTA_EXCEEDED,
    Refusal.JSON_TOO_DEEP: ReasonCode.PAYLOAD_FORMAT_INVALID,
    Refusal.KEY_TOO_LONG: ReasonCode.PAYLOAD_FORMAT_INVALID,
    Refusal.TOO_MANY_STREAMS: ReasonCode.QUOTA_EXCEEDED,
    Refusal.NUMBER_OUT_OF_RANGE: ReasonCode.PAYLOAD_FORMAT_INVALID,
    Refusal.TAG_INVALID: ReasonCode.TOPIC_NAME_INVALID,
    Refusal.DEVICE_ID_INVALID: ReasonCode.TOPIC_NAME_INVALID,
    Refusal.FOREIGN_TOPIC: ReasonCode.NOT_AUTHORIZED,
    Refusal.UNKNOWN_TOPIC: ReasonCode.TOPIC_NAME_INVALID,
    Refusal.UNAVAILABLE: ReasonCode.UNSPECIFIED,
    Refusal.TOO_MANY_TAGS: ReasonCode.QUOTA_EXCEEDED,
}


def http_bytes(answer: Answer, now: float, *, close: bool) -> bytes:
    """The whole HTTP/1.1 response, dated ``now`` (seconds since the epoch; RFC 9110 section 6.6.1)."""
    lines = [
        f"HTTP/1.1 {answer.status} {answer.reason}",
        f"Date: {formatdate(now, usegmt=True)}",
        "Content-Type: text/plain",
        f"Content-Length: {len(answer.token)}",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", answer.token]).encode()


def http_replies(now: float) -> list[tuple[bytes, bytes]]:
    """For the reactor: index 0 is «stored», n is Refusal n; (keep-alive, close) each. TOO_MANY_REQUESTS has RETRY_S."""
    answers = [STORED, *(ANSWERS[Refusal(number)] for number in range(1, len(Refusal) + 1))]
    return [(http_bytes(answer, now, close=False), http_bytes(answer, now, close=True)) for answer in answers]
