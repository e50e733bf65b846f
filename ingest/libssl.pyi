"""OpenSSL's own functions, found at run time (ingest/libssl.pyx)."""

from collections.abc import Sequence
from typing import Final

NAMES: Final[tuple[str, ...]]

class LibsslMissingError(OSError):
    """There is no OpenSSL that can be used; the message says what was looked for."""

def load(paths: Sequence[str]) -> None:
    """Take the first library that has everything; once one is taken, it stays. Raises LibsslMissingError."""
