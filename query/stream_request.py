"""What a request of the Stream service asks for: the contract's headers (3.3), the URL's parameters, what is accepted.

Everything is a parameter of the URL; those that the contract knows as headers may come as such, and the header counts
if both are there. Nothing here looks at data: channels, tags and devices stay names until the service resolves them.

A parameter that takes several names may be repeated, or be a list with commas, or both; a name with a comma in it is
written as in CSV, ``"a,b"``. A header holds one name, commas included.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from starlette.requests import Request

from query.aggregate_request import (
    AggregateRequest,
    PointsRequest,
    parse_aggregate_request,
    parse_points_request,
)  # fmt: skip
from query.errors import ApiError
from query.requests import header, is_true, only_parameters
from query.times import TimeFormatError, parse_end, parse_time, zone_of
from storage.cover import TIME_MIN_US
from storage.registry import User

LAST: Final = "last"

# Parameter of the URL -> header of the contract.
PARAMETERS: Final[Mapping[str, str | None]] = {
    "start": "x-starttime",
    "end": "x-endtime",
    "limit": "x-pagelimit",
    "sort": "x-pagesort",
    "tag": "x-tagname",
    "device": "x-deviceid",
    "aggregate": "x-aggregate",
    "channel": None,
    "streams": None,
    "zone": None,
    "format": None,
    "compression": None,
    "cursor": None,
    "per": None,
    "meta": None,
    "interval": None,
    "fill": None,
    "by": None,
    "points": None,
    "method": None,
}
# What else is looked at.
FIELDS: Final = frozenset(
    {field.encode() for field in PARAMETERS.values() if field is not None} | {b"accept", b"accept-encoding"}
)
# Whoever asks for the newest asks again in the same words: reading those took a fifth of such a request's time.
REMEMBERED_MAX: Final = 512
REMEMBERED_BYTES_MAX: Final = 1_024  # of one request's words


class Format(Enum):
    """What rows come back as; the value is the media type."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"
    CSV = "text/csv"
    ARROW = "application/vnd.apache.arrow.stream"
    PARQUET = "application/vnd.apache.parquet"


