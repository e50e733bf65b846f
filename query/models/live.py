"""Datapoints as they become durable (beyond the contract)."""

from typing import Annotated, Final

from pydantic import Field

from query.openapi import Parameter, Reply, described

Seq = Annotated[str, Field(pattern=r"^\d{1,19}$")]

WATCH: Final = described(
    "Datapoints as they become durable, as Server-Sent Events",
    "`event: datapoint` with the seq as `id` and a line of NDJSON as `data`, in the order of seqs. `event: gap` says "
    "which seqs are left out after a resumption, `event: lagged` up to which one a slow client was served, before "
    "the end.",
    Reply(None, None, "events until one side goes", other={"text/event-stream": "WHATWG HTML, 9.2"}),
    parameters=[
        Parameter("channel", "only these channels, by number; lists with commas, too", is_listed=True),
        Parameter("device", "only readings of these devices", is_listed=True),
        Parameter("tag", "only readings with these tags", is_listed=True),
        Parameter("since", "the last seq that the client has", Seq),
        Parameter("Last-Event-ID", "the same; counts if both are there", Seq, where="header"),
    ],
    errors=["BAD_PARAMETER", "NO_CHANNEL", "UNAVAILABLE"],
)
