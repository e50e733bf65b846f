"""A body's bytes that lie in several places, and leave from there.

An ASGI server with this extension takes it for a body: it has a length, and ``bytes()`` joins it. Ours sends it with
one system call for many buffers; a call and a chunk of its own for each column of a table cost as much as decoding it.
"""

from collections.abc import Sequence
from typing import Final

# In the scope's extensions, of servers that take such bodies.
EXTENSION: Final = "thingscale.buffers"


class Buffers:
    """Several buffers as one body."""

    __slots__ = ("parts", "size")

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self.parts = parts
        self.size = sum(map(len, parts))

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)
