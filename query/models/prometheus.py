"""Prometheus' API (beyond the contract): its parameters, its envelope, and errors unlike the other services'."""

from dataclasses import replace
from typing import Any, Final, Literal

from pydantic import with_config
from typing_extensions import TypedDict

from query.models import CLOSED
from query.openapi import JSON, REFERENCE, Parameter, Reply, described, string_headers

FORM: Final = "application/x-www-form-urlencoded"
ERRORS: Final = {
    400: ("bad_data", "a parameter is missing or wrong, or the query is not PromQL, or not supported"),
    401: ("auth_required", "the token is missing, or nobody has it"),
    403: ("user_disabled", "the account is disabled"),
    422: ("execution", "series that do not match one to one, or more than a query may take"),
    429: ("too_many_requests", "more requests than the rate limit allows"),
    503: ("timeout", "the query takes too long (`timeout`), or nothing can be asked now (`unavailable`)"),
}
HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: string_headers({"WWW-Authenticate": "how to say who asks"}),
    429: {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}},
}
ENVELOPE: Final = {
    "type": "object",
    "description": "Prometheus' envelope of an error.",
    "required": ["status", "errorType", "error"],
    "properties": {
        "status": {"const": "error"},
        "errorType": {"type": "string", "description": "for programs"},
        "error": {"type": "string", "description": "for a person"},
    },
}


@with_config(CLOSED)
class PrometheusResult(TypedDict):
    """What an expression is: a scalar `[time, value]`, or a list of series; values are texts."""

    resultType: Literal["scalar", "vector", "matrix"]
    result: list[Any]


@with_config(CLOSED)
class PrometheusQueryAnswer(TypedDict):
    """The value of an expression."""

    status: Literal["success"]
    data: PrometheusResult


@with_config(CLOSED)
class PrometheusNames(TypedDict):
    """Names or values of labels, in order."""

    status: Literal["success"]
    data: list[str]


@with_config(CLOSED)
class PrometheusSeries(TypedDict):
    """The labels of each series."""

    status: Literal["success"]
    data: list[dict[str, str]]


@with_config(CLOSED)
class PrometheusMetadata(TypedDict):
    """What is known of each metric."""

    status: Literal["success"]
    data: dict[str, list[dict[str, str]]]


@with_config(CLOSED)
class PrometheusBuild(TypedDict):
    """Which version of the API this is."""

    status: Literal["success"]
    data: dict[str, str]


def arguments(
    summary: str, text: str, kind: Any, data: Any, parameters: list[Parameter], method: str
) -> dict[str, Any]:
    """Arguments of a route; with POST the parameters may stand in a form, too."""
    reply = Reply(kind, {"status": "success", "data": data}, "Prometheus' envelope")
    made = described(summary, text, reply, parameters=parameters)
    made["responses"] = {200: reply.described(), **{status: _refusal(status) for status in ERRORS}}
    if method == "POST":
        made["openapi_extra"]["parameters"] = [{**each.described(), "required": False} for each in parameters]
        form = {each.name: each.described()["schema"] for each in parameters}
        example = {each.name: each.example for each in parameters if each.example is not None}
        made["openapi_extra"]["requestBody"] = {
            "required": False,
            "description": "the same parameters as a form; they count more than those in the URL",
            "content": {FORM: {"schema": {"type": "object", "properties": form}, "example": example}},
        }
    return made


def _refusal(status: int) -> dict[str, Any]:
    error_type, text = ERRORS[status]
    schema = {
        "anyOf": [ENVELOPE, {"$ref": REFERENCE.format(model="Error")}]
    }  # the HTTP server's own are the latter
    example = {"status": "error", "errorType": error_type, "error": text}
    value = {
        "description": text,
        "content": {JSON: {"schema": schema, "examples": {error_type: {"value": example}}}},
    }
    return {**value, "headers": dict(HEADERS[status])} if status in HEADERS else value


_QUERY: Final = Parameter("query", "the expression", example="avg by (device) (temp)", is_needed=True)
_TIMEOUT: Final = Parameter("timeout", "seconds, or a duration such as `10s`; at most 120 s", example="10s")
_LIMIT: Final = Parameter("limit", "at most so many; 0 is no limit", example="100")
_MATCH: Final = Parameter(
    "match[]", "selectors of the series that count", is_listed=True, example=['temp{device="north-1"}']
)
_START: Final = Parameter("start", "seconds since 1970, or RFC 3339", example="2024-05-02T10:00:00Z")
_END: Final = Parameter("end", "the same; included", example="2024-05-02T11:00:00Z")
_TIME: Final = Parameter(
    "time", "seconds since 1970, or RFC 3339; now if it is not there", example="1714645200"
)
_STEP: Final = Parameter("step", "seconds, or a duration such as `15s`", example="15s", is_needed=True)
_NEEDED: Final = [replace(each, is_needed=True) for each in (_START, _END)]
_NAME: Final = Parameter("name", "the label", where="path", example="device")
_LABELS: Final = {
    "__name__": "temp",
    "channel": "1",
    "channel_name": "Greenhouse",
    "device": "north-1",
    "stream": "temp",
}
_VECTOR: Final = {"resultType": "vector", "result": [{"metric": _LABELS, "value": [1714645200, "21.5"]}]}
_MATRIX: Final = {"resultType": "matrix", "result": [{"metric": _LABELS, "values": [[1714645200, "21.5"]]}]}

# By path: summary, text, the answer's type, an example of its data, parameters.
ROUTES: Final[dict[str, tuple[str, str, Any, Any, list[Parameter]]]] = {
    "/query": (
        "A PromQL expression at one time", "A subset of PromQL over the account's numeric streams; docs/grafana.md.",
        PrometheusQueryAnswer, _VECTOR, [_QUERY, _TIME, _TIMEOUT],
    ),
    "/query_range": (
        "A PromQL expression at every step of a range", "At most 11,000 points for each series.",
        PrometheusQueryAnswer, _MATRIX, [_QUERY, *_NEEDED, _STEP, _TIMEOUT],
    ),
    "/labels": (
        "Names of labels", "Of all series, or of those that match.",
        PrometheusNames, sorted(_LABELS), [_MATCH, _START, _END, _LIMIT],
    ),
    "/label/{name}/values": (
        "Values of a label", "Of all series, or of those that match.",
        PrometheusNames, ["north-1"], [_NAME, _MATCH, _START, _END, _LIMIT],
    ),
    "/series": (
        "Series by their labels", "Those that match and have readings between start and end.",
        PrometheusSeries, [_LABELS],
        [replace(_MATCH, is_needed=True), _START, _END, _LIMIT],
    ),
    "/metadata": (
        "What is known of metrics", "Descriptions and units of streams.",
        PrometheusMetadata, {"temp": [{"type": "gauge", "help": "Air", "unit": "°C"}]},
        [Parameter("metric", "only this one", example="temp"), _LIMIT],
    ),
    "/status/buildinfo": (
        "Which version of Prometheus' API this is", "Grafana asks for it to know what it may use.",
        PrometheusBuild, {"version": "2.42.0"}, [],
    ),
}  # fmt: skip
