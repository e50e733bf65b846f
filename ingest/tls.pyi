"""TLS as the reactor speaks it (ingest/tls.pyx)."""

class TlsContext:
    """A server's settings, its certificate and the keys of its session tickets. The transports made of it share them.

    Args:
        minimum: the oldest version that is spoken, "1.2" or "1.3".
        ciphers: of TLS 1.2, in OpenSSL's notation.
        tickets: of TLS 1.3, per full handshake.
        record_bytes_max: the largest plaintext of a record that is sent.

    Raises:
        LibsslMissingError: of ingest.libssl; an OSError.
        ValueError: OpenSSL refuses a setting; its words.
    """

    def __init__(self, minimum: str, ciphers: str, tickets: int, record_bytes_max: int) -> None: ...
    def load_certificate(self, chain: str, key: str) -> None:
        """For connections that begin from now on. PEM files; a key with a password is refused.

        Raises:
            OSError: one of them cannot be read.
            ValueError: one of them cannot be used; OpenSSL's words.
        """

    def ask_for_client_certificates(self, ca: str, is_required: bool) -> None:
        """And trust those that a CA of this PEM file has signed. Raises as ``load_certificate``."""

class TlsTransport:
    """The server's side of one connection, a Transport (ingest.transports)."""

    def __init__(self, context: TlsContext) -> None: ...
    @property
    def is_ended(self) -> bool: ...
    @property
    def is_resumed(self) -> bool:
        """Whether the client came with a session that was known."""

    def receive(self, data: bytes) -> bytes: ...
    def send(self, data: bytes) -> bytes: ...
    def take_pending(self) -> bytes: ...
    def ended(self) -> bytes: ...
