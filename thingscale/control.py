"""The control socket: how the command line talks to a daemon that runs on the same data directory.

``control.sock`` in the data directory, mode 0600: whoever may open the directory's files may use it. One JSON object a
line in each direction; a request is ``{"do": "publish", ...}``, a reply ``{"ok": true, ...}`` or ``{"error": "..."}``.
"""

import contextlib
import functools
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import trio

from storage.registry import RegistryBusyError, UnknownError

NAME: Final = "control.sock"
# What a socket's name may have, without the zero behind it (unix(7)).
PATH_BYTES_MAX: Final = 107
LINE_BYTES_MAX: Final = 65_536
CALL_LIMIT_S: Final = 3_600

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def address(data: Path) -> str:
    """The socket's path, as short as it can be said: sun_path holds 107 bytes."""
    path = (data / NAME).absolute()
    short = min(str(path), os.path.relpath(path), key=len)
    if len(os.fsencode(short)) <= PATH_BYTES_MAX:
        return short
    return f"/proc/self/fd/{_descriptor(path.parent)}/{NAME}"


@functools.cache
def _descriptor(directory: Path) -> int:
    """A directory that cannot be said shortly, opened for as long as we run: Linux names what is below it."""
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def open_listener(where: str) -> socket.socket:
    """A listening socket that only this user may connect to; a daemon before us may have left its name."""
    Path(where).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(where)
    finally:
        os.umask(mask)
    listener.listen(8)
    return listener


async def run_control(
    data: Path, handlers: Mapping[str, Handler], *, task_status: Any = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled."""
    listener = open_listener(address(data))

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            line = b""
            while not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
                piece = await stream.receive_some(4096)
                if not piece:
                    return
                line += piece
            try:
                request = json.loads(line)
                reply = await handlers[request["do"]](request)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                reply = {"error": f"bad request: {error}"}
            except (OSError, RegistryBusyError, UnknownError) as error:
                reply = {"error": str(error)}
            await stream.send_all(json.dumps(reply).encode() + b"\n")

    async def guarded(stream: trio.SocketStream) -> None:
        # The command may go away; then nobody is there to be told.
        with contextlib.suppress(trio.BrokenResourceError, OSError):
            await answer(stream)

    sockets = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
    await trio.serve_listeners(guarded, sockets, task_status=task_status)


def call(data: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """Ask the daemon on this data directory; None when there is none. Blocks."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(CALL_LIMIT_S)
        try:
            client.connect(address(data))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        client.sendall(json.dumps(request).encode() + b"\n")
        with client.makefile("rb") as replies:
            line = replies.readline()
    if not line:
        return {"error": "the daemon closed the control socket without an answer"}
    reply: dict[str, Any] = json.loads(line)
    return reply
