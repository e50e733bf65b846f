"""query/shortest.pyx against Python's own repr and float."""

import json
import math
import random
import struct
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query.shortest import shortest

SEED = 20_240_502
MANY = 60_000


def expected(value: float) -> bytes:
    """repr, but integral values without a fraction; minus zero stays a float."""
    text = repr(value)
    if text.endswith(".0") and text != "-0.0":
        text = text[:-2]
    return text.encode()


def of_bits(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def neighbours(value: float, steps: int = 3) -> Iterator[float]:
    yield value
    for direction in (math.inf, -math.inf):
        near = value
        for _ in range(steps):
            near = math.nextafter(near, direction)
            yield near


def check(value: float) -> None:
    if not math.isfinite(value):
        return
    text = shortest(value)
    assert text == expected(value), value.hex()
    assert len(text) <= 24


def test_random_bit_patterns_are_written_as_repr_writes_them() -> None:
    source = random.Random(SEED)
    for _ in range(MANY):
        check(of_bits(source.getrandbits(64)))


def test_random_patterns_of_every_exponent_are_written_as_repr_writes_them() -> None:
    source = random.Random(SEED)
    for exponent in range(2047):
        for fraction in (0, 1, (1 << 52) - 1, *(source.getrandbits(52) for _ in range(20))):
            check(of_bits(exponent << 52 | fraction))


def test_short_decimals_are_written_as_they_were_sent() -> None:
    source = random.Random(SEED)
    for _ in range(MANY):
        places = source.randrange(8)
        text = f"{source.randrange(10 ** source.randrange(1, 12)) / 10**places:.{places}f}"
        value = float(text)
        check(value)
        check(-value)
    for sent in (b"25.5", b"-0.001", b"0.0001", b"99999.9999", b"0.001", b"100000.5", b"21.07", b"1013.2"):
        assert shortest(float(sent)) == sent


def test_decimals_of_three_places_below_a_hundred_are_written_as_they_were_sent() -> None:
    for number in range(0, 100_000, 3):
        value = number / 1000
        assert shortest(value) == expected(value)


def test_powers_of_two_and_their_neighbours() -> None:
    for power in range(-1074, 1024):
        for value in neighbours(math.ldexp(1.0, power)):
            check(value)


def test_powers_of_ten_and_their_neighbours() -> None:
    for power in range(-323, 309):
        for value in neighbours(float(f"1e{power}")):
            check(value)
            check(-value)


def test_where_the_notation_changes() -> None:
    for text in (
        "0.0001",
        "0.00001",
        "9.9999e-05",
        "1e15",
        "1e16",
        "1e17",
        "123456789012345680",
        "0.00099999",
    ):
        for value in neighbours(float(text)):
            check(value)
    assert shortest(1e15) == b"1000000000000000"
    assert shortest(1e16) == b"1e+16"
    assert shortest(1e-5) == b"1e-05"
    assert shortest(1.5e300) == b"1.5e+300"


def test_subnormals_and_the_ends_of_the_range() -> None:
    source = random.Random(SEED)
    for bits in (*range(1, 2_000), *(source.getrandbits(source.randrange(1, 53)) for _ in range(20_000))):
        check(of_bits(bits))
    for value in (5e-324, sys.float_info.min, sys.float_info.max, math.nextafter(sys.float_info.min, 0)):
        check(value)
        check(-value)


def test_integers_have_no_fraction() -> None:
    source = random.Random(SEED)
    for number in (*range(-2_000, 2_000), *(source.getrandbits(53) for _ in range(20_000)), 2**53, 10**15):
        assert shortest(float(number)) == expected(float(number))
        if abs(number) < 10**16:
            assert shortest(float(number)) == str(number).encode()


def test_zeros_keep_their_sign() -> None:
    assert shortest(0.0) == b"0"
    assert shortest(-0.0) == b"-0.0"
    assert math.copysign(1, json.loads(shortest(-0.0))) == -1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_does_not_have_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON has no"):
        shortest(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_is_written_reads_back_as_the_same_double(value: float) -> None:
    text = shortest(value)
    assert struct.pack("<d", float(text)) == struct.pack("<d", value)
    assert json.loads(text) == value
