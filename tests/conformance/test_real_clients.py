"""Real clients against the same broker: paho-mqtt and mosquitto_pub/sub, every version, every QoS, plain, over TLS and WebSocket.

mqtt.js and MiniMQTT have modules of their own.
"""

import os
import queue
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.conformance.conftest import Broker

WAIT_S = 10.0
COUNT = 10
VERSIONS = {"3.1": paho.MQTTv31, "3.1.1": paho.MQTTv311, "5.0": paho.MQTTv5}
ENCRYPTED = ("mqtts", "wss")
TOOLS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}


class Subject:
    """A paho client whose callbacks can be waited for."""

    def __init__(
        self, broker: Broker, version: int, client_id: str, *, is_kept: bool = False, way: str = "mqtt"
    ) -> None:
        self.messages: queue.Queue[tuple[str, bytes, int, bool]] = queue.Queue()
        self.events: queue.Queue[tuple[str, Any]] = queue.Queue()
        host, port = broker.address
        self._address = host, port if way == "mqtt" else broker.ways[way]
        self._version = version
        self._is_kept = is_kept
        v5 = version == paho.MQTTv5
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, clean_session=None if v5 else not is_kept, protocol=version,  # type: ignore[arg-type]
            transport="websockets" if way in ("ws", "wss") else "tcp",
        )  # fmt: skip
        if way in ENCRYPTED:
            self.client.tls_set(broker.ca_file)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, data, flags, reason, props: self.events.put(
            ("connect", (flags.session_present, reason.value))
        )
        self.client.on_subscribe = lambda client, data, mid, reasons, props: self.events.put(
            ("subscribe", [reason.value for reason in reasons])
        )
        self.client.on_disconnect = lambda client, data, flags, reason, props: self.events.put(
            ("disconnect", None)
        )
        self.client.on_message = lambda client, data, message: self.messages.put(
            (message.topic, bytes(message.payload), message.qos, message.retain)
        )

    def connect(self) -> tuple[bool, int]:
        """Connect and tell whether a session was there, and the code."""
        options: dict[str, Any] = {}
        if self._version == paho.MQTTv5:
            expiry = Properties(PacketTypes.CONNECT)
            expiry.SessionExpiryInterval = 60 if self._is_kept else 0
            options = {"clean_start": not self._is_kept, "properties": expiry}
        self.client.connect(*self._address, **options)
        self.client.loop_start()
        return self.event("connect")  # type: ignore[no-any-return]

    def event(self, name: str) -> Any:
        got, value = self.events.get(timeout=WAIT_S)
        assert got == name
        return value

    def subscribe(self, topic: str, qos: int) -> None:
        self.client.subscribe(topic, qos)
        assert self.event("subscribe") == [qos]

    def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        sent = self.client.publish(topic, payload, qos, retain)
        sent.wait_for_publish(WAIT_S)
        assert sent.is_published()

    def message(self) -> tuple[str, bytes, int, bool]:
        return self.messages.get(timeout=WAIT_S)

    def break_connection(self) -> None:
        """As if the network had gone: no DISCONNECT."""
        found = self.client.socket()
        assert found is not None
        with socket.socket(fileno=os.dup(found.fileno())) as beneath:
            beneath.shutdown(socket.SHUT_RDWR)
        self.event("disconnect")

    def disconnect(self) -> None:
        self.client.disconnect()
        self.event("disconnect")
        self.stop()

    def stop(self) -> None:
        """End the thread; paho leaves its wake-up sockets to the collector."""
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()


@pytest.fixture
def paho_client(broker: Broker) -> Any:
    subjects: list[Subject] = []

    def make(version: str, name: str, **options: Any) -> Subject:
        if options.get("way", "mqtt") not in broker.urls:
            pytest.skip(f"the broker's address for {options['way']} is not known")
        subjects.append(Subject(broker, VERSIONS[version], name, **options))
        return subjects[-1]

    yield make
    for subject in subjects:
        subject.stop()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_paho_gets_what_paho_publishes(
    version: str, qos: int, own: str, paho_client: Callable[..., Subject]
) -> None:
    subscriber, publisher = paho_client(version, f"{own}s"), paho_client(version, f"{own}p")
    assert subscriber.connect() == (False, 0)
    assert publisher.connect() == (False, 0)
    subscriber.subscribe(f"{own}/+", qos)
    for i in range(20):
        publisher.publish(f"{own}/t", b"%d" % i, qos)
    assert [subscriber.message() for _ in range(20)] == [
        (f"{own}/t", b"%d" % i, qos, False) for i in range(20)
    ]
    subscriber.disconnect()
    publisher.disconnect()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", ["mqtts", "ws", "wss"])
