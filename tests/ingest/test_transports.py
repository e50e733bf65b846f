"""Transports over memory: whole, byte by byte, broken, hostile; what is owed, and what is said last."""

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from ingest.tls import TlsContext, TlsTransport
from ingest.transports import (
    HEAD_BYTES_MAX,
    Stacked,
    Transport,
    TransportError,
    WebSocketTransport,
)
from thingscale.config import load
from thingscale.devcert import make_development_files
from thingscale.tls import make_mqtt_context

GET = (
    b"GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
OPENING = GET + b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
MASK = b"\x01\x02\x03\x04"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes | None = MASK) -> bytes:
    """A client's frame, made by hand."""
    length = len(payload)
    head = bytes([opcode | (0x80 if fin else 0)])
    masked = 0 if mask is None else 0x80
    if length < 126:
        head += bytes([masked | length])
    else:
        head += bytes([masked | 126]) + length.to_bytes(2, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def feed(transport: Transport, data: bytes, size: int) -> tuple[bytes, bytes, str]:
    """In pieces: MQTT bytes, what is sent at once, the error's reason."""
    got = sent = b""
    for begin in range(0, len(data), size):
        try:
            got += transport.receive(data[begin : begin + size])
        except TransportError as error:
            return got + error.received, sent + transport.take_pending(), error.reason
        sent += transport.take_pending()
    return got, sent, ""


SIZES = pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])


# ---- WebSocket


@SIZES
def test_an_opening_is_answered_and_frames_become_a_stream(size: int) -> None:
    transport = WebSocketTransport()
    stream = (
        OPENING
        + frame(2, b"\x10\x0c\x00\x04MQ")
        + frame(2, b"TT", fin=False)
        + frame(9, b"hi")
        + frame(0, b"\x04\x02", fin=False)
        + frame(0, b"")
        + frame(10)
        + frame(2, bytes(200))
    )
    got, sent, reason = feed(transport, stream, size)
    assert (got, reason) == (b"\x10\x0c\x00\x04MQTT\x04\x02" + bytes(200), "")
    head, _, rest = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head.lower()
    assert b"sec-websocket-protocol: mqtt" in head.lower()
    assert rest == b"\x8a\x02hi"
    assert transport.send(b"\x20\x02\x00\x00") == b"\x82\x04\x20\x02\x00\x00"
    assert not transport.is_ended
    assert (transport.ended(), transport.ended()) == (b"\x88\x02\x03\xe8", b"")


@pytest.mark.parametrize(
    ("field", "spoken"),
    [
        (b"", None),
        (b"Sec-WebSocket-Protocol: mqtt\r\n", b"mqtt"),
        (b"Sec-WebSocket-Protocol: mqttv3.1\r\n", b"mqttv3.1"),
        (b"Sec-WebSocket-Protocol: chat, mqttv3.1, mqtt\r\n", b"mqttv3.1"),
        (b"Sec-WebSocket-Protocol: chat\r\n", None),
    ],
)
def test_the_subprotocol_is_the_first_that_is_spoken_here(field: bytes, spoken: bytes | None) -> None:
    _, sent, _ = feed(WebSocketTransport(), GET + field + b"\r\n", 1 << 20)
    assert sent.startswith(b"HTTP/1.1 101 ")
    found = [
        line.partition(b": ")[2]
        for line in sent.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-protocol")
    ]
    assert found == ([] if spoken is None else [spoken])


