"""CircuitPython's MiniMQTT, which runs on microcontrollers: MQTT 3.1.1, QoS 0 and 1, plain and over TLS.

It reads one packet at a time from a blocking socket, and waits for the answer to each SUBSCRIBE and PUBLISH.
"""

import contextlib
import importlib.util
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conformance.conftest import Broker

WAIT_S = 10.0
COUNT = 5


@pytest.fixture(scope="module")
def minimqtt() -> Any:
    if importlib.util.find_spec("adafruit_minimqtt") is None:
        pytest.skip("MiniMQTT is not installed: pip install --no-deps -r tests/conformance/minimqtt.txt")
    # A hint to MicroPython's compiler; nothing elsewhere.
    sys.modules.setdefault("micropython", SimpleNamespace(const=lambda value: value))  # type: ignore[arg-type]
    return importlib.import_module("adafruit_minimqtt.adafruit_minimqtt")


class Device:
    """A client with a name of its own, and what it has received."""

    def __init__(self, library: Any, broker: Broker, client_id: str, *, is_tls: bool) -> None:
        self.received: list[tuple[str, bytes]] = []
        host, port = broker.address
        self.client = library.MQTT(
            broker=host, port=broker.ways["mqtts"] if is_tls else port, client_id=client_id, is_ssl=is_tls,
            socket_pool=socket, ssl_context=ssl.create_default_context(cafile=broker.ca_file) if is_tls else None,
            use_binary_mode=True, socket_timeout=WAIT_S, recv_timeout=2 * WAIT_S, connect_retries=1,
        )  # fmt: skip
        self._session_id = client_id
        self.client.on_message = lambda client, topic, payload: self.received.append((topic, bytes(payload)))

    def connect(self, *, is_kept: bool = False) -> None:
        """What the library returns is no session present flag: it looks at another byte of CONNACK."""
        self.client.connect(clean_session=not is_kept, session_id=self._session_id)

    def publish(self, topic: str, name: str, qos: int) -> None:
        for i in range(COUNT):
            self.client.publish(topic, f"{name} {i}", qos=qos)

    def gets(self, topic: str, name: str) -> None:
        """These messages and no other, in their order."""
        deadline = time.monotonic() + WAIT_S
        while len(self.received) < COUNT and time.monotonic() < deadline:
            self.client.ping()  # and whatever comes before PINGRESP
        self.client.ping()
        assert self.received == [(topic, f"{name} {i}".encode()) for i in range(COUNT)]
        self.received.clear()

    def break_connection(self) -> None:
        self.client._close_socket()
        self.client._is_connected = False

    def stop(self) -> None:
        """End the connection and the session."""
        if self.client.is_connected():
            self.client.disconnect()
        self.connect()
        self.client.disconnect()


Devices = Callable[[str], Device]


@pytest.fixture(params=["plain", "TLS"])
def devices(request: pytest.FixtureRequest, minimqtt: Any, broker: Broker, own: str) -> Iterator[Devices]:
    is_tls = request.param == "TLS"
    if is_tls and "mqtts" not in broker.ways:
        pytest.skip("the broker's address for TLS is not known")
    made: list[Device] = []

    def make(name: str) -> Device:
        made.append(Device(minimqtt, broker, own + name, is_tls=is_tls))
        return made[-1]

    yield make
    with contextlib.ExitStack() as stack:
        for device in made:
            stack.callback(device.stop)


@pytest.mark.parametrize("qos", [0, 1])
def test_minimqtt_gets_what_minimqtt_publishes(qos: int, own: str, devices: Devices) -> None:
    subscriber, publisher = devices("s"), devices("p")
    subscriber.connect()
    publisher.connect()
    subscriber.client.subscribe(f"{own}/#", qos)
    publisher.publish(f"{own}/t", "live", qos)
    subscriber.gets(f"{own}/t", "live")
    subscriber.client.unsubscribe(f"{own}/#")


@pytest.mark.parametrize("qos", [0, 1])
def test_minimqtt_gets_its_own_messages(qos: int, own: str, devices: Devices) -> None:
    """The answer that it waits for comes before the message."""
    device = devices("s")
    device.connect()
    device.client.subscribe(f"{own}/t", qos)
    device.publish(f"{own}/t", "own", qos)
    device.gets(f"{own}/t", "own")


def test_minimqtt_gets_what_came_while_it_was_away(own: str, devices: Devices) -> None:
    subscriber, publisher = devices("s"), devices("p")
    subscriber.connect(is_kept=True)
    subscriber.client.subscribe(f"{own}/t", 1)
    subscriber.client.disconnect()
    publisher.connect()
    publisher.publish(f"{own}/t", "away", 1)
    subscriber.connect(is_kept=True)
    subscriber.gets(f"{own}/t", "away")


def test_minimqtt_goes_on_when_its_connection_was_broken(own: str, devices: Devices) -> None:
    subscriber, publisher = devices("s"), devices("p")
    subscriber.connect(is_kept=True)
    subscriber.client.subscribe(f"{own}/t", 1)
    publisher.connect()
    subscriber.break_connection()
    publisher.publish(f"{own}/t", "broken", 1)
    subscriber.connect(is_kept=True)
    subscriber.gets(f"{own}/t", "broken")
    publisher.break_connection()
    publisher.client.reconnect()
    publisher.publish(f"{own}/t", "mended", 1)
    subscriber.gets(f"{own}/t", "mended")
