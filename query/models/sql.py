"""SQL over the account's channels (beyond the contract)."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from query.models import CLOSED
from query.openapi import Body, Parameter, Reply, described

SQL_BYTES_MAX: Final = 65_536
PARAMETERS_MAX: Final = 1_000
FORMATS: Final = {
    "application/x-ndjson": "a JSON object for each row",
    "text/csv": "a line with the names, and one for each row",
    "application/vnd.apache.arrow.stream": "an Arrow IPC stream",
    "application/vnd.apache.parquet": "a Parquet file",
}
Format = Literal["json", "ndjson", "csv", "arrow", "parquet"]
Value = str | int | float | bool | None


@with_config(CLOSED)
class _Needed(TypedDict):
    sql: Annotated[str, Field(max_length=SQL_BYTES_MAX, description="one SELECT in DuckDB's dialect")]


@with_config(CLOSED)
class SqlQuery(_Needed, total=False):
    """A statement and what belongs to it."""

    parameters: Annotated[
        Annotated[list[Value], Field(max_length=PARAMETERS_MAX)]
        | Annotated[dict[str, Value], Field(max_length=PARAMETERS_MAX)],
        Field(description="for `?` and `$1` (a list), or for `$name` (an object)"),
    ]
    format: Annotated[Format, Field(description="counts more than `format` in the URL and `Accept`")]
    limit: Annotated[
        int, Field(ge=1, description="rows at most; up to `sql.rows_max`, which holds without it")
    ]


@with_config(CLOSED)
class SqlColumn(TypedDict):
    """A column of the answer."""

    name: str
    type: Annotated[str, Field(description="DuckDB's word for it")]


@with_config(CLOSED)
class SqlAnswer(TypedDict):
    """The rows, as arrays in the order of the columns."""

    columns: list[SqlColumn]
    rows: list[list[Any]]
    row_count: int
    is_cut: Annotated[bool, Field(description="there are more rows than the limit")]


RUN: Final = described(
    "Run one SELECT over the own channels",
    "Views: `channel_<number>` (`seq`, `at`, `device`, `tag`, then the streams), `channels`, `streams`, `devices`. A "
    "query runs in a process of its own, which reads the account's data and nothing else, with limits on time, memory, "
    "rows and bytes.",
    Reply(
        SqlAnswer,
        {"columns": [{"name": "temp", "type": "DOUBLE"}], "rows": [[21.5]], "row_count": 1, "is_cut": False},
        "the rows, in the format that was asked for",
        other=FORMATS,
    ),
    takes=Body(SqlQuery, {"sql": "SELECT channel, channel_name FROM channels", "format": "json"}),
    parameters=[
        Parameter("format", "of the answer", Format),
    ],
    errors=[
        "BAD_JSON_FORMAT", "BAD_PARAMETER", "BAD_SQL", "QUERY_MEMORY", "QUERY_TIMEOUT", "QUERY_TOO_LARGE",
        "SQL_FORBIDDEN", "SQL_UNAVAILABLE", "UNAVAILABLE",
    ],
)  # fmt: skip
