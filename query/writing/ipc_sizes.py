"""How many bytes an Arrow IPC stream has when it is decompressed, without decompressing it.

A compressed buffer says its size in front of itself (Arrow columnar format, «Compression»): 8 bytes, -1 for one that is
not compressed after all. Arrow allocates that much and never more, so their sum is what reading the stream takes, and
it is known before anything is read. Where buffers stand is told by each message's metadata, a FlatBuffer
(Message.fbs): only the few fields that lead there are looked at, and every offset is checked.
"""

import struct
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

# Fields by their number in Message.fbs: Message.header_type and header; RecordBatch.buffers and compression;
# DictionaryBatch.data.
HEADER_TYPE, HEADER, BUFFERS, COMPRESSION, DICTIONARY_DATA = 1, 2, 2, 3, 1
# MessageHeader
DICTIONARY_BATCH: Final = 2
RECORD_BATCH: Final = 3

BUFFER: Final = struct.Struct("<qq")  # offset in the body, length
SIZE: Final = struct.Struct("<q")


def decompressed_bytes(body: bytes) -> int:
    """Of all batches and dictionaries of an IPC stream together.

    Raises:
        ValueError, struct.error, pa.ArrowException: it is none.
    """
    total = 0
    for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(body)):
        total += sum(_sizes(message.metadata.to_pybytes(), message.body))
    return total


def _sizes(metadata: bytes, body: pa.Buffer | None) -> Iterator[int]:
    """What each buffer of a message takes."""
    root = _uint(metadata, 0)
    kind = _field(metadata, root, HEADER_TYPE)
    header = _field(metadata, root, HEADER)
    if kind is None or header is None or body is None:
        return
    batch = header + _uint(metadata, header)
    if metadata[kind] == DICTIONARY_BATCH:
        data = _field(metadata, batch, DICTIONARY_DATA)
        if data is None:
            return
        batch = data + _uint(metadata, data)
    elif metadata[kind] != RECORD_BATCH:
        return
    buffers = _field(metadata, batch, BUFFERS)
    if buffers is None:
        return
    is_compressed = _field(metadata, batch, COMPRESSION) is not None
    start = buffers + _uint(metadata, buffers)
    view = memoryview(body)
    for i in range(_uint(metadata, start)):
        offset, length = BUFFER.unpack_from(metadata, start + 4 + i * BUFFER.size)
        if not 0 <= offset <= offset + length <= len(view):
            raise ValueError("a buffer is not within its message")
        size = length
        if is_compressed and length:
            (size,) = SIZE.unpack_from(view, offset)
            size = length if size == -1 else size
        if size < 0:
            raise ValueError("a buffer has a negative size")
        yield size


def _uint(data: bytes, at: int) -> int:
    if not 0 <= at <= len(data) - 4:
        raise ValueError("the metadata end early")
    return int.from_bytes(data[at : at + 4], "little")


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a table's field stands; None where it has its default."""
    if not 0 <= table <= len(data) - 4:
        raise ValueError("the metadata end early")
    vtable = table - int.from_bytes(data[table : table + 4], "little", signed=True)
    if not 0 <= vtable <= len(data) - 4:
        raise ValueError("the metadata end early")
    place = 4 + 2 * number
    if place + 2 > int.from_bytes(data[vtable : vtable + 2], "little"):
        return None
    offset = int.from_bytes(data[vtable + place : vtable + place + 2], "little")
    if offset and table + offset >= len(data):
        raise ValueError("the metadata end early")
    return table + offset if offset else None
