"""The daemon: what is opened, in which order it lives, and how it ends.

    services (reactor, sealer, publisher, housekeeping)   outlive
      clients (HTTP connections beside the lane)          outlive
        doors (listeners)

Stop closes the doors, lets clients finish within a deadline, commits and answers what was taken, seals nothing (the log
is the truth), and ends the services. A failed commit ends everything at once: exit code 1, and the log is replayed.
"""

import json
import logging
import os
import resource
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

import trio

from ingest.admission import Admission
from ingest.connector import PATHS, Connector
from ingest.durability import Durability
from ingest.gate import Gate
from ingest.loop import drain, run_reactor, run_ticks
from ingest.mqtt.broker import Broker
from ingest.mqtt.door import MqttDoor
from ingest.mqtt.notebook import Notebook
from ingest.mqtt.sentences import puback_tails
from ingest.pace import RateLimiter
from ingest.reactor import Reactor
from ingest.refusals import REASONS, http_replies
from ingest.tls import TlsTransport
from ingest.transports import Stacked, Transport, WebSocketTransport
from ingest.writer import Writer
from query.engine import Engine
from query.http.options import HttpOptions
from query.http.server import HttpServer
from query.live import Hub
from query.ports import QueryCounts
from query.readers import Readers
from query.sql.workers import SqlWorkers
from query.work.workers import Workers
from storage.commit import CommitFailedError, Completed, GroupCommit
from storage.committer import Committer
from storage.disk import DiskFullError
from storage.journal import State
from storage.lock import DirectoryLock
from storage.store import NOTES_MAX, Store
from thingscale.changes import RegistryChanges
from thingscale.clients import Clients
from thingscale.clocks import now
from thingscale.config import FURTHER_LISTENERS, Config
from thingscale.control import run_control
from thingscale.first_user import banner, make_first_user
from thingscale.housekeeping import Housekeeping
from thingscale.logs import start_logging
from thingscale.metrics import Metrics
from thingscale.services import make_app
from thingscale.settings import (
    broker_options,
    client_limits,
    engine_options,
    live_options,
    reactor_options,
    reader_options,
    sql_options,
    store_options,
    writer_options,
)
from thingscale.tls import certificates

# How long a stop waits for clients that are in the middle of something.
DRAIN_S: Final = 10.0
BACKLOG: Final = 4_096
# Device states that wait for the registry, which may be locked, before only the last of each device is kept.
STATES_MAX: Final = 16_384
# How long a worker thread may keep the interpreter while the reactor wants it; Python would let it have 5 ms.
SWITCH_S: Final = 0.0005

log = logging.getLogger("thingscale")


