"""The daemon's own state."""

from typing import Final, Literal

from pydantic import with_config
from typing_extensions import TypedDict

from query.models import CLOSED
from query.openapi import Reply, described


@with_config(CLOSED)
class Alive(TypedDict):
    """The process answers."""

    status: Literal["alive"]


@with_config(CLOSED)
class Ready(TypedDict):
    """It takes traffic."""

    status: Literal["ready"]


ALIVE: Final = described(
    "Alive", "Answers as long as the process does.", Reply(Alive, {"status": "alive"}, "alive"), who="anybody"
)
READY: Final = described(
    "Recovered and taking traffic",
    "Not yet while it starts, not any more while it stops.",
    Reply(Ready, {"status": "ready"}, "ready"),
    errors=["NOT_READY"],
    who="anybody",
)
METRICS: Final = described(
    "Prometheus metrics",
    "In the text format, version 0.0.4.",
    Reply(None, None, "the metrics", other={"text/plain": "samples, one a line"}),
    who="anybody",
)
