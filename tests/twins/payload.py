"""The payload decoder once more, in plain Python: what storage/payload.pyx has to agree with.

Written to be read, not to be fast, and by other means: regular expressions instead of pointers, a stack instead of
recursion, CPython's own ``int``, ``float`` and ``unquote_to_bytes``. Bytes that are not UTF-8 become lone surrogates
(``surrogateescape``), which nothing accepts. Of several faults the first one in reading order names the refusal.
"""

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_to_bytes

from storage.kinds import Kind, PayloadKind, Refusal

Value = float | int | bool | str
Member = tuple[str, Kind, Value]

NO_LIMIT: Final = 0xFFFFFFFF
NESTING_MAX: Final = 2_000  # with limits off too, because the compiled decoder recurses
INT64_DIGITS: Final = 19
EXACT: Final = 2**53

SPACE: Final = re.compile(r"[ \t\r\n]*")
WORD: Final = re.compile(r"true|false|null")
INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
FRACTION: Final = re.compile(r"\.[0-9]+")
EXPONENT: Final = re.compile(r"[eE][+-]?[0-9]+")
PLAIN: Final = re.compile(r'[^"\\\x00-\x1f\ud800-\udfff]+')
ESCAPE: Final = re.compile(r'\\(?:(["\\/bfnrt])|u([0-9A-Fa-f]{4}))')
ESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
HIGH, LOW = range(0xD800, 0xDC00), range(0xDC00, 0xE000)

FORM_NAMES: Final = {b"v": "value1", b"v2": "value2", b"v3": "value3", b"v4": "value4"}
FORM_NUMBER: Final = re.compile(r"\+?(-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)", re.ASCII)
FORM_INTEGER: Final = re.compile(r"\+?(-?[0-9]+)")


class RefusedError(Exception):
    """The payload is refused; the reason is the argument."""


def decode(
    kind: int, payload: bytes, json_depth_max: int = NO_LIMIT, key_bytes_max: int = NO_LIMIT
) -> tuple[bool, list[Member]] | Refusal:
    """What storage.payload.decode gives: (literal, members in the order sent, duplicates included) or a Refusal."""
    try:
        if kind == PayloadKind.JSON:
            return JsonReader(payload, json_depth_max, key_bytes_max).read()
        if kind == PayloadKind.FORM:
            return False, form(payload)
    except RefusedError as error:
        refusal: Refusal = error.args[0]
        return refusal
    assert kind == PayloadKind.BINARY
    return True, [("", Kind.TEXT, payload.hex())]


def cells(decoded: tuple[bool, list[Member]]) -> dict[str | None, tuple[Kind, Value]]:
    """One cell per stream, None being the literal's: the last member of a name counts."""
    literal, members = decoded
    return {None if literal else name: (kind, value) for name, kind, value in members}


def integer(text: str) -> tuple[Kind, Value]:
    """A run of digits: a float64 where that is exact, an int64 where it fits, else its digits."""
    digits = text.lstrip("-").lstrip("0") or "0"
    if len(digits) <= INT64_DIGITS:
        number = int(digits) * (-1 if text.startswith("-") else 1)
        if abs(number) <= EXACT:
            return Kind.NUMBER, float(number)
        if -(2**63) <= number < 2**63:
            return Kind.INTEGER, number
    return Kind.JSON, "-" * text.startswith("-") + digits


