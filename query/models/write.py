"""Datapoints that people write (contract 3.3)."""

from typing import Annotated, Any, Final

from pydantic import Field, with_config
from typing_extensions import TypedDict

from query.models import CLOSED
from query.models.scalars import CHANNEL
from query.openapi import Body, Parameter, Reply, described

FORMATS: Final = {
    "application/x-ndjson": "a row per line, as in JSON",
    "text/csv": "a line of names, then a row per line; `at`, `device`, `tag`, every other column is a stream",
    "application/vnd.apache.arrow.stream": "an Arrow IPC stream with the columns of CSV",
    "application/vnd.apache.parquet": "a Parquet file with the columns of CSV",
}


@with_config(CLOSED)
class _Needed(TypedDict):
    value: Annotated[Any, Field(description="an object, whose members are streams, or any other JSON")]


@with_config(CLOSED)
class WrittenRow(_Needed, total=False):
    """A datapoint; what it does not say the headers say for all."""

    at: Annotated[str | None, Field(description="without it the time of receipt")]
    tag: str | None
    device: Annotated[str | None, Field(description="one that is registered")]
    _id: Annotated[str | None, Field(description="passed over: what was read can be written again")]


@with_config(CLOSED)
class WrittenRows(TypedDict):
    """What is durable now."""

    stored: Annotated[int, Field(ge=0, description="rows")]


WRITE: Final = described(
    "Write datapoints, one or many",
    "Durable when it is answered. A row that is not good refuses all of them. A JSON array is rows; any other JSON is "
    "one datapoint of now.",
    Reply(WrittenRows, {"stored": 2}, "all rows are durable", status=201),
    takes=Body(
        list[WrittenRow] | Any,
        [{"value": {"temp": 61.5}, "at": "2024-05-02T10:00:00+09:00"}, {"value": 7, "tag": "north"}],
        other=FORMATS,
    ),
    parameters=[
        CHANNEL,
        Parameter("X-TAGNAME", "tag of rows without one", where="header"),
        Parameter("X-DEVICEID", "device of rows without one", where="header"),
        Parameter(
            "Idempotency-Key",
            "the same request with the same key is stored once, and answered the same",
            where="header",
            kind=Annotated[str, Field(pattern=r"^[!-~]{1,255}$")],
            example="import-17",
        ),
    ],
    errors=[
        "BAD_BODY_FORMAT", "BAD_JSON_FORMAT", "BAD_PARAMETER", "BAD_TIME_FORMAT", "BODY_TOO_LARGE",
        "CONTENT_TOO_LARGE", "IDEMPOTENCY_MISMATCH", "JSON_TOO_DEEP", "KEY_TOO_LONG", "NO_CHANNEL", "NO_DEVICE",
        "NUMBER_OUT_OF_RANGE", "PAYLOAD_TOO_LARGE", "TAG_INVALID", "TOO_MANY_STREAMS", "TOO_MANY_TAGS", "UNAVAILABLE",
    ],
)  # fmt: skip
