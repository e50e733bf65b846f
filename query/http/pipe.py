"""Responses without an end that many clients get alike."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from query.http.connection import Connection

# In the scope: what an endless response may be written through once it has begun (Pipe).
PIPE: Final = "thingscale.pipe"


class Pipe:
    """A response in chunks that many clients get alike: each chunk is framed once, by ``framed``, and sent as it is.

    For the time between the first and the last message that the application sends, and not while it sends one.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def send_nowait(self, chunks: bytes) -> int:
        """How much of them the socket took; what it did not take is to be sent before anything else."""
        return self._connection.send_nowait(chunks)

    async def send(self, chunks: bytes | memoryview) -> None:
        """All of them. Raises ClientGoneError."""
        await self._connection.send_framed(chunks)


def framed(data: bytes) -> bytes:
    """A chunk of a chunked body (RFC 9112, 7.1); ``data`` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)
