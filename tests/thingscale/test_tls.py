"""Contexts: which files are refused, and what happens when they change."""

import logging
import ssl
from pathlib import Path

import pytest

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


def test_changed_files_make_new_contexts_and_broken_ones_are_logged_once(
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
    assert found.mqtt() is not mqtt
    assert found.https() is not https


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