@SIZES
@pytest.mark.parametrize(
    ("opening", "status"),
    [
        (b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"POST /mqtt HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /mqtt HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /mqtt HTTP/1.1\r\nHost h\r\n\r\n", 400),
        (b"GET / \xff HTTP/1.1\r\n\r\n", 400),
        (OPENING.replace(b"Host: h\r\n", b""), 400),
        (OPENING.replace(b"Host: h", b"Host: \xff\xfe"), 400),
        (OPENING.replace(b"Host: h", b"Host: xn--a"), 400),
        (OPENING.replace(b"websocket\r", b"h2c\r"), 400),
        (OPENING.replace(b"Connection: Upgrade", b"Connection: close"), 400),
        (OPENING.replace(b"Version: 13", b"Version: 8"), 426),
        (OPENING.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"), 400),
        (b"GET /" + b"a" * HEAD_BYTES_MAX, 431),
        (OPENING[:-2] + b"X: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n", 431),
    ],
)  # fmt: skip
def test_a_wrong_opening_is_refused(opening: bytes, status: int, size: int) -> None:
    transport = WebSocketTransport()
    got, sent, reason = feed(transport, opening, size)
    assert (got, sent, bool(reason), transport.is_ended) == (b"", b"", True, True)
    assert transport.ended().startswith(b"HTTP/1.1 %d " % status)
    assert transport.ended() == b""
    assert transport.receive(b"more") == b""


@SIZES
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (frame(1, b"text"), 1003),
        (frame(1, b"te", fin=False), 1003),
        (frame(2, b"x", mask=None), 1002),
        (frame(3, b"x"), 1002),
        (frame(0x42, b"x"), 1002),
        (frame(0, b"x"), 1002),
        (frame(2, b"\xe0\x00", fin=False)[:-2] + b"", None),
        (frame(9, bytes(126)), 1002),
        (frame(9, b"x", fin=False), 1002),
        (frame(8, b"\x03"), 1002),
        (frame(8, b"\x03\xed"), 1002),
        (frame(8, b"\x03\xe8\xff"), 1007),
        (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" + MASK, 1002),
    ],
)  # fmt: skip
def test_a_wrong_frame_ends_it_with_its_code_after_what_came_before(
    frames: bytes, code: int | None, size: int
) -> None:
    transport = WebSocketTransport()
    got, _, reason = feed(transport, OPENING + frame(2, b"before") + frames, size)
    assert got == b"before"
    if code is None:
        assert not reason
        return
    assert reason.startswith("WebSocket: ")
    assert transport.is_ended
    goodbye = transport.ended()
    assert goodbye[:1] == b"\x88"
    assert int.from_bytes(goodbye[2:4], "big") == code
    assert transport.receive(frame(2, b"behind")) == b""


@SIZES
def test_the_clients_close_is_answered_when_everything_was_said(size: int) -> None:
    transport = WebSocketTransport()
    got, sent, reason = feed(
        transport, OPENING + frame(2, b"\xe0\x00") + frame(8, b"\x03\xe8") + b"junk", size
    )
    assert (got, reason, transport.is_ended) == (b"\xe0\x00", "", True)
    assert b"\x88" not in sent.partition(b"\r\n\r\n")[2]
    assert transport.send(b"\x40\x02\x00\x01") == b""
    assert transport.ended() == b"\x88\x02\x03\xe8"
    assert transport.ended() == b""


def test_nothing_is_said_before_the_handshake() -> None:
    transport = WebSocketTransport()
    with pytest.raises(TransportError):
        transport.send(b"x")
    assert transport.ended() == b""


@given(st.lists(st.binary(max_size=40), max_size=12), st.booleans())
def test_any_bytes_end_in_bytes_or_a_transport_error(pieces: list[bytes], is_open: bool) -> None:
    transport = WebSocketTransport()
    if is_open:
        transport.receive(OPENING)
    for piece in pieces:
        try:
            transport.receive(piece)
        except TransportError:
            assert transport.is_ended
        transport.take_pending()
    transport.ended()


