"""/openapi.json, and /docs: the same as a page to read and to try things on, without anything from elsewhere.

The page is Swagger UI, out of the files that the package fastapi-offline ships; of the package nothing else is used.
The document takes a quarter of a second to make and is always the same: it is made once, beside the daemon's work.
"""

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final, Protocol

import trio
from fastapi import APIRouter, Request, Response

from query.errors import ApiError
from query.ports import Backend

# Everything is this server's own; the pictures inside the style sheet are data.
POLICY: Final = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
HEADERS: Final = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
# What a browser may keep: it belongs to a version of the package.
KEPT: Final = {**HEADERS, "Cache-Control": "public, max-age=86400"}
SHIPPED: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Thingscale: REST</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="stylesheet" href="/docs/page.css">
</head>
<body>
<div id="page"></div>
<noscript>This page needs JavaScript; the document itself is <a href="/openapi.json">/openapi.json</a>.</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/page.js"></script>
</body>
</html>
"""
SCRIPT: Final = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  validatorUrl: null,
});
"""
STYLE: Final = """body { margin: 0; }
.swagger-ui .scheme-container { box-shadow: none; padding: 0 0 20px; }
"""
WRITTEN: Final = {"page.js": ("text/javascript", SCRIPT), "page.css": ("text/css", STYLE)}


class Described(Protocol):
    """The application (query/routing.py)."""

    @property
    def openapi(self) -> Callable[[], dict[str, Any]]: ...


class Document:
    """The application's OpenAPI document as bytes, made when somebody first asks for it."""

    def __init__(self) -> None:
        self._text: bytes | None = None
        self._making = trio.Lock()

    async def text(self, app: Described) -> bytes:
        async with self._making:
            if self._text is None:
                self._text = await trio.to_thread.run_sync(self._make, app)
            return self._text

    @staticmethod
    def _make(app: Described) -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False, separators=(",", ":")).encode()


def routes(_backend: Backend) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    shipped = files("fastapi_offline") / "static"
    document = Document()

    @router.get("/openapi.json")
    async def described(request: Request) -> Response:
        return Response(await document.text(request.app), media_type="application/json")

    @router.get("/docs")
    async def page() -> Response:
        return Response(PAGE, media_type="text/html", headers=HEADERS)

    @router.get("/docs/{name}")
    async def part(name: str) -> Response:
        if name in WRITTEN:
            media_type, text = WRITTEN[name]
            return Response(text, media_type=media_type, headers=HEADERS)
        if name in SHIPPED:
            return Response((shipped / name).read_bytes(), media_type=SHIPPED[name], headers=KEPT)
        raise ApiError("NOT_FOUND", f"there is nothing at /docs/{name}")

    return router