class JsonReader:
    """RFC 8259, strictly, from one end to the other."""

    def __init__(self, payload: bytes, depth_max: int, key_bytes_max: int) -> None:
        self.text = payload.decode("utf-8", "surrogateescape")
        self.at = 0
        self.depth_max = depth_max
        self.key_bytes_max = key_bytes_max

    def read(self) -> tuple[bool, list[Member]]:
        self.space()
        literal = self.peek() != "{"
        members = [("", *self.value(depth=1))] if literal else self.members()
        self.space()
        if self.at != len(self.text):
            raise RefusedError(Refusal.BAD_JSON_FORMAT)
        return literal, members

    # ---- the outermost object

    def members(self) -> list[Member]:
        members: list[Member] = []
        if self.depth_max < 1:
            raise RefusedError(Refusal.JSON_TOO_DEEP)
        self.take("{")
        self.space()
        if self.peek() == "}":
            self.take("}")
            return members
        while True:
            name = self.string()
            if len(name.encode()) > self.key_bytes_max:
                raise RefusedError(Refusal.KEY_TOO_LONG)
            self.space()
            self.take(":")
            self.space()
            members.append((name, *self.value(depth=2)))
            self.space()
            if self.take("},") == "}":
                return members
            self.space()

    def value(self, depth: int) -> tuple[Kind, Value]:
        first = self.peek()
        if first and first in "{[":
            return Kind.JSON, self.minified(depth)
        if first == '"':
            return Kind.TEXT, self.string()
        if first and first in "-0123456789":
            return self.number()
        word = self.match(WORD)
        return (Kind.JSON, word) if word == "null" else (Kind.BOOLEAN, word == "true")

    # ---- nested values: the text as it was sent, without the white space between tokens

    def minified(self, depth: int) -> str:
        pieces: list[str] = []
        closers: list[str] = []
        while True:
            if closers and closers[-1] == "}":
                pieces += [self.source(self.string), self.between(":")]
            if self.peek() in ("{", "["):
                if depth + len(closers) > min(self.depth_max, NESTING_MAX):
                    raise RefusedError(Refusal.JSON_TOO_DEEP)
                opener = self.take("{[")
                pieces.append(opener)
                closers.append("}" if opener == "{" else "]")
                self.space()
                if self.peek() != closers[-1]:
                    continue
            else:
                pieces.append(self.source(lambda: self.value(depth)))
            while closers:
                self.space()
                # An opener that is closed at once has no comma to be tried.
                pieces.append(self.take(closers[-1] + ","))
                if pieces[-1] == ",":
                    self.space()
                    break
                closers.pop()
            else:
                return "".join(pieces)

    def source(self, read: Callable[[], object]) -> str:
        begin = self.at
        read()
        return self.text[begin : self.at]

    def between(self, character: str) -> str:
        self.space()
        self.take(character)
        self.space()
        return character

    # ---- tokens

    def peek(self) -> str:
        """The next character; empty at the end."""
        return self.text[self.at : self.at + 1]

    def take(self, allowed: str) -> str:
        character = self.peek()
        if not character or character not in allowed:
            raise RefusedError(Refusal.BAD_JSON_FORMAT)
        self.at += 1
        return character

    def match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise RefusedError(Refusal.BAD_JSON_FORMAT)
        self.at = found.end()
        return found[0]

    def space(self) -> None:
        self.match(SPACE)

    def number(self) -> tuple[Kind, Value]:
        whole = self.match(INTEGER)
        fraction = self.match(FRACTION) if self.peek() == "." else ""
        exponent = self.match(EXPONENT) if self.peek() in ("e", "E") else ""
        if not fraction and not exponent:
            return integer(whole)
        number = float(whole + fraction + exponent)
        if number in (float("inf"), float("-inf")):
            raise RefusedError(Refusal.NUMBER_OUT_OF_RANGE)
        return Kind.NUMBER, number

    def string(self) -> str:
        pieces: list[str] = []
        self.take('"')
        while self.peek() != '"':
            if self.peek() == "\\":
                pieces.append(self.escape())
            else:
                pieces.append(self.match(PLAIN))
        self.take('"')
        return "".join(pieces)

    def escape(self) -> str:
        plain, digits = self.code_unit()
        if plain:
            return ESCAPED.get(plain, plain)
        unit = int(digits, 16)
        if unit in HIGH:
            low = int(self.code_unit()[1] or "0", 16)
            if low in LOW:
                return chr(0x10000 + ((unit - HIGH.start) << 10) + (low - LOW.start))
        if unit in HIGH or unit in LOW:
            raise RefusedError(Refusal.BAD_JSON_FORMAT)
        return chr(unit)

    def code_unit(self) -> tuple[str, str]:
        found = ESCAPE.match(self.text, self.at)
        if found is None:
            raise RefusedError(Refusal.BAD_JSON_FORMAT)
        self.at = found.end()
        return found[1] or "", found[2] or ""


def form(payload: bytes) -> list[Member]:
    """``v=..&v2=..&v3=..&v4=..`` (contract 2.4)."""
    members: list[Member] = []
    for field in payload.split(b"&"):
        name, equals, value = field.partition(b"=")
        if equals and name in FORM_NAMES:
            raw = unquote_to_bytes(value.replace(b"+", b" ")).strip(b" \t\n\v\f\r")
            try:
                members.append((FORM_NAMES[name], *form_value(raw.decode())))
            except UnicodeDecodeError:
                raise RefusedError(Refusal.BAD_FORM_FORMAT) from None
    if not members:
        raise RefusedError(Refusal.BAD_FORM_FORMAT)
    return members


def form_value(text: str) -> tuple[Kind, Value]:
    """A finite number where the text looks like one, else the text."""
    if found := FORM_INTEGER.fullmatch(text):
        return integer(found[1])
    if found := FORM_NUMBER.fullmatch(text):
        number = float(found[1])
        if abs(number) != float("inf"):
            return Kind.NUMBER, number
    return Kind.TEXT, text
