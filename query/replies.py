"""Replies whose bytes are made piece by piece, as fast as the client takes them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

import trio
from fastapi import Response
from starlette.types import Receive, Scope, Send

from query.background import in_background
from query.formats import Piece, compressed
from query.http.buffers import EXTENSION, Buffers

# What is made before a reply begins, and then in one go: a hop to the worker thread and back costs as much as making
# some 100 KB of it.
FIRST_BYTES: Final = 1 << 19
STEP_BYTES: Final = 1 << 22
# Below this a packet holds it anyway.
CODED_BYTES_MIN: Final = 1_024


def step_of(pieces: Iterator[Piece], step_bytes: int | None = None) -> list[Piece]:
    """The next pieces: so many bytes of them, or what there is left; none at the end."""
    step_bytes = STEP_BYTES if step_bytes is None else step_bytes
    taken: list[Piece] = []
    size = 0
    for piece in pieces:
        if piece:
            taken.append(piece)
            size += len(piece)
            if size >= step_bytes:
                break
    return taken


class StreamedReply(Response):
    """The next step is made while the client takes one.

    Args:
        first: what was made already.
        pieces: the further ones; taking one may block and happens in a worker thread.
        limiter: how many such steps run at a time.
        close: when it is over, however it ends.
    """

    def __init__(
        self, first: list[Piece], pieces: Iterator[Piece], media_type: str, headers: Mapping[str, str],
        limiter: trio.CapacityLimiter, close: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(media_type=media_type, headers=dict(headers))
        del self.headers["content-length"]
        self._first = first
        self._pieces = pieces
        self._limiter = limiter
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        takes_buffers = EXTENSION in scope.get("extensions", ())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            steps, made = trio.open_memory_channel[list[Piece]](0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._make, steps)
                async with made:
                    async for step in made:
                        for body in [Buffers(step)] if takes_buffers else step:
                            await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._close()

    async def _make(self, steps: trio.MemorySendChannel[list[Piece]]) -> None:
        async with steps:
            step = self._first
            while step:
                await steps.send(step)
                step = await in_background(step_of, self._pieces, limiter=self._limiter)


@dataclass(frozen=True, slots=True)
class Begun:
    """A reply's beginning.

    Attributes:
        first: what is made already.
        rest: what comes behind it; None if that was all.
        coding: the content coding that it has.
    """

    first: list[Piece]
    rest: Iterator[Piece] | None
    coding: str | None


def begin(pieces: Iterator[Piece], coding: str | None) -> Begun:
    """Make the first steps of a reply. In a worker thread.

    Args:
        pieces: all of it, not compressed.
        coding: what the client would like; small replies leave as they are.
    """
    size = min(FIRST_BYTES, STEP_BYTES)
    first = step_of(pieces, size)
    second = step_of(pieces, size) if first else []
    taken = [*first, *second]
    if not second:
        if coding is None or sum(map(len, taken)) < CODED_BYTES_MIN:
            return Begun([b"".join(taken)], None, None)
        return Begun([b"".join(compressed(iter(taken), coding))], None, coding)
    if coding is None:
        return Begun(taken, pieces, None)
    rest = compressed(chain(taken, pieces), coding)
    return Begun(step_of(rest), rest, coding)


def begin_whole(pieces: Iterator[Piece], coding: str | None) -> Begun:
    """All of a reply that is small, or whose rows are in memory in any case. In a worker thread."""
    whole = b"".join(pieces)
    if coding is None or len(whole) < CODED_BYTES_MIN:
        return Begun([whole], None, None)
    return Begun([b"".join(compressed(iter([whole]), coding))], None, coding)


async def cancel_when_gone(receive: Receive, scope: trio.CancelScope) -> None:
    """A client that goes away takes what was done for it along."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
