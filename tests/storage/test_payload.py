"""Payload bytes to cells: what is accepted, what exactly is kept, what is refused by which name."""

import json
import math
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.kinds import Kind, PayloadKind, Refusal
from storage.payload import decode

N, I, T, B, J = Kind.NUMBER, Kind.INTEGER, Kind.TEXT, Kind.BOOLEAN, Kind.JSON  # noqa: E741


def bits(number: float) -> bytes:
    return struct.pack("<d", number)


@pytest.mark.parametrize(
    ("payload", "cells"),
    [
        (b'{"temp":25,"humidity":50.5}', [("temp", N, 25.0), ("humidity", N, 50.5)]),
        (b" { } ", []),
        (b'{"a":"x\\u00e9\\n\\ud83d\\ude00"}', [("a", T, "xé\n😀")]),
        (b'{"\\u0061":true,"b":false}', [("a", B, True), ("b", B, False)]),
        (b'{"a":null}', [("a", J, "null")]),
        (b'{"a":{"b": [1, {"c" : "d e"}]}}', [("a", J, '{"b":[1,{"c":"d e"}]}')]),
        (b'{"a":9007199254740992}', [("a", N, 9007199254740992.0)]),
        (b'{"a":9007199254740993}', [("a", I, 9007199254740993)]),
        (b'{"a":-9223372036854775808}', [("a", I, -9223372036854775808)]),
        (b'{"a":9223372036854775808}', [("a", J, "9223372036854775808")]),
        (b'{"a":1,"a":2}', [("a", N, 1.0), ("a", N, 2.0)]),
        (b'{"":1}', [("", N, 1.0)]),
        ('{"Größe":"µ"}'.encode(), [("Größe", T, "µ")]),
    ],
)
def test_an_object_gives_one_cell_per_member(payload: bytes, cells: list[tuple[str, Kind, object]]) -> None:
    assert decode(PayloadKind.JSON, payload) == (False, cells)


@pytest.mark.parametrize(
    ("payload", "cell"),
    [
        (b"12.5", (N, 12.5)),
        (b" -0 ", (N, 0.0)),
        (b'"Hello!"', (T, "Hello!")),
        (b"true", (B, True)),
        (b"null", (J, "null")),
        (b"[1, 2]", (J, "[1,2]")),
        (b"123456789012345678901234567890", (J, "123456789012345678901234567890")),
    ],
)
def test_a_literal_is_one_cell_without_a_name(payload: bytes, cell: tuple[Kind, object]) -> None:
    assert decode(PayloadKind.JSON, payload) == (True, [("", *cell)])


