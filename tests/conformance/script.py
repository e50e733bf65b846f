"""Rows of the conformance tables, and how one is run.

A row is a statement of the standard, a version, and a script of a few steps of the clients ``a``, ``b``, ``c`` and ``d``.
A client is connected by its first step. "Nothing comes" is a fact here, not a pause: the client sends PINGREQ, and PINGRESP
must be the next packet.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.conformance.packets import PING, Connack, Expected, Packet, Pong, T, connect, disconnect
from tests.conformance.wire import DEADLINE_S, VERSIONS, Client, Received, WireError

V31, V311, V5 = 3, 4, 5
# Runs of one process are told apart by their number, processes by these two characters.
SALT = f"{os.getpid() % 1296:03d}"[-2:]
STATEMENT = re.compile(r"\[MQTT-\d+\.\d+\.\d+-\d+\]")

TALKATIVE = {"Publish", "Connack", "Disconnect"}


class Deviation(AssertionError):
    """The server does not do what the row says."""


class Unsupported(Exception):
    """The server does not announce what the row is about."""


@dataclass(frozen=True)
class Step:
    who: str
    verb: str
    what: tuple[Any, ...] = ()
    how: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.who}.{self.verb}"


@dataclass(frozen=True)
class Row:
    """``mosquitto`` is what mosquitto 2.0.11 does instead; then the row must fail there."""

    name: str
    version: int
    steps: tuple[Step, ...]
    number: int
    mosquitto: str = ""

    @property
    def statements(self) -> list[str]:
        return STATEMENT.findall(self.name)

    @property
    def is_single(self) -> bool:
        """Whether it is one client's affair, and can run byte by byte."""
        return len({step.who for step in self.steps}) == 1 and not self.waits

    @property
    def waits(self) -> bool:
        return any(step.verb == "waits" for step in self.steps)


class Actor:
    """A client in a script; every method is a step, or a few."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = T + name

    def _step(self, verb: str, *what: Any, **how: Any) -> tuple[Step, ...]:
        return (Step(self.name, verb, what, tuple(how.items())),)

    def joins(
        self, present: int = 0, answer: dict[str, Any] | None = None, **options: Any
    ) -> tuple[Step, ...]:
        """CONNECT with the client's own id, answered by CONNACK 0 with these properties."""
        return self._step("joins", present, answer or {}, options)

    def sends(self, *packets: Packet) -> tuple[Step, ...]:
        return self._step("sends", *packets)

    def gets(self, *expected: Expected) -> tuple[Step, ...]:
        """These packets, in this order."""
        return self._step("gets", *expected)

    def gets_any(self, *expected: Expected) -> tuple[Step, ...]:
        """These packets, in whatever order."""
        return self._step("gets_any", *expected)

    def gets_nothing(self) -> tuple[Step, ...]:
        return self._step("gets_nothing")

    def closed(self, *codes: int, after_s: float = 0.0, within_s: float | None = None) -> tuple[Step, ...]:
        """The server closes. In MQTT 5 it may say why, with one of the codes; before that, CONNACK may say so."""
        return self._step("closed", codes, after_s, within_s, told=False)

    def told(self, *codes: int) -> tuple[Step, ...]:
        """The server says why with one of the codes, and closes."""
        return self._step("closed", codes, 0.0, None, told=True)

    def closed_silently(self) -> tuple[Step, ...]:
        """The server closes without another word."""
        return self._step("closed_silently")

    def lives_or_closes(self, *codes: int) -> tuple[Step, ...]:
        """Both are allowed: the packet was taken, or the server closes."""
        return self._step("lives_or_closes", codes)

    def refused_filter(self, *codes: int) -> tuple[Step, ...]:
        """SUBACK with 0x80 or above for the one filter, or the end."""
        return self._step("refused_filter", codes)

    def gets_each(self, limit: str, expected: Callable[[int], Expected]) -> tuple[Step, ...]:
        """One packet for each id from 1 to a limit of CONNACK."""
        return self._step("gets_each", limit, expected)

    def shares(self, other: "Actor", *expected: Expected) -> tuple[Step, ...]:
        """These packets come to one or the other, each once."""
        return self._step("shares", other.name, *expected)

    def terse(self) -> tuple[Step, ...]:
        """From here on the server explains nothing, except in PUBLISH, CONNACK and DISCONNECT."""
        return self._step("terse")

    def drops(self) -> tuple[Step, ...]:
        """The connection breaks."""
        return self._step("drops")

    def leaves(self, *packets: Packet) -> tuple[Step, ...]:
        """DISCONNECT, and the server closes."""
        return self._step("leaves", *packets)

    def waits(self, seconds: float) -> tuple[Step, ...]:
        return self._step("waits", seconds)

    def sees_all(self) -> tuple[Step, ...]:
        """The client will see the messages of other rows too; they are passed over."""
        return self._step("sees_all")

    def needs(self, prop: str) -> tuple[Step, ...]:
        """The row is about a limit that CONNACK has to announce."""
        return self._step("needs", prop)


