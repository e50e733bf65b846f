"""TLS, WebSocket and HTTPS of a running daemon, talked to by the clients that people use."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import trustme

from tests.daemon import Daemon

CONNECT_TIMEOUT_S = 1
WAYS = ("mqtts", "ws", "wss", "http")
HAS_MOSQUITTO = pytest.mark.skipif(
    shutil.which("mosquitto_pub") is None, reason="mosquitto-clients is not installed"
)


class Certificates:
    """A CA, and a server certificate where the daemon looks for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.ca = trustme.CA()
        self.ca_file = directory / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        self.replace("first.example")

    def replace(self, name: str) -> None:
        made = self.ca.issue_cert("localhost", "127.0.0.1", name)
        for path, content in (
            ("server.key", made.private_key_pem.bytes()),
            ("server.pem", made.cert_chain_pems[0].bytes()),
        ):
            (self.directory / f"{path}.new").write_bytes(content)
            (self.directory / f"{path}.new").replace(self.directory / path)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{f"THINGSCALE_SERVER_{way}": "127.0.0.1:0" for way in ("MQTTS", "WS", "WSS", "HTTPS")},
            "THINGSCALE_TLS_CERTIFICATE": str(self.directory / "server.pem"),
            "THINGSCALE_TLS_KEY": str(self.directory / "server.key"),
            "THINGSCALE_LIMITS_CONNECT_TIMEOUT_S": str(CONNECT_TIMEOUT_S),
        }

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("transports") / "data", **certificates.environment) as daemon:
        daemon.add_user()
        yield daemon


def paho_client(daemon: Daemon, certificates: Certificates, way: str, client_id: str = "") -> paho.Client:
    transport = "tcp" if way == "mqtts" else "websockets"
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, transport=transport)  # type: ignore[arg-type]
    client.username_pw_set(daemon.user["user_id"], daemon.user["device_token"])
    if way in ("mqtts", "wss"):
        client.tls_set_context(certificates.context())
    client.connect("127.0.0.1", daemon.port(way), keepalive=10)
    client.loop_start()
    return client


def leave(client: paho.Client) -> None:
    client.disconnect()
    client.loop_stop()


def values(daemon: Daemon, channel: int) -> list[object]:
    return [entry["value"] for entry in daemon.stream(channel)]


def connect(daemon: Daemon, context: ssl.SSLContext, **wanted: Any) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", daemon.port("mqtts")), timeout=10)
    return context.wrap_socket(plain, server_hostname="localhost", **wanted)


def mqtt_connect(daemon: Daemon) -> bytes:
    fields = [b"c", daemon.user["user_id"].encode(), daemon.user["device_token"].encode()]
    rest = b"\x00\x04MQTT\x04\xc2\x00\x3c" + b"".join(len(x).to_bytes(2, "big") + x for x in fields)
    return bytes([0x10, len(rest)]) + rest


def test_the_ready_line_has_the_listeners_that_are_on(daemon: Daemon, tmp_path: Path) -> None:
    assert set(daemon.ready) == {"ready", "http", "mqtt", "mqtts", "ws", "wss", "https", "data", "pid"}
    with Daemon(tmp_path / "data") as bare:
        assert set(bare.ready) == {"ready", "http", "mqtt", "data", "pid"}


@pytest.mark.parametrize("way", WAYS)
def test_paho_publishes_and_everything_is_stored_once(
    daemon: Daemon, certificates: Certificates, way: str
) -> None:
    number = 10 + WAYS.index(way)
    daemon.add_device(f"device-{way}", number)
    topic = f"{daemon.user['device_token']}/json/device-{way}"
    client = paho_client(daemon, certificates, way)
    sent = [client.publish(topic, json.dumps({"i": i, "pad": "x" * i * 100}), qos=i % 3) for i in range(60)]
    large = client.publish(topic, json.dumps("y" * 50_000), qos=1)
    for info in (*sent, large):
        info.wait_for_publish(10)
        assert info.is_published()
    leave(client)
    *stored, last = sorted(
        values(daemon, number), key=lambda value: value["i"] if isinstance(value, dict) else 99
    )
    assert stored == [{"i": i, "pad": "x" * i * 100} for i in range(60)]
    assert last == "y" * 50_000


