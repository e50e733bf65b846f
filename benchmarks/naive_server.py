"""The naive alternative: one trio task per connection, everything parsed in Python, nothing stored.

This is what most people would write first, and a fair lower bound: no storage, no
authentication, no routing. MQTT packets are cut from a bytearray and PUBLISH payloads
go through `json.loads`; HTTP requests go through h11. Same ready line as `thingscale serve`.

    python -m benchmarks.naive_server
"""

import contextlib
import json
import os
import resource

import h11
import trio

RECEIVE_BYTES = 65536

# A packet that announces more than this ends its connection.
PACKET_BYTES_MAX = 1 << 20

CONNECT, PUBLISH, PINGREQ, DISCONNECT = 1, 3, 12, 14


def packet_bytes(buffer: bytearray) -> tuple[int, int]:
    """The offset of the body and the size of the first packet; (0, 0) while it is incomplete."""
    size, shift = 0, 0
    for offset in range(1, min(len(buffer), 5)):
        size |= (buffer[offset] & 0x7F) << shift
        shift += 7
        if not buffer[offset] & 0x80:
            if size > PACKET_BYTES_MAX:
                raise ValueError(f"a packet of {size} bytes")
            end = offset + 1 + size
            return (offset + 1, end) if end <= len(buffer) else (0, 0)
    if len(buffer) >= 5:
        raise ValueError("a malformed remaining length")
    return 0, 0


def answer(first: int, body: bytes) -> bytes:
    """The reply to one packet.

    Raises:
        ValueError: the packet ends the connection.
    """
    match first >> 4:
        case 1:
            return b"\x20\x02\x00\x00"
        case 3:
            qos = first >> 1 & 3
            topic_end = 2 + int.from_bytes(body[:2], "big")
            body[2:topic_end].decode().split("/")
            payload_start = topic_end + (2 if qos else 0)
            json.loads(body[payload_start:])
            return b"\x40\x02" + body[topic_end:payload_start] if qos else b""
        case 12:
            return b"\xd0\x00"
        case packet_type:
            raise ValueError(f"packet type {packet_type}")


async def serve_mqtt(stream: trio.SocketStream) -> None:
    buffer = bytearray()
    with contextlib.suppress(trio.BrokenResourceError, ValueError):
        while received := await stream.receive_some(RECEIVE_BYTES):
            buffer += received
            replies = []
            while True:
                start, end = packet_bytes(buffer)
                if end == 0:
                    break
                replies.append(answer(buffer[0], bytes(buffer[start:end])))
                del buffer[:end]
            if reply := b"".join(replies):
                await stream.send_all(reply)
    await stream.aclose()


async def serve_http(stream: trio.SocketStream) -> None:
    connection = h11.Connection(h11.SERVER)
    body = bytearray()
    with contextlib.suppress(trio.BrokenResourceError, ValueError, h11.RemoteProtocolError):
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(RECEIVE_BYTES))
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                json.loads(body)
                body.clear()
                response = h11.Response(
                    status_code=200, headers=[("Content-Type", "text/plain"), ("Content-Length", "2")]
                )
                parts = [
                    connection.send(response),
                    connection.send(h11.Data(data=b"OK")),
                    connection.send(h11.EndOfMessage()),
                ]
                await stream.send_all(b"".join(part for part in parts if part))
                connection.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                break
    await stream.aclose()


async def main() -> None:
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    (mqtt,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
    (http,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
    addresses = {
        name: "{}:{}".format(*listener.socket.getsockname())
        for name, listener in (("http", http), ("mqtt", mqtt))
    }
    print(json.dumps({"ready": True, **addresses, "data": None, "pid": os.getpid()}), flush=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve_mqtt, [mqtt])
        nursery.start_soon(trio.serve_listeners, serve_http, [http])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        trio.run(main)