@pytest.mark.parametrize(
    "payload",
    [
        b"", b" ", b"{", b"}", b'{"a"}', b'{"a":}', b'{"a":1,}', b"{a:1}", b"[1,]", b"[1 2]", b"01", b"1.", b".5", b"+1",
        b"1e", b"-", b"--1", b"NaN", b"Infinity", b"-Infinity", b"nul", b"truex", b'"a', b'"\x01"', b'"\\x"', b'"\\u12"',
        b'"\\ud800"', b'"\\udc00"', b'"\\ud800\\u0041"', b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"',
        b"\xef\xbb\xbf1", b"1 1", b"{}{}", b"temp=25", b"0x10", b'{"a":[1}', b'{"a" 1}', b'["\\ud800"]',
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(payload: bytes) -> None:
    assert decode(PayloadKind.JSON, payload) is Refusal.BAD_JSON_FORMAT


def test_a_number_beyond_float64_is_refused_by_its_own_name() -> None:
    assert decode(PayloadKind.JSON, b'{"a":1e400}') is Refusal.NUMBER_OUT_OF_RANGE
    assert decode(PayloadKind.JSON, b'{"a":[-1e999]}') is Refusal.NUMBER_OUT_OF_RANGE


def test_depth_and_key_length_have_limits() -> None:
    assert decode(PayloadKind.JSON, b'{"a":[[1]]}', 3) == (False, [("a", J, "[[1]]")])
    assert decode(PayloadKind.JSON, b'{"a":[[1]]}', 2) is Refusal.JSON_TOO_DEEP
    assert decode(PayloadKind.JSON, b'{"abc":1}', 32, 3) == (False, [("abc", N, 1.0)])
    assert decode(PayloadKind.JSON, b'{"abcd":1}', 32, 3) is Refusal.KEY_TOO_LONG
    assert decode(PayloadKind.JSON, b"[" * 100_000) is Refusal.JSON_TOO_DEEP


@pytest.mark.parametrize(
    ("payload", "cells"),
    [
        (b"v=25.1", [("value1", N, 25.1)]),
        (b"v= 5.0&v2=-3&v3=nan&v4=a+b%21", [("value1", N, 5.0), ("value2", N, -3.0), ("value3", T, "nan"), ("value4", T, "a b!")]),
        (b"v=+5&v2=05&v3=.5&v4=5.", [("value1", N, 5.0), ("value2", N, 5.0), ("value3", N, 0.5), ("value4", N, 5.0)]),
        (b"v=%2B5", [("value1", N, 5.0)]),
        (b"v=1e400&x=3", [("value1", T, "1e400")]),
        (b"v=&v2=%zz", [("value1", T, ""), ("value2", T, "%zz")]),
        (b"v=1\n", [("value1", N, 1.0)]),
        (b"&&v2=0x10", [("value2", T, "0x10")]),
        (b"v=00000000000000000000000000000000012345678901234567890", [("value1", J, "12345678901234567890")]),
    ],
)  # fmt: skip
def test_a_form_gives_numbers_where_they_look_like_it(
    payload: bytes, cells: list[tuple[str, Kind, object]]
) -> None:
    assert decode(PayloadKind.FORM, payload) == (False, cells)


@pytest.mark.parametrize("payload", [b"", b"x=1", b"v", b"v5=1", b"v=%ff"])
def test_a_form_without_a_value_or_with_broken_text_is_refused(payload: bytes) -> None:
    assert decode(PayloadKind.FORM, payload) is Refusal.BAD_FORM_FORMAT


def test_binary_is_lower_case_hex() -> None:
    assert decode(PayloadKind.BINARY, b"\x00\xffA") == (True, [("", T, "00ff41")])
    assert decode(PayloadKind.BINARY, b"") == (True, [("", T, "")])


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(5e-324)
@example(1.7976931348623157e308)
@example(2.2250738585072011e-308)
@example(-0.0)
def test_floats_survive_exactly(number: float) -> None:
    _, [(_, kind, value)] = decode(PayloadKind.JSON, repr(number).encode())
    assert kind is N
    assert bits(value) == bits(number)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,25})\.[0-9]{1,25}([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_decimals_round_as_float_does(text: str) -> None:
    expected = float(text)
    result = decode(PayloadKind.JSON, text.encode())
    if math.isinf(expected):
        assert result is Refusal.NUMBER_OUT_OF_RANGE
    else:
        assert bits(result[1][0][2]) == bits(expected)


@given(st.integers(min_value=-(10**30), max_value=10**30))
def test_integers_survive_exactly(number: int) -> None:
    _, [(_, kind, value)] = decode(PayloadKind.JSON, str(number).encode())
    assert int(value) == number
    assert kind is (N if abs(number) <= 2**53 else I if -(2**63) <= number < 2**63 else J)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


@given(json_values, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_any_json_value_comes_back_as_it_was(
    value: object, ascii_only: bool, indent: int | str | None
) -> None:
    try:
        payload = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    except UnicodeEncodeError:
        return
    result = decode(PayloadKind.JSON, payload)
    if result is Refusal.BAD_JSON_FORMAT:
        assert "\\ud" in json.dumps(value)  # only a lone surrogate may be refused
        return
    literal, cells = result
    assert literal == (not isinstance(value, dict))
    back = {name: json.loads(cell) if kind is J else cell for name, kind, cell in cells}
    assert back == ({"": value} if literal else value)


@given(st.binary(max_size=60) | st.text('{}[]",:\\u0123dD8etrfalsn .-+', max_size=40).map(str.encode))
def test_hostile_bytes_are_judged_as_json_judges_them(payload: bytes) -> None:
    def strict(text: str) -> object:
        raise ValueError(text)

    try:
        text = payload.decode()
        expected = json.loads(text, parse_constant=strict)
        json.dumps(expected, ensure_ascii=False).encode()  # a lone surrogate cannot be kept
        good = not text.startswith("\ufeff")
    except (ValueError, RecursionError):
        good = False
    result = decode(PayloadKind.JSON, payload)
    if good and result is not Refusal.NUMBER_OUT_OF_RANGE:
        literal, _ = result
        assert literal == (not isinstance(expected, dict))
    elif not good:
        assert isinstance(result, Refusal)
