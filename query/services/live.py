"""Live datapoints as Server-Sent Events: of some channels, devices and tags, or of everything that a user has."""

import trio
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from query.errors import ApiError
from query.http.pipe import PIPE, Pipe
from query.live import Watch
from query.live.events import HEARTBEAT, lagged_event
from query.live.resume import missed
from query.live.view import Viewer
from query.models import live as about
from query.ports import Backend
from query.replies import cancel_when_gone
from query.requests import channel_of, only_parameters, token_of, user_of
from query.stream_request import listed
from storage.registry import User

PARAMETERS = ("channel", "device", "tag", "since")
MEDIA_TYPE = "text/event-stream"
IS_HEAD = "thingscale.is_head"  # in the scope: only the head of the reply is wanted


def watch_of(request: Request, backend: Backend, user: User) -> Watch:
    """Raises ApiError."""
    given = only_parameters(request, PARAMETERS)
    numbers = listed(given.getlist("channel"))
    channels = frozenset(channel_of(backend, user, number).id for number in numbers) if numbers else None
    devices, tags = listed(given.getlist("device")), listed(given.getlist("tag"))
    return Watch(user.user_id, channels, frozenset(devices), frozenset(tags))


def since_of(request: Request, durable: int) -> int | None:
    """The last seq that the client has: Last-Event-ID, else ``since``; None: only what is new. Raises ApiError."""
    text = request.headers.get("last-event-id") or request.query_params.get("since") or None
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < durable):
        raise ApiError("BAD_PARAMETER", f"since (or Last-Event-ID): {text!r} is not the seq of a datapoint")
    return int(text)


class LiveReply(Response):
    """Writes to one viewer until it, or the daemon, goes."""

    media_type = MEDIA_TYPE

    def __init__(self, backend: Backend, watch: Watch, user: User, token: str, since: int | None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._backend, self._hub = backend, backend.live
        self._watch, self._user, self._token, self._since = watch, user, token, since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        viewer = self._hub.join(self._watch)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope.get(IS_HEAD):
                await send({"type": "http.response.body", "body": b""})
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_when_gone, receive, nursery.cancel_scope)
                with viewer.scope:
                    await self._write(viewer, send, scope.get(PIPE))
                nursery.cancel_scope.cancel()
        finally:
            self._hub.leave(viewer)

    async def _write(self, viewer: Viewer, send: Send, pipe: Pipe | None) -> None:
        hub = self._hub

        async def settle() -> None:
            if viewer.rest and pipe is not None:
                await pipe.send(viewer.rest)
                viewer.rest = b""
                viewer.served_at = trio.current_time()
            viewer.is_writing = False

        async def write(data: bytes) -> None:
            viewer.is_writing = True
            await send({"type": "http.response.body", "body": data, "more_body": True})
            viewer.is_writing = False
            viewer.served_at = trio.current_time()

        await write(HEARTBEAT)  # the client sees at once that it is connected
        if self._since is not None:
            data = await missed(self._backend, hub, self._watch, self._user, self._since, viewer.next_seq)
            await write(data or HEARTBEAT)
        viewer.pipe = pipe
        while not hub.is_closed:
            await settle()
            changed = viewer.changed
            taken = viewer.take()
            if taken is None:
                hub.lagged += 1
                await write(lagged_event(viewer.next_seq - 1))
                break
            if taken:
                await write(taken)
                continue
            if await self._is_time(viewer, changed):
                if not self._is_allowed():
                    break
                if trio.current_time() >= viewer.served_at + hub.options.heartbeat_s:
                    await write(HEARTBEAT)
        await settle()
        await send({"type": "http.response.body", "body": b""})

    async def _is_time(self, viewer: Viewer, changed: trio.Event) -> bool:
        """Wait until there is something to write; False, or True if there may be a silence to be broken before that."""
        viewer.is_idle = True
        try:
            with trio.move_on_at(viewer.served_at + self._hub.options.heartbeat_s) as silence:
                await changed.wait()
        finally:
            viewer.is_idle = False
        return silence.cancelled_caught

    def _is_allowed(self) -> bool:
        """The token may have been taken back meanwhile, or the account disabled."""
        user = self._backend.store.registry.user_by_api_token(self._token)
        return user is not None and user.enabled and user.user_id == self._user.user_id


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Live"])

    @router.get("/v2/live", **about.WATCH)
    async def get_live(request: Request) -> Response:
        user = user_of(request, backend)
        watch = watch_of(request, backend, user)
        since = since_of(request, backend.store.ring.durable)
        return LiveReply(backend, watch, user, token_of(request), since)

    return router
