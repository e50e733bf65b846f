"""The servers that are compared, each started fresh for each measurement and thrown away.

A fresh start costs a second and buys independence: no server has to carry the data, the
caches or the background work of the measurement before. All of them run on loopback, on one core.

| peer | what it does with a reading |
|---|---|
| null | frames it, acknowledges it (null_server.c): the price of the sockets |
| mosquitto | routes it to no subscriber, QoS 1 included; persistence off: nothing is durable |
| naive | one trio task per connection, parsed in Python, not stored (naive_server.py) |
| thingscale | checks, decodes, stores it; acknowledges after fdatasync (`durability = "fsync"`) |

A place says what is beside the port: a certificate makes mosquitto and thingscale listen with TLS, too, and
clients then use that port; `persistent` switches on mosquitto's persistence (ours is always on).
"""

import contextlib
import getpass
import http.client
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import processes
from benchmarks.programs import program
from thingscale.devcert import DevelopmentFiles

DEVICE_PREFIX = "load-"

# Limits that a bench would only measure itself by.
UNLIMITED = {"THINGSCALE_LIMITS_REST_PER_S": "0", "THINGSCALE_LIMITS_CONNECTOR_PER_S": "0"}

# As Debian ships it. set_tcp_nodelay would halve its throughput with 20 in flight (one segment per PUBACK: 127
# against 253 thousand a second) and change nothing with one in flight.
MOSQUITTO_OPTIONS = """\
user {user}
allow_anonymous true
persistence {persistence}
persistence_location {directory}/
log_dest none
{more}
listener {port} 127.0.0.1
"""
MOSQUITTO_TLS = """\
listener {port} 127.0.0.1
certfile {certificate}
keyfile {key}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and what a client needs to talk to it."""

    process: subprocess.Popen[bytes]
    log: Path
    mqtt_port: int
    http_port: int | None
    user: str = "U000001"
    device_token: str = "0" * 32
    api_token: str = ""
    ca: Path | None = None  # `mqtt_port` speaks TLS, with a certificate that this CA signed

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server runs: its core, and an empty directory that is removed afterwards."""

    core: int | None
    directory: Path
    environment: Mapping[str, str]
    devices: int
    certificate: DevelopmentFiles | None = None
    persistent: bool = False
    mosquitto_options: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """A kind of server; `missing` says why it cannot be measured on this machine, or is empty."""

    name: str
    open: Callable[[Place], contextlib.AbstractContextManager[Server]]
    missing: Callable[[], str]
    speaks_http: bool = True


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


@contextlib.contextmanager
def _ready(command: Sequence[str | Path], place: Place) -> Iterator[Server]:
    log = place.directory / "stderr.log"
    process = processes.start(command, place.core, log=log, environment=place.environment)
    try:
        ready = processes.read_ready(process, log)
        ca = place.certificate.ca if place.certificate and "mqtts" in ready else None
        mqtt_port = _port(ready["mqtts" if ca else "mqtt"])
        yield Server(process, log, mqtt_port, _port(ready["http"]), ca=ca)
    finally:
        processes.stop(process)


@contextlib.contextmanager
def open_null(place: Place) -> Iterator[Server]:
    with _ready([program("null_server")], place) as server:
        yield server


@contextlib.contextmanager
def open_naive(place: Place) -> Iterator[Server]:
    with _ready([sys.executable, "-m", "benchmarks.naive_server"], place) as server:
        yield server


def mosquitto_program() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def open_mosquitto(place: Place) -> Iterator[Server]:
    mosquitto = mosquitto_program()
    assert mosquitto is not None, "Peer.missing was not asked"
    port, log = processes.free_port(), place.directory / "stderr.log"
    options = MOSQUITTO_OPTIONS.format(
        port=port,
        user=getpass.getuser(),  # started as root it would become another one, who may not read the key
        persistence=str(place.persistent).lower(),
        directory=place.directory,
        more=place.mosquitto_options,
    )
    ca = None
    if place.certificate is not None:
        port, ca = processes.free_port(), place.certificate.ca
        files = {"certificate": place.certificate.certificate, "key": place.certificate.key}
        options += MOSQUITTO_TLS.format(port=port, **files)
    configuration = place.directory / "mosquitto.conf"
    configuration.write_text(options)
    process = processes.start([mosquitto, "-c", configuration], place.core, log=log)
    try:
        processes.wait_for_port(process, port)
        yield Server(process, log, port, None, ca=ca)
    finally:
        processes.stop(process)


@contextlib.contextmanager
def open_thingscale(place: Place) -> Iterator[Server]:
    """The daemon with one user and `place.devices` devices mapped to channel 1."""
    with serve_thingscale(place, add_user(place)) as server:
        provision(server, place.devices)
        yield server


@contextlib.contextmanager
def serve_thingscale(place: Place, user: Mapping[str, str]) -> Iterator[Server]:
    """The daemon on a data directory that exists already."""
    data = place.directory / "data"
    command = [sys.executable, "-m", "thingscale", "serve", "--data", str(data)]
    addresses = ["--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    settings = {**place.environment, **UNLIMITED, "THINGSCALE_LOG_FORMAT": "json"}
    if place.certificate is not None:
        settings["THINGSCALE_SERVER_MQTTS"] = "127.0.0.1:0"
        settings["THINGSCALE_TLS_CERTIFICATE"] = str(place.certificate.certificate)
        settings["THINGSCALE_TLS_KEY"] = str(place.certificate.key)
    with _ready([*command, *addresses], replace(place, environment=settings)) as server:
        yield replace(
            server,
            user=user["user_id"],
            device_token=user["device_token"],
            api_token=user["api_token"],
        )


def add_user(place: Place) -> dict[str, str]:
    """Make the data directory and its one user; `user_id`, `api_token`, `device_token`."""
    command = [
        sys.executable,
        "-m",
        "thingscale",
        "user",
        "add",
        "--json",
        "--data",
        str(place.directory / "data"),
    ]
    done = subprocess.run(command, check=True, capture_output=True)
    user: dict[str, str] = json.loads(done.stdout)
    return user


def provision(server: Server, devices: int) -> None:
    """Channel 1 and the devices that the load generators speak for, through the REST API."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)) as rest:
        _rest(
            rest, server, "POST", "/v2/channel/1", {"channel_name": "load"}, accept=(201, 403)
        )  # 403: is there
        for i in range(devices):
            _rest(
                rest, server, "POST", f"/v2/device/{DEVICE_PREFIX}{i:05d}", {"enabled": True, "mapped_ch": 1}
            )


