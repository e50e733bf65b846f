"""The broker as clients, scripts and an operator meet it, and what a kill -9 leaves of it."""

import contextlib
import queue
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.daemon import Daemon
from tests.twins.mqtt_packets import connect

SOON_S = 5.0


class Device:
    """A paho client of the daemon's user, whose messages stand in a queue."""

    def __init__(
        self, daemon: Daemon, name: str, *, keep: bool = False, version: int = 4, will: tuple[Any, ...] = ()
    ) -> None:
        self.daemon, self.token = daemon, daemon.user["device_token"]
        self.got: queue.Queue[tuple[str, bytes, int, bool]] = queue.Queue()
        is_5 = version == 5
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            name,
            clean_session=None if is_5 else not keep,
            protocol=paho.MQTTv5 if is_5 else paho.MQTTv311,
        )
        self.client.username_pw_set(daemon.user["user_id"], self.token)
        self.client.on_message = lambda _, __, m: self.got.put((m.topic, m.payload, m.qos, m.retain))
        self.answers: queue.Queue[Any] = queue.Queue()
        self.client.on_connect = lambda _, __, flags, *rest: self.answers.put(flags)
        self.client.on_subscribe = lambda *rest: self.answers.put(rest)
        if will:
            self.client.will_set(*will)
        options: dict[str, Any] = {}
        if is_5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600 if keep else 0
            options = {"clean_start": not keep, "properties": properties}
        self.client.connect("127.0.0.1", daemon.port("mqtt"), **options)
        self.client.loop_start()
        self.is_resumed = self.answers.get(timeout=SOON_S).session_present

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()  # paho leaves some open if it was sent away

    def subscribe(self, text: str, qos: int = 1) -> None:
        if self.client.protocol == paho.MQTTv5:
            self.client.subscribe(text, options=SubscribeOptions(qos))
        else:
            self.client.subscribe(text, qos)
        self.answers.get(timeout=SOON_S)

    def publish(self, topic: str, payload: str, qos: int = 1, *, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos, retain).wait_for_publish(SOON_S)

    def next(self) -> tuple[str, bytes, int, bool]:
        return self.got.get(timeout=SOON_S)

    def has_nothing(self) -> bool:
        time.sleep(0.2)
        return self.got.empty()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data") as daemon:
        daemon.add_user()
        daemon.add_device("pump", 1)
        yield daemon


def test_a_reading_is_stored_once_and_relayed_to_who_has_subscribed(daemon: Daemon) -> None:
    with Device(daemon, "app") as app, Device(daemon, "pump") as pump:
        topic = f"{pump.token}/json/pump"
        for number, qos in enumerate((0, 1, 2)):
            pump.publish(topic, str(number), qos)  # on the lane as long as nobody listens
        app.subscribe(f"{app.token}/#", 2)
        for number, qos in enumerate((0, 1, 2), 3):
            pump.publish(topic, str(number), qos)
            assert app.next() == (topic, b"%d" % number, qos, False)
        assert app.has_nothing()
    daemon.wait_until(lambda: len(daemon.stream()) == 6)
    assert [entry["value"] for entry in daemon.stream()] == [0, 1, 2, 3, 4, 5]


def test_a_user_sees_nothing_of_another_one(daemon: Daemon) -> None:
    first = daemon.user
    with Device(daemon, "app") as app:
        daemon.add_user()
        with Device(daemon, "app") as stranger:
            stranger.subscribe(f"{first['device_token']}/#")
            stranger.subscribe("#")
            app.subscribe(f"{app.token}/#")
            app.publish(f"{app.token}/pump/subscribe", "on")
            assert app.next()[1] == b"on"
            assert stranger.has_nothing()


def test_a_command_reaches_its_device_byte_by_byte(daemon: Daemon) -> None:
    with Device(daemon, "pump") as pump:
        pump.subscribe(f"{pump.token}/pump/subscribe")
        for payload in ("led:on", "mode:1", "ä"):
            assert daemon.request("POST", "/v2/publish/pump", {"qos": 1, "payload": payload})[0] == 200
            assert pump.next() == (f"{pump.token}/pump/subscribe", payload.encode(), 1, False)
    assert daemon.request("POST", "/v2/publish/pump", {"payload": "nobody listens"})[0] == 200
    status, reply, _ = daemon.request("POST", "/v2/publish/none", {"payload": "x"})
    assert (status, reply["error"]) == (404, "NO_DEVICE")


