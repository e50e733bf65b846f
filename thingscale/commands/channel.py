"""``thingscale channel``: one account's channels and their streams."""

import time
from typing import Annotated, Final

import typer

from thingscale.client import Client
from thingscale.commands.options import AsJson, Yes, fail, sure
from thingscale.commands.output import line, print_object, print_objects
from thingscale.commands.server import rest_command

app = typer.Typer(no_args_is_help=True, help="Channels: where readings are kept.")

COLUMNS: Final = {"channel": "channel", "name": "channel_name", "last reading": "last_update"}
TAG_COLUMNS: Final = {**COLUMNS, "tag": "tag"}
ARCHIVED_COLUMNS: Final = {
    **COLUMNS,
    "archived": "archived_at",
    "directory": "directory",
    "waiting rows": "waiting_rows",
}
STREAM_COLUMNS: Final = {
    "stream": "stream",
    "kind": "kind",
    "label": "label",
    "unit": "unit",
    "description": "description",
}

# How long a command waits for the files of a channel that it has archived.
FILES_S: Final = 600.0

Number = Annotated[int, typer.Argument(metavar="CHANNEL", min=0)]
Stream = Annotated[str, typer.Argument(metavar="STREAM")]


@rest_command(app, "list")
def list_channels(
    client: Client,
    tags: Annotated[bool, typer.Option("--tags", help="With a row for each tag.")] = False,
    archived: Annotated[bool, typer.Option("--archived", help="Those deleted with --keep-data.")] = False,
    as_json: AsJson = False,
) -> None:
    """All channels."""
    if archived:
        print_objects(client.channels.archived(), ARCHIVED_COLUMNS, as_json=as_json)
        return
    found = client.channels.list(with_tags=tags)
    print_objects(found, TAG_COLUMNS if tags else COLUMNS, as_json=as_json)


@rest_command(app, "show")
def show_channel(
    client: Client,
    channel: Number,
    as_json: AsJson = False,
) -> None:
    """One channel."""
    print_object(client.channels.get(channel), as_json=as_json)


@rest_command(app, "add")
def add_channel(
    client: Client,
    channel: Number,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="What it is called.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a channel with this number."""
    print_object(client.channels.add(channel, name), as_json=as_json)


@rest_command(app, "rename")
def rename_channel(
    client: Client,
    channel: Number,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    as_json: AsJson = False,
) -> None:
    """Call a channel something else."""
    print_object(client.channels.rename(channel, name), as_json=as_json)


@rest_command(app, "delete")
def delete_channel(
    client: Client,
    channels: Annotated[list[int], typer.Argument(metavar="CHANNEL...", min=0)],
    tag: Annotated[
        str | None, typer.Option("--tag", metavar="TAG", help="Only this tag, with its readings.")
    ] = None,
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Archive them: all readings stay, as Parquet.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete channels with all their readings, or a tag of them with all of its; or archive channels."""
    if keep_data and tag is not None:
        fail("--keep-data is for whole channels", 2)
    numbers = ", ".join(map(str, channels))
    which = f"{'' if tag is None else f'tag {tag} of '}channel {numbers}"
    sure(f"Delete {which} {'and keep' if keep_data else 'with'} all readings?", yes=yes)
    for channel in channels:
        client.channels.delete(channel, tag, keep_data=keep_data)
        if keep_data:
            wait_for_files(client, channel)
        if as_json:
            done = {"archived": True} if keep_data else {"deleted": True}
            print(line({"channel": channel} | ({} if tag is None else {"tag": tag}) | done))


def wait_for_files(client: Client, channel: int) -> None:
    """Until all readings of an archived channel are in published files."""
    end = time.monotonic() + FILES_S
    while any(each["waiting_rows"] for each in client.channels.archived() if each["channel"] == channel):
        if time.monotonic() > end:
            fail(f"channel {channel} is archived, and some of its readings are not in files yet")
        time.sleep(0.2)


@rest_command(app, "restore")
def restore_channel(client: Client, channel: Number, as_json: AsJson = False) -> None:
    """Make an archived channel a channel again, with all its readings."""
    print_object(client.channels.restore(channel), as_json=as_json)


@rest_command(app, "streams")
def list_streams(client: Client, channel: Number, as_json: AsJson = False) -> None:
    """What readings of a channel have: each stream's kind, label, unit and description."""
    print_objects(client.channels.streams(channel), STREAM_COLUMNS, as_json=as_json)


@rest_command(app, "describe")
def describe_stream(
    client: Client,
    channel: Number,
    stream: Stream,
    label: Annotated[str | None, typer.Option("--label", metavar="TEXT", help="For people.")] = None,
    unit: Annotated[str | None, typer.Option("--unit", metavar="TEXT", help="As in °C.")] = None,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT", help="More.")] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Take all of it back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a stream is: what is not said stays."""
    texts = {"label": label, "unit": unit, "description": description}
    body = {key: text for key, text in texts.items() if text is not None}
    if forget == bool(body):
        fail("give some of --label, --unit and --description, or --forget", 2)
    if forget:
        client.channels.forget(channel, stream)
        if as_json:
            print(line({"channel": channel, "stream": stream, "deleted": True}))
        return
    print_object(client.channels.describe(channel, stream, **body), as_json=as_json)
