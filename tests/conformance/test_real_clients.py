"""Real clients against the same broker: paho-mqtt and mosquitto_pub/sub, every QoS, with a reconnect in between."""

import queue
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.conformance.conftest import Broker

WAIT_S = 10.0
VERSIONS = {"3.1": paho.MQTTv31, "3.1.1": paho.MQTTv311, "5.0": paho.MQTTv5}
TOOLS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}


class Subject:
    """A paho client whose callbacks can be waited for."""

    def __init__(self, broker: Broker, version: int, client_id: str, *, is_kept: bool = False) -> None:
        self.messages: queue.Queue[tuple[str, bytes, int, bool]] = queue.Queue()
        self.events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._broker = broker
        self._version = version
        self._is_kept = is_kept
        v5 = version == paho.MQTTv5
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, clean_session=None if v5 else not is_kept, protocol=version  # type: ignore[arg-type]
        )  # fmt: skip
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
        self.client.connect(*self._broker.address, **options)
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

    def make(version: str, name: str, **options: bool) -> Subject:
        subjects.append(Subject(broker, VERSIONS[version], name, **options))
        return subjects[-1]

    yield make
    for subject in subjects:
        subject.stop()


@pytest.fixture
def own() -> str:
    """A name that nobody else uses, short enough for a client id of MQTT 3.1."""
    return f"r{uuid.uuid4().hex[:10]}"


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


@pytest.mark.parametrize("version", ["3.1.1", "5.0"])
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
    for i in range(10):
        publisher.publish(f"{own}/t", b"%d" % i, qos)
    publisher.disconnect()
    assert subscriber.connect() == (True, 0)
    assert [subscriber.message()[1:3] for _ in range(10)] == [(b"%d" % i, qos) for i in range(10)]
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


def tool(name: str, broker: Broker, version: str, *arguments: str) -> list[str]:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    host, port = broker.address
    return [found, "-h", host, "-p", str(port), "-V", TOOLS[version], *arguments]


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, timeout=WAIT_S)


@pytest.mark.parametrize("version", TOOLS)
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_mosquitto_sub_gets_what_mosquitto_pub_publishes(
    version: str, qos: str, own: str, broker: Broker
) -> None:
    """Neither says a client id: the tools make one up, or send none at all."""
    listen = tool("mosquitto_sub", broker, version, "-t", f"{own}/#", "-q", qos, "-C", "2", "-W", "10", "-v")
    listener = subprocess.Popen(listen, stdout=subprocess.PIPE, text=True)
    assert listener.stdout is not None
    ready = [f"{own}/ready", "1"]
    # The subscription is there when a message comes; until then they are sent again.
    run(tool("mosquitto_pub", broker, version, "-t", ready[0], "-m", ready[1], "-q", "1", "-r"))
    assert listener.stdout.readline().split() == ready
    run(tool("mosquitto_pub", broker, version, "-t", f"{own}/t", "-m", "23.5", "-q", qos))
    assert listener.stdout.readline().split() == [f"{own}/t", "23.5"]
    assert listener.wait(WAIT_S) == 0
    listener.stdout.close()
    run(tool("mosquitto_pub", broker, version, "-t", ready[0], "-n", "-r"))


@pytest.mark.parametrize("version", ["3.1.1", "5.0"])
@pytest.mark.parametrize("qos", ["1", "2"])
def test_mosquitto_sub_gets_what_came_while_it_was_away(
    version: str, qos: str, own: str, broker: Broker
) -> None:
    kept = ["-i", own, "-c", "-t", f"{own}/t", "-q", qos, *(["-x", "60"] if version == "5.0" else [])]
    run(tool("mosquitto_sub", broker, version, *kept, "-E"))
    for i in range(3):
        run(tool("mosquitto_pub", broker, version, "-t", f"{own}/t", "-m", str(i), "-q", qos))
    got = subprocess.run(
        tool("mosquitto_sub", broker, version, *kept, "-C", "3", "-W", "10"),
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
