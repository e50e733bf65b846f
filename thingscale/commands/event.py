"""``thingscale event``: what one account wants to be told of."""

from typing import Annotated, Any, Final

import typer

from thingscale.client import Client
from thingscale.commands.options import AsJson, fail
from thingscale.commands.output import line, print_object, print_objects
from thingscale.commands.server import rest_command

app = typer.Typer(no_args_is_help=True, help="Events: conditions that somebody is told of.")

COLUMNS: Final = {
    "event": "event_id",
    "enabled": "enabled",
    "channel": "mapped_ch",
    "source": "source",
    "operator": "operator",
    "threshold": "threshold",
    "notify": "notify_type",
    "URL": "post_url",
    "description": "description",
}

Number = Annotated[int, typer.Argument(metavar="EVENT", min=1)]
Channel = Annotated[int | None, typer.Option("--channel", metavar="N", min=0, help="The channel watched.")]
Source = Annotated[str | None, typer.Option("--source", metavar="PATH", help="The value, as in data:temp.")]
Operator = Annotated[str | None, typer.Option("--operator", metavar="OP", help="One of < > <= >= = !=")]
Threshold = Annotated[
    str | None, typer.Option("--threshold", metavar="VALUE", help="What it is compared to.")
]
Hook = Annotated[str | None, typer.Option("--post", metavar="URL", help="Tell this URL.")]
Email = Annotated[bool, typer.Option("--email", help="Tell the account's addresses.")]
Enabled = Annotated[bool | None, typer.Option("--enabled/--disabled", help="Whether it is looked at.")]
Description = Annotated[str | None, typer.Option("--description", metavar="TEXT", help="What it means.")]


def fields_of(given: dict[str, Any], post: str | None, *, email: bool) -> dict[str, Any]:
    """What the options say of an event, as the API takes it."""
    if email and post is not None:
        fail("give one of --post and --email", 2)
    if email:
        given |= {"notify_type": "email"}
    if post is not None:
        given |= {"notify_type": "http", "post_url": post}
    return {key: value for key, value in given.items() if value is not None}


@rest_command(app, "list")
def list_events(client: Client, as_json: AsJson = False) -> None:
    """All events."""
    print_objects(client.events.list(), COLUMNS, as_json=as_json)


@rest_command(app, "add")
def add_event(
    client: Client,
    channel: Channel = None,
    source: Source = None,
    operator: Operator = None,
    threshold: Threshold = None,
    post: Hook = None,
    email: Email = False,
    enabled: Enabled = None,
    description: Description = None,
    as_json: AsJson = False,
) -> None:
    """Make an event."""
    given = {
        "mapped_ch": channel, "source": source, "operator": operator, "threshold": threshold, "enabled": enabled,
        "description": description,
    }  # fmt: skip
    print_object(client.events.add(**fields_of(given, post, email=email)), as_json=as_json)


@rest_command(app, "set")
def set_event(
    client: Client,
    event: Number,
    channel: Channel = None,
    source: Source = None,
    operator: Operator = None,
    threshold: Threshold = None,
    post: Hook = None,
    email: Email = False,
    enabled: Enabled = None,
    description: Description = None,
    as_json: AsJson = False,
) -> None:
    """Change an event: what is not said stays."""
    given = {
        "mapped_ch": channel, "source": source, "operator": operator, "threshold": threshold, "enabled": enabled,
        "description": description,
    }  # fmt: skip
    fields = fields_of(given, post, email=email)
    if not fields:
        fail("nothing to change: say what", 2)
    print_object(client.events.update(event, **fields), as_json=as_json)


@rest_command(app, "delete")
def delete_event(
    client: Client,
    events: Annotated[list[int], typer.Argument(metavar="EVENT...", min=1)],
    as_json: AsJson = False,
) -> None:
    """Delete events."""
    for event in events:
        client.events.delete(event)
        if as_json:
            print(line({"event_id": event, "deleted": True}))
