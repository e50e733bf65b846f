"""Server-Sent Events of /v2/live: lines into datapoints, and where to go on after a broken connection."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        id: where to go on from; "" if it says nothing of it.
    """

    kind: str
    id: str
    data: dict[str, Any]


def events(lines: Iterable[str]) -> Iterator[Event]:
    """The events in an event stream; an incomplete one at its end is none (WHATWG HTML, 9.2.6)."""
    kind = last_id = ""
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield Event(kind or "message", last_id, json.loads("\n".join(data)))
            kind, last_id, data = "", "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                kind = value
            case "id":
                last_id = value
            case "data":
                data.append(value)
