"""``thingscale channel``: one account's channels and their streams."""

from typing import Annotated, Final

import typer

from thingscale.client import Client
from thingscale.commands.options import AsJson, Yes, fail, sure
from thingscale.commands.output import line, print_object, print_objects
from thingscale.commands.server import rest_command

app = typer.Typer(no_args_is_help=True, help="Channels: where readings are kept.")

COLUMNS: Final = {"channel": "channel", "name": "channel_name", "last reading": "last_update"}
TAG_COLUMNS: Final = {**COLUMNS, "tag": "tag"}
STREAM_COLUMNS: Final = {
    "stream": "stream",
    "kind": "kind",
    "label": "label",
    "unit": "unit",
    "description": "description",
}

Number = Annotated[int, typer.Argument(metavar="CHANNEL", min=0)]
Stream = Annotated[str, typer.Argument(metavar="STREAM")]


@rest_command(app, "list")
def list_channels(
    client: Client,
    tags: Annotated[bool, typer.Option("--tags", help="With a row for each tag.")] = False,
    as_json: AsJson = False,
) -> None:
    """All channels."""
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
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete channels with all their readings, or a tag of them with all of its."""
    numbers = ", ".join(map(str, channels))
    sure(f"Delete {'' if tag is None else f'tag {tag} of '}channel {numbers} with all readings?", yes=yes)
    for channel in channels:
        client.channels.delete(channel, tag)
        if as_json:
            print(line({"channel": channel} | ({} if tag is None else {"tag": tag}) | {"deleted": True}))


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
