"""The connectors of a running daemon, talked to by the clients that people use."""

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from tests.daemon import Daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("devices") / "data") as daemon:
        daemon.add_user()
        daemon.request("POST", "/v2/channel/1")
        yield daemon


def entries(daemon: Daemon, channel: int) -> list[object]:
    return [entry["value"] for entry in daemon.stream(channel)]


def fresh(daemon: Daemon, number: int) -> str:
    device_id = f"device-{number}"
    daemon.add_device(device_id, number)
    return device_id


def paho_client(daemon: Daemon, client_id: str = "", protocol: int = paho.MQTTv311) -> paho.Client:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=protocol)
    client.username_pw_set(daemon.user["user_id"], daemon.user["device_token"])
    client.connect("127.0.0.1", daemon.port("mqtt"), keepalive=10)
    client.loop_start()
    return client


@pytest.mark.parametrize("protocol", [paho.MQTTv31, paho.MQTTv311])
def test_paho_publishes_and_the_range_query_has_it(daemon: Daemon, protocol: int) -> None:
    number = 100 + protocol
    device = fresh(daemon, number)
    client = paho_client(daemon, f"paho-{protocol}", protocol)
    topic = f"{daemon.user['device_token']}/json/{device}"
    for i in range(20):
        client.publish(topic, json.dumps({"i": i}), qos=1).wait_for_publish(5)
    client.publish(f"{topic}/north", "7.5", qos=1).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()
    assert entries(daemon, number) == [*({"i": i} for i in range(20)), 7.5]
    assert [entry["tag"] for entry in daemon.stream(number, X_TAGNAME="north")] == ["north"]


def test_paho_publishes_qos_2_once(daemon: Daemon) -> None:
    device = fresh(daemon, 110)
    client = paho_client(daemon, "paho-2")
    client.publish(f"{daemon.user['device_token']}/json/{device}", "42", qos=2).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()
    assert entries(daemon, 110) == [42]


def test_every_data_topic_has_its_reading(daemon: Daemon) -> None:
    device, token = fresh(daemon, 111), daemon.user["device_token"]
    client = paho_client(daemon)
    for topic, payload in (
        (f"{token}/json/{device}", b'{"a":{"b":[1]},"c":null,"d":"\xc3\xa9","e":true,"f":9007199254740993}'),
        (f"{token}/binary/{device}", b"\x00\xff"),
        (f"{token}/{device}", b"v= 5.0&v2=-3&v3=nan"),
        (f"{token}/state/{device}", b"health=OK&load=5.5&pods=3\n&uptime=9"),
        ("ffffffffffffffffffffffffffffffff/json/x", b"1"),
        (f"{token}/json/{device}", b"not json"),
        (f"{token}/json", b"1"),
    ):
        client.publish(topic, payload, qos=1).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()
    assert entries(daemon, 111) == [
        {"a": {"b": [1]}, "c": None, "d": "é", "e": True, "f": 9007199254740993},
        "00ff",
        {"value1": 5, "value2": -3, "value3": "nan"},
    ]
    daemon.wait_until(lambda: "state" in daemon.request("GET", f"/v2/device/{device}")[1][0])
    state = daemon.request("GET", f"/v2/device/{device}")[1][0]["state"]
    assert {name: state[name] for name in ("health", "load", "pods", "uptime")} == {
        "health": "OK", "load": 5.5, "pods": 3, "uptime": 9,
    }  # fmt: skip


@pytest.mark.skipif(shutil.which("mosquitto_pub") is None, reason="mosquitto-clients is not installed")
@pytest.mark.parametrize("version", ["mqttv31", "mqttv311"])
def test_mosquitto_pub_publishes(daemon: Daemon, version: str) -> None:
    number = 120 + len(version)
    device = fresh(daemon, number)
    for qos in ("0", "1"):
        subprocess.run(
            [
                "mosquitto_pub", "-h", "127.0.0.1", "-p", str(daemon.port("mqtt")), "-V", version, "-q", qos,
                "-u", daemon.user["user_id"], "-P", daemon.user["device_token"],
                "-t", f"{daemon.user['device_token']}/json/{device}", "-m", f'{{"qos":{qos}}}',
            ],
            check=True, timeout=10,
        )  # fmt: skip
    daemon.wait_until(lambda: len(entries(daemon, number)) == 2)
    assert entries(daemon, number) == [{"qos": 0}, {"qos": 1}]


