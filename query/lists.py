"""Lists of any length: they are written some rows at a time, so that a large fleet's list holds up no reading."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import trio
from starlette.responses import Response

from query.requests import to_json

# A row takes some 10 µs to make and to write.
ROWS_AT_A_TIME: Final = 100


def pieces_of(rows: Iterable[object]) -> Iterator[bytes]:
    """The JSON of the array's elements, some at a time, with the commas between them."""
    left = iter(rows)
    comma = ""
    while some := list(islice(left, ROWS_AT_A_TIME)):
        yield (comma + to_json(some)[1:-1]).encode()
        comma = ","


def array_of(rows: Iterable[object]) -> bytes:
    """All of the array. In a worker thread, if there are many."""
    return b"".join((b"[", *pieces_of(rows), b"]"))


async def reply_rows(rows: Iterable[object], head: str = "", tail: str = "") -> Response:
    """The array as a reply; others have their turn between its pieces.

    Args:
        rows: its elements.
        head, tail: what stands before and behind it.
    """
    made = [head.encode(), b"["]
    for piece in pieces_of(rows):
        if len(made) > 2:
            await trio.lowlevel.checkpoint()
        made.append(piece)
    return Response(b"".join((*made, b"]", tail.encode())), media_type="application/json")