@given(
    st.lists(
        st.builds(
            frame,
            st.integers(0, 127),
            st.binary(max_size=140),
            fin=st.booleans(),
            mask=st.sampled_from([MASK, MASK, MASK, None]),
        ),
        max_size=8,
    ),
    st.integers(1, 50),
)
def test_any_frames_mean_the_same_however_they_come(frames: list[bytes], size: int) -> None:
    stream = OPENING + b"".join(frames)
    whole, pieces = WebSocketTransport(), WebSocketTransport()
    one, other = feed(whole, stream, 1 << 20), feed(pieces, stream, size)
    if "a text frame" in one[2] + other[2] and one[2] != other[2]:
        # A text frame is refused in any case; whether for being one or for not being UTF-8 depends on what came first.
        assert (one[0], "codec" in one[2] + other[2]) == (other[0], True)
        return
    assert one == other
    assert (whole.is_ended, whole.ended()) == (pieces.is_ended, pieces.ended())


# ---- TLS


class Device:
    """A TLS client over memory."""

    def __init__(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_hostname="localhost", session=session
        )
        self.received = b""
        self.sent_bytes = self.got_bytes = 0

    def exchange(self, transport: Transport, size: int = 1 << 20) -> tuple[bytes, str]:
        """Until neither has anything more to say: what the transport understood, its error."""
        understood = b""
        while True:
            try:
                self.tls.do_handshake()
                while part := self.tls.read(65_536):
                    self.received += part
            except ssl.SSLWantReadError:
                pass
            data = self.outgoing.read()
            self.sent_bytes += len(data)
            got, back, reason = feed(transport, data, size)
            understood += got
            self.incoming.write(back)
            self.got_bytes += len(back)
            if reason or not (data or back):
                return understood, reason


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    make_development_files(directory, ["localhost"], force=False)
    return directory


@pytest.fixture(scope="module")
def server(files: Path) -> TlsContext:
    return make_mqtt_context(
        load(None, {"tls.certificate": str(files / "server.pem"), "tls.key": str(files / "server.key")}, {})
    )


@pytest.fixture(scope="module", params=["1.2", "1.3"])
def device(request: pytest.FixtureRequest, files: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files / "ca.pem"))
    if request.param == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@SIZES
def test_tls_carries_bytes_both_ways(server: TlsContext, device: ssl.SSLContext, size: int) -> None:
    transport, client = TlsTransport(server), Device(device)
    assert client.exchange(transport, size) == (b"", "")
    client.tls.write(b"hello")
    client.tls.write(b"x" * 40_000)
    assert client.exchange(transport, size) == (b"hello" + b"x" * 40_000, "")
    client.incoming.write(transport.send(b"y" * 10_000) + transport.send(b"z"))
    client.exchange(transport)
    assert client.received == b"y" * 10_000 + b"z"
    assert not transport.is_ended


