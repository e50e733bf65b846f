"""How routes become an OpenAPI 3.1 document that is complete and true.

Handlers take the raw request, for the contract's quirks are not the framework's; so each route says what
it takes and gives: ``@router.get(path, **about.LIST)``, where ``LIST = described(…)`` stands in the service's module
of query/models, with the types of its bodies and replies. That is turned into FastAPI's own arguments, and FastAPI
makes the document. What all routes have in common is added here: who may ask, the headers of the rate limit,
the errors of the HTTP server, HEAD beside GET.

tests/query/test_openapi.py fails when a route, a parameter or a token has no
description; tests/described.py holds every answer that a test gets from a running daemon against the document.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from query.errors import MEANINGS, TOKENS
from query.http.errors import TOKENS as SERVER_TOKENS

JSON: Final = "application/json"
REFERENCE: Final = "#/components/schemas/{model}"
# An example on its way through FastAPI, as text, for FastAPI leaves every null out.
EXAMPLE: Final = "x-example"
STATUS_NAME: Final = "status{}"
VERSION: Final = "2.0.0"
DESCRIPTION: Final = (
    "The ThingScale API 2.0 and what goes beyond it. Bodies are JSON whatever their Content-Type says; a path may end "
    'in a slash; HEAD goes wherever GET goes. An error is `{"error": TOKEN, "detail": words}`: programs look at the '
    "token, the words may change. A path that is not here is answered 404 `NOT_FOUND`, a method that a path does not "
    "have 405 `METHOD_NOT_ALLOWED` with `Allow`."
)
TAGS: Final[Mapping[str, str]] = {
    "Device": "What is registered, and to which channel its readings go.",
    "Channel": "Time series, their tags and names.",
    "Event": "What somebody wants to be told of.",
    "Stream": "The datapoints of channels.",
    "Live": "Datapoints as they become durable.",
    "Prometheus": "Numeric streams as series, for Grafana; requests, replies and errors are Prometheus'.",
    "SQL": "One SELECT over the account's channels.",
    "Publish": "Messages for devices.",
    "Session": "The MQTT clients that are connected.",
    "User": "The account that the token belongs to.",
    "Admin": "All accounts, with an admin's token.",
    "Health": "For whatever watches over the daemon; no token.",
}
Who = Literal["user", "admin", "anybody"]
# What a route can be refused with because of who asks, before it looks at anything else.
REFUSALS: Final[Mapping[Who, tuple[str, ...]]] = {
    "user": ("AUTH_REQUIRED", "USER_DISABLED", "TOO_MANY_REQUESTS"),
    "admin": ("AUTH_REQUIRED", "ADMIN_REQUIRED", "TOO_MANY_REQUESTS"),
    "anybody": (),
}
STATUSES: Final[Mapping[str, int]] = {
    **{token: status for status, token in SERVER_TOKENS.items()},
    **TOKENS,
}
# The HTTP server's own answers: to any request; the first two share a status with refusals of the services.
SERVER_SHARED: Final = ("BAD_REQUEST", "OVERLOADED")
SERVER_ALONE: Final = (408, 413, 414, 417, 431, 500)
SECURITY: Final = {
    "token": {"type": "apiKey", "in": "header", "name": "X-APITOKEN", "description": "the API token"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "the API token"},
    "basic": {"type": "http", "scheme": "basic", "description": "the API token is the password"},
}
# draft-ietf-httpapi-ratelimit-headers-03; not there if there is no limit.
PACE_HEADERS: Final = {
    "RateLimit-Limit": "requests at once, after a silence",
    "RateLimit-Remaining": "requests at once, now",
    "RateLimit-Reset": "seconds of silence until they are the same",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A header, or a parameter of the URL's query or path.

    Attributes:
        kind: its type, or a JSON schema.
        is_listed: may be repeated.
    """

    name: str
    text: str
    kind: Any = str
    where: Literal["query", "header", "path"] = "query"
    example: Any = None
    is_listed: bool = False
    is_needed: bool = False

    def described(self) -> dict[str, Any]:
        schema = self.kind if isinstance(self.kind, dict) else schema_of(self.kind)
        if self.is_listed:
            schema = {"type": "array", "items": schema}
        value = {
            "name": self.name,
            "in": self.where,
            "required": self.is_needed or self.where == "path",
            "description": self.text,
            "schema": schema,
        }
        return value if self.example is None else {**value, "example": self.example}


@dataclass(frozen=True, slots=True)
class Body:
    """What a route takes.

    Attributes:
        kind: the type of the JSON.
        other: media types beside JSON, with what they hold.
    """

    kind: Any
    example: Any
    text: str = ""
    is_needed: bool = True
    other: Mapping[str, str] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        own = {"schema": schema_of(self.kind), EXAMPLE: json.dumps(self.example)}
        others = {name: binary(text) for name, text in self.other.items()}
        value = {"required": self.is_needed, "content": {JSON: own, **others}}
        return {**value, "description": self.text} if self.text else value


@dataclass(frozen=True, slots=True)
class Reply:
    """What a route gives when it does what it was asked for.

    Attributes:
        kind: the type of the JSON; None for a reply that is not JSON.
        other: media types beside JSON, with what they hold.
        headers: of this reply alone, with what they say.
    """

    kind: Any
    example: Any
    text: str
    status: int = 200
    other: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        content: dict[str, Any] = {name: binary(text) for name, text in self.other.items()}
        value: dict[str, Any] = {"description": self.text, "content": content}
        if self.kind is not None:
            content[JSON] = {EXAMPLE: json.dumps(self.example)}
            value["model"] = self.kind
        return {**value, "headers": string_headers(self.headers)} if self.headers else value


