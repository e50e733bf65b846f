"""The peer is wrong, or gone: the two ways in which a connection ends early."""

TOKENS = {
    400: "BAD_REQUEST",
    408: "REQUEST_TIMEOUT",
    413: "CONTENT_TOO_LARGE",
    414: "URI_TOO_LONG",
    417: "EXPECTATION_FAILED",
    421: "MISDIRECTED_REQUEST",
    431: "HEADERS_TOO_LARGE",
    500: "INTERNAL_ERROR",
    501: "NOT_IMPLEMENTED",
    503: "OVERLOADED",
    505: "HTTP_VERSION_NOT_SUPPORTED",
}


class ProtocolError(Exception):
    """A request that cannot be honoured; the connection answers with the status and closes.

    Attributes:
        status: a key of TOKENS.
        reason: which rule was broken; goes to the client, so never any of its bytes.
        is_head: the request was a HEAD, so the answer has no content (RFC 9110 section 9.3.2).
    """

    def __init__(self, status: int, reason: str) -> None:
        assert status in TOKENS
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason
        self.is_head = False


class ClientGoneError(OSError):
    """The client does not take its response. ASGI wants an OSError from send() then."""
