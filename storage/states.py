"""Device state (contract 2.3.6): what a device last reported of itself, kept as it was sent.

A payload is ``k=v&k=v`` with values that are trimmed and become numbers where they look like it, or a JSON object.
Whatever comes out can be told as JSON again: no infinities, no half of a surrogate pair.
"""

import json
import math
import re
from typing import Any, Final
from urllib.parse import unquote_plus

KEYS_MAX: Final = 64
DEPTH_MAX: Final = 32  # containers within containers; who shows a state walks through it by recursion
NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
DIGITS_MAX: Final = 400  # of a number in a form; a longer one stays text, Python refuses to read 4301 digits


def typed(text: str) -> int | float | str:
    """A number if the trimmed text is one, else the trimmed text."""
    text = text.strip()
    if len(text) > DIGITS_MAX or not NUMBER.fullmatch(text):
        return text
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    number = float(text)
    return number if math.isfinite(number) else text


def finite(text: str) -> float:
    """A number of a JSON payload, which may also be spelled NaN or Infinity. Raises ValueError."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a number that JSON can tell")
    return number


def is_within(value: object, depth: int) -> bool:
    """Whether no more than this many containers stand within each other."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(is_within(each, depth - 1) for each in inner)


def parse_state(payload: bytes) -> dict[str, Any] | None:
    """The state's keys and typed values; None when the payload is neither a form nor a JSON object."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text, parse_constant=finite, parse_float=finite)
            json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            return None
        return value if len(value) <= KEYS_MAX and is_within(value, DEPTH_MAX) else None
    state: dict[str, Any] = {}
    for pair in text.split("&"):
        key, equals, value = pair.partition("=")
        if equals and key:
            state[unquote_plus(key)] = typed(unquote_plus(value))
    return state if 0 < len(state) <= KEYS_MAX else None
