"""The pump: new events go straight to the sockets of the viewers that have everything up to them.

Nothing is made for each viewer: the events that are new to some of them are framed once, as a chunk of HTTP, and given
to one socket after the other, without waking the viewers' tasks. Those have to do only with a viewer whose socket did
not take all of it, with one that has to catch up, and with silence.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import trio

from query.http.pipe import framed
from query.live.view import View, Viewer

# So many are served in a row: below a millisecond, then devices have their turn.
SERVE_VIEWERS: Final = 32


class Piece(NamedTuple):
    """Chunks of HTTP with the events from some place up to ``end``; ``next_seq`` is behind them."""

    chunks: bytes
    end: int
    next_seq: int


async def pump(views: Iterable[View]) -> None:
    """Give what is new in these views to all of their viewers, or wake them."""
    served, now = 0, trio.current_time()
    for view in views:
        pieces: dict[int, Piece | None] = {}
        for viewer in list(view.viewers):
            if not (viewer.is_idle and _serve(viewer, pieces, now)):
                viewer.wake()
            served += 1
            if served % SERVE_VIEWERS == 0:
                await trio.lowlevel.checkpoint()


def _serve(viewer: Viewer, pieces: dict[int, Piece | None], now: float) -> bool:
    """Send what is new to the viewer; False if its task has something to do.

    Args:
        pieces: what was framed for others of the view, by the place from which on it is new.
    """
    if viewer.pipe is None or viewer.rest:
        return False
    place = viewer.place
    if place not in pieces:
        pieces[place] = _piece_from(viewer.view, place)
    piece = pieces[place]
    if piece is None:
        return False
    sent = viewer.pipe.send_nowait(piece.chunks)
    viewer.place, viewer.next_seq = piece.end, piece.next_seq
    viewer.served_at = now
    if sent == len(piece.chunks):
        return True
    viewer.rest = memoryview(piece.chunks)[sent:]
    viewer.is_writing = True
    return False


def _piece_from(view: View, place: int) -> Piece | None:
    chunks = view.take(place)
    if not chunks:
        return None
    return Piece(framed(b"".join(chunk.data for chunk in chunks)), place + len(chunks), chunks[-1].next_seq)
