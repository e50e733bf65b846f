"""The connector beside the lane: the same posts with chunked bodies, odd headers, Expect: 100-continue.

An ASGI application that the front door mounts in the HTTP server. Checks, order and replies are the lane's, because
both ask the same admission and write into the same journal.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any, Final

from ingest.admission import Admission, Route
from ingest.durability import Durability
from ingest.refusals import ANSWERS, RETRY_S, STORED, Answer
from storage.kinds import PayloadKind, Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
SendMessage = Callable[[Message], Awaitable[None]]

PATHS: Final = {
    "/post_v2": PayloadKind.JSON,
    "/post_v2/": PayloadKind.JSON,
    "/post_v1": PayloadKind.FORM,
    "/post_v1/": PayloadKind.FORM,
    "/post": PayloadKind.FORM,
    "/post/": PayloadKind.FORM,
}
METHOD: Final = Answer(405, "Method Not Allowed", "METHOD_NOT_ALLOWED", (("Allow", "POST"),))


class Connector:
    """ASGI: ``POST /post_v2/``, ``/post_v1/``, ``/post/``.

    Args:
        admission: the same as the lane's gate.
        durability: stores and waits.
        count: called with a Refusal's number, or 0 for a stored reading.
        now: monotonic seconds and UTC microseconds.
    """

    def __init__(
        self,
        admission: Admission,
        durability: Durability,
        count: Callable[[int], None],
        now: Callable[[], tuple[float, int]],
        payload_bytes_max: int,
    ) -> None:
        self._admission = admission
        self._durability = durability
        self._count = count
        self._now = now
        self._payload_bytes_max = payload_bytes_max

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: SendMessage) -> None:
        answer = await self._answer(scope, receive)
        if answer is None:
            return
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(answer.token))]
        headers += [(name.lower().encode(), value.encode()) for name, value in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.token.encode()})

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive) -> Answer | None:
        """What to say; None when the client is gone."""
        if scope["method"] != "POST":
            return METHOD
        kind = PATHS[scope["path"]]
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._payload_bytes_max:
                self._count(Refusal.PAYLOAD_TOO_LARGE)
                return ANSWERS[Refusal.PAYLOAD_TOO_LARGE]
            if not message.get("more_body", False):
                break
        found: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in (b"x-devicetoken", b"x-deviceid", b"x-tagname"):
                if name in found:
                    self._count(Refusal.DEVICE_ID_INVALID)
                    return ANSWERS[Refusal.DEVICE_ID_INVALID]
                found[name] = value
        tag = found.get(b"x-tagname", b"") if kind is PayloadKind.JSON else b""
        now, at_us = self._now()
        outcome: Route | Refusal | int = self._admission.route_http(
            found.get(b"x-devicetoken"), found.get(b"x-deviceid"), tag, now, at_us
        )
        if isinstance(outcome, Route):
            outcome = await self._durability.append(kind, outcome.device, outcome.channel, tag, body)
        if isinstance(outcome, Refusal):
            self._count(outcome)
            answer = ANSWERS[outcome]
            if outcome is Refusal.TOO_MANY_REQUESTS:
                headers = (
                    (name, value.replace(RETRY_S, str(self._admission.retry_s)))
                    for name, value in answer.headers
                )
                return replace(answer, headers=tuple(headers))
            return answer
        self._count(0)
        return STORED