def open_listener(address: tuple[str, int]) -> socket.socket:
    """A listening, non-blocking TCP socket. Raises OSError with the address in its message."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from error
    return listener


def name_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def raise_descriptor_limit() -> None:
    """As many descriptors as the system lets this process have: each client is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def clients_allowed(config: Config) -> tuple[int, int]:
    """MQTT and HTTP clients at a time, by configuration and descriptors."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    mqtt, http = client_limits(config, descriptors)
    if (mqtt, http) != (config["limits.mqtt_connections_max"], config["limits.http_connections_max"]):
        log.warning(
            "%d file descriptors are enough for %d MQTT and %d HTTP clients only", descriptors, mqtt, http
        )
    return mqtt, http


def newest_states(states: list[State]) -> list[State]:
    """The last one of each device: what the registry would keep of them."""
    return list({state.device: state for state in states}.values())


class Daemon:
    """The composition root. ``serve`` is its life."""

    def __init__(self, config: Config, store: Store) -> None:
        self.config = config
        self.store = store
        self.certificates = certificates(config)
        self.committer = Committer()
        self.commits = GroupCommit(store.journal, store.wal, self.committer)
        limiter = RateLimiter(config["limits.connector_per_s"])
        admission = Admission(store.registry, limiter, config["limits.tag_bytes_max"])
        saved = store.sessions.load()
        # A batch has room for half of itself when it is empty, whatever is in the way.
        notebook = Notebook(store.journal, config["storage.batch_bytes_max"] // 2, saved.next_number)
        self.broker = Broker(broker_options(config), notebook)
        self.origins = frozenset(origin.lower().encode() for origin in config["mqtt.websocket_origins"])
        self.door = MqttDoor(admission, store.journal, self.broker)
        self.http: HttpServer
        clients = clients_allowed(config)
        self.reactor = Reactor(
            store.journal,
            self.commits,
            Gate(admission, self.door.user_of, self.broker.has_listeners),
            self.door,
            lambda sock, received: self.http.adopt_nowait(sock, received),
            reactor_options(config, clients),
            now()[0],
            self.door.relay,
        )
        self.door.link = self.reactor
        self.reactor.set_puback_tails(puback_tails(REASONS))
        self.broker.load(saved, self.token_of, now()[1])
        self.durability = Durability(store.journal, self.reactor, now)
        self.writer = Writer(
            store.journal, notebook, self.durability, store.writes, now, writer_options(config)
        )
        self.live = Hub(store, live_options(config))
        self.reactor.set_on_completed(self.on_completed)
        self.connector = Connector(
            admission, self.durability, self.count_post, now, config["limits.payload_bytes_max"]
        )
        store.end_tokens(now()[1])
        changes = RegistryChanges(store.registry, self.reactor, self.broker, config["limits.connector_per_s"])
        changes.look()
        self.housekeeping = Housekeeping(config, store, self.commits, self.on_room, changes.look)
        self._states_max = STATES_MAX
        self._notes_max = NOTES_MAX
        self.is_ready = False
        for_engine = engine_options(config)
        shutil.rmtree(for_engine.spill, ignore_errors=True)  # of processes that were killed
        self.engine = Engine(for_engine)
        self.workers = Workers()
        self.sql = SqlWorkers(sql_options(config), self.workers)
        readers = Readers(reader_options(config), self.workers)
        metrics = Metrics(
            store,
            self.reactor,
            self.door,
            self.broker,
            lambda: self.http.statistics(),
            self.commits,
            self.housekeeping,
            trio.CapacityLimiter(config["query.concurrent_max"]),
            readers,
            QueryCounts(),
            self.live,
        )
        mqtt_clients = Clients(
            self.broker,
            self.durability,
            lambda user_id: self.token_of(user_id) or b"",
            self.reactor.peer,
            now,
        )
        self.app = make_app(
            config,
            store,
            self.engine,
            metrics,
            changes.look,
            lambda: self.is_ready,
            mqtt_clients,
            mqtt_clients,
            readers,
            self.workers,
            self.sql,
            self.writer,
            self.live,
        )
        self.http = HttpServer(
            self.dispatch,
            HttpOptions(
                connections_max=clients[1],
                header_bytes_max=config["limits.http_header_bytes_max"],
                request_line_bytes_max=min(8_192, config["limits.http_header_bytes_max"]),
                body_bytes_max=config["limits.http_body_bytes_max"],
                idle_s=config["limits.http_idle_s"],
                head_s=config["limits.partial_timeout_s"],
                body_s=config["limits.partial_timeout_s"],
            ),
            upgrade=self.upgrade,
        )

    async def dispatch(self, scope: Any, receive: Any, send: Any) -> None:
        """One HTTP port: connector paths to ingest, everything else to the REST application."""
        if scope["path"] in PATHS:
            await self.connector(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def token_of(self, user_id: str) -> bytes | None:
        """A user's device token; None when there is no such user."""
        user = self.store.registry.user(user_id)
        return None if user is None else user.device_token.encode()

    def upgrade(self, sock: socket.socket, received: bytes) -> None:
        """A WebSocket on the HTTP port: back to the reactor."""
        self.reactor.adopt(sock.detach(), "mqtt", self.web_socket(), received, *now())

    def web_socket(self) -> WebSocketTransport:
        """A new client's."""
        return WebSocketTransport(self.origins)

    def wrap(self, speaks: str) -> Callable[[], Transport] | None:
        """What makes the transports of a listener's clients."""
        if speaks == "ws":
            return self.web_socket
        if speaks not in ("mqtts", "wss"):
            return None
        assert self.certificates is not None
        context = self.certificates.mqtt
        if speaks == "mqtts":
            return lambda: TlsTransport(context())
        return lambda: Stacked(TlsTransport(context()), self.web_socket())

    # ---- what the reactor tells

    def on_completed(self, completed: Completed) -> None:
        self.durability.on_durable(completed.next_seq)
        self.live.on_durable()
        self.store.states += completed.states
        if len(self.store.states) > self._states_max:
            self.store.states = newest_states(self.store.states)
            self._states_max = max(STATES_MAX, 2 * len(self.store.states))
        self.store.notes.extend(completed.notes)
        if len(self.store.notes) > self._notes_max:
            self.flush_notes()
        self.housekeeping.on_completed()
        self.resume_notes()

    def resume_notes(self) -> None:
        """Notes that were put off take the room that has come; the batch leaves when the reactor's turn ends."""
        if self.broker.notebook.is_waiting:
            self.door.on_room(now()[1])

    def flush_notes(self) -> None:
        """Too many notes wait for their time: apply them now."""
        try:
            self.store.flush_notes()
        except DiskFullError as error:
            # The housekeeping tries again soon; here it is tried when there are twice as many.
            self.housekeeping.say_waiting(error)
            self._notes_max = 2 * len(self.store.notes)
        else:
            self._notes_max = NOTES_MAX

    def on_room(self) -> None:
        """A seal made room in the ring."""
        self.resume_notes()
        self.reactor.kick(*now())
        self.durability.on_room()

    def count_post(self, refusal: int) -> None:
        if refusal:
            self.reactor.count_refusal("http", refusal)
        else:
            self.reactor.count_stored("http")

    def on_tick(self) -> None:
        _, now_us = now()
        self.reactor.set_http_replies(http_replies(now_us / 1e6))
        self.door.on_tick(now_us)
        # A disk that was full may have room again, or a query has let go of the ring.
        self.reactor.kick(*now())
        self.durability.on_room()

    def is_idle(self) -> bool:
        """Everything taken has been committed and answered."""
        ring = self.store.ring
        return ring.durable == ring.written and not self.reactor.replies_waiting

    # ---- life

    async def serve(self) -> int:
        """Until SIGTERM or SIGINT; the exit code."""
        listeners: dict[str, socket.socket] = {}
        code = 0
        try:
            for path in (
                "server.http",
                "server.mqtt",
                *(path for path in FURTHER_LISTENERS if self.config[path]),
            ):
                listeners[path.removeprefix("server.")] = open_listener(self.config.address(path))
            await self._serve(listeners)
        except* CommitFailedError as group:
            log.critical("stopped: %s", group.exceptions[0])
            code = 1
        finally:
            for listener in listeners.values():
                listener.close()
        log.info("stopped")
        return code

    async def _serve(self, listeners: dict[str, socket.socket]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as services:
                self.on_tick()
                services.start_soon(run_reactor, self.reactor, now)
                services.start_soon(run_ticks, self.reactor, now, self.on_tick)
                services.start_soon(self.housekeeping.run)
                services.start_soon(self.workers.serve)
                services.start_soon(self.live.run)
                await services.start(self.http.run)
                await services.start(
                    run_control, self.config.data, {"publish": self.housekeeping.publish_now}
                )
                if self.certificates is not None:
                    services.start_soon(self.certificates.run)
                for speaks, listener in listeners.items():
                    if speaks == "https":
                        assert self.certificates is not None
                        services.start_soon(self.http.accept, listener, self.certificates.https)
                    else:
                        self.reactor.listen(
                            listener.fileno(), "http" if speaks == "http" else "mqtt", self.wrap(speaks)
                        )
                if self.config["mqtt.anonymous"]:
                    log.warning("clients without credentials are %s", self.config["mqtt.anonymous"])
                self.is_ready = True
                self.say_ready(listeners)
                async for number in signals:
                    log.info("stopping on %s", signal.Signals(number).name)
                    break
                self.is_ready = False
                self.reactor.stop_listening()
                self.live.close()
                await self.http.drain(DRAIN_S)
                if not await drain(self.reactor, self.is_idle, self.door.say_goodbye, DRAIN_S):
                    log.warning("some replies could not be sent within %s s", DRAIN_S)
                services.cancel_scope.cancel()

    def say_ready(self, listeners: dict[str, socket.socket]) -> None:
        names = {speaks: name_of(listener) for speaks, listener in listeners.items()}
        user = make_first_user(self.store.registry, now()[1])
        if user is not None:
            print(banner(user, names["http"]), file=sys.stderr, flush=True)
        ready = {"ready": True, **names, "data": str(self.config.data), "pid": os.getpid()}
        print(json.dumps(ready), flush=True)
        doors = ", ".join(f"{speaks.upper()} on {name}" for speaks, name in names.items())
        log.info("ready: %s, data in %s", doors, self.config.data)

    def close(self) -> None:
        self.committer.close()
        self.engine.close()


def run(config: Config) -> int:
    """``thingscale serve``: open, recover, serve, drain. The exit code."""
    start_logging(config["log.level"], config["log.format"])
    raise_descriptor_limit()
    sys.setswitchinterval(SWITCH_S)
    with DirectoryLock(config.data):
        store = Store.open(config.data, store_options(config))
        try:
            found = store.recovered
            log.info(
                "recovered %d rows from %d records in %.2f s", found.rows, found.records, found.elapsed_s
            )
            daemon = Daemon(config, store)
            try:
                return trio.run(daemon.serve)
            finally:
                daemon.close()
        finally:
            store.close()


def publish_offline(config: Config, user: str | None, channel: int | None) -> dict[str, Any]:
    """``thingscale publish --now`` while no daemon runs: recover, seal, publish."""
    start_logging("warning", config["log.format"])
    with DirectoryLock(config.data):
        store = Store.open(config.data, store_options(config))
        try:
            return {"ok": True, "files": store.publish_all(user, channel)}
        finally:
            store.close()
