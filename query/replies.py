"""Replies whose bytes are made piece by piece, as fast as the client takes them."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Final, TypeVar

import trio
from fastapi import Response
from starlette.types import Receive, Scope, Send

from query.formats import Piece
from query.http.buffers import EXTENSION, Buffers
from query.http.errors import ClientGoneError
from query.written import Begun

T = TypeVar("T")

# What is sent before others get their turn: the kernel copies it in some 50 µs.
SEND_BYTES: Final = 192 << 10


def whole(begun: Begun, media_type: str) -> Response:
    """A reply that is made."""
    assert begun.is_whole
    return Response(b"".join(begun.first), begun.status, begun.fields, media_type)


def bodies(step: Sequence[Piece]) -> Iterator[Sequence[Piece]]:
    """The same pieces, as many together as are sent at once."""
    taken: list[Piece] = []
    size = 0
    for piece in step:
        view = memoryview(piece)
        while len(view) > SEND_BYTES - size:
            yield [*taken, view[: SEND_BYTES - size]]
            view, taken, size = view[SEND_BYTES - size :], [], 0
        if view:
            taken.append(view)
            size += len(view)
    if taken:
        yield taken


class StreamedReply(Response):
    """The next step is made while the client takes one.

    Args:
        begun: what was made already.
        media_type: of all of it.
        step: makes the next step; nothing at the end.
        held: let go of when it is over, however it ends.
    """

    def __init__(
        self,
        begun: Begun,
        media_type: str,
        step: Callable[[], Awaitable[list[Piece]]],
        held: AsyncExitStack,
    ) -> None:
        super().__init__(media_type=media_type, headers=begun.fields)
        del self.headers["content-length"]
        self._first = begun.first
        self._step = step
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        takes_buffers = EXTENSION in scope.get("extensions", ())
        async with self._held:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            steps, made = trio.open_memory_channel[list[Piece]](0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._make, steps)
                async with made:
                    async for step in made:
                        for pieces in bodies(step):
                            body = Buffers(pieces) if takes_buffers else b"".join(pieces)
                            await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _make(self, steps: trio.MemorySendChannel[list[Piece]]) -> None:
        async with steps:
            step, self._first = self._first, []
            while step:
                await steps.send(step)
                step = await self._step()


async def while_there(receive: Receive, call: Callable[[], Awaitable[T]]) -> T:
    """What the call returns; called off when the client goes. Raises what it raises, and ClientGoneError."""
    made: list[T] = []
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_when_gone, receive, nursery.cancel_scope)
        try:
            made.append(await call())
        except Exception as error:  # out of the nursery, which would put it into a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not made:
        raise ClientGoneError("the client is gone")
    return made[0]


async def cancel_when_gone(receive: Receive, scope: trio.CancelScope) -> None:
    """A client that goes away takes what was done for it along."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
