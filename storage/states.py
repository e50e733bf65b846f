"""Device state (contract 2.3.6): what a device last reported of itself, kept as it was sent.

A payload is ``k=v&k=v`` with values that are trimmed and become numbers where they look like it, or a JSON object.
"""

import json
import re
from typing import Any, Final
from urllib.parse import unquote_plus

KEYS_MAX: Final = 64
NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def typed(text: str) -> int | float | str:
    """A number if the trimmed text is one, else the trimmed text."""
    text = text.strip()
    if not NUMBER.fullmatch(text):
        return text
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    number = float(text)
    return text if number in (float("inf"), float("-inf")) else number


def parse_state(payload: bytes) -> dict[str, Any] | None:
    """The state's keys and typed values; None when the payload is neither a form nor a JSON object."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text, parse_constant=lambda name: int(name))
        except (ValueError, RecursionError):
            return None
        return value if len(value) <= KEYS_MAX else None
    state: dict[str, Any] = {}
    for pair in text.split("&"):
        key, equals, value = pair.partition("=")
        if equals and key:
            state[unquote_plus(key)] = typed(unquote_plus(value))
    return state if 0 < len(state) <= KEYS_MAX else None
