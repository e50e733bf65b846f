"""What stands between a socket and MQTT: WebSocket frames and TLS records."""

import contextlib
import functools
import ssl
import tempfile
import zlib
from pathlib import Path
from random import Random

from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection

from ingest.tls import TlsContext, TlsTransport
from ingest.transports import Transport, TransportError, WebSocketTransport
from thingscale.config import load
from thingscale.devcert import make_development_files
from thingscale.tls import make_mqtt_context

CUTS_MAX = 8
# What the client says within TLS, in one record each.
SAID = (b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", b"\xc0\x00", b"\xe0\x00")


def cuts_of(data: bytes) -> list[int]:
    """Where the bytes are cut, which follows from them."""
    chance = Random(zlib.crc32(data))
    return sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(CUTS_MAX)))


def feed(transport: Transport, data: bytes, cuts: list[int]) -> tuple[bytes, bytes, bool]:
    """In pieces: MQTT bytes, everything that was sent, and whether the peer broke the transport."""
    got = sent = b""
    is_broken = False
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if begin == end:
            continue
        try:
            got += transport.receive(data[begin:end])
        except TransportError as error:
            got += error.received
            is_broken = True
        sent += transport.take_pending()
        if is_broken or transport.is_ended:
            break
    goodbye = transport.ended()
    assert not (is_broken and transport.receive(b"more")), (
        "who has broken the transport is not heard any more"
    )
    return got, sent + goodbye, is_broken


def check_websocket(data: bytes) -> None:
    """Whole, in pieces and byte by byte the same bytes come out, and the same is said, in frames that are in order."""
    whole = feed(WebSocketTransport(), data, [])
    assert feed(WebSocketTransport(), data, cuts_of(data)) == whole
    if len(data) < 300:
        assert feed(WebSocketTransport(), data, list(range(1, len(data)))) == whole
    got, sent, is_broken = whole
    assert len(got) <= len(data)
    head, _, frames = sent.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 101 "):
        client = Connection(ConnectionType.CLIENT)
        client.receive_data(frames)
        *_, last = client.events()
        assert isinstance(last, CloseConnection)
        assert last.code not in (1_004, 1_006, 1_015), (
            "codes that no frame may have (RFC 6455, section 7.4.1)"
        )
    elif sent:
        assert head.startswith(b"HTTP/1.1 4")
        assert is_broken
        assert not got
        assert not frames


@functools.cache
def contexts() -> tuple[TlsContext, ssl.SSLContext]:
    """The server's, made as the daemon makes it, and a client's that trusts it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        made = make_development_files(directory, ["localhost"], force=True)
        overrides = {"tls.certificate": str(made.certificate), "tls.key": str(made.key)}
        return make_mqtt_context(load(None, overrides, {})), ssl.create_default_context(cafile=str(made.ca))


def said_over_tls(transport: TlsTransport) -> list[bytes]:
    """Shake hands with the transport; what the client sends then, record by record."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = contexts()[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
    for _ in range(3):
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        assert transport.receive(outgoing.read()) == b""
        incoming.write(transport.take_pending())
    records = []
    for piece in SAID:
        client.write(piece)
        records.append(outgoing.read())
    return records


def check_tls(data: bytes) -> None:
    """Instead of a handshake, and in the middle of what was encrypted: nothing comes out that was not said."""
    server = contexts()[0]
    got, _, _ = feed(TlsTransport(server), data, cuts_of(data))
    assert got == b""
    transport = TlsTransport(server)
    stream = b"".join(said_over_tls(transport))
    at = zlib.crc32(data) % (len(stream) + 1)
    changed = stream[:at] + data + stream[at + zlib.crc32(data[::-1]) % 2 * len(data) :]
    got, _, _ = feed(transport, changed, cuts_of(data))
    assert b"".join(SAID).startswith(got)