DELETED: Final = Reply(dict[str, None], {}, "it is gone")
# What is not JSON has no schema that says more than this.
PAGED: Final = {
    "X-NEXT-CURSOR": "where the next page begins; not there on the last one",
    "Link": '`<…>; rel="next"`: the next page',
}


def described(
    summary: str,
    text: str,
    reply: Reply,
    *,
    takes: Body | None = None,
    parameters: Sequence[Parameter] = (),
    errors: Sequence[str] = (),
    who: Who = "user",
) -> dict[str, Any]:
    """Arguments of a route: ``@router.put(path, **described(…))``.

    Args:
        summary: its title.
        text: what it does, for a person; Markdown.
        reply: what it gives.
        takes: its body.
        parameters: headers and parameters of the URL; one of the path replaces what the path says.
        errors: tokens of query/errors.py that it may be refused with, beside those of everybody who asks.
        who: whose token it needs.
    """
    extra: dict[str, Any] = {"parameters": [each.described() for each in parameters], "x-who": who}
    if takes is not None:
        extra["requestBody"] = takes.described()
    tokens = {*errors, *REFUSALS[who], *SERVER_SHARED}
    arguments: dict[str, Any] = {} if reply.kind is not None else {"response_class": Response}
    return {
        **arguments,
        "summary": summary,
        "description": text,
        "status_code": reply.status,
        "responses": {reply.status: reply.described(), **refusals(tokens)},
        "openapi_extra": extra,
    }


def refusals(tokens: Iterable[str]) -> dict[int | str, dict[str, Any]]:
    """Responses for tokens, by status."""
    by_status: dict[int, list[str]] = {}
    for token in sorted(tokens):
        by_status.setdefault(STATUSES[token], []).append(token)
    return {
        status: refusal(status, {each: MEANINGS[each] for each in by_status[status]}) for status in by_status
    }


def refusal(status: int, words: Mapping[str, str]) -> dict[str, Any]:
    """A response with one of some tokens."""
    listed = {"type": "object", "properties": {"error": {"enum": sorted(words)}}}
    value: dict[str, Any] = {
        "description": "; ".join(f"`{token}`: {text}" for token, text in words.items()),
        "content": {
            JSON: {
                "schema": {"allOf": [{"$ref": REFERENCE.format(model="Error")}, listed]},
                "examples": {
                    token: {"value": {"error": token, "detail": text}} for token, text in words.items()
                },
            }
        },
    }
    if status == 401:
        value["headers"] = string_headers({"WWW-Authenticate": "how to say who asks"})
    if status in (429, 503):
        value["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return value


def schema_of(kind: Any) -> dict[str, Any]:
    """A type's JSON schema; types with a name stand in its ``$defs``, until the document takes them over."""
    return TypeAdapter(kind).json_schema(ref_template=REFERENCE)


def binary(text: str) -> dict[str, Any]:
    """The content of a media type that JSON schema says nothing about."""
    return {"schema": {"description": text}}


def string_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}


def operation_id(route: APIRoute) -> str:
    """The handler's name; an admin's has the account's name for the same thing before it."""
    return f"admin_{route.name}" if "Admin" in route.tags else route.name


def document(app: FastAPI) -> dict[str, Any]:
    """The whole description of the application's routes."""
    whole = get_openapi(
        title="Thingscale", version=VERSION, openapi_version="3.1.0", description=DESCRIPTION, routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        servers=[{"url": "/"}],
    )  # fmt: skip
    components = whole.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for each in ("HTTPValidationError", "ValidationError"):
        schemas.pop(each, None)
    schemas["Error"] = ERROR
    components["securitySchemes"] = SECURITY
    components["headers"] = {
        name: {"description": text, "schema": {"type": "integer", "minimum": 0}}
        for name, text in PACE_HEADERS.items()
    }
    alone = ("NOT_FOUND", "METHOD_NOT_ALLOWED", *(SERVER_TOKENS[status] for status in SERVER_ALONE))
    components["responses"] = {STATUS_NAME.format(status): each for status, each in refusals(alone).items()}
    for path in whole["paths"].values():
        for operation in path.values():
            _complete(operation)
    _finish(whole["paths"], schemas)
    return whole


ERROR: Final = {
    "title": "Error",
    "type": "object",
    "description": "A refusal.",
    "required": ["error", "detail"],
    "properties": {
        "error": {"type": "string", "description": "for programs"},
        "detail": {"type": "string", "description": "for a person; the words may change"},
    },
}


def _complete(operation: dict[str, Any]) -> None:
    """Add what all operations have in common; FastAPI's own 422 never comes."""
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    who = operation.pop("x-who")
    operation["security"] = [] if who == "anybody" else [{name: []} for name in SECURITY]
    if who != "anybody":
        for response in responses.values():
            pace = {name: {"$ref": f"#/components/headers/{name}"} for name in PACE_HEADERS}
            response["headers"] = {**response.get("headers", {}), **pace}
    for status in SERVER_ALONE:
        responses.setdefault(str(status), {"$ref": f"#/components/responses/{STATUS_NAME.format(status)}"})
    operation["parameters"] = _unique(operation.get("parameters", []))


def _unique(parameters: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a route says of a parameter counts more than what its path says."""
    return list({(each["name"], each["in"]): each for each in parameters}.values())


def _finish(value: Any, schemas: dict[str, Any]) -> None:
    """Schemas with a name belong to the components, wherever they were met; examples are values again."""
    if isinstance(value, dict):
        schemas.update(value.pop("$defs", {}))
        if EXAMPLE in value:
            value["example"] = json.loads(value.pop(EXAMPLE))
        for each in value.values():
            _finish(each, schemas)
    elif isinstance(value, list):
        for each in value:
            _finish(each, schemas)
