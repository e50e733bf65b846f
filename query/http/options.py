"""What one HTTP connection may cost: every limit of the server, with its unit."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Limits of the HTTP server. Bytes are bytes on the wire, times are seconds.

    Attributes:
        connections_max: clients at a time; a further one gets 503 and is closed.
        request_line_bytes_max: a longer request line is answered with 414 (RFC 9112 section 3: at least 8000).
        header_bytes_max: request line and fields together; beyond it 431. Trailers have the same limit.
        headers_max: fields of a request; beyond it 431.
        body_bytes_max: announced or received; beyond it 413.
        body_ahead_bytes: a body up to this size is read whole before the application is called.
        idle_s: silence between two requests.
        head_s: from the first byte of a request to the end of its fields; then 408.
        body_s: patience with a body before the minimum rate counts; then 408.
        body_bytes_per_s_min: the rate at which a body has to come, on average.
        write_s: a client that takes nothing of its response for so long is gone.
        half_closed_s: a client that ended its side, and has no response yet, counts as gone after this.
        linger_s: how long a closing connection still reads, so that the last response is not lost to a reset.
        server: the Server field.
    """

    connections_max: int = 10_000
    request_line_bytes_max: int = 8_192
    header_bytes_max: int = 16_384
    headers_max: int = 100
    body_bytes_max: int = 16_777_216
    body_ahead_bytes: int = 65_536
    idle_s: float = 75.0
    head_s: float = 15.0
    body_s: float = 20.0
    body_bytes_per_s_min: int = 1_000
    write_s: float = 60.0
    half_closed_s: float = 10.0
    linger_s: float = 2.0
    server: bytes = b"thingscale"

    def __post_init__(self) -> None:
        if self.request_line_bytes_max > self.header_bytes_max:
            raise ValueError("request_line_bytes_max must not exceed header_bytes_max")
