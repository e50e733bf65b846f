"""Contexts: which files are refused, and what happens when they change."""

import contextlib
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from ingest.tls import TlsContext, TlsTransport
from ingest.transports import TransportError
from tests.thingscale.commands import done, refused
from thingscale.config import Config, ConfigError, load
from thingscale.devcert import FilesExistError, make_development_files
from thingscale.tls import Certificates, certificates, make_https_context, make_mqtt_context


@pytest.fixture
def files(tmp_path: Path) -> Path:
    make_development_files(tmp_path, ["localhost"], force=False)
    return tmp_path


def config(files: Path, **more: str) -> Config:
    flags = {
        "server.mqtts": ":0",
        "tls.certificate": str(files / "server.pem"),
        "tls.key": str(files / "server.key"),
    }
    return load(None, {**flags, **{name.replace("_", ".", 1): value for name, value in more.items()}}, {})


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


class HttpsSide:
    """The server's side of HTTPS, over memory, with what it shares with a TlsTransport."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def receive(self, data: bytes) -> bytes:
        self._incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return b""

    def take_pending(self) -> bytes:
        return self._outgoing.read()

    def send(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()

    @property
    def is_resumed(self) -> bool:
        return bool(self._tls.session_reused)


def shake_hands(
    server: TlsContext | ssl.SSLContext,
    version: ssl.TLSVersion,
    session: ssl.SSLSession | None,
    client: ssl.SSLContext,
) -> tuple[ssl.SSLSession | None, bool, bytes | None]:
    """A client's session afterwards, whether it was resumed, and the certificate that it has of the server.

    Raises:
        SSLError: the client does not want it.
        TransportError, SSLError: the server does not.
    """
    client.minimum_version = client.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    device = client.wrap_bio(incoming, outgoing, server_hostname="localhost", session=session)
    side = TlsTransport(server) if isinstance(server, TlsContext) else HttpsSide(server)
    for _ in range(3):
        with contextlib.suppress(ssl.SSLWantReadError):
            device.do_handshake()
        assert side.receive(outgoing.read()) == b""
        incoming.write(side.take_pending())
    incoming.write(side.send(b"x"))  # TLS 1.3 sends its ticket after the handshake
    assert device.read(1) == b"x"
    assert side.is_resumed == device.session_reused
    return device.session, bool(device.session_reused), device.getpeercert(binary_form=True)


def trusting_nobody() -> ssl.SSLContext:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return client


@pytest.mark.parametrize("listener", ["mqtts", "wss", "https"])
@pytest.mark.parametrize("missing", ["certificate", "key"])
def test_a_listener_without_its_files_is_refused_by_name(listener: str, missing: str) -> None:
    flags = {f"server.{listener}": ":0", "tls.certificate": "c", "tls.key": "k", f"tls.{missing}": ""}
    with pytest.raises(ConfigError, match=rf"^tls\.{missing}: needed by server\.{listener}$"):
        load(None, flags, {})


def test_a_required_client_certificate_needs_a_ca(files: Path) -> None:
    with pytest.raises(ConfigError, match=r"^tls\.client_ca: needed by tls\.client_required$"):
        config(files, tls_client_required="yes")


def test_a_wrong_address_of_a_further_listener_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^server\.ws: expected HOST:PORT"):
        load(None, {"server.ws": "here"}, {})


def test_without_listeners_no_file_is_looked_at() -> None:
    assert certificates(load(None, {"server.ws": ":0", "tls.certificate": "/nowhere"}, {})) is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"server.pem": None}, "tls.certificate, tls.key: No such file"),
        ({"server.pem": b"bad"}, "tls.certificate, tls.key: "),
        ({"server.key": b"bad"}, "tls.certificate, tls.key: "),
        ({"server.key": b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n"}, "tls.certificate, tls.key: "),
    ],
)
def test_files_that_cannot_be_used_are_refused(
    files: Path, damage: dict[str, bytes | None], message: str
) -> None:
    for name, content in damage.items():
        if content is None:
            (files / name).unlink()
        else:
            (files / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{message}"):
        Certificates(config(files))


MAKERS = pytest.mark.parametrize("make", [make_mqtt_context, make_https_context])
Maker = Callable[[Config], TlsContext | ssl.SSLContext]


@MAKERS
@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file or directory$"), (b"bad", "."), (b"", ".")]
)
def test_a_ca_that_cannot_be_used_is_refused(
    files: Path, make: Maker, content: bytes | None, message: str
) -> None:
    ca = files / "other.pem"
    if content is not None:
        ca.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^tls\.client_ca: {message}"):
        make(config(files, tls_client_ca=str(ca)))


@MAKERS
@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("server.pem", "No such file or directory$"),
        ("server.key", "No such file or directory$"),
        ("bad", "."),
        ("of another", ".*(key values mismatch|KEY_VALUES_MISMATCH)"),
        ("locked", "."),
    ],
)
def test_both_ways_of_tls_refuse_the_same_files(files: Path, make: Maker, damaged: str, message: str) -> None:
    if damaged in ("server.pem", "server.key"):
        (files / damaged).unlink()
    elif damaged == "bad":
        (files / "server.pem").write_bytes(b"bad")
    else:
        other = trustme.CA().issue_cert("localhost").private_key_pem.bytes()
        if damaged == "locked":
            encryption = serialization.BestAvailableEncryption(b"secret")
            other = serialization.load_pem_private_key(
                (files / "server.key").read_bytes(), None
            ).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        (files / "server.key").write_bytes(other)
    with pytest.raises(ConfigError, match=rf"^tls\.certificate, tls\.key: {message}"):
        make(config(files))


@pytest.mark.parametrize(("required", "mode"), [("no", ssl.CERT_OPTIONAL), ("yes", ssl.CERT_REQUIRED)])
def test_client_certificates_are_wanted_or_required(files: Path, required: str, mode: ssl.VerifyMode) -> None:
    wanting = config(files, tls_client_ca=str(files / "ca.pem"), tls_client_required=required)
    assert make_https_context(wanting).verify_mode is mode
    assert make_https_context(config(files)).verify_mode is ssl.CERT_NONE


@VERSIONS
@pytest.mark.parametrize("required", ["no", "yes"])
@pytest.mark.parametrize("shown", ["", "trusted", "stranger"])
def test_a_certificate_of_the_client_is_verified(
    files: Path, version: ssl.TLSVersion, required: str, shown: str
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(files / "clients.pem"))
    context = make_mqtt_context(
        config(files, tls_client_ca=str(files / "clients.pem"), tls_client_required=required)
    )
    client = trusting_nobody()
    if shown:
        (ca if shown == "trusted" else trustme.CA()).issue_cert("device.example").configure_cert(client)
    if shown == "trusted" or not (shown or required == "yes"):
        session, was_resumed, _ = shake_hands(context, version, None, client)
        assert not was_resumed
        assert shake_hands(context, version, session, client)[1]
    else:
        with pytest.raises((ssl.SSLError, TransportError)):
            shake_hands(context, version, None, client)


def test_only_ciphers_with_forward_secrecy_and_authentication_are_spoken(files: Path) -> None:
    names = {cipher["name"] for cipher in make_https_context(config(files)).get_ciphers()}
    assert {"TLS_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"} <= names
    assert all(
        (name.startswith(("TLS_", "ECDHE-")) and "SHA" in name) or "POLY" in name or "CCM" in name
        for name in names
    )


@MAKERS
@pytest.mark.parametrize(
    ("kind", "cipher", "is_spoken"),
    [
        ("ECDSA", "ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDSA", "ECDHE-ECDSA-CHACHA20-POLY1305", True),
        ("ECDSA", "ECDHE-ECDSA-AES128-CCM", True),
        ("ECDSA", "ECDHE-ECDSA-AES128-CCM8", False),
        ("ECDSA", "ECDHE-ECDSA-AES128-SHA256", False),
        ("RSA", "ECDHE-RSA-AES256-GCM-SHA384", True),
        ("RSA", "AES128-GCM-SHA256", False),
        ("RSA", "ECDHE-RSA-AES128-SHA", False),
    ],
)
def test_a_client_with_one_cipher_is_let_in_or_not(
    files: Path, make: Maker, kind: str, cipher: str, is_spoken: bool
) -> None:
    issued = trustme.CA().issue_cert("localhost", key_type=trustme.KeyType[kind])
    (files / "server.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (files / "server.key").write_bytes(issued.private_key_pem.bytes())
    client = trusting_nobody()
    client.set_ciphers(cipher)
    context = make(config(files))
    if is_spoken:
        shake_hands(context, ssl.TLSVersion.TLSv1_2, None, client)
    else:
        with pytest.raises((ssl.SSLError, TransportError)):
            shake_hands(context, ssl.TLSVersion.TLSv1_2, None, client)


def test_changed_files_are_taken_and_broken_ones_are_logged_once(
    files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = Certificates(config(files))
    mqtt, https = found.mqtt(), found.https()
    assert not found.look()
    (files / "server.pem").write_text("half")
    with caplog.at_level(logging.ERROR):
        assert not found.look()
        assert not found.look()
    assert caplog.text.count("the old one stays") == 1
    assert (found.mqtt(), found.https()) == (mqtt, https)
    make_development_files(files, ["localhost"], force=True)
    assert found.look()


def certificate_of(files: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(
        (files / "server.pem").read_text().partition("-----END CERTIFICATE-----")[0]
        + "-----END CERTIFICATE-----"
    )


CARRIED = pytest.mark.parametrize("carried", ["mqtt", "https"])


def context_of(found: Certificates, carried: str) -> TlsContext | ssl.SSLContext:
    return found.mqtt() if carried == "mqtt" else found.https()


@CARRIED
@VERSIONS
def test_sessions_are_resumed_over_a_renewal_and_new_clients_get_the_new_certificate(
    files: Path, version: ssl.TLSVersion, carried: str
) -> None:
    found, client = Certificates(config(files)), trusting_nobody()
    session, was_resumed, first = shake_hands(context_of(found, carried), version, None, client)
    assert (was_resumed, first) == (False, certificate_of(files))
    make_development_files(files, ["localhost"], force=True)
    assert found.look()
    session, was_resumed, _ = shake_hands(context_of(found, carried), version, session, client)
    assert was_resumed
    _, was_resumed, fresh = shake_hands(context_of(found, carried), version, None, trusting_nobody())
    assert (was_resumed, fresh) == (False, certificate_of(files))
    assert fresh != first


@CARRIED
@VERSIONS
@pytest.mark.parametrize("what", ["ca", "type"])
def test_a_new_ca_or_type_of_key_ends_the_old_sessions(
    files: Path, version: ssl.TLSVersion, what: str, carried: str
) -> None:
    found, client = Certificates(config(files, tls_client_ca=str(files / "ca.pem"))), trusting_nobody()
    session, _, _ = shake_hands(context_of(found, carried), version, None, client)
    if what == "ca":
        (files / "ca.pem").write_text(trustme.CA().cert_pem.bytes().decode())
    else:
        issued = trustme.CA().issue_cert("localhost", key_type=trustme.KeyType.RSA)
        (files / "server.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        (files / "server.key").write_bytes(issued.private_key_pem.bytes())
    assert found.look()
    _, was_resumed, fresh = shake_hands(context_of(found, carried), version, session, client)
    assert not was_resumed
    assert fresh == certificate_of(files)


@CARRIED
def test_a_half_renewal_leaves_what_is_in_force_as_it_was(files: Path, carried: str) -> None:
    found = Certificates(config(files))
    before, key = certificate_of(files), (files / "server.key").read_bytes()
    make_development_files(files, ["localhost"], force=True)
    new_key = (files / "server.key").read_bytes()
    (files / "server.key").write_bytes(key)
    assert not found.look()
    assert (
        shake_hands(context_of(found, carried), ssl.TLSVersion.TLSv1_3, None, trusting_nobody())[2] == before
    )
    (files / "server.key").write_bytes(new_key)
    assert found.look()
    assert shake_hands(context_of(found, carried), ssl.TLSVersion.TLSv1_3, None, trusting_nobody())[
        2
    ] == certificate_of(files)


def test_the_command_makes_files_once_and_prints_what_to_configure(tmp_path: Path) -> None:
    directory = tmp_path / "tls"
    printed = done("cert", "dev", "--dir", directory, "--host", "broker.example", "--host", "10.0.0.1")
    assert "# for broker.example, 10.0.0.1;" in printed
    file = tmp_path / "thingscale.toml"
    file.write_text(printed)
    assert Certificates(load(file, {}, {})).mqtt()
    assert {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()} == {
        "ca.pem": 0o644, "server.pem": 0o644, "server.key": 0o600,
    }  # fmt: skip
    before = (directory / "server.key").read_bytes()
    assert "exist already; --force overwrites" in refused(1, "cert", "dev", "--dir", directory)
    assert (directory / "server.key").read_bytes() == before
    done("cert", "dev", "--dir", directory, "--force")
    assert (directory / "server.key").read_bytes() != before


def test_one_file_that_is_there_is_enough_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("mine")
    with pytest.raises(FilesExistError) as caught:
        make_development_files(tmp_path, ["localhost"], force=False)
    assert caught.value.paths == [tmp_path / "ca.pem"]
    assert [path.name for path in tmp_path.iterdir()] == ["ca.pem"]
