"""The command line. Exit codes: 0 done, 1 failed, 2 wrong usage (of a flag, a key or a file).

Users are managed in the registry directly, whether the daemon runs or not; it looks for changes twice a second.
"""

import json
import socket
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from storage.lock import InUseByProcessError
from storage.notes import NoteFormatError
from storage.recovery import RingTooSmallError
from storage.registry import (
    OVERLAP_S_MAX,
    FieldError,
    RegistryBusyError,
    RegistryFormatError,
    UnknownError,
    User,
)
from storage.sessions import SessionsFormatError
from storage.wal import CorruptRecordError
from thingscale.cli_admin import admin_app
from thingscale.commands import AsJson, Data, File, configuration, fail, open_registry
from thingscale.config import SETTINGS, ConfigError
from thingscale.control import call

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
user_app = typer.Typer(no_args_is_help=True, help="Accounts and their tokens.")
app.add_typer(user_app, name="user")
app.add_typer(admin_app, name="admin")
cert_app = typer.Typer(no_args_is_help=True, help="Certificates.")
app.add_typer(cert_app, name="cert")


@app.command()
def serve(
    data: Data = None,
    config: File = None,
    http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="HTTP [default: 127.0.0.1:8080].")
    ] = None,
    mqtt: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="MQTT [default: 127.0.0.1:1883].")
    ] = None,
) -> None:
    """Run the daemon. Prints one JSON line on stdout when it takes traffic; logs go to stderr."""
    settings = configuration(config, data, server_http=http, server_mqtt=mqtt)
    from thingscale.daemon import run

    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        code = run(settings)
    except ConfigError as error:  # a file that a key names cannot be used
        fail(error, 2)
    except (
        InUseByProcessError,
        CorruptRecordError,
        RingTooSmallError,
        RegistryFormatError,
        SessionsFormatError,
        NoteFormatError,
        OSError,
    ) as error:
        fail(error)
    raise typer.Exit(code)


@app.command()
def publish(
    now: Annotated[bool, typer.Option("--now", help="Do not wait for the end of the day.")] = False,
    channel: Annotated[int | None, typer.Option(help="Only this channel number.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user id.")] = None,
    data: Data = None,
    config: File = None,
) -> None:
    """Write what there is as published Parquet files, with the daemon running or not."""
    if not now:
        fail("days are published by themselves; --now publishes what there is", 2)
    settings = configuration(config, data)
    try:
        reply = call(settings.data, {"do": "publish", "channel": channel, "user": user})
        if reply is None:
            from thingscale.daemon import publish_offline

            reply = publish_offline(settings, user, channel)
    except (InUseByProcessError, CorruptRecordError, RingTooSmallError, OSError) as error:
        fail(error)
    if "error" in reply:
        fail(reply["error"])
    print(json.dumps(reply))


@app.command(name="config")
def show_config(data: Data = None, config: File = None, as_json: AsJson = False) -> None:
    """Print the configuration that is in force, and where each value came from."""
    settings = configuration(config, data)
    if as_json:
        print(json.dumps({"values": settings.values, "origins": settings.origins}, indent=2))
        return
    table = Table("setting", "value", "from", "meaning", box=None)
    for setting in SETTINGS:
        table.add_row(setting.path, str(settings[setting.path]), settings.origins[setting.path], setting.help)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@app.command()
def version() -> None:
    """Print the version."""
    print(metadata.version("thingscale"))


def show_user(user: User, as_json: bool) -> None:
    if as_json:
        fields = ("user_id", "api_token", "device_token", "email1", "locale", "user_alias")
        print(json.dumps({name: getattr(user, name) for name in fields}))
    else:
        print(
            f"user id       {user.user_id}\nAPI token     {user.api_token}\ndevice token  {user.device_token}"
        )


@user_app.command("add")
def add_user(
    email: Annotated[str, typer.Option(help="Where notifications go.")] = "",
    alias: Annotated[str, typer.Option(help="Display name.")] = "",
    locale: Annotated[str, typer.Option(help="IANA time zone.")] = "UTC",
    data: Data = None,
    config: File = None,
    as_json: AsJson = False,
) -> None:
    """Make an account; prints its id and tokens."""
    registry = open_registry(configuration(config, data))
    now_us = time.time_ns() // 1000
    try:
        with registry.by("cli", now_us):
            user = registry.add_user(now_us, email1=email, user_alias=alias, locale=locale)
    except FieldError as error:
        fail(error, 2)
    except RegistryBusyError as error:
        fail(error)
    show_user(user, as_json)


@user_app.command("list")
def list_users(data: Data = None, config: File = None, as_json: AsJson = False) -> None:
    """All accounts; tokens only with --json."""
    users = open_registry(configuration(config, data)).users()
    if as_json:
        for user in users:
            show_user(user, as_json=True)
        return
    table = Table("user id", "alias", "email", "locale", box=None)
    for user in users:
        table.add_row(user.user_id, user.user_alias, user.email1, user.locale)
    Console().print(table)


@user_app.command("rotate")
def rotate_token(
    user_id: str,
    api: Annotated[bool, typer.Option("--api", help="A new API token.")] = False,
    device: Annotated[bool, typer.Option("--device", help="A new device token.")] = False,
    overlap: Annotated[
        int,
        typer.Option(
            metavar="SECONDS", min=0, max=OVERLAP_S_MAX, help="How long the old one goes on working."
        ),
    ] = 0,
    data: Data = None,
    config: File = None,
    as_json: AsJson = False,
) -> None:
    """Replace a token. Without an overlap the old one is worth nothing within a second."""
    if api == device:
        fail("give one of --api and --device", 2)
    registry = open_registry(configuration(config, data))
    now_us = time.time_ns() // 1000
    ends_at_us = now_us + overlap * 1_000_000 if overlap else 0
    try:
        with registry.by("cli", now_us):
            user = registry.rotate(user_id, "api_token" if api else "device_token", ends_at_us)
    except (UnknownError, RegistryBusyError) as error:
        fail(error)
    show_user(user, as_json)


@cert_app.command("dev")
def make_development_certificate(
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the files go.")] = Path(
        "tls"
    ),
    host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Name or address of this machine; repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Make a CA and a server certificate for development; prints what to configure."""
    from thingscale.devcert import FilesExistError, make_development_files

    hosts = host or ["localhost", "127.0.0.1", "::1", socket.gethostname()]
    try:
        files = make_development_files(directory.absolute(), hosts, force=force)
    except (FilesExistError, OSError) as error:
        fail(error)
    except ValueError as error:
        fail(error, 2)
    print(f"# for {', '.join(hosts)}; clients trust {files.ca}")
    print('[server]\nmqtts = "127.0.0.1:8883"\nwss = "127.0.0.1:8084"\nhttps = "127.0.0.1:8443"\n')
    print(f"[tls]\ncertificate = {json.dumps(str(files.certificate))}\nkey = {json.dumps(str(files.key))}")


def main() -> None:
    """The ``thingscale`` command."""
    app()
