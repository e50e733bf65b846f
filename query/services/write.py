"""Writing datapoints over REST (contract 3.3): one or many, with times and tags of their own, durable when answered.

The body is read whole before anything is stored, and a row that is not good refuses all of it, by its number. The
bodies of all writes together are bounded.
"""

import hashlib
from typing import Final

import trio
from fastapi import APIRouter, Request, Response

from query.background import in_background
from query.errors import TOKENS, ApiError
from query.models import write as about
from query.ports import Backend
from query.requests import channel_of, header, reply, user_of
from query.times import zone_of
from query.writing import COLUMNS, BadBodyError, Reading, Rows, parse, parse_apart
from storage.cover import TIME_MAX_US
from storage.registry import Channel, User
from storage.writes import NoRoom, OtherBody, RowRefused, Stored, TooManyKeys, WriteOutcome

# Parsing this much in the main thread costs less than going to another one.
INLINE_BYTES: Final = 16_384
DIGEST_BYTES: Final = 16
KEY_BYTES_MAX: Final = 255


class Bodies:
    """Room for the bodies of writes that are being received or stored."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._used = 0

    def take(self, size: int) -> None:
        """Raises ApiError."""
        if self._used + size > self._bytes_max:
            words = f"the bodies of other writes take {self._used} bytes ([limits] write_bodies_bytes_max)"
            raise ApiError("UNAVAILABLE", words, {"Retry-After": "1"})
        self._used += size

    def give_back(self, size: int) -> None:
        self._used -= size


def key_of(request: Request) -> str | None:
    """Idempotency-Key. Raises ApiError."""
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not 1 <= len(key) <= KEY_BYTES_MAX or not all("!" <= each <= "~" for each in key):
        raise ApiError(
            "BAD_PARAMETER", f"Idempotency-Key: expected one, of 1 .. {KEY_BYTES_MAX} visible ASCII"
        )
    return key


def media_type_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def digest_of(*parts: bytes) -> bytes:
    """What decides what is stored."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Stream"])
    limits, counts = backend.write_limits, backend.counts
    bodies = Bodies(limits.bodies_bytes_max)
    # Parsing keeps the interpreter; one at a time leaves most of it to everybody else.
    parsers = trio.CapacityLimiter(1)
    # What a worker reads keeps only memory: a body that takes it long holds up no texts.
    workers = trio.CapacityLimiter(1)

    def reading_of(request: Request, user: User) -> Reading:
        device = header(request, "x-deviceid") or ""
        tag = header(request, "x-tagname") or ""
        latest_us = min(backend.now()[1] + int(limits.future_s * 1e6), TIME_MAX_US)
        return Reading(zone_of(user.locale), tag, device, latest_us, limits.rows_max, limits.bytes_max)

    def device_ids(rows: Rows, user: User) -> dict[str, int]:
        """Raises BadBodyError, ApiError: NO_DEVICE."""
        ids = {"": 0}
        for name, index in rows.devices.items():
            device = backend.store.registry.device(user.user_id, name) if name else None
            if device is not None:
                ids[name] = device.id
            elif name == rows.reading.device and name:
                raise ApiError("NO_DEVICE", f"there is no device {name}")
            elif name:
                raise rows.bad_row(index, "NO_DEVICE", f"device: there is no device {name}")
        return ids

    def answered(outcome: WriteOutcome, rows: Rows) -> Response:
        """Raises ApiError."""
        match outcome:
            case Stored(count, is_repeated):
                if is_repeated:
                    counts.writes_repeated += 1
                else:
                    counts.rows_written += count
                return reply({"stored": count}, 201)
            case RowRefused(index, refusal, stored):
                counts.rows_written += stored
                counts.refuse_rows(refusal.name, len(rows) - stored)
                error = rows.bad_row(index, refusal.name, TOKENS_IN_WORDS[refusal.name])
                raise ApiError(error.token, error.words, more={"stored": stored} if stored else None)
            case OtherBody():
                raise ApiError("IDEMPOTENCY_MISMATCH", "something else was written with this Idempotency-Key")
            case TooManyKeys():
                words = "too many keys are remembered ([limits] write_keys_per_user_max)"
                raise ApiError("TOO_MANY_REQUESTS", words, {"Retry-After": "60"})
            case NoRoom(stored, begun):
                counts.rows_written += stored
                counts.refuse_rows("UNAVAILABLE", len(rows) - stored)
                words = f"no room for too long; the first {stored} of {len(rows)} rows are stored"
                if begun > stored:
                    words += f", and those up to {begun} may yet be"
                raise ApiError("UNAVAILABLE", words, {"Retry-After": "1"}, {"stored": stored})

    async def store(
        request: Request, user: User, channel: Channel, reading: Reading, body: bytes
    ) -> Response:
        key, media_type = key_of(request), media_type_of(request)
        try:
            if media_type in COLUMNS:
                async with workers:
                    rows = await parse_apart(backend.workers, body, media_type, reading, parsers)
            elif len(body) <= INLINE_BYTES:
                rows = parse(body, media_type, reading)
            else:
                rows = await in_background(parse, body, media_type, reading, limiter=parsers)
            ids = device_ids(rows, user)
        except BadBodyError as error:
            counts.refuse_rows(error.token, 1)
            raise ApiError(error.token, error.words) from None
        except ApiError as error:
            counts.refuse_rows(error.token, 1)
            raise
        if not len(rows):
            return reply({"stored": 0}, 201)
        named = (
            media_type.encode(),
            reading.tag.encode(errors="replace"),
            reading.device.encode(errors="replace"),
        )
        digest = digest_of(*named, body)
        outcome = await backend.writer.write(user.user_id, channel.id, rows.entries(ids), key, digest)
        return answered(outcome, rows)

    @router.post("/v2/stream/{number}", **about.WRITE)
    async def post_stream(request: Request, number: str) -> Response:
        user = user_of(request, backend)
        channel = channel_of(backend, user, number)
        reading = reading_of(request, user)
        key_of(request)  # refused before the body is taken
        parts: list[bytes] = []
        taken = 0
        try:
            async for part in request.stream():
                bodies.take(len(part))
                taken += len(part)
                parts.append(part)
            body = b"".join(parts)
            parts.clear()
            return await store(request, user, channel, reading, body)
        finally:
            bodies.give_back(taken)

    return router


# What the journal refuses, for people; the limits are named as in the configuration.
TOKENS_IN_WORDS: Final = {
    "BAD_JSON_FORMAT": "the value is not JSON",
    "PAYLOAD_TOO_LARGE": "the value is longer than [limits] payload_bytes_max",
    "JSON_TOO_DEEP": "the value is deeper than [limits] json_depth_max",
    "KEY_TOO_LONG": "a stream's name is longer than [limits] key_bytes_max",
    "TOO_MANY_STREAMS": "the channel would have more streams than [limits] streams_per_channel_max",
    "NUMBER_OUT_OF_RANGE": "a number is beyond the largest double",
    "TAG_INVALID": "the tag is longer than [limits] tag_bytes_max",
    "TOO_MANY_TAGS": "the channel would have more tags than [limits] tags_per_channel_max",
}
assert TOKENS_IN_WORDS.keys() <= TOKENS.keys()
