"""What daemon and worker say to each other: frames over a socket pair, ``kind`` (1 byte), length (4), body.

daemon                                   worker
SETUP    limits, zone, directory   ->    enters the jail
QUERY    the SQL, parameters, format ->  parses
<- TABLES   names of views that it uses (ERROR ends it)
VIEWS    what they are, with a descriptor of the unpublished rows in each ->
<- HEAD     the answer's media type
<- DATA     bytes of the answer, many times
<- END
"""

import struct
from enum import Enum
from typing import Any, Final

import msgspec

HEADER: Final = struct.Struct(">cI")
# A frame of DATA; what a worker has ready before the daemon has taken it.
DATA_BYTES: Final = 256 << 10
# Of the other frames: SQL and parameters have their own limit, names of views are few.
FRAME_BYTES_MAX: Final = 16 << 20


class Frame(bytes, Enum):
    """What a frame says."""

    SETUP = b"S"
    QUERY = b"Q"
    TABLES = b"T"
    VIEWS = b"V"
    HEAD = b"H"
    DATA = b"D"
    END = b"Z"
    ERROR = b"E"


class WireError(Exception):
    """The other side said something else, or nothing any more."""


def told(kind: Frame, **values: Any) -> bytes:
    """A frame whose body is a JSON object."""
    body = msgspec.json.encode(values)
    return HEADER.pack(kind.value, len(body)) + body
