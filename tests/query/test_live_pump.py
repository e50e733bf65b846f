"""The pump and the viewers' tasks write to the same sockets: nothing is lost, doubled, or out of its place."""

import random
import re
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from query.http.pipe import framed
from query.live import Hub, LiveOptions, Watch
from query.live.pump import pump
from query.live.view import View
from query.services.live import LiveReply

WATCH = Watch("U000001", None, frozenset(), frozenset())
COMMENTS = re.compile(rb":\n\n")
COMMENT = framed(b":\n\n")


class Client:
    """A socket that takes what it likes, and the response on it. ``appetite`` says how much it takes at once."""

    def __init__(self, appetite: random.Random) -> None:
        self.received = bytearray()
        self._appetite = appetite
        self.takes_nothing = trio.Event()
        self.takes_nothing.set()

    def send_nowait(self, chunks: bytes) -> int:
        count = self._appetite.choice([0, 1, len(chunks) // 2, len(chunks), len(chunks)])
        if not self.takes_nothing.is_set():
            count = 0
        self.received += chunks[:count]
        return count

    async def send(self, chunks: bytes) -> None:
        await self.takes_nothing.wait()
        for at in range(0, len(chunks), 7):
            self.received += chunks[at : at + 7]
            await trio.lowlevel.checkpoint()

    async def app_send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            body = message["body"]
            await self.send(framed(body) if body else b"0\r\n\r\n")

    def events(self) -> bytes:
        """The body, without comments."""
        rest, body = bytes(self.received), b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, end, rest = body + rest[: int(size, 16)], *_cut(rest, int(size, 16))
            assert end == b"\r\n"
        return COMMENTS.sub(b"", body)


def _cut(rest: bytes, size: int) -> tuple[bytes, bytes]:
    return rest[size : size + 2], rest[size + 2 :]


def hub_of(buffer_bytes_max: int = 1 << 20) -> Hub:
    store: Any = SimpleNamespace(ring=SimpleNamespace(durable=0, oldest=0))
    return Hub(store, LiveOptions(100, 100, buffer_bytes_max, 100, 15.0))


def reply_of(hub: Hub) -> LiveReply:
    backend: Any = SimpleNamespace(live=hub)
    user: Any = SimpleNamespace(user_id="U000001", enabled=True)
    backend.store = SimpleNamespace(registry=SimpleNamespace(user_by_api_token=lambda token: user))
    return LiveReply(backend, WATCH, user, "token", None)


async def never() -> Any:
    await trio.sleep_forever()


def start(nursery: trio.Nursery, hub: Hub, client: Client) -> None:
    nursery.start_soon(reply_of(hub), {"thingscale.pipe": client}, never, client.app_send)


def view_of(hub: Hub) -> View:
    (view,) = hub._views.values()
    return view


def event(number: int) -> bytes:
    return b"event: datapoint\nid: %d\ndata: {}\n\n" % number


@pytest.mark.parametrize("seed", range(20))
async def test_every_viewer_has_every_event_once_and_in_order(autojump_clock: object, seed: int) -> None:
    source = random.Random(seed)
    hub, clients = hub_of(), [Client(source) for _ in range(5)]
    async with trio.open_nursery() as nursery:
        for client in clients:
            start(nursery, hub, client)
        await trio.testing.wait_all_tasks_blocked()
        view = view_of(hub)
        for number in range(60):
            view.add(number + 1, event(number))
            if source.random() < 0.7:
                await pump([view])
            match source.randrange(4):
                case 0:
                    await trio.testing.wait_all_tasks_blocked()
                case 1:
                    await trio.sleep(source.choice([1, 14.9, 15, 16]))  # also into the heartbeats
                case _:
                    await trio.lowlevel.checkpoint()
        await pump([view])
        await trio.testing.wait_all_tasks_blocked()
        expected = b"".join(event(number) for number in range(60))
        assert [client.events() for client in clients] == [expected] * 5
        hub.close()


async def test_one_that_takes_nothing_is_let_go_of_and_told_and_the_others_have_everything(
    autojump_clock: object,
) -> None:
    hub, quick, slow = hub_of(500), Client(random.Random(1)), Client(random.Random(2))
    async with trio.open_nursery() as nursery:
        start(nursery, hub, quick)
        start(nursery, hub, slow)
        await trio.testing.wait_all_tasks_blocked()
        view = view_of(hub)
        slow.takes_nothing = trio.Event()
        for number in range(40):
            view.add(number + 1, event(number))
            await pump([view])
            await trio.testing.wait_all_tasks_blocked()
        slow.takes_nothing.set()
        await trio.testing.wait_all_tasks_blocked()
        assert quick.events() == b"".join(event(number) for number in range(40))
        assert slow.events() == event(0) + b'event: lagged\ndata: {"since":0}\n\n'
        assert slow.received.endswith(b"\r\n0\r\n\r\n")
        assert hub.lagged == 1
        hub.close()


async def test_silence_is_broken_by_a_comment_and_events_are_no_silence(autojump_clock: object) -> None:
    hub, client = hub_of(), Client(random.Random(3))
    async with trio.open_nursery() as nursery:
        start(nursery, hub, client)
        await trio.sleep(16)
        assert client.received == COMMENT * 2
        view_of(hub).add(1, event(0))
        await pump([view_of(hub)])
        await trio.sleep(14.9)
        assert client.received.count(COMMENT) == 2
        await trio.sleep(0.2)
        assert client.received.count(COMMENT) == 3
        hub.close()


async def test_a_stop_does_not_wait_for_who_has_the_half_of_an_event(autojump_clock: object) -> None:
    hub, client = hub_of(), Client(random.Random(4))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            start(nursery, hub, client)
            await trio.testing.wait_all_tasks_blocked()
            client.takes_nothing = trio.Event()
            view_of(hub).add(1, event(0))
            await pump([view_of(hub)])
            hub.close()
    assert not client.received.endswith(b"0\r\n\r\n")
