"""Device states as devices write them (contract 2.3.6)."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.states import DEPTH_MAX, KEYS_MAX, parse_state, typed


def as_text(value: object) -> str:
    """Types count: 3, 3.0 and "3" are three values."""
    return repr(value)


@pytest.mark.parametrize(
    ("payload", "state"),
    [
        # the vendor's agent: one value ends with the newline of `wc -l`
        (
            b"health=OK&load=0.25&pod_run_current=3\n&uptime=86400",
            {"health": "OK", "load": 0.25, "pod_run_current": 3, "uptime": 86400},
        ),
        (b"v= 5.0", {"v": 5.0}),
        (b"v=-7", {"v": -7}),
        (b"v=+7&w=.5&x=5.&y=1e3&z=-1.5E-2", {"v": 7, "w": 0.5, "x": 5.0, "y": 1000.0, "z": -0.015}),
        (b"v=007", {"v": 7}),
        (b"v=", {"v": ""}),
        (b"v=a=b", {"v": "a=b"}),
        (b"a=1&&b=2&", {"a": 1, "b": 2}),
        (b"a=1&b&=3", {"a": 1}),
        (b"a=1&a=2", {"a": 2}),
        (b"place=caf%C3%A9+bar", {"place": "café bar"}),
        ("place=café".encode(), {"place": "café"}),
        (b"a%3Db=1%262", {"a=b": "1&2"}),
        (b"v=%20%33%0A", {"v": 3}),
        (b"v=100%", {"v": "100%"}),
        # not every word that a float() takes is a number
        (b"a=nan&b=inf&c=-Infinity&d=1_000&e=0x10&f=1e", {"a": "nan", "b": "inf", "c": "-Infinity", "d": "1_000", "e": "0x10", "f": "1e"}),
        (b"v=1e999", {"v": "1e999"}),
        (b"v=12345678901234567890123", {"v": 12345678901234567890123}),
    ],
)  # fmt: skip
def test_a_form_becomes_typed_values(payload: bytes, state: dict[str, Any]) -> None:
    assert as_text(parse_state(payload)) == as_text(state)


@pytest.mark.parametrize(
    ("payload", "state"),
    [
        (b"{}", {}),
        (b' \n{"a": 1, "b": 1.0, "c": " 1 ", "d": null, "e": true}', {"a": 1, "b": 1.0, "c": " 1 ", "d": None, "e": True}),
        (b'{"a": {"b": [1, "2"]}}', {"a": {"b": [1, "2"]}}),
        ('{"é": "端末"}'.encode(), {"é": "端末"}),
    ],
)  # fmt: skip
def test_a_json_object_is_taken_as_it_is(payload: bytes, state: dict[str, Any]) -> None:
    assert as_text(parse_state(payload)) == as_text(state)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"OK",
        b"=1",
        b"&",
        b"5",
        b"[1]",
        b"\xff=1",
        b"{",
        b'{"a": 1}}',
        b'{"a": 1',
        b'{"a": \xff}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": {"b": [-1e999]}}',
        b'{"a": "\\ud800"}',
        b'{"\\ud800": 1}',
        pytest.param(b'{"a":' * 100_000, id="deep"),
        pytest.param(b'{"a":' + b"1" * 5_000 + b"}", id="long"),
    ],
)
def test_what_is_neither_form_nor_object_is_no_state(payload: bytes) -> None:
    assert parse_state(payload) is None


def test_a_state_has_so_many_keys_and_no_more() -> None:
    for count, is_state in ((KEYS_MAX, True), (KEYS_MAX + 1, False)):
        state = {f"k{number}": number for number in range(count)}
        form = "&".join(f"{key}={value}" for key, value in state.items())
        expected = state if is_state else None
        assert parse_state(form.encode()) == expected
        assert parse_state(json.dumps(state).encode()) == expected


def test_a_json_object_is_so_deep_and_no_deeper() -> None:
    for opening, closing, levels in (('{"a":', "}", DEPTH_MAX), ('{"a":[', "]}", DEPTH_MAX // 2)):
        assert parse_state((opening * levels + "1" + closing * levels).encode()) is not None
        assert parse_state((opening * (levels + 1) + "1" + closing * (levels + 1)).encode()) is None


@pytest.mark.parametrize("digits", [4_300, 4_301, 60_000])
def test_a_number_that_is_too_long_for_one_stays_text(digits: int) -> None:
    for number in ("1" * digits, "-" + "1" * digits, "1" * digits + ".5"):
        assert parse_state(b"v=" + number.encode()) == {"v": number}


def test_digits_of_other_scripts_are_text() -> None:
    assert typed("٣") == "٣"
    assert typed("１.５") == "１.５"


@given(st.binary(max_size=80))
def test_no_payload_ends_the_reader(payload: bytes) -> None:
    state = parse_state(payload)
    assert state is None or len(state) <= KEYS_MAX


@given(st.text(st.sampled_from('{}[]":,=&%+e.-\\ud80c0 \n19aN'), max_size=40))
def test_whatever_is_read_can_be_told_as_json(text: str) -> None:
    for payload in (text, "k=" + text, '{"k": "' + text + '"}', '{"k": ' + text + "}"):
        state = parse_state(payload.encode())
        if state is not None:
            assert json.loads(json.dumps(state, ensure_ascii=False, allow_nan=False).encode()) == state


@given(st.integers(-(10**30), 10**30), st.sampled_from(["", " ", "\n", "\t "]))
def test_a_whole_number_comes_back_as_itself(number: int, blank: str) -> None:
    assert as_text(typed(f"{blank}{number}{blank}")) == as_text(number)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_fraction_comes_back_as_itself(number: float) -> None:
    value = typed(repr(number))
    assert isinstance(value, float)
    assert math.isclose(value, number, rel_tol=0)
