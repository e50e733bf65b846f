"""What every answer tells about the rate limit: RateLimit-Limit, RateLimit-Remaining and RateLimit-Reset.

The names and meanings are draft-ietf-httpapi-ratelimit-headers-03's.
The request's handler takes a token (query/requests.py) and leaves the outcome in the scope, where the way out finds it,
whatever became of the request. An answer to nobody (no token, or a wrong one) has no limit to tell of.
"""

from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from query.ports import Pace

PACE: Final = "thingscale.pace"  # in the scope: a list with the one Pace that was taken, if any


class Pacing:
    """The application, with the headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken: list[Pace] = []
        scope[PACE] = taken

        async def send_with_pace(message: Message) -> None:
            if message["type"] == "http.response.start" and taken:
                pace = taken[-1]
                message["headers"] = [
                    *message["headers"],
                    (b"ratelimit-limit", b"%d" % pace.limit),
                    (b"ratelimit-remaining", b"%d" % pace.remaining),
                    (b"ratelimit-reset", b"%d" % pace.reset_s),
                ]
            await send(message)

        await self._app(scope, receive, send_with_pace)
