"""A connector over the real registry and the real journal, and a client that drives it as the HTTP server would."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import trio

from ingest.admission import Admission
from ingest.connector import Connector, Message
from ingest.durability import Durability
from ingest.pace import RateLimiter
from storage.journal import Journal, Limits
from storage.kinds import PayloadKind, Refusal
from storage.registry import Registry
from storage.ring import Ring
from storage.schema import Schema

AT_US = 1_700_000_000_000_000
PAYLOAD_BYTES_MAX = 100

Entry = tuple[PayloadKind, int, int, bytes, bytes]


class Recorder(Durability):
    """The real one; tells what came through it, and commits at once unless it is told to wait."""

    commits_at_once = True

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal, self, lambda: (0.0, AT_US))
        self.journal = journal
        self.asked: list[Entry] = []

    async def append(
        self, kind: PayloadKind, device: int, channel: int, tag: bytes, payload: bytes
    ) -> int | Refusal:
        self.asked.append((kind, device, channel, tag, payload))
        return await super().append(kind, device, channel, tag, payload)

    def kick(self, now_s: float, now_us: int) -> None:
        if self.commits_at_once:
            self.commit()

    def commit(self) -> None:
        batch = self.journal.take_batch()
        assert batch is not None
        self.journal.release(batch)
        self.on_durable(self.journal.ring.durable)


@dataclass
class Client:
    """One request: what the server will hand over, and what it was told."""

    messages: list[Message]
    sent: list[Message] = field(default_factory=list)

    async def receive(self) -> Message:
        await trio.lowlevel.checkpoint()
        return self.messages.pop(0)

    async def send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(message)

    @property
    def answer(self) -> tuple[int, str]:
        """Status and text; the response must be complete, plain text, and as long as it says."""
        start, body = self.sent
        assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
        assert not body.get("more_body", False)
        headers = dict(start["headers"])
        assert len(headers) == len(start["headers"])
        assert all(name == name.lower() for name in headers)
        assert headers[b"content-type"] == b"text/plain"
        assert headers[b"content-length"] == str(len(body["body"])).encode()
        return start["status"], body["body"].decode()


class House:
    """A user with the device d1 on channel 1; a minute passes between two posts."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.durability = Recorder(Journal(Ring(64, 256, 4096), Schema(), Limits(PAYLOAD_BYTES_MAX), 70_000))
        self.counted: list[int] = []
        self.now_s = 0.0
        self.pause_s = 60.0
        admission = Admission(registry, RateLimiter(1.0))
        self.connector = Connector(
            admission, self.durability, self.counted.append, self.now, PAYLOAD_BYTES_MAX
        )
        user = registry.add_user(AT_US)
        self.user_id, self.token = user.user_id, user.device_token.encode()
        self.channel = registry.add_channel(user.user_id, 1).id
        self.device = registry.add_device(user.user_id, "d1", AT_US, enabled=True, channel=self.channel).id

    def now(self) -> tuple[float, int]:
        self.now_s += self.pause_s
        return self.now_s, AT_US

    def headers(self, **more: bytes) -> list[tuple[bytes, bytes]]:
        given = {"x_devicetoken": self.token, "x_deviceid": b"d1", **more}
        return [(name.replace("_", "-").encode(), value) for name, value in given.items()]

    def entry(self, kind: PayloadKind, tag: bytes, payload: bytes) -> Entry:
        return kind, self.device, self.channel, tag, payload

    async def request(
        self, path: str, headers: Iterable[tuple[bytes, bytes]], messages: list[Message], method: str = "POST"
    ) -> Client:
        scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": list(headers)}
        client = Client(messages)
        await self.connector(scope, client.receive, client.send)
        return client

    async def post(self, path: str, *pieces: bytes, headers: Any = None) -> tuple[int, str]:
        found = self.headers() if headers is None else headers
        return (await self.request(path, found, body_of(*pieces))).answer


def body_of(*pieces: bytes) -> list[Message]:
    last = len(pieces) - 1
    return [
        {"type": "http.request", "body": piece, "more_body": number < last}
        for number, piece in enumerate(pieces)
    ]
