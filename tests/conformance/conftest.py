"""Whom the tables are held against: our daemon as a general broker, or any broker at MQTT_ADDRESS.

    MQTT_ADDRESS=127.0.0.1:1883 .venv/bin/python -m pytest tests/conformance

The broker must take anonymous clients. mosquitto is known by its $SYS topic; what it is known to do otherwise stands in
the rows.
"""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conformance.packets import connect, subscribe
from tests.conformance.wire import Client
from tests.daemon import Daemon
from thingscale.devcert import make_development_files

# Beside plain TCP.
WAYS = ("mqtts", "ws", "wss")


@dataclass(frozen=True)
class Broker:
    address: tuple[str, int]
    is_ours: bool
    is_mosquitto: bool = False
    ways: dict[str, int] = field(default_factory=dict)
    ca_file: str = ""

    @property
    def urls(self) -> dict[str, str]:
        """Its addresses by scheme, as far as they are known."""
        host, port = self.address
        paths = {"ws": "/mqtt", "wss": "/mqtt"}
        return {
            way: f"{way}://{host}:{number}{paths.get(way, '')}"
            for way, number in {"mqtt": port, **self.ways}.items()
        }


@dataclass
class Plain:
    """What the encoders need outside of a row."""

    version: int = 4
    ids: dict[str, int] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)


def is_mosquitto(address: tuple[str, int]) -> bool:
    run = Plain()
    client = Client(address, run.version)
    try:
        for packet in (connect("whoareyou"), subscribe(1, "$SYS/broker/version")):
            client.send(packet(run))
        while got := client.receive(0.5):
            if got.kind == "Publish":
                return got.payload.startswith(b"mosquitto")
    except TimeoutError:
        pass
    finally:
        client.close()
    return False


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if "MQTT_ADDRESS" in os.environ:
        host, _, port = os.environ["MQTT_ADDRESS"].rpartition(":")
        address = host, int(port)
        yield Broker(address, is_ours=False, is_mosquitto=is_mosquitto(address))
        return
    home = tmp_path_factory.mktemp("conformance")
    daemon = Daemon(home / "data")
    files = make_development_files(home / "certificates", ["localhost", "127.0.0.1"], force=False)
    with daemon:
        user_id = daemon.add_user()["user_id"]
    daemon.environment |= {
        "THINGSCALE_MQTT_TOPICS": "any",
        "THINGSCALE_MQTT_ANONYMOUS": user_id,
        **{f"THINGSCALE_SERVER_{way.upper()}": "127.0.0.1:0" for way in WAYS},
        "THINGSCALE_TLS_CERTIFICATE": str(files.certificate),
        "THINGSCALE_TLS_KEY": str(files.key),
    }
    try:
        daemon.start()
    except AssertionError:
        daemon.process.communicate()  # a daemon that refuses its settings: no test runs, every test fails
        raise
    yield Broker(
        ("127.0.0.1", daemon.port("mqtt")),
        is_ours=True,
        ways={way: daemon.port(way) for way in WAYS},
        ca_file=str(files.ca),
    )
    assert daemon.stop() == 0
    daemon.process.communicate()
    assert "Traceback" not in daemon.log.read_text()


@pytest.fixture
def own() -> str:
    """A name that nobody else uses, short enough for a client id of MQTT 3.1."""
    return f"r{uuid.uuid4().hex[:10]}"
