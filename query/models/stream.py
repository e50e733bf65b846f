"""Datapoints (contract 1.6, 3.3)."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from query.measures import NAMES
from query.models import CLOSED
from query.models.scalars import CHANNEL, ChannelNumber, Time
from query.openapi import PAGED, Parameter, Reply, described
from query.points import POINTS_MIN
from query.stream_request import PARAMETERS, Format

LOCAL: Final = "`YYYY-MM-DD[ hh:mm[:ss[.ffffff]]][offset]`, without an offset local to the account's zone"


@with_config(CLOSED)
class Entry(TypedDict):
    """A datapoint."""

    _id: Annotated[str, Field(pattern=r"^[0-9a-f]{24}$")]
    tag: str | None
    value: Annotated[Any, Field(description="what was sent: an object, or any other JSON")]
    at: Annotated[Time, Field(description="when it was received")]


@with_config(CLOSED)
class StreamDescribed(TypedDict):
    """What is said of a stream, and the kind that it had first."""

    label: str
    unit: str
    description: str
    kind: str


@with_config(CLOSED)
class Entries(TypedDict):
    """Datapoints of a channel."""

    channel: ChannelNumber
    channel_name: str
    last_update: Time | None
    streams: NotRequired[
        Annotated[
            dict[str, StreamDescribed],
            Field(description="with `meta`, or when one of the channel's streams has been described"),
        ]
    ]
    stream: list[Entry]
    next_cursor: NotRequired[Annotated[str, Field(description="where the next page of a range begins")]]


@with_config(CLOSED)
class Aggregated(TypedDict):
    """What a bucket, or a device, or all that was found comes to."""

    _id: None
    at: NotRequired[Annotated[Time, Field(description="with `interval`: the start of the bucket")]]
    device: NotRequired[Annotated[str, Field(description="with `by=device`")]]
    tag: NotRequired[Annotated[str | None, Field(description="with `by=tag`")]]
    value: Annotated[
        Any,
        Field(
            description="numbers, as the payloads nest them; or one number; with several aggregates an object of"
            " them in place of each number. `null` is a gap that is filled so, or beyond the largest double"
        ),
    ]


@with_config(CLOSED)
class Aggregate(TypedDict):
    """Aggregates of a range of time; `result` is empty if there were no numbers."""

    channel: ChannelNumber
    channel_name: str
    last_update: Time | None
    streams: NotRequired[
        Annotated[
            dict[str, StreamDescribed],
            Field(description="with `meta`, or when one of the channel's streams has been described"),
        ]
    ]
    aggr_type: Annotated[str, Field(description="the aggregates, as in `avg` or `avg,max`")]
    approximate: NotRequired[
        Annotated[list[str], Field(description="percentiles that are estimated: there were too many values")]
    ]
    result: list[Aggregated]


EXAMPLE: Final = {
    "channel": 3,
    "channel_name": "Boiler room",
    "last_update": "2024-05-02T10:00:00+0900",
    "stream": [
        {
            "_id": "6632e5a0000000000000002a",
            "tag": None,
            "value": {"temp": 61.5, "psi": 12},
            "at": "2024-05-02T10:00:00+0900",
        }
    ],
}
OTHERS: Final = {
    Format.NDJSON.value: "a JSON object for each datapoint: `_id`, `at`, `device`, `tag`, `value`",
    Format.CSV.value: "columns `seq`, `at`, `device`, `tag`, then one for each stream; "
    "aggregates: `at`, `device`, `tag` where asked for",
    Format.ARROW.value: "an Arrow IPC stream with the same columns",
    Format.PARQUET.value: "a Parquet file with the same columns",
}
HEADERS: Final = {
    **PAGED,
    "X-APPROXIMATE": "percentiles that are estimated: there were too many values",
    "X-ROWS-ESTIMATE": "of a whole range: about how many readings come, or more if not all devices and tags are wanted",
}
Limit = Annotated[int, Field(ge=1)]
Points = Annotated[int, Field(ge=POINTS_MIN)]
Aggregation = Annotated[str, Field(min_length=2)]
IntervalText = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}(s|m|h|d|w|mo|y)$")]
# Parameter of the URL -> what it means, and its type; query/stream_request.py says which are headers, too.
WORDS: Final[Mapping[str, tuple[str, Any]]] = {
    "start": (f"start of the range: {LOCAL}; `last` is `last` as the end", str),
    "end": (f"end of the range, included: {LOCAL}; or `last` for the newest. Needed, here or as header", str),
    "limit": (
        "with `last`: how many of the newest, up to `query.page_rows_max`; in the URL also the rows "
        "of a page of a range",
        Limit,
    ),
    "sort": (
        "oldest or newest first; `none`, for whole ranges: as the rows are found, which is fastest",
        Literal["asc", "desc", "none"],
    ),
    "tag": ("only datapoints with this tag, in the URL also with one of several", str),
    "device": ("only datapoints of this device, in the URL also of one of several", str),
    "aggregate": (
        f"of a range: a list with commas of {', '.join(f'`{name}`' for name in NAMES)} and percentiles,"
        " `p0` .. `p100`",
        Aggregation,
    ),
    "interval": (
        "with `aggregate`: buckets of time, as in `15m`, `1h`, `1d`, `1w`, `1mo`, `1y`",
        IntervalText,
    ),
    "fill": (
        "with `interval`: what stands in gaps: `none` (no bucket at all), `null`, `previous`, `linear`, or a number",
        str,
    ),
    "by": ("with `aggregate` or `points`: for each one on its own", Literal["device", "tag", "device,tag"]),
    "points": ("so many datapoints of each stream, for a chart", Points),
    "method": ("with `points`: how they are chosen", Literal["lttb", "minmax"]),
    "channel": ("the channels: numbers, up to 64", str),
    "streams": ("only these streams of each datapoint; `value` is a literal's", str),
    "zone": ("IANA time zone of all times, in and out; the account's if it is not there", str),
    "format": (
        "of the reply; counts more than `Accept`",
        Literal["json", "ndjson", "csv", "arrow", "parquet"],
    ),
    "compression": ("of the buffers inside `arrow`", Literal["zstd", "lz4"]),
    "cursor": ("where the next page of a range begins, as an earlier reply said", str),
    "per": ("with `last`: the newest of each device", Literal["device"]),
    "meta": ("the streams' descriptions come along", Literal["true", "false"]),
}
LISTED: Final = ("tag", "device", "streams", "channel")
EXAMPLES: Final = {"end": "last", "limit": 10, "channel": "1,2"}


def parameters_of(name: str, field: str | None) -> list[Parameter]:
    """A parameter of the URL, and the contract's header of the same meaning if there is one."""
    text, kind = WORDS[name]
    listed = f"{text}; a list with commas, or repeated" if name in LISTED else text
    found = [Parameter(name, listed, kind, example=EXAMPLES.get(name))]
    if field is not None:
        found.append(Parameter(field.upper(), f"{text}. Counts more than `{name}`", kind, where="header"))
    return found