def test_who_is_connected_is_listed_and_can_be_sent_away(daemon: Daemon) -> None:
    with Device(daemon, "pump", keep=True), Device(daemon, "app", version=5):
        rows = {row["client_id"]: row for row in daemon.request("GET", "/v2/session")[1]}
        assert {name: (row["clean_sess"], row["proto_ver"], row["ipaddress"]) for name, row in rows.items()} == {
            "pump": (False, 4, "127.0.0.1"), "app": (True, 5, "127.0.0.1"),
        }  # fmt: skip
        closed = daemon.metric("thingscale_connections_closed_total")
        assert daemon.request("DELETE", "/v2/session/app")[0] == 200
        daemon.wait_until(lambda: daemon.metric("thingscale_connections_closed_total") > closed)
    assert daemon.request("DELETE", "/v2/session/app")[0] == 404
    daemon.wait_until(lambda: daemon.request("GET", "/v2/session")[1] == [])


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_messages_wait_for_a_client_that_is_away(daemon: Daemon, version: int, is_killed: bool) -> None:
    with Device(daemon, "app", keep=True, version=version) as app:
        assert not app.is_resumed
        app.subscribe(f"{app.token}/#", 2)
    with Device(daemon, "pump") as pump:
        for number, qos in enumerate((1, 2, 1)):
            pump.publish(f"{pump.token}/json/pump", str(number), qos)
        pump.publish(f"{pump.token}/pump/subscribe", "kept", 1, retain=True)
    if is_killed:
        daemon.kill()
    else:
        assert daemon.stop() == 0
        daemon.process.communicate()
    daemon.start()
    with Device(daemon, "app", keep=True, version=version) as app:
        assert app.is_resumed
        found = [app.next()[1:3] for _ in range(4)]
        # The QoS 2 message is handed on when its exchange is over, after those that were sent behind it.
        assert [each for each in found if each[1] == 1] == [(b"0", 1), (b"2", 1), (b"kept", 1)]
        assert (b"1", 2) in found
        assert app.has_nothing()
    with Device(daemon, "other") as other:
        other.subscribe(f"{other.token}/+/subscribe")
        assert other.next() == (f"{other.token}/pump/subscribe", b"kept", 1, True)
    assert [entry["value"] for entry in daemon.stream()] == [0, 1, 2]


def test_what_was_acknowledged_does_not_come_again_after_a_kill(daemon: Daemon) -> None:
    with Device(daemon, "app", keep=True) as app, Device(daemon, "pump") as pump:
        app.subscribe(f"{app.token}/#", 2)
        for number in range(50):
            pump.publish(f"{pump.token}/json/pump", str(number), 2)
        assert [app.next()[1] for _ in range(50)] == [b"%d" % number for number in range(50)]
        daemon.wait_until(lambda: daemon.metric('thingscale_mqtt_owed{state="inflight"}') == 0)
        commits = daemon.metric("thingscale_commit_seconds_count")
        pump.publish(f"{pump.token}/json/pump", "50", 1)  # what came before it is durable with it
        daemon.wait_until(lambda: daemon.metric("thingscale_commit_seconds_count") > commits)
        assert app.next()[1] == b"50"
        daemon.wait_until(lambda: daemon.metric('thingscale_mqtt_owed{state="inflight"}') == 0)
        time.sleep(0.1)  # the acknowledgement's own note
        daemon.kill()
    daemon.start()
    with Device(daemon, "app", keep=True) as app:
        assert app.is_resumed
        assert app.has_nothing()


def test_a_will_is_published_when_its_client_breaks_off_and_not_when_it_leaves(daemon: Daemon) -> None:
    topic = f"{daemon.user['device_token']}/pump/subscribe"
    with Device(daemon, "app") as app:
        app.subscribe(topic)
        with Device(daemon, "pump", will=(topic, "gone", 1)):
            pass
        assert app.has_nothing()
        pump = Device(daemon, "pump", will=(topic, "gone", 1))
        pump.client.loop_stop()
        with contextlib.suppress(OSError):
            pump.client.socket().close()
        assert app.next() == (topic, b"gone", 1, False)


def test_the_will_of_a_kept_session_is_published_after_a_kill(daemon: Daemon) -> None:
    topic = f"{daemon.user['device_token']}/pump/subscribe"
    with Device(daemon, "app", keep=True) as app:
        app.subscribe(topic)
    pump = Device(daemon, "pump", keep=True, will=(topic, "gone", 1))
    daemon.kill()
    pump.client.loop_stop()
    daemon.start()
    with Device(daemon, "app", keep=True) as app:
        assert app.next()[:3] == (topic, b"gone", 1)


def test_a_seal_does_not_lose_what_sessions_are_owed(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", THINGSCALE_STORAGE_SEAL_INTERVAL_S="0.1") as daemon:
        daemon.add_user()
        daemon.add_device("pump", 1)
        with Device(daemon, "app", keep=True) as app:
            app.subscribe(f"{app.token}/#")
        with Device(daemon, "pump") as pump:
            for number in range(10):
                pump.publish(f"{pump.token}/json/pump", str(number))
                time.sleep(0.03)
        seals = daemon.metric("thingscale_seals_total")
        daemon.wait_until(lambda: daemon.metric("thingscale_seals_total") > seals or seals > 2)
        daemon.restart()
        with Device(daemon, "app", keep=True) as app:
            assert [app.next()[1] for _ in range(10)] == [b"%d" % number for number in range(10)]


def test_a_subscriber_that_never_reads_costs_nobody_else_anything(daemon: Daemon) -> None:
    user = daemon.user
    token = user["device_token"].encode()
    text = token + b"/#"
    subscribe = b"\x82" + bytes([5 + len(text)]) + b"\x00\x01" + len(text).to_bytes(2, "big") + text + b"\x00"
    with socket.socket() as lazy, Device(daemon, "app") as app, Device(daemon, "pump") as pump:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", daemon.port("mqtt")))
        lazy.sendall(connect(b"lazy", user["user_id"].encode(), token) + subscribe)
        app.subscribe(f"{app.token}/#")
        for number in range(300):
            pump.publish(f"{pump.token}/x/subscribe", f"{number} " + "x" * 20_000, 0)
            assert app.next()[1].split()[0] == b"%d" % number
        assert daemon.metric('thingscale_mqtt_dropped_total{reason="behind"}') > 0
