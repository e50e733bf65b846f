"""The table of RFC 9110 and 9112, run against the HTTP server over socket pairs."""

import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from query.http import HttpServer
from tests.query.rfc9112_cases import CASES, MODES, Case, Post, applies, judge, stream_of

PLAIN = Post()


async def application(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    """The two resources that the table needs."""
    allowed = {"/healthz": ("GET", "HEAD"), "/post_v2/": ("POST",)}.get(scope["path"])
    fields = [(b"content-type", b"text/plain")]
    if allowed is None:
        status = 404
    elif scope["method"] not in allowed:
        status = 405
        fields.append((b"allow", ", ".join(allowed).encode()))
    elif scope["method"] == "POST":
        status = 401
        fields.append((b"www-authenticate", b"DeviceToken"))
        while (await receive())["more_body"]:
            pass
    else:
        status = 200
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": b"content"})


def test_the_table_has_no_row_twice() -> None:
    assert len({case.sent for case in CASES}) >= 450
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("mode", MODES)
async def test_every_row_gets_its_answer(mode: str, autojump_clock: trio.testing.MockClock) -> None:
    assert not await wrong_rows([case for case in CASES if applies(case, mode)], mode, bytewise=False)


async def test_every_row_gets_its_answer_byte_by_byte(autojump_clock: trio.testing.MockClock) -> None:
    assert not await wrong_rows([case for case in CASES if len(case.sent) < 2_000], "followed", bytewise=True)


async def wrong_rows(cases: list[Case], mode: str, *, bytewise: bool) -> list[str]:
    async with trio.open_nursery() as nursery:
        server = HttpServer(application)
        await nursery.start(server.run)
        wrong = [
            f"{case.name}: {problem}"
            for case in cases
            if (problem := judge(case, mode, await exchange(server, case, mode, bytewise=bytewise), PLAIN))
        ]
        assert await server.drain(1)
        nursery.cancel_scope.cancel()
    return wrong


async def exchange(server: HttpServer, case: Case, mode: str, *, bytewise: bool) -> bytes:
    ours, theirs = socket.socketpair()
    stream = stream_of(case, mode, PLAIN, "d")
    client = trio.socket.from_stdlib_socket(ours)
    received = b""
    with client:
        # What the reactor read before it handed the connection over: everything, or nothing yet.
        is_read = mode == "followed" and case.open is not None and not bytewise
        server.adopt_nowait(theirs, stream if is_read else b"")
        try:
            if bytewise:
                for i in range(len(stream)):
                    await client.send(stream[i : i + 1])
                    await wait_all_tasks_blocked()
            elif not is_read:
                rest = stream
                while rest:
                    rest = rest[await client.send(rest) :]
            if case.open is None:
                client.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass
        with trio.fail_after(600):
            try:
                while data := await client.recv(65_536):
                    received += data
            except ConnectionResetError:
                pass
    return received
