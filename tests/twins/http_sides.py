"""The two sides of the HTTP lane's differential test.

On one side every byte goes to the HTTP server (query.http, h11 inside) and the ASGI connector. On the other side the
reactor reads first, as in the daemon, and hands over what its lane declines. A conversation is what a client sends
and all that can be seen from outside: answers, rows, counters.
"""

import contextlib
import json
import re
import socket
from collections import Counter
from typing import NamedTuple

import trio
from trio.testing import wait_all_tasks_blocked

from ingest.admission import Admission
from ingest.connector import PATHS, Connector
from ingest.durability import Durability
from ingest.gate import Gate
from ingest.pace import RateLimiter
from ingest.reactor import Options, Reactor
from ingest.refusals import http_replies
from query.http import HttpOptions, HttpServer
from storage.journal import Limits
from storage.kinds import Refusal
from tests.twins.storing import Keeper, MemoryRegistry, Row

LIMITS = Limits(payload_bytes_max=200)
NOW = (100.0, 1_000_000)
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) ([^\r\n]*)\r\n((?:[^\r\n]+\r\n)*)\r\n")


class Answer(NamedTuple):
    status: int
    reason: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Outcome(NamedTuple):
    """All that can be seen from outside."""

    answers: list[Answer]
    rows: list[Row]
    counts: dict[str, int]


def answers_of(received: bytes) -> list[Answer]:
    """The responses. Interim ones depend on who waits for whom, and what exactly was wrong with a request depends on
    how much of it the server had seen: neither counts, but the error's token does.
    """
    answers = []
    while received:
        head = ANSWER.match(received)
        assert head is not None, received
        fields = sorted(
            (name.lower(), value)
            for name, _, value in (line.partition(b": ") for line in head[3].split(b"\r\n")[:-1])
            if name.lower() not in (b"date", b"server")
        )
        size = int(dict(fields).get(b"content-length", b"0"))
        body = received[head.end() : head.end() + size]
        assert len(body) == size
        if (b"content-type", b"application/json") in fields:
            body = json.loads(body)["error"].encode()
            fields.remove((b"content-length", b"%d" % size))
        status = int(head[1])
        if status >= 200:
            answers.append(Answer(status, head[2], tuple(fields), body))
        received = received[head.end() + size :]
    return answers


class Side:
    """The server with the connector, upon a journal of its own."""

    def __init__(self, per_s: float, rows: int, batch_bytes_max: int) -> None:
        self.keeper = Keeper(LIMITS, rows, 4096, batch_bytes_max)
        self.admission = Admission(MemoryRegistry(), RateLimiter(per_s))  # type: ignore[arg-type]
        self.counts: Counter[str] = Counter()
        self.is_handed_over = False
        self.is_over = False
        self.durability = Durability(self.keeper.journal, self, lambda: NOW)
        connector = Connector(
            self.admission, self.durability, self.count, lambda: NOW, LIMITS.payload_bytes_max
        )

        async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
            if scope["path"] in PATHS:
                await connector(scope, receive, send)
            else:
                await send({"type": "http.response.start", "status": 404, "headers": []})
                await send({"type": "http.response.body", "body": b"another room"})

        self.http = HttpServer(app, HttpOptions(body_bytes_max=1_000))
        self.client: socket.socket

    def count(self, refusal: int) -> None:
        self.counts[Refusal(refusal).name if refusal else "stored"] += 1

    def kick(self, now_s: float, now_us: int) -> None:
        self.durability.on_durable(self.keeper.commit())

    async def begin(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.http.run)
        self.client, theirs = socket.socketpair()
        self.client.setblocking(False)
        self.http.adopt_nowait(theirs)

    async def settle(self) -> None:
        """Let everything happen that can."""
        await wait_all_tasks_blocked()

    def hear(self) -> bytes:
        received = b""
        try:
            while more := self.client.recv(65_536):
                received += more
            self.is_over = True
        except ConnectionResetError:
            self.is_over = True
        except BlockingIOError:
            pass
        return received

    def close(self) -> None:
        self.client.close()
        self.keeper.close()

    def seen(self, received: bytes) -> Outcome:
        return Outcome(answers_of(received), self.keeper.rows, dict(self.counts))


class LaneSide(Side):
    """The same behind the reactor."""

    def __init__(self, per_s: float, rows: int, batch_bytes_max: int) -> None:
        super().__init__(per_s, rows, batch_bytes_max)
        self.reactor = Reactor(
            self.keeper.journal,
            self.keeper,
            Gate(self.admission, lambda connection, topic: ("", b""), lambda user_id, topic: False),
            self,  # a door that nobody knocks at
            self.adopt,
            Options(payload_bytes_max=LIMITS.payload_bytes_max, rate_limited=per_s > 0),
            NOW[0],
        )
        self.reactor.set_http_replies(http_replies(0))
        self.reactor.set_on_completed(lambda completed: self.durability.on_durable(completed.next_seq))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.reactor.listen(self.listener.fileno(), "http")

    def adopt(self, moved: socket.socket, received: bytes) -> None:
        self.is_handed_over = True
        self.http.adopt_nowait(moved, received)

    def kick(self, now_s: float, now_us: int) -> None:
        self.reactor.kick(now_s, now_us)

    async def begin(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.http.run)
        self.client = socket.create_connection(self.listener.getsockname())
        self.client.setblocking(False)
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self.settle()

    async def settle(self) -> None:
        turns = 0
        while turns < 3:
            before = self.keeper.journal.ring.durable
            self.reactor.turn(*NOW)
            self.durability.on_room()
            self.reactor.kick(*NOW)
            if self.is_handed_over:
                await wait_all_tasks_blocked()
            turns = turns + 1 if self.keeper.journal.ring.durable == before else 0

    def close(self) -> None:
        self.stalls = self.reactor.statistics().stalls
        self.reactor.close_all()
        self.listener.close()
        super().close()

    def seen(self, received: bytes) -> Outcome:
        statistics = self.reactor.statistics()
        counts = self.counts + Counter(statistics.http_refusals) + Counter(stored=statistics.http_stored)
        return super().seen(received)._replace(counts=dict(counts))


async def converse(side: Side, pieces: list[bytes]) -> Outcome:
    """Send the pieces, each after the last one's consequences, then close our half and hear the rest."""
    received, is_over = b"", False
    try:
        async with trio.open_nursery() as nursery:
            await side.begin(nursery)
            for number, piece in enumerate(pieces):
                # Beyond a hand-over both sides are the same server: how its bytes are cut is tests/query's matter.
                is_last = side.is_handed_over or number == len(pieces) - 1
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    side.client.sendall(b"".join(pieces[number:]) if is_last else piece)
                await side.settle()
                received += side.hear()
                if is_last:
                    break
            with contextlib.suppress(OSError):
                side.client.shutdown(socket.SHUT_WR)
            await side.settle()
            received += side.hear()
            is_over = side.is_over
            nursery.cancel_scope.cancel()
        assert is_over, "a client that ended is to be answered and closed"
        return side.seen(received)
    finally:
        side.close()


def twin(stream: bytes, per_s: float = 0) -> Outcome:
    return trio.run(converse, Side(per_s, 4096, 1 << 20), [stream])


def lane(
    pieces: list[bytes], per_s: float = 0, rows: int = 4096, batch_bytes_max: int = 1 << 20
) -> tuple[Outcome, bool]:
    """What is seen, and whether the lane took all of it."""
    side = LaneSide(per_s, rows, batch_bytes_max)
    outcome = trio.run(converse, side, pieces)
    return outcome, not side.is_handed_over