a, b, c, d = (Actor(name) for name in "abcd")
Steps = tuple[Step, ...]


class Table:
    """Rows as they are written down; each is there once for every version that it names."""

    def __init__(self, first_number: int) -> None:
        self.rows: list[Row] = []
        self._first_number = first_number

    def row(
        self, title: str, statements: Mapping[Any, str], *steps: Steps, mosquitto: str = "",
        mosquitto_in: tuple[int, ...] = (3, 4, 5),
    ) -> None:  # fmt: skip
        """One more row.

        Args:
            statements: the numbers of the standard's statements for a version, or for several, divided by spaces.
        """
        for versions, numbers in statements.items():
            for version in versions if isinstance(versions, tuple) else (versions,):
                named = "".join(f"[MQTT-{number}]" for number in numbers.split())
                self.rows.append(
                    Row(
                        f"{named} {VERSIONS[version]}: {title}",
                        version,
                        sum(steps, ()),
                        self._first_number + len(self.rows),
                        mosquitto if version in mosquitto_in else "",
                    )
                )


class World:
    """One run of one row."""

    def __init__(self, address: tuple[str, int], row: Row, step: int, deadline_s: float = DEADLINE_S) -> None:
        self.address = address
        self.deadline_s = deadline_s
        self.row = row
        self.version = row.version
        self.ids: dict[str, int] = {}
        self.said: dict[str, Any] = {}
        self._step = step
        self._token = f"{SALT}{row.number * 2 + bool(step):04x}".encode()
        assert len(self._token) == len(T)
        self._clients: dict[str, Client] = {}
        self._kept: set[str] = set()
        self._sees_all = False
        self._terse: set[str] = set()

    def run(self) -> None:
        """Play the script.

        Raises:
            Deviation: the server did something else.
            Unsupported: the server does not have what the row needs.
        """
        try:
            for number, step in enumerate(self.row.steps, 1):
                try:
                    getattr(self, step.verb)(step.who, *step.what, **dict(step.how))
                except TimeoutError:
                    raise Deviation(f"step {number}, {step}: nothing came") from None
                except (Deviation, WireError) as error:
                    raise Deviation(f"step {number}, {step}: {error}") from None
        finally:
            for client in self._clients.values():
                client.close()
            self._forget()

    def client(self, who: str) -> Client:
        if who not in self._clients:
            self._clients[who] = Client(self.address, self.version, self._step)
        return self._clients[who]

    def mark(self, data: bytes) -> bytes:
        return data.replace(T.encode(), self._token)

    def receive(self, who: str, within_s: float | None = None) -> Received | None:
        while (got := self.client(who).receive(within_s or self.deadline_s)) is not None:
            if not (self._sees_all and got.kind == "Publish" and self._token not in got.topic):
                if who in self._terse and got.kind not in TALKATIVE and got.props:
                    raise Deviation(f"{got} explains itself")
                got.topic, got.payload = (
                    part.replace(self._token, T.encode()) for part in (got.topic, got.payload)
                )
                return got
        return None

    def joins(self, who: str, present: int, answer: dict[str, Any], options: dict[str, Any]) -> None:
        props = options.get("props")
        if isinstance(props, dict):
            self.client(who).alias_max = props.get("topic_alias_maximum", 0)
            self.client(who).packet_max = props.get("maximum_packet_size")
            if "session_expiry" in props:
                self._kept.add(who)
        if options.get("keep"):
            self._kept.add(who)
        options.setdefault("client", T + who)
        self.sends(who, connect(**options))
        # MQTT 3.1 has no session present flag.
        self.gets(who, Connack(present if self.version > 3 else 0, **answer))

    def sends(self, who: str, *packets: Packet) -> None:
        data = b"".join(one(self) if callable(one) else one for one in packets)
        self.client(who).send(self.mark(data))

    def gets(self, who: str, *expected: Expected) -> None:
        for one in expected:
            got = self.receive(who)
            if got is None:
                raise Deviation(f"the server closed instead of {one.kind}")
            if (problem := one.problem(got, self.ids)) is not None:
                raise Deviation(f"{got} is not {one.kind} {one.fields} {one.props or ''}: {problem}")
            if got.kind == "Connack":
                self.said = got.props

    def gets_any(self, who: str, *expected: Expected) -> None:
        left = list(expected)
        while left:
            got = self.receive(who)
            if got is None:
                raise Deviation(f"the server closed instead of {[one.kind for one in left]}")
            fitting = next((one for one in left if one.problem(got, self.ids) is None), None)
            if fitting is None:
                raise Deviation(f"{got} is none of {[(one.kind, one.fields, one.props) for one in left]}")
            left.remove(fitting)

    def gets_nothing(self, who: str) -> None:
        self.client(who).send(PING)
        self.gets(who, Pong)

    def closed(
        self, who: str, codes: tuple[int, ...], after_s: float, within_s: float | None, *, told: bool
    ) -> None:
        began = time.monotonic()
        got = self.receive(who, within_s)
        was_told = got is not None
        if got is not None:
            if got.kind not in ("Disconnect", "Connack") or (self.version < 5 and got.code not in codes):
                raise Deviation(f"{got} instead of the end")
            if not got.code or got.present or (codes and got.code not in codes):
                raise Deviation(f"{got}, not one of {[hex(code) for code in codes]}")
            if (more := self.receive(who, within_s)) is not None:
                raise Deviation(f"{more} behind {got}")
        if told and not was_told and self.version == 5:
            raise Deviation("the server closed without a word")
        if time.monotonic() - began < after_s:
            raise Deviation(f"the server closed before {after_s} s were over")
        self.drops(who)

    def closed_silently(self, who: str) -> None:
        if (got := self.receive(who)) is not None:
            raise Deviation(f"{got} instead of the end")
        self.drops(who)

    def lives_or_closes(self, who: str, codes: tuple[int, ...]) -> None:
        self.client(who).send(PING)
        got = self.receive(who)
        if got is not None and got.kind != "Pingresp" and (got.kind != "Disconnect" or got.code not in codes):
            raise Deviation(f"{got} is neither PINGRESP nor the end")

    def refused_filter(self, who: str, codes: tuple[int, ...]) -> None:
        got = self.receive(who)
        is_said = got is not None and got.kind == "Suback" and len(got.code) == 1 and got.code[0] >= 0x80
        if got is not None and not is_said and (got.kind != "Disconnect" or got.code not in codes):
            raise Deviation(f"{got} is no refusal")

    def gets_each(self, who: str, limit: str, expected: Callable[[int], Expected]) -> None:
        self.gets(who, *(expected(pid) for pid in range(1, self.said[limit] + 1)))

    def shares(self, who: str, other: str, *expected: Expected) -> None:
        left = list(expected)
        for name in (who, other):
            self.client(name).send(PING)
            while (got := self.receive(name)) is not None and got.kind != "Pingresp":
                fitting = next((one for one in left if one.problem(got, self.ids) is None), None)
                if fitting is None:
                    raise Deviation(f"{got} came to {name}, which is none of what is left of {len(expected)}")
                left.remove(fitting)
        if left:
            raise Deviation(f"{len(left)} of {len(expected)} came to nobody")

    def terse(self, who: str) -> None:
        self._terse.add(who)

    def drops(self, who: str) -> None:
        self._clients.pop(who).close()

    def leaves(self, who: str, *packets: Packet) -> None:
        self.sends(who, *(packets or (disconnect(),)))
        if (got := self.receive(who)) is not None:
            raise Deviation(f"{got} after DISCONNECT")
        self.drops(who)

    def waits(self, who: str, seconds: float) -> None:
        time.sleep(seconds)

    def sees_all(self, who: str) -> None:
        self._sees_all = True

    def needs(self, who: str, prop: str) -> None:
        if prop not in self.said:
            raise Unsupported(f"CONNACK announces no {prop}")

    def _forget(self) -> None:
        """End the sessions that the row would leave behind."""
        for who in self._kept:
            self._clients = {}
            try:
                self.joins(who, 0, {}, {})
                self.leaves(who)
            except (OSError, Deviation, WireError):
                pass