OFFERED: Final = [
    each for name, field in PARAMETERS.items() if name != "channel" for each in parameters_of(name, field)
]
ERRORS: Final = [
    "BAD_AGGREGATE",
    "BAD_PARAMETER",
    "BAD_TIME_FORMAT",
    "NO_CHANNEL",
    "QUERY_MEMORY",
    "UNAVAILABLE",
]

GET: Final = described(
    "Datapoints of a channel: the newest, a range, or an aggregate",
    "`end=last` gives the newest (`limit` of them), times give a range, which comes whole or in pages, and with "
    "`aggregate` what the numbers of each stream come to, perhaps in buckets of time. "
    "Entries stand in the order of their times.",
    Reply(
        Entries | Aggregate,
        EXAMPLE,
        "datapoints, perhaps none, or an aggregate",
        other=OTHERS,
        headers=HEADERS,
    ),
    parameters=[CHANNEL, *OFFERED],
    errors=ERRORS,
)
LIST: Final = described(
    "Datapoints of several channels",
    "As for one channel. JSON is an array of envelopes; the other formats have a column or key `channel` first.",
    Reply(
        list[Entries] | list[Aggregate],
        [EXAMPLE],
        "an array of what one channel gives",
        other=OTHERS,
        headers=HEADERS,
    ),
    parameters=[*parameters_of("channel", None), *OFFERED],
    errors=ERRORS,
)
