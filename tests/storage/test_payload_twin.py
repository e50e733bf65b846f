"""The compiled payload decoder against the plain Python one: the same cells, bit for bit, or the same refusal."""

import json
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.block import Block
from storage.journal import Journal, Limits
from storage.kinds import Kind, PayloadKind, Refusal
from storage.payload import decode
from storage.ring import Ring
from storage.schema import Schema
from tests.twins import payload as twin

JSON, FORM, BINARY = PayloadKind.JSON, PayloadKind.FORM, PayloadKind.BINARY


def exactly(decoded: object) -> object:
    """Floats by their bits and types by name, so that 0.0, -0.0, 0 and False all differ."""
    if isinstance(decoded, Refusal):
        return decoded
    literal, members = decoded  # type: ignore[misc]
    return bool(literal), [
        (name, kind, struct.pack("<d", value) if isinstance(value, float) else (type(value).__name__, value))
        for name, kind, value in members
    ]


def agree(kind: PayloadKind, payload: bytes, depth_max: int = 32, key_bytes_max: int = 256) -> object:
    """Both decoders say the same; what they say."""
    expected = twin.decode(kind, payload, depth_max, key_bytes_max)
    # Whoever reads on behind the end finds what would complete something.
    for behind in (b"", b'0"}]}', b"\x80\x80\x80"):
        view = memoryview(payload + behind)[: len(payload)]
        assert exactly(decode(kind, view, depth_max, key_bytes_max)) == exactly(expected), payload
    return expected


# ---- numbers

digits = st.text("0123456789", min_size=1, max_size=40) | st.sampled_from(
    ["0", "00", "9007199254740992", "9007199254740993", "9223372036854775807", "9223372036854775808",
     "18446744073709551609", "18446744073709551610", "18446744073709551616", "1" + "0" * 22, "1" + "0" * 23,
     "99999999999999999999", "0" * 50, "17976931348623157" + "0" * 292]
)  # fmt: skip
exponents = (
    st.integers(-400, 400).map(str) | digits | st.sampled_from(["22", "23", "-22", "-23", "308", "-324"])
)
numbers = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "-", "+", "--", " "]),
        digits | st.just(""),
        st.just("") | digits.map(".{}".format) | st.sampled_from([".", "..", ","]),
        st.just("") | st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), exponents)
        | st.sampled_from(["e", "e+", "ee1"]),
    ),
)  # fmt: skip


@settings(max_examples=300)
@given(numbers | st.floats().map(repr) | st.integers().map(str))
@example("-0")
@example("-0.0")
@example("0e999999999999999999")
@example("1e-999999999999999999")
@example("123456789012345678901234567890e-20")
@example("9007199254740993e0")
@example("2.2250738585072011e-308")
@example("4.9406564584124654e-324")
@example("2.4703282292062327e-324")
@example("1.7976931348623159e308")
def test_numbers_of_every_shape_are_read_alike(text: str) -> None:
    agree(JSON, text.encode())
    agree(JSON, b'{"a":[%b]}' % text.encode())
    agree(JSON, b'{"a":%b,"a":%b}' % (text.encode(), text.encode()))
    agree(FORM, b"v=" + text.encode())
    agree(FORM, b"v2=+" + text.encode() + b"%20")


@pytest.mark.parametrize("zeros", [20, 99_999, 123_455, 200_000])
@pytest.mark.parametrize("exponent", [0, 1, 100_000, 1_000_001, 1_234_567, 10**18])
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_huge_exponent_is_held_against_as_many_digits(zeros: int, exponent: int, sign: str) -> None:
    agree(JSON, f"0.{'0' * zeros}1e{sign}{exponent}".encode())
    agree(JSON, f"1{'0' * zeros}e{sign}{exponent}".encode())
    agree(FORM, f"v=1{'0' * zeros}.5e{sign}{exponent}".encode())


# ---- JSON

