r"""The MQTT session machine: one packet in, effects out. Knows no socket, no clock, no registry.

    AWAIT_CONNECT --CONNECT--> DECIDING --accept--> CONNECTED --DISCONNECT--> ENDED
                                   \\------refuse-------------------------------^

CONNECT is a decision point: the machine asks (Authenticate) and does nothing more until its driver has answered. A
packet that is out of place is a ProtocolError, whose connection the driver closes without a word, as 3.1.1 section 4.8
wants it. Publishing needs a decision too (where does it go, and is it durable?), so the machine only says Ingest with
the acknowledgement that is owed.

QoS 2 from a client is taken at PUBLISH and remembered by packet id until PUBREL (method B of 3.1.1 figure 4.3), so a
resent PUBLISH is not stored twice. Subscriptions are refused one by one with 0x80 until the broker carries them.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from ingest.mqtt import packets
from ingest.mqtt.packets import ProtocolError

CLIENT_ID_BYTES_MAX: Final = 1_024  # contract 2.3.2
# QoS 2 messages of one client between PUBLISH and PUBREL.
RECEIVING_MAX: Final = 65_535


class ConnectRefusal(Enum):
    """CONNACK return codes that refuse (3.1.1 table 3.1)."""

    PROTOCOL = 1
    CLIENT_ID = 2
    UNAVAILABLE = 3
    CREDENTIALS = 4
    NOT_AUTHORISED = 5


class State(Enum):
    """Where a connection stands."""

    AWAIT_CONNECT = "nothing was received"
    DECIDING = "CONNECT was received, nobody has answered it"
    CONNECTED = "the session is open"
    ENDED = "nothing more is expected or said"


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes for the client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Authenticate:
    """CONNECT is well formed: who is it? Answer with accept() or refuse()."""

    connect: packets.Connect


@dataclass(frozen=True, slots=True)
class Ingest:
    """A message: store or relay it, then send the acknowledgement (empty for QoS 0)."""

    publish: packets.Publish
    acknowledgement: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection when everything has been sent. ``clean``: the client said DISCONNECT."""

    clean: bool


Effect = Send | Authenticate | Ingest | Close


class Session:
    """One connection's machine. Small: there are many."""

    __slots__ = ("_receiving", "protocol", "state")

    def __init__(self) -> None:
        self.state = State.AWAIT_CONNECT
        self.protocol = 4
        self._receiving: set[int] | None = None

    def receive(self, frame: bytes) -> list[Effect]:
        """One complete frame. Raises ProtocolError; then nothing was done and the connection is to be closed."""
        packet = packets.decode(frame)
        if self.state is State.AWAIT_CONNECT:
            if not isinstance(packet, packets.Connect):
                raise ProtocolError("the first packet is not CONNECT [MQTT-3.1.0-1]")
            return self._connect(packet)
        if self.state is not State.CONNECTED:
            raise ProtocolError("a packet after the end")
        match packet:
            case packets.Connect():
                raise ProtocolError("a second CONNECT [MQTT-3.1.0-2]")
            case packets.Publish():
                return self._publish(packet)
            case packets.Pubrel(packet_id):
                if self._receiving is not None:
                    self._receiving.discard(packet_id)
                # Also for an id that is not known: the client may have lost our PUBCOMP [MQTT-4.3.3-2].
                return [Send(packets.acknowledgement(7, packet_id))]
            case packets.Subscribe(packet_id, filters):
                return [Send(packets.suback(packet_id, b"\x80" * len(filters)))]
            case packets.Unsubscribe(packet_id, _):
                return [Send(packets.acknowledgement(11, packet_id))]
            case packets.Pingreq():
                return [Send(packets.PINGRESP)]
            case packets.Disconnect():
                self.state = State.ENDED
                return [Close(clean=True)]
        # PUBACK, PUBREC, PUBCOMP: we send no messages yet, so none of ours can be meant. Harmless.
        return []

    def _connect(self, packet: packets.Connect) -> list[Effect]:
        if packet.protocol is None:
            return self.refuse(ConnectRefusal.PROTOCOL)
        self.protocol = packet.protocol
        # An empty id needs a clean session, and 3.1 knows no empty id at all [MQTT-3.1.3-8].
        is_empty_allowed = packet.protocol == 4 and packet.clean_session
        if len(packet.client_id) > CLIENT_ID_BYTES_MAX or (not packet.client_id and not is_empty_allowed):
            return self.refuse(ConnectRefusal.CLIENT_ID)
        self.state = State.DECIDING
        return [Authenticate(packet)]

    def _publish(self, packet: packets.Publish) -> list[Effect]:
        if packet.qos < 2:
            return [Ingest(packet, packets.acknowledgement(4, packet.packet_id) if packet.qos else b"")]
        if self._receiving is None:
            self._receiving = set()
        received = packets.acknowledgement(5, packet.packet_id)
        if packet.packet_id in self._receiving:
            return [Send(received)]
        return [Ingest(packet, received)]

    def ingested(self, packet: packets.Publish) -> None:
        """The message was taken: a resent one with the same id is not taken again."""
        if packet.qos == 2:
            assert self._receiving is not None
            self._receiving.add(packet.packet_id)

    def accept(self) -> list[Effect]:
        """The answer to Authenticate: yes."""
        assert self.state is State.DECIDING
        self.state = State.CONNECTED
        return [Send(packets.connack(0))]

    def refuse(self, refusal: ConnectRefusal) -> list[Effect]:
        """The answer to Authenticate: no."""
        self.state = State.ENDED
        return [Send(packets.connack(refusal.value)), Close(clean=False)]
