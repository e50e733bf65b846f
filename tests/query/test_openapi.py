"""The OpenAPI document is valid and complete: every route, parameter and token is described, every example fits.

That it is true, every test that asks a running daemon finds out (tests/described.py), and tests/live/test_openapi.py.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from fastapi import FastAPI
from fastapi.routing import APIRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from query.app import describe, make_routers
from query.errors import MEANINGS, TOKENS
from query.http.errors import TOKENS as SERVER_TOKENS
from query.models.prometheus import FORM
from query.services import docs
from query.stream_request import PARAMETERS
from tests.described import Document
from tests.query.filled_store import FilledStore

SERVICES = Path(__file__).parents[2] / "query" / "services"
# The document itself, its pages, and version 1, whose other paths are the same ones (docs/api.md).
UNDESCRIBED = re.compile(r"/openapi\.json|/docs(/.*)?|/v1/.*")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    house = FilledStore(tmp_path_factory.mktemp("openapi") / "data", ("a",))
    yield describe(make_routers(house.backend))
    house.close()


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


async def test_the_document_is_made_once(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FastAPI] = []

    def make(self: FastAPI) -> dict[str, Any]:
        made.append(self)
        return {"openapi": "3.1.0"}

    monkeypatch.setattr(app, "openapi", lambda: make(app))
    document = docs.Document()
    texts: list[bytes] = []

    async def ask() -> None:
        texts.append(await document.text(app))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert (texts, made) == ([b'{"openapi":"3.1.0"}'] * 3, [app])


def leaves(routes: Iterable[Any]) -> Iterator[APIRoute]:
    """The routes, also those of included routers."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from leaves(route.original_router.routes)
        else:
            assert UNDESCRIBED.fullmatch(route.path)


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


def tokens_of(document: dict[str, Any], operation: dict[str, Any]) -> set[str]:
    responses = [Document(document).resolve(each) for each in operation["responses"].values()]
    return {
        token
        for each in responses
        for token in each["content"].get("application/json", {}).get("examples", {})
    }


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()


def test_every_route_is_described(app: FastAPI, document: dict[str, Any]) -> None:
    routes = {
        f"{method} {route.path_format}"
        for route in leaves(app.routes)
        for method in route.methods or ()
        if not UNDESCRIBED.fullmatch(route.path)
    }
    assert len(routes) > 20
    assert {name for name, _ in operations(document)} == routes


def test_every_operation_says_what_it_does_takes_and_gives(document: dict[str, Any]) -> None:
    found = operations(document)
    ids = [operation["operationId"] for _, operation in found]
    assert sorted(set(ids)) == sorted(ids)
    names = {each["name"] for each in document["tags"]}
    for name, operation in found:
        assert operation["summary"], name
        assert operation["description"], name
        assert set(operation["tags"]) <= names, name
        assert "security" in operation, name
        assert "422" not in operation["responses"] or "HTTPValidation" not in str(
            operation["responses"]["422"]
        )
        (good,) = [each for status, each in operation["responses"].items() if status.startswith("2")]
        assert good["description"], name
        assert good["content"], name
        json = good["content"].get("application/json")
        assert json is None or (json["schema"] and "example" in json), name
        for parameter in operation["parameters"]:
            assert parameter["description"], (name, parameter["name"])
        path = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert path == set(re.findall(r"\{(\w+)\}", name)), name
        if name.partition(" ")[0] in ("POST", "PUT"):
            content = operation["requestBody"]["content"]
            assert (content.get("application/json") or content[FORM])["example"] is not None, name


def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    whole = Document(document)
    for name, operation in operations(document):
        contents = [whole.resolve(each)["content"] for each in operation["responses"].values()]
        if "requestBody" in operation:
            contents.append(operation["requestBody"]["content"])
        for content in contents:
            for media_type, each in content.items():
                examples = [value["value"] for value in each.get("examples", {}).values()]
                examples += [each["example"]] if "example" in each else []
                for example in examples:
                    errors = list(whole.validator(each["schema"]).iter_errors(example))
                    assert not errors, (name, media_type, errors)
        for parameter in operation["parameters"]:
            if "example" in parameter:
                errors = list(whole.validator(parameter["schema"]).iter_errors(parameter["example"]))
                assert not errors, (name, parameter, errors)


def test_every_token_has_words_and_is_an_answer_of_some_operation(document: dict[str, Any]) -> None:
    assert set(MEANINGS) == {*TOKENS, *SERVER_TOKENS.values()}
    of_operations = {
        token for _, operation in operations(document) for token in tokens_of(document, operation)
    }
    others = {
        token
        for each in document["components"]["responses"].values()
        for token in each["content"]["application/json"]["examples"]
    }
    assert TOKENS.keys() - of_operations == {"NOT_FOUND", "METHOD_NOT_ALLOWED"}
    assert TOKENS.keys() <= of_operations | others


@pytest.mark.parametrize("service", sorted(path.stem for path in SERVICES.glob("[a-z]*.py")))
def test_every_token_that_a_service_names_is_described_for_it(service: str, document: dict[str, Any]) -> None:
    text = (SERVICES / f"{service}.py").read_text()
    named = set(re.findall(r'ApiError\(\s*"([A-Z_]+)"', text))
    tags = set(re.findall(r'APIRouter\(tags=\["(\w+)"\]', text))
    described = {
        token
        for _, operation in operations(document)
        if tags & set(operation["tags"])
        for token in tokens_of(document, operation)
    }
    assert not tags or named <= described


def test_every_parameter_of_the_stream_service_is_described(document: dict[str, Any]) -> None:
    found = {(each["in"], each["name"]) for each in document["paths"]["/v2/stream"]["get"]["parameters"]}
    wanted = {("query", name) for name in PARAMETERS}
    wanted |= {("header", field.upper()) for name, field in PARAMETERS.items() if field}
    assert wanted <= found


def test_every_parameter_that_a_service_reads_is_described_for_it(document: dict[str, Any]) -> None:
    for path in SERVICES.glob("[a-z]*.py"):
        text = path.read_text()
        tags = set(re.findall(r'APIRouter\(tags=\["(\w+)"\]', text))
        read = set(re.findall(r'(?:query_params|parameters)\.get\("(\w+)"', text))
        read |= {
            name.upper()
            for name in re.findall(r'header\(request, "([\w-]+)"\)|headers\.get\("([\w-]+)"', text)
            for name in name
            if name
        }
        described = {
            each["name"] if each["in"] == "query" else each["name"].upper()
            for _, operation in operations(document)
            if tags & set(operation["tags"])
            for each in operation["parameters"]
        }
        # OpenAPI says these two with the media types of bodies and replies.
        assert not tags or read - {"ACCEPT", "CONTENT-TYPE"} <= described, path
