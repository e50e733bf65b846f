"""``thingscale tail``: readings as they become durable, until Ctrl-C.

The newest readings first, then Server-Sent Events from the last one of them on, so that nothing is left out between the
two. A connection that breaks is taken up again where it was, also over a restart of the daemon.
"""

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from thingscale.client import Client, MissedError
from thingscale.commands.options import AsJson
from thingscale.commands.output import cell, line
from thingscale.commands.server import rest_command


def register(app: typer.Typer) -> None:
    rest_command(app, "tail", offline=False)(tail)


def tail(
    client: Client,
    channels: Annotated[list[int], typer.Argument(metavar="CHANNEL...", min=0)],
    last: Annotated[int, typer.Option("--last", "-n", metavar="ROWS", min=0, help="So many of before.")] = 10,
    devices: Annotated[
        list[str] | None, typer.Option("--device", metavar="DEVICE", help="Only of it; repeatable.")
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Only with it; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what comes in, until Ctrl-C."""
    given: dict[str, Any] = {"device": devices, "tag": tags}
    narrow = {name: names for name, names in given.items() if names}
    try:
        for reading in readings(client, list(dict.fromkeys(channels)), last, narrow):
            print(line(reading) if as_json else told(reading), flush=True)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def told(reading: dict[str, Any]) -> str:
    """A line for people: when, which channel, who, and what."""
    value = reading["value"]
    texts = (
        [f"{name}={shown(each)}" for name, each in value.items()]
        if isinstance(value, dict)
        else [shown(value)]
    )
    who = reading["device"] + (f"/{reading['tag']}" if reading["tag"] else "")
    return cell(f"{reading['at']}  {reading['channel']}  {who}  {' '.join(texts)}").plain


def shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def readings(
    client: Client, channels: list[int], last: int, narrow: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The last ones of all channels together, then what comes, in the order in which it came."""
    before = sorted(client.stream(channels, last=max(last, 1), **narrow).objects(), key=seq_of)
    yield from before[max(len(before) - last, 0) :]
    since = seq_of(before[-1]) if before else None
    for each in client.live(channels, since=since, on_missed=warn, **narrow):
        yield {
            "channel": each.channel,
            "_id": each.id,
            "at": each.at.isoformat(),
            "device": each.device,
            "tag": each.tag,
            "value": each.value,
        }


def warn(missed: MissedError) -> None:
    print(f"thingscale: {missed}; export has them", file=sys.stderr)


def seq_of(reading: dict[str, Any]) -> int:
    """The place of a reading in the order in which they came: behind eight digits for its second."""
    return int(reading["_id"][8:], 16)