@pytest.mark.skipif(shutil.which("mosquitto_pub") is None, reason="mosquitto-clients is not installed")
def test_a_wrong_password_is_refused_in_every_version(daemon: Daemon) -> None:
    def publish(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            "mosquitto_pub",
            "-h",
            "127.0.0.1",
            "-p",
            str(daemon.port("mqtt")),
            "-t",
            "t",
            "-m",
            "1",
            *arguments,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=10)

    user = daemon.user["user_id"]
    for version in ("mqttv31", "mqttv311", "mqttv5"):
        refused = publish("-u", user, "-P", "wrong", "-V", version)
        assert refused.returncode != 0
        assert "bad user name or password" in refused.stderr.lower()
        assert publish("-u", user, "-P", daemon.user["device_token"], "-V", version).returncode == 0
        assert publish("-V", version).returncode != 0


def test_curl_posts_and_reads_back(daemon: Daemon) -> None:
    device = fresh(daemon, 130)
    base = f"http://127.0.0.1:{daemon.port('http')}"

    def curl(*arguments: str) -> str:
        command = ["curl", "-sS", "-w", " %{http_code}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout

    headers = ["-H", f"X-DEVICETOKEN: {daemon.user['device_token']}", "-H", f"X-DEVICEID: {device}"]
    assert curl(f"{base}/post_v2/", *headers, "-d", '{"temp":25.5}') == "OK 200"
    assert curl(f"{base}/post_v1/", *headers, "-d", "v=1&v2=2") == "OK 200"
    assert curl(f"{base}/post/", *headers, "-d", "v=3") == "OK 200"
    assert (
        curl(f"{base}/post_v2", *headers, "-H", "X-TAGNAME: t", "-H", "Transfer-Encoding: chunked", "-d", "4")
        == "OK 200"
    )
    assert curl(f"{base}/post_v2/", *headers, "-H", "Expect: 100-continue", "-d", '"five"') == "OK 200"
    assert curl(f"{base}/post_v2/", *headers, "-d", "{") == "BAD_JSON_FORMAT 400"
    stream = curl(
        f"{base}/v2/stream/130",
        "-H",
        f"X-APITOKEN: {daemon.user['api_token']}",
        "-H",
        "X-ENDTIME: last",
        "-H",
        "X-PAGELIMIT: 9",
    )
    values = [entry["value"] for entry in json.loads(stream.rpartition(" ")[0])["stream"]]
    assert values == [{"temp": 25.5}, {"value1": 1, "value2": 2}, {"value1": 3}, 4, "five"]


@pytest.mark.parametrize("slow", [{}, {"Expect": "100-continue"}], ids=["lane", "h11"])
def test_the_connector_refuses_by_name(daemon: Daemon, slow: dict[str, str]) -> None:
    number = 140 + len(slow)
    device = fresh(daemon, number)
    right, daemon.user["device_token"] = daemon.user["device_token"], "0" * 32
    assert daemon.post(device, "1", **slow) == (401, "AUTH_REQUIRED")
    daemon.user["device_token"] = right
    assert daemon.post("0", "1", **slow) == (400, "DEVICE_ID_ZERO")
    assert daemon.post("", "1", **slow) == (400, "DEVICE_ID_ZERO")
    new = f"new-{number}"
    assert daemon.post(new, "1", **slow) == (201, "NEW_DEVICE_FOUND")
    assert daemon.post(new, "1", **slow) == (403, "NO_MAPPED_CH")
    assert daemon.request("PUT", f"/v2/device/{new}", {"mapped_ch": number})[0] == 200
    assert daemon.post(new, "1", **slow) == (403, "DEVICE_DISABLED")
    assert daemon.request("PUT", f"/v2/device/{new}", {"enabled": True})[0] == 200
    assert daemon.post(new, "1", **slow) == (200, "OK")
    assert daemon.post(new, "x" * 70_000, **slow)[0] == 413
    assert daemon.post(new, '{"a":', **slow) == (400, "BAD_JSON_FORMAT")
    assert daemon.request("DELETE", f"/v2/channel/{number}")[0] == 200
    assert daemon.post(device, "1", **slow) == (403, "NO_MAPPED_CH")


def test_the_rate_limit_is_one_a_second_per_device(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", THINGSCALE_LIMITS_CONNECTOR_PER_S="1") as daemon:
        daemon.add_user()
        daemon.add_device("d")
        daemon.add_device("e")
        statuses = [daemon.post("d", "1")[0] for _ in range(3)]
        assert statuses[0] == 200
        assert 429 in statuses
        assert daemon.post("e", "1")[0] == 200


def test_a_client_that_closes_at_once_is_still_heard(daemon: Daemon) -> None:
    device, token = fresh(daemon, 150), daemon.user["device_token"].encode()
    user = daemon.user["user_id"].encode()
    connect = (
        b"\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01c"
        + bytes([0, len(user)])
        + user
        + bytes([0, len(token)])
        + token
    )
    topic = token + b"/json/" + device.encode()
    for i in range(20):
        with socket.create_connection(("127.0.0.1", daemon.port("mqtt"))) as client:
            publish = bytes([0, len(topic)]) + topic + b"%d" % i
            client.sendall(
                b"\x10" + bytes([len(connect)]) + connect + b"\x30" + bytes([len(publish)]) + publish
            )
    daemon.wait_until(lambda: len(entries(daemon, 150)) == 20)
    assert sorted(entries(daemon, 150)) == list(range(20))  # type: ignore[type-var]


def test_a_second_client_with_the_same_id_takes_over(daemon: Daemon) -> None:
    lost = []
    first = paho_client(daemon, "twin")
    first.on_disconnect = lambda *_: lost.append(time.monotonic())
    first.reconnect_delay_set(60, 60)
    daemon.wait_until(first.is_connected)
    second = paho_client(daemon, "twin")
    daemon.wait_until(lambda: lost)
    daemon.wait_until(second.is_connected)
    for client in (first, second):
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_commits_and_answers_what_was_taken(tmp_path: Path, how: signal.Signals) -> None:
    daemon = Daemon(tmp_path / "data").start()
    daemon.add_user()
    daemon.add_device("d")
    client = paho_client(daemon)
    token = daemon.user["device_token"]
    acknowledged = [client.publish(f"{token}/json/d", str(i), qos=1) for i in range(500)]
    time.sleep(0.05)
    assert daemon.stop(how) == 0
    client.loop_stop()
    daemon.process.communicate()
    count = sum(message.is_published() for message in acknowledged)
    with daemon:
        assert entries(daemon, 1)[:count] == list(range(count))


def test_a_second_daemon_on_the_same_data_is_refused(daemon: Daemon) -> None:
    second = Daemon(daemon.data)
    second.log = daemon.log.with_suffix(".second")
    with pytest.raises(AssertionError, match=r"another daemon|in use|already"):
        second.start()
    assert second.process.returncode == 1
    second.process.communicate()


def test_users_are_honoured_within_a_second(daemon: Daemon) -> None:
    old = dict(daemon.user)
    daemon.add_user("--email", "a@example.com", "--locale", "Asia/Tokyo")
    daemon.wait_until(lambda: daemon.request("GET", "/v2/user")[0] == 200, 1.5)
    before = daemon.user["api_token"]
    rotated = json.loads(daemon.run("user", "rotate", daemon.user["user_id"], "--api", "--json"))
    daemon.wait_until(lambda: daemon.request("GET", "/v2/user")[0] == 401, 1.5)
    daemon.user["api_token"] = rotated["api_token"]
    assert rotated["api_token"] != before
    daemon.wait_until(lambda: daemon.request("GET", "/v2/user")[0] == 200, 1.5)
    daemon.user = old


def test_health_and_metrics(daemon: Daemon) -> None:
    assert daemon.request("GET", "/healthz")[0] == 200
    assert daemon.request("GET", "/readyz")[0] == 200
    status, text, _ = daemon.request("GET", "/metrics")
    assert status == 200
    for name in (
        "thingscale_readings_stored_total",
        "thingscale_readings_refused_total",
        "thingscale_commit_seconds",
    ):
        assert name in text
