"""A client of a Thingscale server: ``Client(url, token)``. It needs nothing of the daemon but its address.

from thingscale.client import Client

with Client("http://127.0.0.1:8080", token) as client:
    client.stream(3, start="2024-05-01", end="2024-05-02").to_pandas()
"""

from thingscale.client.answers import Answer, Datapoint, Rows
from thingscale.client.errors import (
    AuthError,
    BadRequestError,
    InUseError,
    LimitReachedError,
    MissedError,
    NotFoundError,
    QueryError,
    ThingscaleError,
    TooManyRequestsError,
    UnavailableError,
)
from thingscale.client.session import Client

__all__ = [
    "Answer", "AuthError", "BadRequestError", "Client", "Datapoint", "InUseError", "LimitReachedError", "MissedError",
    "NotFoundError", "QueryError", "Rows", "ThingscaleError", "TooManyRequestsError", "UnavailableError",
]  # fmt: skip