@HAS_MOSQUITTO
@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
def test_mosquitto_pub_publishes_over_tls(daemon: Daemon, certificates: Certificates, version: str) -> None:
    number = 20 + int(version[-1])
    daemon.add_device(version, number)
    subprocess.run(
        [
            "mosquitto_pub", "-h", "localhost", "-p", str(daemon.port("mqtts")), "-q", "1", "--tls-version", version,
            "--cafile", str(certificates.ca_file), "-u", daemon.user["user_id"], "-P", daemon.user["device_token"],
            "-t", f"{daemon.user['device_token']}/json/{version}", "-m", "7",
        ],
        check=True, timeout=10,
    )  # fmt: skip
    assert values(daemon, number) == [7]


def test_curl_posts_and_reads_back_over_https(daemon: Daemon, certificates: Certificates) -> None:
    daemon.add_device("curl", 30)
    base = f"https://localhost:{daemon.port('https')}"

    def curl(*arguments: str) -> str:
        command = [
            "curl",
            "-sS",
            "-w",
            " %{http_code} %{http_version}",
            "--cacert",
            str(certificates.ca_file),
            *arguments,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout

    headers = ["-H", f"X-DEVICETOKEN: {daemon.user['device_token']}", "-H", "X-DEVICEID: curl"]
    assert curl(f"{base}/post_v2/", *headers, "-d", '{"temp":25.5}') == "OK 200 1.1"
    assert curl(f"{base}/post_v1/", *headers, "-d", "v=1") == "OK 200 1.1"
    large = json.dumps("z" * 60_000)
    posted = subprocess.run(
        ["curl", "-sS", "--cacert", str(certificates.ca_file), f"{base}/post_v2/", *headers, "--data-binary", "@-"],
        input=large, capture_output=True, text=True, check=True, timeout=10,
    )  # fmt: skip
    assert posted.stdout == "OK"
    token = ["-H", f"X-APITOKEN: {daemon.user['api_token']}"]
    stream = curl(f"{base}/v2/stream/30", *token, "-H", "X-ENDTIME: last", "-H", "X-PAGELIMIT: 9")
    found = [entry["value"] for entry in json.loads(stream.rsplit(" ", 2)[0])["stream"]]
    assert found == [{"temp": 25.5}, {"value1": 1}, "z" * 60_000]
    assert curl(f"{base}/healthz").endswith(" 200 1.1")


def test_https_keeps_a_connection_and_says_goodbye(daemon: Daemon, certificates: Certificates) -> None:
    plain = socket.create_connection(("127.0.0.1", daemon.port("https")), timeout=10)
    context = certificates.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(plain, server_hostname="localhost") as client:
        assert client.selected_alpn_protocol() == "http/1.1"
        for closing in ("", "Connection: close\r\n"):
            client.sendall(f"GET /healthz HTTP/1.1\r\nHost: h\r\n{closing}\r\n".encode())
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert client.recv(65_536) == b"", "close_notify; without it this raises"


def test_a_plain_request_on_https_hurts_nobody(daemon: Daemon) -> None:
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", b""):
        with socket.create_connection(("127.0.0.1", daemon.port("https")), timeout=10) as client:
            client.sendall(junk)
            with contextlib.suppress(OSError):  # closing over unread input resets
                client.shutdown(socket.SHUT_WR)
                while client.recv(65_536):
                    pass
    assert daemon.request("GET", "/healthz")[0] == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(daemon: Daemon, certificates: Certificates, version: ssl.TLSVersion) -> None:
    context = certificates.context()
    context.minimum_version = context.maximum_version = version
    session = None
    for is_reused in (False, True, True):
        with connect(daemon, context, session=session) as client:
            client.sendall(mqtt_connect(daemon))
            assert client.recv(4) == b"\x20\x02\x00\x00"
            assert client.session_reused is is_reused
            session = client.session


def test_a_new_certificate_is_used_and_nobody_is_cut_off(daemon: Daemon, certificates: Certificates) -> None:
    def names(client: ssl.SSLSocket) -> set[str]:
        return {name for _, name in client.getpeercert()["subjectAltName"]}  # type: ignore[index,misc,union-attr]

    def offered() -> set[str]:
        with connect(daemon, certificates.context()) as client:
            return names(client)

    with connect(daemon, certificates.context()) as old:
        assert "first.example" in names(old)
        old.sendall(mqtt_connect(daemon))
        assert old.recv(4) == b"\x20\x02\x00\x00"
        (certificates.directory / "server.pem").write_text("not a certificate")
        daemon.wait_until(lambda: "the old one stays" in daemon.log.read_text())
        assert "first.example" in offered()
        certificates.replace("second.example")
        daemon.wait_until(lambda: "second.example" in offered())
        old.sendall(b"\xc0\x00")
        assert old.recv(2) == b"\xd0\x00"


@pytest.mark.parametrize("way", ["mqtts", "ws", "wss"])
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HT"])
def test_who_stalls_in_the_handshake_is_closed_even_when_dripping(
    daemon: Daemon, way: str, sent: bytes
) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", daemon.port(way)), timeout=0.2) as client:
        while True:
            assert time.monotonic() - began < 10
            try:
                client.sendall(sent[:1])
                sent = sent[1:]
                if not client.recv(65_536):
                    break
            except TimeoutError:
                continue
            except OSError:
                break


def test_a_certificate_of_the_client_can_be_required(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "tls")
    environment = {
        **certificates.environment,
        "THINGSCALE_TLS_CLIENT_CA": str(certificates.ca_file),
        "THINGSCALE_TLS_CLIENT_REQUIRED": "yes",
    }
    with Daemon(tmp_path / "data", **environment) as daemon:
        daemon.add_user()
        trusted, stranger = certificates.context(), certificates.context()
        certificates.ca.issue_cert("device.example").configure_cert(trusted)
        trustme.CA().issue_cert("device.example").configure_cert(stranger)
        for context, is_let_in in ((trusted, True), (stranger, False), (certificates.context(), False)):
            try:
                with connect(daemon, context) as client:
                    client.sendall(mqtt_connect(daemon))
                    answer = client.recv(4)
            except OSError:  # an alert, or a reset behind it
                answer = b""
            assert (answer == b"\x20\x02\x00\x00") is is_let_in


def test_a_stop_says_goodbye(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "tls")
    with Daemon(tmp_path / "data", **certificates.environment) as daemon:
        daemon.add_user()
        with connect(daemon, certificates.context()) as client:
            client.sendall(mqtt_connect(daemon))
            assert client.recv(4) == b"\x20\x02\x00\x00"
            assert daemon.stop() == 0
            assert client.recv(100) == b"", "close_notify"


def test_a_certificate_that_is_none_is_refused_by_name(tmp_path: Path, certificates: Certificates) -> None:
    (tmp_path / "bad.pem").write_text("bad")
    done = subprocess.run(
        [sys.executable, "-m", "thingscale", "serve", "--data", str(tmp_path / "data")],
        capture_output=True, text=True, timeout=60,
        env={**os.environ, **certificates.environment, "THINGSCALE_TLS_CERTIFICATE": str(tmp_path / "bad.pem")},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "thingscale: tls.certificate, tls.key: " in done.stderr


def test_the_development_certificate_works_as_printed(tmp_path: Path) -> None:
    directory = tmp_path / "made"
    command = [sys.executable, "-m", "thingscale", "cert", "dev", "--dir", str(directory)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    again = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (again.returncode, "exist already" in again.stderr) == (1, True)
    assert os.stat(directory / "server.key").st_mode & 0o777 == 0o600
    file = tmp_path / "thingscale.toml"
    file.write_text(printed.replace(":8883", ":0").replace(":8084", ":0").replace(":8443", ":0"))
    with Daemon(tmp_path / "data", "--config", str(file)) as daemon:
        daemon.add_user()
        context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
        with connect(daemon, context) as client:
            client.sendall(mqtt_connect(daemon))
            assert client.recv(4) == b"\x20\x02\x00\x00"
