"""The control socket: one request, one reply; and no command, however wrong, ends the daemon."""

import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from thingscale.control import LINE_BYTES_MAX, NAME, Handler, address, call, open_listener, run_control


class Verbs:
    """Handlers that remember what they were asked."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.started = trio.Event()
        self.may_end = trio.Event()

    def handlers(self) -> dict[str, Handler]:
        return {"publish": self.publish, "wait": self.wait, "fail": self.fail}

    async def publish(self, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(request)
        return {"ok": True, "files": 3}

    async def wait(self, request: dict[str, Any]) -> dict[str, Any]:
        self.started.set()
        await self.may_end.wait()
        self.requests.append(request)
        return {"ok": True}

    async def fail(self, request: dict[str, Any]) -> dict[str, Any]:
        raise OSError(28, "No space left on device")


@pytest.fixture
async def verbs(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Verbs]:
    """A daemon's control socket in tmp_path."""
    verbs = Verbs()
    await nursery.start(run_control, tmp_path, verbs.handlers())
    yield verbs
    nursery.cancel_scope.cancel()


async def exchange(data: Path, sent: bytes) -> dict[str, Any]:
    """Send bytes, end our side, read the reply."""
    async with await trio.open_unix_socket(address(data)) as stream:
        await stream.send_all(sent)
        await stream.send_eof()
        received = b""
        async for piece in stream:
            received += piece
    assert received.endswith(b"\n")
    reply: dict[str, Any] = json.loads(received)
    return reply


async def ask(data: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    return await trio.to_thread.run_sync(call, data, request)


async def assert_alive(data: Path) -> None:
    assert await ask(data, {"do": "publish"}) == {"ok": True, "files": 3}


# ---- the daemon's side


async def test_a_request_reaches_its_handler_and_the_reply_comes_back(tmp_path: Path, verbs: Verbs) -> None:
    request = {"do": "publish", "channel": 7, "user": None}
    assert await ask(tmp_path, request) == {"ok": True, "files": 3}
    assert verbs.requests == [request]


async def test_a_request_may_come_byte_by_byte(tmp_path: Path, verbs: Verbs) -> None:
    async with await trio.open_unix_socket(address(tmp_path)) as stream:
        for byte in b'{"do": "publish"}\n':
            await stream.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert json.loads(await stream.receive_some()) == {"ok": True, "files": 3}


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"publish\n",
        b'{"do": "publish"\n',
        b'{"do": "publish"} {"do": "publish"}\n',
        b'{"do": "publish"}\n{"do": "publish"}\n',
        b"\xff\xfe\n",
        b"[]\n",
        b"null\n",
        b'"publish"\n',
        b"{}\n",
        b'{"do": "unpublish"}\n',
        b'{"do": null}\n',
        b'{"do": ["publish"]}\n',
        pytest.param(b"[" * 10_000 + b"\n", id="deep"),
        pytest.param(b'{"do": "'.ljust(LINE_BYTES_MAX, b"p"), id="too long"),
    ],
)
async def test_a_request_that_is_none_is_answered_with_an_error(
    tmp_path: Path, verbs: Verbs, sent: bytes
) -> None:
    reply = await exchange(tmp_path, sent)
    assert list(reply) == ["error"]
    assert reply["error"].startswith("bad request: ")
    assert verbs.requests == []
    await assert_alive(tmp_path)


async def test_what_the_system_refuses_is_told(tmp_path: Path, verbs: Verbs) -> None:
    assert await ask(tmp_path, {"do": "fail"}) == {"error": "[Errno 28] No space left on device"}
    await assert_alive(tmp_path)


async def test_a_client_that_leaves_before_its_request_is_complete_is_forgotten(
    tmp_path: Path, verbs: Verbs
) -> None:
    for sent in (b"", b'{"do": "publish"}'):
        async with await trio.open_unix_socket(address(tmp_path)) as stream:
            if sent:
                await stream.send_all(sent)
    await assert_alive(tmp_path)
    assert len(verbs.requests) == 1


async def test_a_client_that_leaves_before_its_reply_disturbs_nobody(tmp_path: Path, verbs: Verbs) -> None:
    async with await trio.open_unix_socket(address(tmp_path)) as stream:
        await stream.send_all(b'{"do": "wait"}\n')
        await verbs.started.wait()
    verbs.may_end.set()
    await trio.testing.wait_all_tasks_blocked()
    assert verbs.requests == [{"do": "wait"}]
    await assert_alive(tmp_path)


async def test_a_slow_request_does_not_hold_up_others(tmp_path: Path, verbs: Verbs) -> None:
    async with await trio.open_unix_socket(address(tmp_path)) as stream:
        await stream.send_all(b'{"do": "wait"}\n')
        await verbs.started.wait()
        await assert_alive(tmp_path)


async def test_only_the_owner_may_connect(tmp_path: Path, verbs: Verbs) -> None:
    mode = (tmp_path / NAME).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


# ---- its name


def test_the_umask_of_the_process_stays_what_it_was(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        open_listener(address(tmp_path)).close()
        assert os.umask(0o002) == 0o002
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_the_name_that_a_dead_daemon_left_is_taken_over(tmp_path: Path) -> None:
    open_listener(address(tmp_path)).close()
    with open_listener(address(tmp_path)) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(address(tmp_path))
        listener.accept()[0].close()


def test_the_shorter_way_to_say_a_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)  # with it the whole path is longer than a socket's name may be
    deep.mkdir()
    monkeypatch.chdir(deep)
    assert address(deep) == NAME
    with open_listener(address(deep)) as listener:
        assert listener.getsockname() == NAME
    monkeypatch.chdir(tmp_path)
    assert address(Path("/d")) == "/d/" + NAME


async def test_a_directory_whose_path_no_socket_can_have_works_all_the_same(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    deep = tmp_path.joinpath(*["d" * 100] * 3)
    deep.mkdir(parents=True)
    assert len(address(deep)) < 50

    async def publish(request: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, "asked": request}

    await nursery.start(run_control, deep, {"publish": publish})
    assert (deep / NAME).is_socket()
    reply = await trio.to_thread.run_sync(call, deep, {"do": "publish"})
    assert reply == {"ok": True, "asked": {"do": "publish"}}
    (deep / "other").mkdir()
    assert call(deep / "other", {"do": "publish"}) is None


# ---- the command's side


def test_no_daemon_is_none(tmp_path: Path) -> None:
    assert call(tmp_path, {"do": "publish"}) is None
    assert call(tmp_path / "no" / "directory", {"do": "publish"}) is None


def test_a_daemon_that_died_is_none(tmp_path: Path) -> None:
    open_listener(address(tmp_path)).close()
    assert call(tmp_path, {"do": "publish"}) is None
    assert (tmp_path / NAME).exists()


async def test_a_daemon_that_ends_before_its_answer_is_an_error(tmp_path: Path) -> None:
    listener = open_listener(address(tmp_path))

    def die() -> None:
        with listener, listener.accept()[0] as client:
            client.recv(LINE_BYTES_MAX)

    replies: list[dict[str, Any] | None] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, die)
        replies.append(await ask(tmp_path, {"do": "publish"}))
    assert replies == [{"error": "the daemon closed the control socket without an answer"}]
