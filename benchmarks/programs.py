"""The C programs of this directory: compiled when they are older than their source.

They land in build/bench and are plain programs with --options and one JSON line of
result, so each of them can be run by hand (README.md). TLS is OpenSSL's: without its headers they are
compiled without TLS, and compiled again once the headers are there.
"""

import os
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent
BUILD = SOURCES.parent / "build" / "bench"
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
TLS_FLAGS = ("-DWITH_TLS",)
TLS_LIBRARIES = ("-lssl", "-lcrypto")
TLS_HEADER = Path("/usr/include/openssl/ssl.h")


def tls_missing() -> str:
    """Why the generators cannot speak TLS, or nothing."""
    return "" if TLS_HEADER.exists() else f"the load generators need OpenSSL's headers for TLS ({TLS_HEADER})"


def program(name: str) -> Path:
    """The path of a compiled program; compiles it first if its source is newer.

    Raises:
        subprocess.CalledProcessError: the compiler refuses the source.
        FileNotFoundError: there is no C compiler.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    source, target = SOURCES / f"{name}.c", BUILD / name
    newest = max(path.stat().st_mtime for path in (source, *SOURCES.glob("*.h")))
    has_tls = not tls_missing()
    if has_tls:
        newest = max(newest, TLS_HEADER.stat().st_ctime)  # when it was installed
    if target.exists() and target.stat().st_mtime > newest:
        return target
    if compiler is None:
        raise FileNotFoundError("no C compiler found: the load generators cannot be built")
    BUILD.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(f".{os.getpid()}")
    flags, libraries = (TLS_FLAGS, TLS_LIBRARIES) if has_tls else ((), ())
    subprocess.run([compiler, *FLAGS, *flags, "-o", fresh, source, *libraries], check=True)
    fresh.replace(target)
    return target
