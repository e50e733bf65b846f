"""How valid input goes wrong: cut, spliced, flipped, repeated, reordered, with lengths that lie.

Everything comes from the given source of chance, so that a seed and a number name an input for ever.
"""

from random import Random

INTERESTING = (
    b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", b"\x00\x00", b"\xff\xff", b"\x7f\xff", b"\x80\x00", b"\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff", b"\x80\x80\x80\x80\x01", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b",", b"/", b"+", b"#",
    b"$share/", b"=", b"&", b"%", b"%00", b"{", b"}", b"[", b"]", b'"', b"\\", b"\\ud800", b"1e999", b"-0", b"9" * 20, b"\xc0\x80",
    b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbf\xbf",
)  # fmt: skip
PIECE_BYTES_MAX = 40
CHANGES_MAX = 5


def mutate(chance: Random, data: bytes, others: list[bytes]) -> bytes:
    """The input with a few things wrong. ``others`` are what pieces may be taken from."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, CHANGES_MAX)):
        begin = chance.randrange(len(changed) + 1)
        end = min(len(changed), begin + chance.randrange(1, PIECE_BYTES_MAX))
        match chance.randrange(11):
            case 0 if begin < len(changed):
                changed[begin] ^= 1 << chance.randrange(8)
            case 1 if begin < len(changed):
                changed[begin] = chance.randrange(256)
            case 2:
                del changed[begin:end]
            case 3:
                changed[begin:begin] = chance.randbytes(end - begin)
            case 4:
                changed[begin:begin] = changed[begin:end]
            case 5:
                changed[begin:] = _tail(chance, chance.choice(others))
            case 6:
                del changed[begin:]
            case 7:
                piece = changed[begin:end]
                del changed[begin:end]
                elsewhere = chance.randrange(len(changed) + 1)
                changed[elsewhere:elsewhere] = piece
            case 8:
                other = chance.choice(others)
                at = chance.randrange(len(other) + 1)
                changed[begin:begin] = other[at : at + PIECE_BYTES_MAX]
            case 9 if begin < len(changed):
                changed[begin] = (changed[begin] + chance.choice((-1, 1))) % 256
            case _:
                changed[begin:begin] = chance.choice(INTERESTING)
    return bytes(changed)


def _tail(chance: Random, data: bytes) -> bytes:
    return data[chance.randrange(len(data) + 1) :]


def mutate_packets(chance: Random, data: bytes, others: list[bytes]) -> bytes:
    """An MQTT stream of which packets are dropped, doubled, swapped, taken from elsewhere, or changed inside.

    A changed packet gets the length that it has, so that what is behind it is still found.
    """
    packets = split_packets(data)
    for _ in range(chance.randrange(1, CHANGES_MAX)):
        at = chance.randrange(len(packets)) if packets else 0
        match chance.randrange(6):
            case 0 if packets:
                del packets[at]
            case 1 if packets:
                packets.insert(at, packets[at])
            case 2 if packets:
                packets.insert(chance.randrange(len(packets)), packets.pop(at))
            case 3:
                packets.insert(at, chance.choice(split_packets(chance.choice(others)) or [b""]))
            case _ if packets:
                head, body = split_length(packets[at])
                flipped = head[0] ^ (1 << chance.randrange(8) if chance.random() < 0.2 else 0)
                changed = mutate(chance, body, [split_length(each)[1] for each in packets])
                packets[at] = bytes([flipped]) + length_of(len(changed)) + changed
    return b"".join(packets)


def split_packets(stream: bytes) -> list[bytes]:
    """Whole packets, and the rest as a last one."""
    packets = []
    while stream:
        head, _ = split_length(stream)
        size = len(head) + sum((byte & 0x7F) << 7 * i for i, byte in enumerate(head[1:]))
        packets.append(stream[:size])
        stream = stream[size:]
    return packets


def split_length(packet: bytes) -> tuple[bytes, bytes]:
    """The fixed header and what is behind it; the packet has a first byte."""
    end = 1
    while end < min(5, len(packet)) and packet[end] & 0x80:
        end += 1
    return packet[: end + 1], packet[end + 1 :]


def length_of(size: int) -> bytes:
    """The remaining length."""
    digits = bytearray()
    while size > 0x7F:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    digits.append(size)
    return bytes(digits)