def test_paho_gets_what_paho_publishes_another_way(
    version: str, way: str, own: str, paho_client: Callable[..., Subject]
) -> None:
    subscriber, publisher = paho_client(version, f"{own}s", way=way), paho_client(version, f"{own}p", way=way)
    assert subscriber.connect() == publisher.connect() == (False, 0)
    for qos in (0, 1, 2):
        subscriber.subscribe(f"{own}/{qos}", qos)
        publisher.publish(f"{own}/{qos}", b"23.5", qos)
        assert subscriber.message() == (f"{own}/{qos}", b"23.5", qos, False)


@pytest.mark.parametrize("version", ["3.1.1", "5.0"])
def test_paho_needs_no_client_id(version: str, own: str, paho_client: Callable[..., Subject]) -> None:
    subscriber, publisher = paho_client(version, ""), paho_client(version, "")
    assert subscriber.connect() == publisher.connect() == (False, 0)
    subscriber.subscribe(f"{own}/t", 1)
    publisher.publish(f"{own}/t", b"23.5", 1)
    assert subscriber.message()[1] == b"23.5"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", ["mqtt", "mqtts", "wss"])
def test_paho_goes_on_by_itself_when_its_connection_was_broken(
    version: str, way: str, own: str, paho_client: Callable[..., Subject]
) -> None:
    """Of QoS 0 what was sent meanwhile is lost, of QoS 1 and 2 nothing."""
    subscriber = paho_client(version, f"{own}s", is_kept=True, way=way)
    publisher = paho_client(version, f"{own}p", way=way)
    assert subscriber.connect() == publisher.connect() == (False, 0)
    for qos in (0, 1, 2):
        subscriber.subscribe(f"{own}/{qos}", qos)
    subscriber.break_connection()
    for qos in (0, 1, 2):
        publisher.publish(f"{own}/{qos}", b"broken", qos)
    # MQTT 3.1 has no session present flag.
    assert subscriber.event("connect") == (version != "3.1", 0)
    for qos in (0, 1, 2):
        publisher.publish(f"{own}/{qos}", b"mended", qos)
    got = [subscriber.message() for _ in range(5)]
    for qos in (0, 1, 2):
        texts = [text for topic, text, granted, _ in got if topic == f"{own}/{qos}" and granted == qos]
        assert texts == [b"broken"] * (qos > 0) + [b"mended"]
    assert subscriber.messages.empty()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
def test_paho_gets_what_came_while_it_was_away(
    version: str, qos: int, own: str, paho_client: Callable[..., Subject]
) -> None:
    subscriber, publisher = paho_client(version, f"{own}s", is_kept=True), paho_client(version, f"{own}p")
    assert subscriber.connect() == (False, 0)
    subscriber.subscribe(f"{own}/t", qos)
    publisher.connect()
    publisher.publish(f"{own}/t", b"before", qos)
    assert subscriber.message()[1] == b"before"
    subscriber.disconnect()
    for i in range(COUNT):
        publisher.publish(f"{own}/t", b"%d" % i, qos)
    publisher.disconnect()
    # MQTT 3.1 has no session present flag.
    assert subscriber.connect() == (version != "3.1", 0)
    assert [subscriber.message()[1:3] for _ in range(COUNT)] == [(b"%d" % i, qos) for i in range(COUNT)]
    publisher.connect()
    publisher.publish(f"{own}/t", b"after", qos)
    assert subscriber.message()[1] == b"after"
    assert subscriber.messages.empty()
    subscriber.disconnect()


@pytest.mark.parametrize("version", ["3.1.1", "5.0"])
def test_paho_of_one_version_gets_what_the_other_publishes(
    version: str, own: str, paho_client: Callable[..., Subject]
) -> None:
    other = {"3.1.1": "5.0", "5.0": "3.1.1"}[version]
    subscriber, publisher = paho_client(version, f"{own}s"), paho_client(other, f"{own}p")
    subscriber.connect()
    subscriber.subscribe(f"{own}/t", 2)
    publisher.connect()
    for qos in (0, 1, 2):
        publisher.publish(f"{own}/t", b"%d" % qos, qos)
    assert {subscriber.message()[1:3] for _ in range(3)} == {(b"%d" % qos, qos) for qos in range(3)}


