"""Which daemon a command speaks to: one that runs, by its address and a token, or its own on a data directory.

``--data DIR`` is for a directory that nobody uses: the command starts a daemon on it, on a port of the loopback
interface that only the two know, with nothing else open, and ends it when it is done. So whatever works with a daemon
works without one, in the same way, and a daemon that runs there already is found by its lock.
"""

import ctypes
import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import httpx
import typer

from storage.lock import DirectoryLock, InUseByProcessError
from thingscale.client import Client, ThingscaleError
from thingscale.commands.options import File, configuration, fail, open_registry
from thingscale.config import FURTHER_LISTENERS, SETTINGS

DEFAULT_URL: Final = "http://127.0.0.1:8080"
URL_VARIABLE: Final = "THINGSCALE_URL"
TOKEN_VARIABLE: Final = "THINGSCALE_TOKEN"  # noqa: S105  the name, not the thing
STOP_S: Final = 60.0
# Of silence: a question in SQL may take that long before it is answered.
TIMEOUT_S: Final = 600.0
PR_SET_PDEATHSIG: Final = 1

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help=f"The daemon [{URL_VARIABLE}; default: {DEFAULT_URL}]."),
]
Token = Annotated[
    str | None, typer.Option("--token", metavar="TOKEN", help=f"The API token [{TOKEN_VARIABLE}].")
]
OffData = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Instead: a data directory without a daemon.")
]
UserId = Annotated[
    str | None, typer.Option("--user", metavar="ID", help="With --data: whose; needed if there are several.")
]


def private_environment() -> dict[str, str]:
    """Settings under which nobody else comes in; the file's other settings hold."""
    off = ("mqtt.anonymous", *FURTHER_LISTENERS)
    forced = {
        **dict.fromkeys(off, ""),
        "limits.rest_per_s": "0",
        "log.level": "error",
        "log.format": "text",
    }
    variables = {setting.variable: forced[setting.path] for setting in SETTINGS if setting.path in forced}
    return {**os.environ, **variables}


def end_with_parent() -> None:
    """In the child: not to outlive a command that is killed. Ctrl-C is the parent's to act upon."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


@contextmanager
def own_daemon(data: Path, config: Path | None) -> Iterator[str]:
    """A daemon on a data directory; its URL."""
    try:
        with DirectoryLock(data):
            pass
    except InUseByProcessError as error:
        fail(f"{error}: speak to it with --url and --token")
    command = [sys.executable, "-m", "thingscale", "serve", "--data", str(data), "--http", "127.0.0.1:0"]
    command += ["--mqtt", "127.0.0.1:0", *(() if config is None else ("--config", str(config)))]
    with subprocess.Popen(  # noqa: S603  our own command
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=private_environment(),
        preexec_fn=end_with_parent,  # this process has one thread
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            said = process.communicate()[1].strip().splitlines()
            fail(said[-1].removeprefix("thingscale: ") if said else f"no daemon could be started on {data}")
        try:
            yield f"http://{json.loads(line)['http']}"
        finally:
            process.terminate()
            process.communicate(timeout=STOP_S)


def token_in(data: Path, config: Path | None, user_id: str | None) -> str:
    """The API token of an account in a data directory."""
    registry = open_registry(configuration(config, data))
    users = registry.users()
    registry.close()
    if user_id is not None:
        users = [user for user in users if user.user_id == user_id]
        if not users:
            fail(f"there is no user {user_id}")
    if not users:
        fail(f"there are no users in {data}")
    if len(users) > 1:
        fail(f"there are {len(users)} users in {data}: say which with --user", 2)
    return users[0].api_token


@contextmanager
def connected(
    url: str | None, token: str | None, data: Path | None, user: str | None, config: Path | None
) -> Iterator[Client]:
    """The daemon that the options mean."""
    if data is not None:
        if url is not None or token is not None:
            fail("--data is instead of --url and --token", 2)
        own = token_in(data, config, user)
        with own_daemon(data, config) as where, client_of(where, own) as client:
            yield client
        return
    if user is not None or config is not None:
        fail("--user and --config belong to --data", 2)
    token = token or os.environ.get(TOKEN_VARIABLE)
    if not token:
        fail(f"no API token: give --token or {TOKEN_VARIABLE}, or --data DIR", 2)
    with client_of(url, token) as client:
        yield client


def client_of(url: str | None, token: str) -> Client:
    """Of the address that is said, on the command line or in the environment."""
    url = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # the port is no number
        is_url = False
    if not is_url:
        fail(f"{url!r} is not like http://HOST:PORT", 2)
    if not (token.isascii() and token.isprintable()):
        fail("a token is of plain letters and digits", 2)
    return Client(url, token, timeout_s=TIMEOUT_S)


@contextmanager
def told() -> Iterator[None]:
    """Failures in words."""
    try:
        yield
    except BrokenPipeError:  # whoever reads has enough; click ends the command without a word
        raise
    except httpx.TransportError as error:
        fail(f"{str(error.request.url.copy_with(path='/', query=None)).rstrip('/')} does not answer: {error}")
    except (ThingscaleError, OSError) as error:
        fail(error)


OPTIONS: Final = {"url": Url, "token": Token, "data": OffData, "user": UserId, "config": File}


ONLINE: Final = ("url", "token")


def rest_command(
    app: typer.Typer, name: str, *, offline: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose function takes a Client first; it gets the options that say which daemon."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(**given: Any) -> None:
            which = {option: given.pop(option, None) for option in OPTIONS}
            with told(), connected(**which) as client:
                function(client, **given)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        further = [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for option, annotation in OPTIONS.items()
            if offline or option in ONLINE
        ]
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        run.__signature__ = inspect.Signature([*parameters, *further])  # type: ignore[attr-defined]
        run.__annotations__ = {}
        app.command(name)(run)
        return function

    return decorate
