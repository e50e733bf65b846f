"""What daemon and worker say to each other: frames over a socket pair, ``kind`` (1 byte), length (4), body.

daemon                                   worker
JOB      with it, in a descriptor  ->    is limited, and begins
<- HEAD     what the answer is
<- DATA     bytes of the answer, many times
<- PAUSE    that was enough for now
GO       some more, please         ->
<- END
<- ERROR    instead of any of these

A job in SQL has more to say before its HEAD:

QUERY    the SQL, parameters, format ->  parses
<- TABLES   names of views that it uses
VIEWS    what they are, with a descriptor of the unpublished rows in each ->
"""

import struct
from enum import Enum
from typing import Any, Final

import msgspec

HEADER: Final = struct.Struct(">cI")
# A frame of DATA; what a worker has ready before the daemon has taken it. One copy of it takes some 50 µs, during which
# the daemon does nothing else.
DATA_BYTES: Final = 192 << 10
# Of the other frames: SQL and parameters have their own limit, names of views are few.
FRAME_BYTES_MAX: Final = 16 << 20


class Frame(bytes, Enum):
    """What a frame says."""

    JOB = b"J"
    HEAD = b"H"
    DATA = b"D"
    PAUSE = b"P"
    GO = b"G"
    END = b"Z"
    ERROR = b"E"
    QUERY = b"Q"
    TABLES = b"T"
    VIEWS = b"V"


class WireError(Exception):
    """The other side said something else, or nothing any more."""


def told(kind: Frame, **values: Any) -> bytes:
    """A frame whose body is a JSON object."""
    body = msgspec.json.encode(values)
    return HEADER.pack(kind.value, len(body)) + body
