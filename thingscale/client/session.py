"""The client itself: queries, writing, live datapoints, messages; and a service each for everything that is made."""

import datetime
import json
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Self

import httpx

from thingscale.client.answers import Answer, Datapoint, Rows
from thingscale.client.errors import MissedError
from thingscale.client.live import events
from thingscale.client.services import Account, Admin, Channels, Devices, Events, Sessions, path
from thingscale.client.transport import Transport

Time = str | datetime.date  # a datetime is a date, too
Names = str | Sequence[str]
RECONNECT_S: Final = 1.0


class Client:
    """A server, seen with one token. Used by one thread at a time; close it, or use it in a ``with``.

    Args:
        url: of the server, ``http://127.0.0.1:8080``.
        token: an account's API token; for ``admin`` an admin's.
        timeout_s: of a connection, and between two pieces of a reply.
        wait: how time passes, for tests.

    The rate limit is kept by waiting; what is refused raises ThingscaleError, and nobody there httpx.TransportError.
    """

    def __init__(
        self, url: str, token: str, *, timeout_s: float = 30.0, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self._wait = wait
        self._transport = Transport(url, token, timeout_s, wait, time.monotonic)
        self.devices = Devices(self._transport)
        self.channels = Channels(self._transport)
        self.events = Events(self._transport)
        self.sessions = Sessions(self._transport)
        self.user = Account(self._transport)
        self.admin = Admin(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def stream(
        self, channel: int | Sequence[int], *, start: Time | None = None, end: Time | None = None,
        last: int | None = None, **more: Any,
    ) -> Rows:  # fmt: skip
        """Datapoints: the newest ``last`` of them, or a range, of one channel or of several.

        Args:
            channel: its number, or several.
            start, end: both included; without an offset local to the account's zone. No end is up to now.
            last: how many of the newest.
            more: ``tag``, ``device``, ``streams`` (a name or several), ``zone``, ``sort``, ``per`` as in docs/api.md.
        """
        target, asked = self._range(channel, start, end, more)
        if last is not None:
            asked |= {"end": "last", "limit": last}

        def ask(form: str) -> AbstractContextManager[httpx.Response]:
            return self._transport.reply("GET", target, params={**asked, "format": form})

        return Rows(ask)

    def aggregate(
        self, channel: int, what: str, *, start: Time | None = None, end: Time | None = None, **more: Any
    ) -> list[dict[str, Any]]:
        """``avg``, ``sum``, ``min``, ``max``: elements with ``value``; none if there was nothing."""
        target, asked = self._range(channel, start, end, more)
        found = self._transport.json("GET", target, params={**asked, "aggregate": what})
        result: list[dict[str, Any]] = found["result"]
        return result

    def write(
        self, channel: int, rows: Iterable[Mapping[str, Any]], *, key: str | None = None,
        tag: str | None = None, device: str | None = None,
    ) -> int:  # fmt: skip
        """Store rows, ``{"value": …}`` with ``at``, ``tag`` and ``device`` if they are known; how many are durable now.

        Args:
            channel: its number.
            rows: ``at`` may be a datetime.
            key: the same rows under the same key are stored once; without one it is made up, against lost replies.
            tag, device: of rows that say nothing else.
        """
        body = "".join(json.dumps(row, default=_time) + "\n" for row in rows).encode()
        return self.write_body(channel, body, "application/x-ndjson", key=key, tag=tag, device=device)

    def write_body(
        self, channel: int, body: bytes, media_type: str, *, key: str | None = None,
        tag: str | None = None, device: str | None = None,
    ) -> int:  # fmt: skip
        """The same with rows as a text or table of some media type, as in docs/api.md."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4()), "Content-Type": media_type}
        headers |= {} if tag is None else {"X-TAGNAME": tag}
        headers |= {} if device is None else {"X-DEVICEID": device}
        encoded = {name: value.encode() for name, value in headers.items()}
        reply = self._transport.json(
            "POST", path("stream", channel), content=body, headers=encoded, is_safe=True
        )
        return int(reply["stored"])

    def live(
        self, channel: int | Sequence[int] | None = None, *, since: int | None = None,
        on_missed: Callable[[MissedError], None] | None = None, **more: Any,
    ) -> Generator[Datapoint, None, None]:  # fmt: skip
        """Datapoints a moment after they became durable, for ever; a broken connection is taken up where it was.

        Args:
            channel: one or several; None for all.
            since: the seq of the last datapoint that is known; None for only new ones.
            on_missed: told of what could not be sent again; without it MissedError is raised.
            more: ``tag``, ``device``: a name or several.
        """
        asked = {name: _listed(value) for name, value in more.items()}
        if channel is not None:
            asked["channel"] = _listed(channel)
        last_id = "" if since is None else str(since)
        while True:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
            try:
                with self._transport.reply("GET", "/v2/live", params=asked, headers=headers) as reply:
                    for event in events(reply.iter_lines()):
                        last_id = event.id or last_id
                        if event.kind == "datapoint":
                            yield Datapoint.of(event.data)
                        elif event.kind == "gap":
                            missed = MissedError(event.data["from"], event.data["to"])
                            if on_missed is None:
                                raise missed
                            on_missed(missed)
            except httpx.TransportError:
                pass
            self._wait(RECONNECT_S)

    def sql(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), *, limit: int | None = None
    ) -> Answer:
        """One SELECT over ``channel_<number>``, ``channels``, ``streams`` and ``devices``; ``?`` or ``$name``."""
        asked: dict[str, Any] = {"sql": sql, "parameters": parameters or []}
        if limit is not None:
            asked["limit"] = limit

        def ask(form: str) -> AbstractContextManager[httpx.Response]:
            return self._transport.reply("POST", "/v2/sql", json={**asked, "format": form}, is_safe=True)

        return Answer(ask)

    def publish(self, device_id: str, payload: Any, *, qos: int = 0) -> None:
        """Send a message to a device."""
        asked = {"payload": payload, "qos": qos}
        self._transport.json("POST", path("publish", device_id), json=asked)

    def _range(
        self, channel: int | Sequence[int], start: Time | None, end: Time | None, more: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        asked = {name: _listed(value) for name, value in more.items()}
        asked |= {} if start is None else {"start": _time(start)}
        asked["end"] = "9999-01-01" if end is None else _time(end)
        if isinstance(channel, int):
            return path("stream", channel), asked
        return "/v2/stream", {**asked, "channel": _listed(channel)}


def _time(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise TypeError(f"not a time: {value!r}")


def _listed(value: Any) -> Any:
    """Several names are repeated, each as it would stand in CSV; one number is itself."""
    values = value if isinstance(value, list | tuple) else [value]
    return [_quoted(str(each)) for each in values]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if "," in name or name.startswith('"') else name