def test_tls_says_and_hears_goodbye(server: TlsContext, device: ssl.SSLContext) -> None:
    transport, client = TlsTransport(server), Device(device)
    client.exchange(transport)
    client.tls.write(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    assert transport.receive(client.outgoing.read()) == b"last"
    assert transport.is_ended
    client.incoming.write(transport.send(b"answer"))
    goodbye = transport.ended()
    assert goodbye
    assert transport.ended() == b""
    client.incoming.write(goodbye)
    assert transport.receive(b"more") == b""


@SIZES
def test_what_is_not_tls_gets_an_alert(server: TlsContext, size: int) -> None:
    for junk in (
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + bytes(99),
    ):
        transport = TlsTransport(server)
        got, sent, reason = feed(transport, junk, size)
        assert (got, bool(reason), transport.is_ended) == (b"", True, True)
        # OpenSSL has no alert for what it does not even take for a record.
        assert (sent + transport.ended())[:1] == (b"\x15" if junk[0] == 0x16 else b"")


def test_a_record_that_was_changed_ends_it_after_what_came_before(
    server: TlsContext, device: ssl.SSLContext
) -> None:
    transport, client = TlsTransport(server), Device(device)
    client.exchange(transport)
    client.tls.write(b"good")
    good = client.outgoing.read()
    client.tls.write(b"evil")
    evil = client.outgoing.read()
    with pytest.raises(TransportError) as caught:
        transport.receive(good + evil[:-1] + bytes([evil[-1] ^ 1]))
    assert caught.value.received == b"good"
    assert transport.is_ended
    assert (transport.take_pending() + transport.ended())[:1] in (b"\x15", b"\x17")
    with pytest.raises(TransportError):
        transport.send(b"x")


def test_an_old_version_is_refused(files: Path, server: TlsContext) -> None:
    strict = make_mqtt_context(
        load(
            None,
            {
                "tls.certificate": str(files / "server.pem"),
                "tls.key": str(files / "server.key"),
                "tls.minimum": "1.3",
            },
            {},
        )
    )
    context = ssl.create_default_context(cafile=str(files / "ca.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert Device(context).exchange(TlsTransport(strict))[1]
    assert not Device(context).exchange(TlsTransport(server))[1]


def test_a_large_message_leaves_in_records_of_four_kilobytes(
    server: TlsContext, device: ssl.SSLContext
) -> None:
    transport, client = TlsTransport(server), Device(device)
    client.exchange(transport)
    sealed = transport.send(b"y" * 100_000)
    client.incoming.write(sealed)
    client.exchange(transport)
    assert client.received == b"y" * 100_000
    lengths = []
    while sealed:
        assert sealed[:3] == b"\x17\x03\x03"
        lengths.append(int.from_bytes(sealed[3:5], "big"))
        sealed = sealed[5 + lengths[-1] :]
    assert len(lengths) == 25
    assert max(lengths) <= 4_096 + 24, "the IV of TLS 1.2, or the type of TLS 1.3, and the tag"


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_two_clients_at_the_same_time_are_kept_apart(
    server: TlsContext, device: ssl.SSLContext, size: int
) -> None:
    sides = [(TlsTransport(server), Device(device)) for _ in range(2)]
    for _ in range(3):  # a flight of each handshake at a time
        for _, client in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.tls.do_handshake()
        owed = [feed(transport, client.outgoing.read(), size) for transport, client in sides]
        for (got, sent, reason), (_, client) in zip(owed, sides, strict=True):
            assert (got, reason) == (b"", "")
            client.incoming.write(sent)
    for text, (_, client) in zip((b"one" * 3_000, b"two" * 3_000), sides, strict=True):
        client.tls.write(text)
    halves = [(data[:5_000], data[5_000:]) for data in (client.outgoing.read() for _, client in sides)]
    got = [b"", b""]
    for half in range(2):
        for number, (transport, _) in enumerate(sides):
            got[number] += transport.receive(halves[number][half])
    assert got == [b"one" * 3_000, b"two" * 3_000]


def test_errors_of_others_break_no_connection(server: TlsContext, device: ssl.SSLContext) -> None:
    transport, client = TlsTransport(server), Device(device)
    client.exchange(transport)
    broken = TlsTransport(server)
    with pytest.raises(TransportError):
        broken.receive(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(TransportError):
        broken.send(b"x")
    client.tls.write(b"hello")
    record = client.outgoing.read()
    assert transport.receive(record[:10]) + transport.receive(record[10:]) == b"hello"


def test_nothing_is_said_before_the_tls_handshake(server: TlsContext) -> None:
    transport = TlsTransport(server)
    with pytest.raises(TransportError, match=r"^TLS: "):
        transport.send(b"x")
    assert (transport.take_pending(), transport.ended(), transport.is_ended) == (b"", b"", False)


def test_a_session_is_resumed(server: TlsContext, device: ssl.SSLContext) -> None:
    first = Device(device)
    transport = TlsTransport(server)
    first.exchange(transport)
    assert not transport.is_resumed
    again, transport = Device(device, first.tls.session), TlsTransport(server)
    again.exchange(transport)
    assert transport.is_resumed
    assert again.tls.session_reused
    assert again.got_bytes < first.got_bytes


# ---- both


@SIZES
def test_websocket_within_tls(server: TlsContext, device: ssl.SSLContext, size: int) -> None:
    transport, client = Stacked(TlsTransport(server), WebSocketTransport()), Device(device)
    client.exchange(transport, size)
    websocket = WSConnection(ConnectionType.CLIENT)
    client.tls.write(websocket.send(Request(host="h", target="/any", subprotocols=["mqtt"])))

    def events() -> Iterator[Event]:
        websocket.receive_data(client.received)
        client.received = b""
        return websocket.events()

    client.exchange(transport, size)
    (accepted,) = events()
    assert isinstance(accepted, AcceptConnection)
    assert accepted.subprotocol == "mqtt"
    client.tls.write(websocket.send(Ping(b"p")) + websocket.send(BytesMessage(b"up")))
    assert client.exchange(transport, size)[0] == b"up"
    client.incoming.write(transport.send(b"down"))
    client.exchange(transport)
    assert [type(event) for event in events()] == [Pong, BytesMessage]
    client.tls.write(websocket.send(TextMessage("no")))
    got, reason = client.exchange(transport, size)
    assert (got, reason, transport.is_ended) == (b"", "WebSocket: a text frame", True)
    client.incoming.write(transport.ended())
    client.received = client.tls.read(100)
    (closed,) = events()
    assert isinstance(closed, CloseConnection)
    assert closed.code == 1003
    assert client.tls.read(100) == b"", "close_notify"


def test_an_opening_that_comes_with_the_end_of_the_handshake_is_answered_behind_what_tls_owes(
    server: TlsContext, device: ssl.SSLContext
) -> None:
    """Records are numbered: the session ticket, which was made first, has to leave first."""
    transport, client = Stacked(TlsTransport(server), WebSocketTransport()), Device(device)
    is_open = False
    while not is_open:
        try:
            client.tls.do_handshake()
            is_open = True
            client.tls.write(OPENING)
        except ssl.SSLWantReadError:
            pass
        transport.receive(client.outgoing.read())
        client.incoming.write(transport.take_pending())
    assert client.tls.read(1_000).startswith(b"HTTP/1.1 101 ")


# ---- the origin of a page

ALLOWED = frozenset({b"https://example.org", b"http://localhost:3000"})


@SIZES
@pytest.mark.parametrize(
    ("origins", "fields", "is_welcome"),
    [
        (frozenset(), b"Origin: https://anywhere.example\r\n", True),
        (ALLOWED, b"", True),
        (ALLOWED, b"Origin: https://example.org\r\n", True),
        (ALLOWED, b"Origin: HTTPS://EXAMPLE.ORG\r\n", True),
        (ALLOWED, b"Origin: http://localhost:3000\r\n", True),
        (ALLOWED, b"Origin: http://localhost:3001\r\n", False),
        (ALLOWED, b"Origin: http://example.org\r\n", False),
        (ALLOWED, b"Origin: https://example.org.evil.example\r\n", False),
        (ALLOWED, b"Origin: null\r\n", False),
        (ALLOWED, b"Origin: \r\n", False),
        (ALLOWED, b"Origin: https://example.org\r\nOrigin: https://evil.example\r\n", False),
    ],
)
def test_a_page_of_another_origin_is_refused_by_name(
    size: int, origins: frozenset[bytes], fields: bytes, is_welcome: bool
) -> None:
    transport = WebSocketTransport(origins)
    got, sent, reason = feed(transport, GET + fields + b"\r\n" + frame(2, b"\xc0\x00"), size)
    if is_welcome:
        assert (got, reason) == (b"\xc0\x00", "")
        assert sent.startswith(b"HTTP/1.1 101 ")
        return
    assert (got, sent, reason) == (b"", b"", "WebSocket: ORIGIN_NOT_ALLOWED")
    goodbye = transport.ended()
    assert goodbye.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert goodbye.endswith(b"Content-Length: 18\r\nSec-WebSocket-Version: 13\r\n\r\nORIGIN_NOT_ALLOWED")