@pytest.mark.parametrize("version", VERSIONS)
def test_paho_gets_a_retained_message(version: str, own: str, paho_client: Callable[..., Subject]) -> None:
    publisher, subscriber = paho_client(version, f"{own}p"), paho_client(version, f"{own}s")
    publisher.connect()
    publisher.publish(f"{own}/t", b"kept", 1, retain=True)
    subscriber.connect()
    subscriber.subscribe(f"{own}/#", 1)
    assert subscriber.message() == (f"{own}/t", b"kept", 1, True)
    publisher.publish(f"{own}/t", b"", 1, retain=True)


def tool(name: str, broker: Broker, version: str, *arguments: str, is_tls: bool = False) -> list[str]:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    host, port = broker.address
    if is_tls:
        if "mqtts" not in broker.ways:
            pytest.skip("the broker's address for TLS is not known")
        port, arguments = broker.ways["mqtts"], ("--cafile", broker.ca_file, *arguments)
    return [found, "-h", host, "-p", str(port), "-V", TOOLS[version], *arguments]


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, timeout=WAIT_S)


@pytest.mark.parametrize("version", TOOLS)
@pytest.mark.parametrize("qos", ["0", "1", "2"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_mosquitto_sub_gets_what_mosquitto_pub_publishes(
    version: str, qos: str, is_tls: bool, own: str, broker: Broker
) -> None:
    """Neither says a client id: the tools make one up, or send none at all."""
    listen = tool(
        "mosquitto_sub",
        broker,
        version,
        "-t",
        f"{own}/#",
        "-q",
        qos,
        "-C",
        "2",
        "-W",
        "10",
        "-v",
        is_tls=is_tls,
    )
    listener = subprocess.Popen(listen, stdout=subprocess.PIPE, text=True)
    assert listener.stdout is not None
    ready = [f"{own}/ready", "1"]

    def publish(*arguments: str) -> None:
        run(tool("mosquitto_pub", broker, version, *arguments, is_tls=is_tls))

    # Retained: it comes when the subscription is there.
    publish("-t", ready[0], "-m", ready[1], "-q", "1", "-r")
    assert listener.stdout.readline().split() == ready
    publish("-t", f"{own}/t", "-m", "23.5", "-q", qos)
    assert listener.stdout.readline().split() == [f"{own}/t", "23.5"]
    assert listener.wait(WAIT_S) == 0
    listener.stdout.close()
    publish("-t", ready[0], "-n", "-r")


@pytest.mark.parametrize("version", TOOLS)
@pytest.mark.parametrize("qos", ["1", "2"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_mosquitto_sub_gets_what_came_while_it_was_away(
    version: str, qos: str, is_tls: bool, own: str, broker: Broker
) -> None:
    kept = ["-i", own, "-c", "-t", f"{own}/t", "-q", qos, *(["-x", "60"] if version == "5.0" else [])]
    run(tool("mosquitto_sub", broker, version, *kept, "-E", is_tls=is_tls))
    for i in range(3):
        run(tool("mosquitto_pub", broker, version, "-t", f"{own}/t", "-m", str(i), "-q", qos, is_tls=is_tls))
    got = subprocess.run(
        tool("mosquitto_sub", broker, version, *kept, "-C", "3", "-W", "10", is_tls=is_tls),
        check=True, timeout=WAIT_S, capture_output=True, text=True,
    )  # fmt: skip
    assert got.stdout.split() == ["0", "1", "2"]


def test_mosquitto_pub_publishes_many_lines_over_one_connection(own: str, broker: Broker) -> None:
    lines = [f"{i}" for i in range(500)]
    listen = tool(
        "mosquitto_sub",
        broker,
        "3.1.1",
        "-t",
        f"{own}/t",
        "-q",
        "2",
        "-C",
        "500",
        "-W",
        "10",
        "-i",
        own,
        "-c",
    )
    run(tool("mosquitto_sub", broker, "3.1.1", "-t", f"{own}/t", "-q", "2", "-i", own, "-c", "-E"))
    listener = subprocess.Popen(listen, stdout=subprocess.PIPE, text=True)
    publish = tool("mosquitto_pub", broker, "3.1.1", "-t", f"{own}/t", "-q", "2", "-l")
    started = time.monotonic()
    subprocess.run(publish, input="\n".join(lines) + "\n", text=True, check=True, timeout=WAIT_S)
    assert listener.communicate(timeout=WAIT_S)[0].split() == lines
    assert time.monotonic() - started < WAIT_S
