"""Requests that keep the server's pace: its rate limit is waited for, and what it cannot do now is tried again.

Nothing is sent twice that could then happen twice: a connection that breaks is tried again for requests that
change nothing, or that a key or their meaning protects.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx

from thingscale.client.errors import error_of

TRIES: Final = 5
# A server that asks for more patience than this is told on instead of waited for.
WAIT_S_MAX: Final = 60.0
SAFE: Final = frozenset({"GET", "PUT", "DELETE"})


class Transport:
    """One server, one token. Used by one thread at a time."""

    def __init__(
        self, url: str, token: str, timeout_s: float, wait: Callable[[float], None], now: Callable[[], float]
    ) -> None:
        self._http = httpx.Client(base_url=url, headers={"X-APITOKEN": token}, timeout=timeout_s)
        self._wait, self._now = wait, now
        self._free_at = 0.0

    def close(self) -> None:
        self._http.close()

    def json(self, method: str, path: str, *, is_safe: bool | None = None, **how: Any) -> Any:
        """The JSON of a reply. Raises ThingscaleError; httpx.TransportError if nobody answers."""
        with self.reply(method, path, is_safe=is_safe, **how) as reply:
            reply.read()
            return reply.json()

    def pages(self, path: str, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The elements of all pages of a list."""
        target: str | None = path
        asked: Mapping[str, Any] | None = parameters
        while target is not None:
            with self.reply("GET", target, params=asked) as reply:
                reply.read()
                yield from reply.json()
                target, asked = reply.links.get("next", {}).get("url"), None

    @contextmanager
    def reply(
        self, method: str, path: str, *, is_safe: bool | None = None, **how: Any
    ) -> Iterator[httpx.Response]:
        """A reply with its content not read yet.

        Args:
            method, path: of the request.
            is_safe: it may be sent twice; GET, PUT and DELETE may.
            how: as for httpx.
        """
        safe = method in SAFE if is_safe is None else is_safe
        for left in reversed(range(TRIES)):
            self._wait_for_room()
            request = self._http.build_request(method, path, **how)
            try:
                reply = self._http.send(request, stream=True)
            except httpx.TransportError:
                if not left or not safe:
                    raise
                self._wait(0.1 * 2 ** (TRIES - 1 - left))
                continue
            try:
                self._note_pace(reply)
                if reply.is_success:
                    yield reply
                    return
                reply.read()
            finally:
                reply.close()
            wait_s = self._patience(reply)
            if not left or wait_s is None:
                raise _error(reply)
            self._wait(wait_s)

    def _patience(self, reply: httpx.Response) -> float | None:
        """How long to wait before it is worth trying again; None if it never is."""
        text = reply.headers.get("retry-after", "")
        if reply.status_code not in (429, 503) or not text.isdecimal() or float(text) > WAIT_S_MAX:
            return None
        return max(float(text), 0.05)

    def _note_pace(self, reply: httpx.Response) -> None:
        """RateLimit-*: with none left, the next one is there when its share of the reset has gone by."""
        found = [reply.headers.get(f"ratelimit-{name}", "") for name in ("limit", "remaining", "reset")]
        if all(text.isdecimal() for text in found):
            limit, remaining, reset_s = map(int, found)
            if remaining == 0 and limit:
                self._free_at = self._now() + min(reset_s / limit, WAIT_S_MAX)

    def _wait_for_room(self) -> None:
        wait_s = self._free_at - self._now()
        if wait_s > 0:
            self._wait(wait_s)


def _error(reply: httpx.Response) -> Exception:
    try:
        value = reply.json()
        return error_of(str(value["error"]), reply.status_code, str(value["detail"]), value)
    except (ValueError, KeyError, TypeError):
        return error_of(f"HTTP_{reply.status_code}", reply.status_code, reply.text[:200])
