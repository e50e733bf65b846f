"""OpenSSL at run time: what is refused by name, and that the one in use stays."""

import _ssl
import re
import ssl

import pytest

from ingest.libssl import NAMES, LibsslMissingError, load
from ingest.tls import TlsContext, TlsTransport


def make() -> TlsContext:
    return TlsContext("1.2", "ECDHE+AESGCM", 1, 4_096)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], ": $"),
        (["libnowhere.so.9"], ": libnowhere.so.9 is not there$"),
        (["libc.so.6"], ": libc.so.6: TLS_server_method is missing$"),
        (["libnowhere.so.9", "libc.so.6"], "; libc.so.6: "),
    ],
)
def test_a_library_that_cannot_be_used_is_refused_by_name(paths: list[str], message: str) -> None:
    with pytest.raises(
        LibsslMissingError, match=f"^TLS needs OpenSSL 1.1.1 or 3 as a shared library.*{message}"
    ):
        load(paths)
    assert TlsTransport(make()), "what is in use stays"


def test_the_library_of_pythons_ssl_is_found() -> None:
    load([_ssl.__file__])
    load(["libnowhere.so.9", _ssl.__file__])
    major = re.search(r"OpenSSL (\d)", ssl.OPENSSL_VERSION)
    assert major is not None
    load([name for name in NAMES if name.endswith((f".{major[1]}", f".{major[1]}.1"))])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("1.2", "NOTHING", 1, 4_096), ValueError),
        (("1.2", "ECDHE+AESGCM", 1, 100), ValueError),
        (("1.1", "ECDHE+AESGCM", 1, 4_096), KeyError),
    ],
)
def test_a_setting_that_openssl_refuses_is_refused(
    arguments: tuple[str, str, int, int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        TlsContext(*arguments)
    make()
