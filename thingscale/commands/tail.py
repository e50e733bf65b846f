"""``thingscale tail``: readings as they become durable, until Ctrl-C.

The newest readings are asked for again and again. They are those that came last, whatever their own times say, and the
number in ``_id`` counts them; so what is behind the last number seen is new, and nothing is shown twice or left out as
long as less comes between two looks than one answer may hold.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from thingscale.commands.options import AsJson
from thingscale.commands.output import cell, line
from thingscale.commands.rest import Rest
from thingscale.commands.server import rest_command
from thingscale.commands.transfer import quoted

PAUSE_S: Final = 0.5
# Of the newest: what is asked for, and what is asked for if all of that was new.
ROWS: Final = (100, 5_000, 100_000)


def register(app: typer.Typer) -> None:
    rest_command(app, "tail", offline=False)(tail)


def tail(
    rest: Rest,
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
    narrow = {"device": quoted(devices), "tag": quoted(tags)}
    try:
        for reading in readings(rest, sorted(set(channels)), last, narrow):
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
    rest: Rest, channels: list[int], last: int, narrow: dict[str, list[str]]
) -> Iterator[dict[str, Any]]:
    """The last ones, then what comes, in the order in which it came."""
    found = newest(rest, channels, max(last, 1), narrow)
    seen = {number: max((seq_of(each) for each in rows), default=-1) for number, rows in found.items()}
    before = sorted((each for rows in found.values() for each in rows), key=seq_of)
    yield from before[len(before) - min(last, len(before)) :]
    while True:
        time.sleep(PAUSE_S)
        new: list[dict[str, Any]] = []
        for number, rows in newer(rest, seen, narrow).items():
            new += rows
            seen[number] = max((seq_of(each) for each in rows), default=seen[number])
        yield from sorted(new, key=seq_of)


def newer(rest: Rest, seen: dict[int, int], narrow: dict[str, list[str]]) -> dict[int, list[dict[str, Any]]]:
    """What came behind the numbers seen, by channel."""
    result: dict[int, list[dict[str, Any]]] = {}
    waiting = list(seen)
    for limit in ROWS:
        if not waiting:
            break
        for number, rows in newest(rest, waiting, limit, narrow).items():
            result[number] = [each for each in rows if seq_of(each) > seen[number]]
        # Where all of an answer is new there may be more before it; what was never seen begins with it.
        waiting = [number for number in waiting if seen[number] >= 0 and len(result[number]) == limit]
    for number in waiting:
        words = f"more than {ROWS[-1]:,} readings came to channel {number} at once; the oldest are left out"
        print(f"thingscale: {words}", file=sys.stderr)
    return result


def newest(
    rest: Rest, channels: list[int], limit: int, narrow: dict[str, list[str]]
) -> dict[int, list[dict[str, Any]]]:
    query = {
        "channel": ",".join(map(str, channels)), "end": "last", "limit": limit, "format": "ndjson", **narrow,
    }  # fmt: skip
    text = b"".join(rest.pieces(rest.open("GET", "/v2/stream", query=query)))
    found: dict[int, list[dict[str, Any]]] = {number: [] for number in channels}
    for each in text.splitlines():
        reading = json.loads(each)
        found[reading["channel"]].append(reading)
    return found


def seq_of(reading: dict[str, Any]) -> int:
    """The place of a reading in the order in which they came: behind eight digits for its second."""
    return int(reading["_id"][8:], 16)
