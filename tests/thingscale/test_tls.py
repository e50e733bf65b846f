"""Contexts: which files are refused, and what happens when they change."""

import contextlib
import logging
import ssl
from pathlib import Path

import pytest
import trustme

from tests.thingscale.commands import done, refused
from thingscale.config import Config, ConfigError, load
from thingscale.devcert import FilesExistError, make_development_files
from thingscale.tls import Certificates, certificates, make_context


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


def test_a_ca_that_cannot_be_used_is_refused(files: Path) -> None:
    with pytest.raises(ConfigError, match=r"^tls\.client_ca: No such file"):
        make_context(config(files, tls_client_ca="/nowhere/ca.pem"))


@pytest.mark.parametrize(("required", "mode"), [("no", ssl.CERT_OPTIONAL), ("yes", ssl.CERT_REQUIRED)])
def test_client_certificates_are_wanted_or_required(files: Path, required: str, mode: ssl.VerifyMode) -> None:
    context = make_context(config(files, tls_client_ca=str(files / "ca.pem"), tls_client_required=required))
    assert context.verify_mode is mode
    assert make_context(config(files)).verify_mode is ssl.CERT_NONE


def test_only_ciphers_with_forward_secrecy_and_authentication_are_spoken(files: Path) -> None:
    names = {cipher["name"] for cipher in make_context(config(files)).get_ciphers()}
    assert {"TLS_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"} <= names
    assert all(
        (name.startswith(("TLS_", "ECDHE-")) and "SHA" in name) or "POLY" in name or "CCM" in name
        for name in names
    )


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


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def shake_hands(
    server: ssl.SSLContext, version: ssl.TLSVersion, session: ssl.SSLSession | None, client: ssl.SSLContext
) -> tuple[ssl.SSLSession | None, bool, bytes | None]:
    """A client's session afterwards, whether it was resumed, and the certificate that it has of the server."""
    client.minimum_version = client.maximum_version = version
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    device = client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    daemon = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (device, daemon):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    daemon.write(b"x")  # TLS 1.3 sends its ticket after the handshake
    assert device.read(1) == b"x"
    assert daemon.session_reused == device.session_reused
    return device.session, bool(device.session_reused), device.getpeercert(binary_form=True)


def trusting_nobody() -> ssl.SSLContext:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return client


def certificate_of(files: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(
        (files / "server.pem").read_text().partition("-----END CERTIFICATE-----")[0]
        + "-----END CERTIFICATE-----"
    )


@VERSIONS
def test_sessions_are_resumed_over_a_renewal_and_new_clients_get_the_new_certificate(
    files: Path, version: ssl.TLSVersion
) -> None:
    found, client = Certificates(config(files)), trusting_nobody()
    session, was_resumed, first = shake_hands(found.mqtt(), version, None, client)
    assert (was_resumed, first) == (False, certificate_of(files))
    make_development_files(files, ["localhost"], force=True)
    assert found.look()
    session, was_resumed, _ = shake_hands(found.mqtt(), version, session, client)
    assert was_resumed
    _, was_resumed, fresh = shake_hands(found.mqtt(), version, None, trusting_nobody())
    assert (was_resumed, fresh) == (False, certificate_of(files))
    assert fresh != first


@VERSIONS
@pytest.mark.parametrize("what", ["ca", "type"])
def test_a_new_ca_or_type_of_key_ends_the_old_sessions(
    files: Path, version: ssl.TLSVersion, what: str
) -> None:
    found, client = Certificates(config(files, tls_client_ca=str(files / "ca.pem"))), trusting_nobody()
    session, _, _ = shake_hands(found.mqtt(), version, None, client)
    if what == "ca":
        (files / "ca.pem").write_text(trustme.CA().cert_pem.bytes().decode())
    else:
        issued = trustme.CA().issue_cert("localhost", key_type=trustme.KeyType.RSA)
        (files / "server.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        (files / "server.key").write_bytes(issued.private_key_pem.bytes())
    assert found.look()
    _, was_resumed, fresh = shake_hands(found.mqtt(), version, session, client)
    assert not was_resumed
    assert fresh == certificate_of(files)


def test_a_half_renewal_leaves_what_is_in_force_as_it_was(files: Path) -> None:
    found = Certificates(config(files))
    before, key = certificate_of(files), (files / "server.key").read_bytes()
    make_development_files(files, ["localhost"], force=True)
    new_key = (files / "server.key").read_bytes()
    (files / "server.key").write_bytes(key)
    assert not found.look()
    assert shake_hands(found.mqtt(), ssl.TLSVersion.TLSv1_3, None, trusting_nobody())[2] == before
    (files / "server.key").write_bytes(new_key)
    assert found.look()
    assert shake_hands(found.mqtt(), ssl.TLSVersion.TLSv1_3, None, trusting_nobody())[2] == certificate_of(
        files
    )


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