texts = st.text(max_size=8) | st.sampled_from(
    ["a", "b", "temp", "é", "😀", '"', "\\", "\x00", "\x7f", "\ufeff"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
documents = st.builds(
    lambda value, ascii_only, separators: json.dumps(
        value, ensure_ascii=ascii_only, separators=separators
    ).encode(errors="surrogatepass"),
    values,
    st.booleans(),
    st.sampled_from([(",", ":"), (", ", ": "), (" \t,\r", "\n : ")]),
)
fragments = st.sampled_from(
    [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\ud83d", b"\\ude00", b"\\uD83D\\uDE00", b"\\u0000",
     b"\\/", b"\\x", b"true", b"null", b"nul", b"NaN", b"Infinity", b"1e400", b"-", b"0", b"01", b"1.", b".5", b" ",
     b"\n", b"\x0b", b"\x00", b"\x1f", b"\x7f", b"\xff", b"\xc0\x80", b"\xe2\x82", b"\xe2\x82\xac", b"\xed\xa0\x80",
     b"\xf0\x9f\x98\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b'"a":1', b'{"a":', b"//", b"'"]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, documents: st.SearchStrategy[bytes]) -> bytes:
    """A document with a few pieces overwritten, inserted, repeated or cut away."""
    data = draw(documents)
    for _ in range(draw(st.integers(0, 3))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 4)))
        piece = draw(fragments | st.binary(max_size=3) | st.just(data[begin : end + 3]) | st.just(b""))
        data = data[:begin] + piece + data[end:]
    return data


@settings(max_examples=300)
@given(mutated(documents))
def test_valid_and_nearly_valid_json_is_read_alike(payload: bytes) -> None:
    agree(JSON, payload)


@settings(max_examples=300)
@given(st.lists(fragments, max_size=12).map(b"".join) | st.binary(max_size=40))
def test_arbitrary_bytes_are_read_alike(payload: bytes) -> None:
    for kind in (JSON, FORM, BINARY):
        agree(kind, payload)


@settings(max_examples=50)
@given(documents)
def test_a_payload_cut_anywhere_is_read_alike(payload: bytes) -> None:
    for size in range(len(payload)):
        agree(JSON, payload[:size])


@given(st.lists(st.sampled_from([b"\\u%04x" % unit for unit in (0, 0x41, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000, 0xFFFF)]), max_size=5))  # fmt: skip
def test_escaped_code_units_pair_up_alike(units: list[bytes]) -> None:
    agree(JSON, b'"' + b"".join(units) + b'"')
    agree(
        JSON, b'{"' + b"".join(units).upper().replace(b"\\U", b"\\u") + b'":{"' + b"".join(units) + b'":0}}'
    )


@settings(max_examples=80)
@given(st.integers(0, 5), st.integers(0, 6), mutated(documents))
def test_limits_are_met_at_the_same_place(depth_max: int, key_bytes_max: int, payload: bytes) -> None:
    agree(JSON, payload, depth_max, key_bytes_max)


@pytest.mark.parametrize("depth", [1, 31, 32, 33, 1_999, 2_000, 2_001, 50_000])
@pytest.mark.parametrize("limit", [0, 1, 32, twin.NO_LIMIT])
def test_nesting_ends_at_the_same_depth(depth: int, limit: int) -> None:
    for opener, closer in ((b"[", b"]"), (b'{"a":', b"}")):
        for tail in (closer * depth, closer * (depth - 1), b"1" + closer * depth, b""):
            agree(JSON, opener * depth + tail, limit)
            agree(JSON, b'{"k":' + opener * depth + tail + b"}", limit)


# ---- forms

escapes = st.binary(max_size=4).map(lambda raw: b"".join(b"%%%02x" % byte for byte in raw))
form_values = (
    numbers.map(str.encode) | escapes | fragments | st.binary(max_size=6)
    | st.sampled_from([b"nan", b"inf", b"-inf", b"1_0", b"0x1", b"%2B5", b"%2b+5", b"++5", b"+ 5", b"%", b"%4", b"%4g", b"%%41", b"%e2%82%ac", b"%E2%82", b"%00", b"1%0A", b"%C2%A01", b"\xc2\xa05", b"\xd9\xa1"])
)  # fmt: skip
fields = st.builds(
    b"".join,
    st.tuples(
        st.sampled_from([b"v", b"v2", b"v3", b"v4", b"v1", b"v5", b"V", b"vv", b"", b" v", b"%76"]),
        st.sampled_from([b"=", b"=", b"=", b"", b"=="]),
        st.lists(form_values, max_size=2).map(b"".join),
    ),
)


@settings(max_examples=300)
@given(st.lists(fields, max_size=5), st.sampled_from([b"&", b"&", b"&&", b";"]))
def test_forms_are_read_alike(fields: list[bytes], separator: bytes) -> None:
    agree(FORM, separator.join(fields))


@given(st.binary(max_size=300))
def test_binary_is_read_alike(payload: bytes) -> None:
    assert agree(BINARY, payload) == (True, [("", Kind.TEXT, payload.hex())])


# ---- what of it is stored


def stored(block: Block, schema: Schema) -> dict[str | None, tuple[Kind, object]]:
    """The only row's cells by name, values as the twin has them; floats by their bits."""
    cells: dict[str | None, tuple[Kind, object]] = {}
    for number, value in zip(block.column.tolist(), block.value.tolist(), strict=True):
        column = schema.column(number)
        kind = Kind(column.kind)
        text = block.text[value & ((1 << 40) - 1) :][: value >> 40]
        raw = struct.pack("<Q", value)
        assert column.name not in cells
        cells[column.name] = (kind, text.decode() if kind in (Kind.TEXT, Kind.JSON) else raw)
    return cells


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", ""]), values), max_size=6), mutated(documents))
def test_the_last_of_equal_names_is_stored_and_nothing_else(
    pairs: list[tuple[str, object]], document: bytes
) -> None:
    members = b",".join(
        json.dumps(name).encode() + b":" + json.dumps(value).encode() for name, value in pairs
    )
    for payload in (b"{" + members + b"}", document):
        journal = Journal(Ring(4, 64, 1 << 16), Schema(), Limits(), 70_000)
        answer = journal.append(1, JSON, 1, 1, b"", payload)
        expected = agree(JSON, payload)
        if isinstance(expected, Refusal):
            assert answer == -expected
            assert journal.ring.written == 0
            continue
        packed = {
            name: (kind, value if isinstance(value, str) else struct.pack("<d" if kind is Kind.NUMBER else "<q", value))
            for name, (kind, value) in twin.cells(expected).items()  # type: ignore[arg-type]
        }  # fmt: skip
        batch = journal.take_batch()
        assert batch is not None
        journal.release(batch)
        assert stored(journal.ring.block(journal.ring.channel_range(0, 1)), journal.schema) == packed
