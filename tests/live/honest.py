"""Honest clients for a bad day: each sends numbered readings on its own device and remembers how long each took.

A reading's number counts as acknowledged only when its acknowledgement came. What is not acknowledged when the client
stops may be stored or not; what is, must be there exactly once, and in order.
"""

import http.client
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho

from tests.daemon import Daemon
from tests.twins.mqtt_packets import connect, publish

ANSWER_S = 30.0
PAUSE_S = 0.002


class Honest(threading.Thread):
    """One client on device and channel ``number``. ``stop`` ends it; ``acknowledged`` is how many readings it has."""

    def __init__(self, daemon: Daemon, number: int, talk: "Callable[[Honest], None]") -> None:
        super().__init__(name=f"{talk.__name__} {number}")
        self.daemon_process = daemon
        self.channel = number
        self.device = f"honest-{number}"
        self.acknowledged = 0
        self.slowest_s = 0.0
        self.problem: Exception | None = None
        self.is_stopping = threading.Event()
        self.is_qos_2 = talk is paho_qos_2
        self._talk = talk
        daemon.add_device(self.device, number)

    def run(self) -> None:
        try:
            self._talk(self)
        except Exception as error:  # the test looks at it: a thread has nobody to raise to
            self.problem = error

    def stop(self) -> None:
        self.is_stopping.set()
        self.join(ANSWER_S)
        assert not self.is_alive()

    def numbers(self, count: int = 1) -> Any:
        """The next numbers to send, until told to stop; timed until the next ones are asked for."""
        while not self.is_stopping.is_set():
            began = time.monotonic()
            yield list(range(self.acknowledged, self.acknowledged + count))
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.acknowledged += count
            time.sleep(PAUSE_S)

    def stored(self) -> list[Any]:
        entries = self.daemon_process.stream(self.channel, X_PAGELIMIT="100000")
        return [entry["value"] for entry in entries]

    @property
    def topic(self) -> str:
        return f"{self.daemon_process.user['device_token']}/json/{self.device}"

    @property
    def fields(self) -> dict[str, str]:
        return {"X-DEVICETOKEN": self.daemon_process.user["device_token"], "X-DEVICEID": self.device}


def paho_qos_1(client: Honest) -> None:
    _paho(client, 1)


def paho_qos_2(client: Honest) -> None:
    _paho(client, 2)


def _paho(client: Honest, qos: int) -> None:
    user = client.daemon_process.user
    device = paho.Client(paho.CallbackAPIVersion.VERSION2, client.device)
    device.username_pw_set(user["user_id"], user["device_token"])
    lost: list[object] = []
    device.on_disconnect = lambda *_: lost.append(1)
    device.connect("127.0.0.1", client.daemon_process.port("mqtt"))
    device.loop_start()
    try:
        for (number,) in client.numbers():
            message = device.publish(client.topic, str(number), qos)
            end = time.monotonic() + ANSWER_S
            while message.rc == paho.MQTT_ERR_SUCCESS and not (message.is_published() or lost):
                message.wait_for_publish(0.2)
                assert time.monotonic() < end, f"{number} was not acknowledged"
            if message.rc != paho.MQTT_ERR_SUCCESS or not message.is_published():
                raise ConnectionAbortedError
    finally:
        device.disconnect()
        device.loop_stop()


def raw_mqtt(client: Honest) -> None:
    """Ten readings in one segment, ten acknowledgements."""
    user = client.daemon_process.user
    with socket.create_connection(("127.0.0.1", client.daemon_process.port("mqtt")), ANSWER_S) as device:
        device.sendall(
            connect(client.device.encode(), user["user_id"].encode(), user["device_token"].encode())
        )
        assert receive(device, 4) == b"\x20\x02\x00\x00"
        for numbers in client.numbers(10):
            packets = [publish(client.topic.encode(), b"%d" % i, packet_id=i % 60_000 + 1) for i in numbers]
            device.sendall(b"".join(packets))
            expected = b"".join(b"\x40\x02" + (i % 60_000 + 1).to_bytes(2) for i in numbers)
            assert receive(device, 40) == expected


def mqtt_per_reading(client: Honest) -> None:
    """A new connection for every reading, as small devices do."""
    user = client.daemon_process.user
    hello = connect(client.device.encode(), user["user_id"].encode(), user["device_token"].encode())
    for (number,) in client.numbers():
        with socket.create_connection(("127.0.0.1", client.daemon_process.port("mqtt")), ANSWER_S) as device:
            device.sendall(hello + publish(client.topic.encode(), b"%d" % number))
            assert receive(device, 8) == b"\x20\x02\x00\x00\x40\x02\x00\x07"


def http_keep_alive(client: Honest) -> None:
    _http(client, lambda number: str(number).encode(), is_new=False)


def http_per_reading(client: Honest) -> None:
    _http(client, lambda number: str(number).encode(), is_new=True)


def http_padded(client: Honest) -> None:
    """The log keeps a reading as it was sent: these fill it quickly."""
    _http(client, lambda number: b"%d" % number + b" " * 60_000, is_new=False)


def http_chunked(client: Honest) -> None:
    _http(client, lambda number: iter([b" ", b"%d" % number]), is_new=False)


def _http(client: Honest, body: Callable[[int], Any], *, is_new: bool) -> None:
    port = client.daemon_process.port("http")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        for (number,) in client.numbers():
            content = body(number)
            chunked = not isinstance(content, bytes)
            fields = client.fields | ({"Transfer-Encoding": "chunked"} if chunked else {})
            connection.request("POST", "/post_v2/", content, fields, encode_chunked=chunked)
            reply = connection.getresponse()
            if reply.status == 503:
                raise ConnectionAbortedError("the daemon is stopping")
            assert (reply.status, reply.read()) == (200, b"OK")
            if is_new:
                connection.close()
    finally:
        connection.close()


def receive(client: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        data = client.recv(count - len(received))
        if not data:
            raise ConnectionError(f"closed after {received!r}")
        received += data
    return received


EVERY_KIND = (
    paho_qos_1, paho_qos_2, raw_mqtt, mqtt_per_reading, http_keep_alive, http_per_reading, http_chunked,
)  # fmt: skip
