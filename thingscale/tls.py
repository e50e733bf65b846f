"""TLS as this daemon speaks it: the one place that makes contexts, and makes them anew when the files change.

A context holds certificate, key and the keys of session tickets. A renewed certificate is loaded into the context in
force, so that clients go on resuming their sessions: a fleet that comes back needs no full handshakes. Open connections
keep what they have. A new context, and with it new ticket keys, is made only where the old one would remember too
much: OpenSSL keeps a certificate per type of key and every CA it was ever given, and a session that is resumed is not
verified again. Files that do not fit (a certificate was replaced and its key not yet, say) are tried in a context of
their own first; they are logged once, and what is in force stays.

MQTT has contexts of ingest.tls, HTTPS those of Python's ssl, both with the settings of this module.
"""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ingest.libssl import LibsslMissingError
from ingest.tls import TlsContext
from thingscale.config import TLS_LISTENERS, Config, ConfigError

LOOK_S: Final = 2.0
FILES: Final = "tls.certificate, tls.key"
# TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has no others.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM:!AESCCM8"
# Of TLS 1.3, per handshake. OpenSSL would send two; a device opens one connection at a time, with a new ticket each.
TICKETS: Final = 1
# What one record that we send carries at most: small devices keep receive buffers of 4 KiB.
RECORD_BYTES_MAX: Final = 4_096

log = logging.getLogger("thingscale.tls")


class Certificates:
    """The contexts in force.

    Args:
        config: names the files.

    Raises:
        ConfigError: a file cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._seen = self._signature()
        self._mqtt, self._https = self._make()
        self._kind = kind_of(Path(config["tls.key"]))

    def mqtt(self) -> TlsContext:
        """For MQTT and WebSocket: without ALPN, which few devices send and brokers ignore."""
        return self._mqtt

    def https(self) -> ssl.SSLContext:
        return self._https

    def look(self) -> bool:
        """Whether the files have changed, and are in force now."""
        signature = self._signature()
        if signature == self._seen:
            return False
        has_same_ca = signature[2] == self._seen[2]
        self._seen = signature
        try:
            mqtt, https = self._make()
            kind = kind_of(Path(self._config["tls.key"]))
            if has_same_ca and kind is not None and kind == self._kind:
                load_mqtt_certificate(self._mqtt, self._config)
                load_https_certificate(self._https, self._config)
            else:
                self._mqtt, self._https, self._kind = mqtt, https, kind
        except ConfigError as error:
            log.error("the new certificate is not used, the old one stays: %s", error)  # noqa: TRY400 - it says all
            return False
        log.info("a new certificate is in force for new connections")
        return True

    async def run(self) -> None:
        """Look every few seconds; returns only when cancelled."""
        while True:
            await trio.sleep(LOOK_S)
            self.look()

    def _signature(self) -> list[tuple[int, int, int] | None]:
        found: list[tuple[int, int, int] | None] = []
        for key in ("tls.certificate", "tls.key", "tls.client_ca"):
            try:
                status = Path(self._config[key]).stat()
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
            except OSError:
                found.append(None)
        return found

    def _make(self) -> tuple[TlsContext, ssl.SSLContext]:
        return make_mqtt_context(self._config), make_https_context(self._config)


def make_mqtt_context(config: Config) -> TlsContext:
    """A broker's context from the files that the configuration names.

    Raises:
        ConfigError: one of them cannot be used, or OpenSSL is missing.
    """
    try:
        context = TlsContext(config["tls.minimum"], CIPHERS, TICKETS, RECORD_BYTES_MAX)
    except LibsslMissingError as error:
        raise ConfigError(f"tls: {error}") from error
    load_mqtt_certificate(context, config)
    if ca := config["tls.client_ca"]:
        is_required = config["tls.client_required"] == "yes"
        _load("tls.client_ca", lambda: context.ask_for_client_certificates(ca, is_required))
    return context


def make_https_context(config: Config) -> ssl.SSLContext:
    """A web server's context from the same files. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = (
        ssl.TLSVersion.TLSv1_3 if config["tls.minimum"] == "1.3" else ssl.TLSVersion.TLSv1_2
    )
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = TICKETS
    context.set_alpn_protocols(["http/1.1"])
    load_https_certificate(context, config)
    if ca := config["tls.client_ca"]:
        _load("tls.client_ca", lambda: context.load_verify_locations(ca))
        is_required = config["tls.client_required"] == "yes"
        context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
    return context


def kind_of(file: Path) -> type | None:
    """Of a private key: RSA, ECDSA and so on; None when that cannot be told."""
    try:
        return type(load_pem_private_key(file.read_bytes(), None))
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return None


def load_mqtt_certificate(context: TlsContext, config: Config) -> None:
    """Certificate and key for connections that begin from now on. Raises ConfigError."""
    _load(FILES, lambda: context.load_certificate(config["tls.certificate"], config["tls.key"]))


def load_https_certificate(context: ssl.SSLContext, config: Config) -> None:
    """The same for HTTPS. Raises ConfigError."""
    # An empty password: a key that has one is refused, instead of asked for on the terminal.
    _load(FILES, lambda: context.load_cert_chain(config["tls.certificate"], config["tls.key"], password=""))


def _load(keys: str, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{keys}: {reason}") from error


def certificates(config: Config) -> Certificates | None:
    """The certificates, when a listener needs them. Raises ConfigError."""
    return Certificates(config) if any(config[path] for path in TLS_LISTENERS) else None