def stored_datapoints(server: Server) -> int:
    """What the daemon itself says that it stores for the user."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)) as rest:
        (user,) = json.loads(_rest(rest, server, "GET", "/v2/user", None))
        count: int = user["storage"]["count"]
        return count


def _rest(
    rest: http.client.HTTPConnection,
    server: Server,
    method: str,
    path: str,
    body: object,
    accept: Sequence[int] = (200, 201),
) -> bytes:
    content = None if body is None else json.dumps(body).encode()
    rest.request(method, path, content, {"X-APITOKEN": server.api_token})
    response = rest.getresponse()
    answer = response.read()
    if response.status not in accept:
        raise processes.ServerFailedError(f"{method} {path}: {response.status} {answer[:300]!r}")
    return answer


def _never() -> str:
    return ""


def _mosquitto_missing() -> str:
    return "" if mosquitto_program() else "mosquitto is not installed"


def _thingscale_missing() -> str:
    done = subprocess.run([sys.executable, "-c", "import thingscale.daemon"], capture_output=True)
    return "" if done.returncode == 0 else done.stderr.decode().strip().rpartition("\n")[2]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("null", open_null, _never),
        Peer("mosquitto", open_mosquitto, _mosquitto_missing, speaks_http=False),
        Peer("naive", open_naive, _never),
        Peer("thingscale", open_thingscale, _thingscale_missing),
    )
}
