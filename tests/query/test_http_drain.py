"""The end of the HTTP server: what was begun is answered, what was not is not."""

import socket

import trio
import trio.testing

from query.http import HttpServer

REQUEST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1"
# The request and the end come in the same turn of the loop, whose tasks run in random order.
TRIES = 60


async def one_try(*, is_new: bool) -> tuple[bool, bytes]:
    """A request and a drain at the same time: whether the application was called, and what came back."""
    was_called = False

    async def application(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        nonlocal was_called
        was_called = True
        await trio.lowlevel.checkpoint()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"stored"})

    ours, theirs = socket.socketpair()
    with ours:
        async with trio.open_nursery() as nursery:
            server = HttpServer(application)
            await nursery.start(server.run)
            if not is_new:
                server.adopt_nowait(theirs)
                await trio.testing.wait_all_tasks_blocked()
            ours.send(REQUEST)
            if is_new:
                server.adopt_nowait(theirs)
            else:
                await trio.lowlevel.checkpoint()
            ours.shutdown(socket.SHUT_WR)
            assert await server.drain(5)
            nursery.cancel_scope.cancel()
        try:
            return was_called, ours.recv(65_536)
        except ConnectionResetError:
            return was_called, b""


async def test_a_request_that_comes_with_the_end_is_answered_or_not_begun() -> None:
    for _ in range(TRIES):
        was_called, received = await one_try(is_new=False)
        assert received.startswith(b"HTTP/1.1 200 ") is was_called


async def test_a_connection_that_comes_with_the_end_is_answered_or_not_begun() -> None:
    for _ in range(TRIES):
        was_called, received = await one_try(is_new=True)
        assert received.startswith(b"HTTP/1.1 200 ") is was_called
