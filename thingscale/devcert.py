"""Certificates for development: a CA of one's own and a server certificate that it signed (ECDSA P-256).

The CA's key is thrown away: nobody can sign anything else with it. Not for production.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import trustme


class FilesExistError(Exception):
    """Files would be overwritten."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__(f"{', '.join(map(str, paths))} exist already; --force overwrites")
        self.paths = paths


@dataclass(frozen=True, slots=True)
class DevelopmentFiles:
    """What was made: for clients, and for ``tls.certificate`` and ``tls.key``."""

    ca: Path
    certificate: Path
    key: Path


def make_development_files(directory: Path, hosts: list[str], *, force: bool) -> DevelopmentFiles:
    """Write ``ca.pem``, ``server.pem`` and ``server.key``, the key readable by its owner only.

    Raises:
        FilesExistError: one of them is there, and not ``force``.
        OSError: they cannot be written.
    """
    files = DevelopmentFiles(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    paths = [files.ca, files.certificate, files.key]
    if not force and (found := [path for path in paths if path.exists()]):
        raise FilesExistError(found)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca = trustme.CA(organization_name="Thingscale", organization_unit_name="development only")
    server = ca.issue_cert(*hosts, organization_name="Thingscale", organization_unit_name="development only")
    _write(files.ca, ca.cert_pem.bytes(), 0o644)
    # The CA's own certificate is not part of the chain: the client has it, and a device would pay for every byte.
    _write(files.certificate, server.cert_chain_pems[0].bytes(), 0o644)
    _write(files.key, server.private_key_pem.bytes(), 0o600)
    return files


def _write(path: Path, content: bytes, mode: int) -> None:
    """By a new file, so that a reader sees the old one or the new one and the mode is right from the beginning."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:  # noqa: PTH123
        file.write(content)
    beside.replace(path)
