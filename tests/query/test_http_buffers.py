"""query/http/buffers.py: a body in many places arrives as one, however slowly the client reads."""

import random
import socket
import time
from typing import Any

import h11
import pytest
import trio

from query.http.buffers import Buffers
from query.http.connection import Connection
from query.http.options import HttpOptions
from query.http.replies import DateFields
from query.http.wire import Counts

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class Home:
    """A server of one application."""

    options = HttpOptions()
    is_draining = False
    now_s = 0.0
    upgrade = None

    def __init__(self, app: Any) -> None:
        self.app = app
        self.counts = Counts()
        self.dates = DateFields(b"Thingscale", time.time)


def parts(seed: int, count: int, longest: int) -> list[bytes | memoryview]:
    source = random.Random(seed)
    made = [source.randbytes(source.randrange(longest)) for _ in range(count)]
    return [memoryview(each) if source.random() < 0.5 else each for each in made]


@pytest.mark.parametrize(("count", "longest"), [(0, 1), (1, 10), (3, 1), (5, 100), (300, 300), (70, 40_000)])
async def test_a_body_in_many_places_arrives_as_one(count: int, longest: int) -> None:
    bodies = [parts(seed, count, longest) for seed in range(3)]

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for body in bodies:
            await send({"type": "http.response.body", "body": Buffers(body), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "h"), ("connection", "close")]))
    client.send(h11.EndOfMessage())
    home, got = Home(app), bytearray()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Connection(home, ours, b"").run)
            theirs.send(REQUEST)
            while True:
                await trio.lowlevel.wait_readable(theirs)
                data = theirs.recv(7_001)
                client.receive_data(data)
                while isinstance(event := client.next_event(), h11.Response | h11.Data):
                    got += event.data if isinstance(event, h11.Data) else b""
                if not data or isinstance(event, h11.EndOfMessage):
                    break
            theirs.close()
    assert bytes(got) == b"".join(part for body in bodies for part in body)


def test_it_is_joined_where_somebody_wants_bytes() -> None:
    body = Buffers([b"ab", memoryview(b"cd"), b""])
    assert (len(body), bytes(body)) == (4, b"abcd")
    assert not Buffers([])