FORMATS: Final = {each.name.lower(): each for each in Format}
# Texts are compressed on the way (Accept-Encoding, the better one first), the others inside (compression=).
CODINGS: Final = ("zstd", "gzip")
TEXT_FORMATS: Final = frozenset({Format.JSON, Format.NDJSON, Format.CSV})
COMPRESSIONS: Final = ("zstd", "lz4")


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a request asks for; names are not resolved.

    Attributes:
        channels: numbers as the URL's ``channel`` has them; empty if the path names the channel.
        start_us, end_us: both inclusive; end_us None for «the newest».
        limit: how many of the newest, or rows of a page; None for all of a range.
        is_unordered: the rows of a range as they are found.
        tags, devices, streams: only these; empty is all.
        zone: of times, in and out.
        coding: what the reply is compressed with on the way, or None.
        compression: of the buffers inside an Arrow reply, or None.
        cursor: where the next page begins, as an earlier reply said.
        is_per_device: the newest of each device.
        with_meta: describe the streams.
        aggregate: aggregates instead of rows.
        points: fewer rows, for a chart.
    """

    channels: tuple[str, ...]
    start_us: int
    end_us: int | None
    limit: int | None
    descending: bool
    is_unordered: bool
    tags: tuple[str, ...]
    devices: tuple[str, ...]
    streams: tuple[str, ...]
    zone: ZoneInfo
    format: Format
    coding: str | None
    compression: str | None
    cursor: str | None
    is_per_device: bool
    with_meta: bool
    aggregate: AggregateRequest | None
    points: PointsRequest | None


def parse_request(
    request: Request, user: User, page_rows_max: int, *, is_in_path: bool = False
) -> StreamRequest:
    """Read a request; ``is_in_path`` is whether its path names the channel.

    Raises:
        ApiError: BAD_TIME_FORMAT, BAD_PARAMETER, BAD_AGGREGATE.
    """
    query = request.scope["query_string"]
    fields = tuple(field for field in request.scope["headers"] if field[0] in FIELDS)
    is_short = len(query) + sum(len(value) for _, value in fields) <= REMEMBERED_BYTES_MAX
    return (_parse if is_short else _parse.__wrapped__)(query, fields, user.locale, page_rows_max, is_in_path)


@lru_cache(REMEMBERED_MAX)
def _parse(
    query: bytes, fields: tuple[tuple[bytes, bytes], ...], locale: str, page_rows_max: int, is_in_path: bool
) -> StreamRequest:
    request = Request({"type": "http", "query_string": query, "headers": list(fields)})
    if is_in_path and "channel" in request.query_params:
        raise ApiError("BAD_PARAMETER", "channel: the path names one already; several go with /v2/stream")
    given = only_parameters(request, PARAMETERS)

    def ask(name: str) -> str | None:
        field = PARAMETERS[name]
        return (header(request, field) if field else None) or given.get(name) or None

    def names(name: str) -> tuple[str, ...]:
        field = PARAMETERS[name]
        one = header(request, field) if field else None
        return (one,) if one else listed(given.getlist(name))

    aggregate = parse_aggregate_request(ask)
    points = parse_points_request(ask, page_rows_max)
    zone = _zone(ask("zone"), locale)
    is_per_device = ask("per") is not None and _one_of("per", ask("per"), ("device",)) == "device"
    start_us, end_us = _span(ask("start"), ask("end"), zone, aggregate is not None, is_per_device)
    if points is not None and (end_us is None or given.get("limit") or given.get("cursor")):
        raise ApiError(
            "BAD_PARAMETER", "points: are of a whole range: start and end as times, no limit, no cursor"
        )
    is_paged = end_us is not None and aggregate is None and bool(given.get("limit") or given.get("cursor"))
    limit = _limit(ask("limit"), page_rows_max)
    sort = _one_of("X-PAGESORT", ask("sort") or "asc", ("asc", "desc", "none"))
    if sort == "none" and (end_us is None or is_paged):
        raise ApiError("BAD_PARAMETER", "sort=none is for whole ranges")
    if is_per_device and end_us is not None:
        raise ApiError("BAD_PARAMETER", "per=device needs end=last")
    if given.get("cursor") and not is_paged:
        raise ApiError("BAD_PARAMETER", "cursor is for the datapoints of a range")
    shape = _format(ask("format"), request.headers.get("accept", ""))
    return StreamRequest(
        channels=names("channel"),
        start_us=start_us,
        end_us=end_us,
        limit=limit or (1 if end_us is None else page_rows_max) if end_us is None or is_paged else None,
        descending=sort == "desc",
        is_unordered=sort == "none",
        tags=names("tag"),
        devices=names("device"),
        streams=names("streams"),
        zone=zone,
        format=shape,
        coding=_coding(request.headers.get("accept-encoding", "")) if shape in TEXT_FORMATS else None,
        compression=_compression(ask("compression"), shape),
        cursor=given.get("cursor") or None,
        is_per_device=is_per_device,
        with_meta=is_true(ask("meta")),
        aggregate=aggregate,
        points=points,
    )


def listed(texts: Sequence[str]) -> tuple[str, ...]:
    """The names in lists with commas, each once, in order of appearance. Raises ApiError."""
    try:
        return tuple(dict.fromkeys(name for text in texts if text for name in next(csv.reader([text]))))
    except csv.Error as error:
        raise ApiError("BAD_PARAMETER", f"a list of names cannot be read: {error}") from None


def _zone(text: str | None, locale: str) -> ZoneInfo:
    try:
        return zone_of(locale if text is None else text)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ApiError("BAD_PARAMETER", f"zone: {text!r} is not an IANA time zone") from None


def _span(
    start: str | None, end: str | None, zone: ZoneInfo, is_aggregate: bool, is_per_device: bool
) -> tuple[int, int | None]:
    """A start bounds the newest only where they are looked for device by device; else the contract overlooks it."""
    is_start_last, is_end_last = ((each or "").strip().lower() == LAST for each in (start, end))
    is_last = is_start_last or is_end_last
    if is_last and is_aggregate:
        raise ApiError("BAD_TIME_FORMAT", "an aggregate needs a range: X-STARTTIME and X-ENDTIME as times")
    if end is None and not is_last:
        raise ApiError("BAD_TIME_FORMAT", "X-ENDTIME is missing: a time, or last")
    if is_last and (is_start_last or not is_per_device):
        start = None
    try:
        start_us = TIME_MIN_US if start is None else parse_time(start, zone)
        return start_us, None if is_last or end is None else parse_end(end, zone)
    except TimeFormatError as error:
        raise ApiError("BAD_TIME_FORMAT", str(error)) from None


def _limit(text: str | None, page_rows_max: int) -> int | None:
    """Ranges are paged by the URL's limit or cursor only, the contract's page limit is for the newest (3.3, rule 3)."""
    if text is None:
        return None
    if re.fullmatch(r"\s*0*[1-9][0-9]{0,17}\s*", text) is None or int(text) > page_rows_max:
        raise ApiError("BAD_PARAMETER", f"X-PAGELIMIT: expected 1 .. {page_rows_max} ([query] page_rows_max)")
    return int(text)


def _one_of(name: str, text: str | None, words: Sequence[str]) -> str:
    word = (text or "").strip().lower()
    if word not in words:
        raise ApiError("BAD_PARAMETER", f"{name}: expected {' or '.join(words)}")
    return word


def _format(text: str | None, accept: str) -> Format:
    """``format=``, else the best of Accept that there is, else JSON (RFC 9110, 12.5.1: the server's choice)."""
    if text is not None:
        return FORMATS[_one_of("format", text, tuple(FORMATS))]
    weights = weighted(accept)
    found = [each for each in Format if weights.get(each.value)]
    wildcard = max(weights.get("*/*", 0.0), weights.get("application/*", 0.0))
    best = max(found, key=lambda each: weights[each.value], default=Format.JSON)
    return best if not found or weights[best.value] >= wildcard else Format.JSON


def _coding(accept_encoding: str) -> str | None:
    """The content coding to use (RFC 9110 section 12.5.3): none unless the client names one that we have."""
    weights = weighted(accept_encoding)
    if "x-gzip" in weights:
        weights.setdefault("gzip", weights["x-gzip"])
    best = max(CODINGS, key=lambda each: weights.get(each, 0.0))
    return best if weights.get(best, 0.0) > 0 else None


def _compression(text: str | None, shape: Format) -> str | None:
    if text is None:
        return None
    word = _one_of("compression", text, COMPRESSIONS)
    if shape is not Format.ARROW:
        raise ApiError("BAD_PARAMETER", "compression: is for format=arrow; texts follow Accept-Encoding")
    return word


def weighted(field: str) -> dict[str, float]:
    """The members of an Accept or Accept-Encoding field with their weights; what cannot be read is left out."""
    found: dict[str, float] = {}
    for member in field.lower().split(","):
        name, *parameters = (part.strip() for part in member.split(";"))
        weight = 1.0
        for parameter in parameters:
            if re.fullmatch(r"q=[01](\.\d{0,3})?", parameter):
                weight = min(float(parameter[2:]), 1.0)
        if name:
            found[name] = max(weight, found.get(name, 0.0))
    return found
