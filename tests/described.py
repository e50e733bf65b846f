"""Holds what a running daemon answers against what its OpenAPI document says of it."""

import re
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from openapi_schema_validator import OAS31Validator


class Document:
    """An OpenAPI document that can be asked whether an answer is described."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._paths = [
            (re.compile(re.sub(r"\\\{\w+\\\}", "(.+)", re.escape(path)) + "/?"), path)
            for path in document["paths"]
        ]
        self._paths.sort(key=lambda each: (-each[1].count("/"), each[1].count("{")))
        self._validators: dict[int, Any] = {}

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """None for what no operation is described for: paths and methods that there are not."""
        bare = path.partition("?")[0]
        for pattern, template in self._paths:
            if pattern.fullmatch(bare):
                item: dict[str, Any] = self.document["paths"][template]
                found = item.get(method.lower().replace("head", "get"))
                if found is not None:
                    return dict(found)
        return None

    def resolve(self, value: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in value:
            found: Any = self.document
            for part in value["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            value = found
        return value

    def validator(self, schema: dict[str, Any]) -> Any:
        """Of a schema whose references lead into the document."""
        if id(schema) not in self._validators:
            self._validators[id(schema)] = OAS31Validator(
                {**schema, "components": self.document["components"]},
                format_checker=Draft202012Validator.FORMAT_CHECKER,
            )
        return self._validators[id(schema)]

    def check(self, method: str, path: str, status: int, headers: Mapping[str, str], value: object) -> None:
        """Raises AssertionError if the answer is not described, or otherwise."""
        if isinstance(value, dict) and value.get("error") in ("NOT_FOUND", "METHOD_NOT_ALLOWED"):
            return
        operation = self.operation(method, path)
        if operation is None and not path.startswith("/v2/"):
            return
        assert operation is not None, f"{method} {path} is not described"
        response = operation["responses"].get(str(status))
        assert response is not None, f"{method} {path}: {status} is not described: {value!r:.300}"
        response = self.resolve(response)
        media_type = headers.get("content-type", "").partition(";")[0]
        assert media_type in response["content"], (
            f"{method} {path}: {status} as {media_type} is not described"
        )
        if media_type != "application/json" or method == "HEAD":
            return
        wrong = [
            f"{error.json_path}: {error.message:.500}"
            for error in self.validator(response["content"][media_type]["schema"]).iter_errors(value)
        ]
        assert not wrong, f"{method} {path}: {status} is described otherwise: {wrong}"
        for name in response.get("headers", {}):
            if name in ("Retry-After", "WWW-Authenticate"):
                assert name.lower() in headers, f"{method} {path}: {status} has no {name}"
