"""The command line. Exit codes: 0 done, 1 failed, 2 wrong usage (of a flag, a key or a file).

Accounts are managed in the registry directly, whether the daemon runs or not (it looks for changes twice a second),
or by REST with an admin's token. Devices, channels, events and readings: by REST, with --url and --token (or
THINGSCALE_URL and THINGSCALE_TOKEN), or with --data DIR on a data directory that no daemon uses.
"""

import json
import sys
from importlib import metadata
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from storage.lock import InUseByProcessError
from storage.notes import NoteFormatError
from storage.recovery import RingTooSmallError
from storage.registry import RegistryFormatError, UnknownError
from storage.sessions import SessionsFormatError
from storage.wal import CorruptRecordError
from thingscale.commands import admin, cert, channel, device, event, sql, tail, transfer, user
from thingscale.commands.options import AsJson, Data, File, check_directory, configuration, fail
from thingscale.config import SETTINGS, ConfigError
from thingscale.control import call

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
for name, noun in {
    "user": user, "device": device, "channel": channel, "event": event, "admin": admin, "cert": cert,
}.items():  # fmt: skip
    app.add_typer(noun.app, name=name)
transfer.register(app)
sql.register(app)
tail.register(app)


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

            check_directory(settings)
            reply = publish_offline(settings, user, channel)
    except (InUseByProcessError, CorruptRecordError, RingTooSmallError, UnknownError, OSError) as error:
        fail(error)
    if "error" in reply:
        fail(reply["error"])
    print(json.dumps(reply))


@app.command(name="config")
def show_config(data: Data = None, config: File = None, as_json: AsJson = False) -> None:
    """Print the configuration that is in force, and where each value came from."""
    settings = configuration(config, data)
    if as_json:
        print(json.dumps({"values": settings.values, "origins": settings.origins}))
        return
    table = Table("setting", "value", "from", "meaning", box=None)
    for setting in SETTINGS:
        table.add_row(setting.path, str(settings[setting.path]), settings.origins[setting.path], setting.help)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    found = metadata.version("thingscale")
    print(json.dumps({"version": found}) if as_json else found)


def main() -> None:
    """The ``thingscale`` command."""
    app()
