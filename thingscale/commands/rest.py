"""A small client of the REST interface, for the commands: one connection, JSON or bytes as they come."""

import http.client
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import Any, Final, Self
from urllib.parse import quote, urlencode, urlsplit

PIECE_BYTES: Final = 1 << 18
TIMEOUT_S: Final = 600.0
# A rate limit is waited for, but not for ever.
TRIES: Final = 20


class UrlError(Exception):
    """The address is none."""


class UnreachableError(Exception):
    """Nobody answers there, or stopped in the middle."""


class RefusedError(Exception):
    """An error of the API: its token, words and status."""

    def __init__(self, status: int, token: str, detail: str, body: Mapping[str, Any]) -> None:
        super().__init__(f"{token}: {detail}" if detail else token)
        self.status, self.token, self.body = status, token, body


class Rest:
    """Somebody's view of a daemon.

    Args:
        url: ``http://HOST:PORT`` or ``https://…``; a path in it is put before all others.
        token: of an account or of an admin.

    Raises:
        UrlError: of the constructor.
        RefusedError, UnreachableError: of every call.
    """

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise UrlError(f"{url!r} has no port that could be one") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UrlError(f"{url!r} is not like http://HOST:PORT")
        self.url, self._base, self._token = url, parts.path.rstrip("/"), token
        self._connection = (
            http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT_S)
            if parts.scheme == "http"
            else http.client.HTTPSConnection(
                parts.hostname, port, timeout=TIMEOUT_S, context=ssl.create_default_context()
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()

    def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """An answer that is no error, to be read.

        Args:
            method: GET …
            path: percent-encoded.
            query: parameters; lists are repeated, None is left out.
            body: bytes as they are, anything else as JSON; None is no body.
            headers: beside the token's.
        """
        given = {name: value for name, value in (query or {}).items() if value not in (None, [])}
        target = self._base + path + (f"?{urlencode(given, doseq=True)}" if given else "")
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"X-APITOKEN": self._token, **(headers or {})}
        for remaining in reversed(range(TRIES)):
            response = self._send(method, target, data, sent)
            if response.status < 400:
                return response
            with response:
                refusal = refusal_of(response)
            wait_s = response.headers.get("Retry-After", "")
            if response.status != 429 or not wait_s.isdigit() or not remaining:
                break
            time.sleep(int(wait_s))
        raise refusal

    def _send(
        self, method: str, target: str, data: bytes | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        try:
            self._connection.request(method, target, data, headers)
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise UnreachableError(f"{self.url} does not answer: {error or type(error).__name__}") from None
        except UnicodeEncodeError:
            raise UrlError("a token is of plain letters and digits") from None

    def call(self, method: str, path: str, **how: Any) -> Any:
        """The JSON of an answer; ``how`` is as for ``open``."""
        return self.call_with_head(method, path, **how)[0]

    def call_with_head(self, method: str, path: str, **how: Any) -> tuple[Any, Message]:
        """The same with the answer's header fields."""
        response = self.open(method, path, **how)
        text = b"".join(self.pieces(response))
        try:
            return json.loads(text), response.headers
        except ValueError:
            raise UnreachableError(f"{self.url} does not speak the API") from None

    def pages(self, path: str, query: Mapping[str, Any], cursor: str = "cursor") -> Iterator[Any]:
        """Everything of a list that comes in pages."""
        after: str | None = None
        while True:
            more = {} if after is None else {cursor: after}
            found, head = self.call_with_head("GET", path, query={**query, **more})
            yield from found
            after = head.get("X-NEXT-CURSOR")
            if after is None:
                return

    def pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """The content as it comes, to its end."""
        with response:
            while True:
                try:
                    piece = response.read(PIECE_BYTES)
                except (OSError, http.client.HTTPException) as error:
                    self._connection.close()
                    words = f"{self.url} stopped in the middle of an answer"
                    raise UnreachableError(f"{words}: {error or type(error).__name__}") from None
                if not piece:
                    return
                yield piece


def refusal_of(response: http.client.HTTPResponse) -> RefusedError:
    try:
        body = json.loads(response.read())
        return RefusedError(response.status, body["error"], body.get("detail", ""), body)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, http.client.HTTPException):
        return RefusedError(response.status, f"HTTP {response.status}", response.reason, {})


def step(name: object) -> str:
    """A name as one step of a path."""
    return quote(str(name), safe="")
