"""Rows that were sent: a value as JSON, and perhaps a time, a tag and a device of its own.

What a row does not say the request says for all of them; a time that neither says is the time of receipt. Names of
devices stay names here, because only the main thread may look them up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from query.times import TimeFormatError, parse_time
from storage.cover import DAY_US, TIME_MAX_US, TIME_MIN_US
from storage.writes import Entry

# Days at both ends of the calendar in which some zone has another year already.
FIRST_US: Final = TIME_MIN_US + 2 * DAY_US
LAST_US: Final = TIME_MAX_US - 2 * DAY_US


class BadBodyError(Exception):
    """What was sent cannot be stored: a token of the API and a sentence."""

    def __init__(self, token: str, words: str) -> None:
        super().__init__(words)
        self.token = token
        self.words = words


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows are read.

    Attributes:
        zone: of times without an offset.
        tag: of rows without a tag; "" is none.
        device: of rows without a device; "" is none.
        latest_us: a later time is refused.
        rows_max: more rows are refused.
        bytes_max: of the rows' values together; a compressed body may have far more than it seems.
    """

    zone: ZoneInfo
    tag: str
    device: str
    latest_us: int
    rows_max: int
    bytes_max: int


class Rows:
    """The rows as they come.

    Attributes:
        reading: how they are read.
        unit: what a row is called where its number is told.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.unit = "row"
        self._rows: list[tuple[int | None, str, bytes, bytes]] = []
        self._numbers: list[int] = []  # of each row, where they are not 1, 2, ...
        self._bytes = 0
        self._devices: dict[str, int] = {}  # index of the first row of each
        self._tags: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self, value: bytes, at: str | int | None, tag: str | None, device: str | None, number: int
    ) -> None:
        """One row.

        Args:
            value: JSON; what it is worth the journal will say.
            at: as text, or in microseconds UTC.
            tag, device: "" and None are what the request says.
            number: of the row, or of its line.

        Raises:
            BadBodyError: it cannot be stored.
        """
        reading = self.reading
        if len(self._rows) >= reading.rows_max:
            raise BadBodyError(
                "BODY_TOO_LARGE", f"more than {reading.rows_max} rows ([limits] write_rows_max)"
            )
        self._bytes += len(value)
        if self._bytes > reading.bytes_max:
            raise BadBodyError("BODY_TOO_LARGE", f"the rows' values are more than {reading.bytes_max} bytes")
        if number != len(self._rows) + 1 or self._numbers:
            if not self._numbers:
                self._numbers = list(range(1, len(self._rows) + 1))
            self._numbers.append(number)
        at_us = self._time(at, number) if at is not None else None
        device = device or reading.device
        if device not in self._devices:
            self._devices[device] = len(self._rows)
        self._rows.append((at_us, device, self._tag(tag or reading.tag, number), value))

    def _time(self, at: str | int, number: int) -> int:
        if isinstance(at, str):
            try:
                at = parse_time(at, self.reading.zone)
            except TimeFormatError as error:
                raise self.bad(number, "BAD_TIME_FORMAT", f"at: {error}") from None
        if not FIRST_US <= at < LAST_US:
            raise self.bad(number, "BAD_TIME_FORMAT", "at: not within the years 1 to 9999")
        if at > self.reading.latest_us:
            raise self.bad(
                number, "BAD_TIME_FORMAT", "at: further in the future than [limits] write_future_s"
            )
        return at

    def _tag(self, tag: str, number: int) -> bytes:
        known = self._tags.get(tag)
        if known is None:
            if any(character < " " or character == "\x7f" for character in tag):
                raise self.bad(number, "TAG_INVALID", f"tag: {tag!r} has control characters")
            try:
                known = self._tags[tag] = tag.encode()
            except UnicodeEncodeError:
                raise self.bad(number, "TAG_INVALID", f"tag: {tag!r} is not Unicode text") from None
        return known

    def bad(self, number: int, token: str, words: str) -> BadBodyError:
        """What is wrong with a row or line."""
        return BadBodyError(token, f"{self.unit} {number}: {words}")

    def bad_row(self, index: int, token: str, words: str) -> BadBodyError:
        """The same by the row's index."""
        return self.bad(self._numbers[index] if self._numbers else index + 1, token, words)

    @property
    def devices(self) -> Mapping[str, int]:
        """Names that occur ("" is none), each with the index of its first row."""
        return self._devices

    def all(self) -> Sequence[tuple[int | None, str, bytes, bytes]]:
        """Time, device, tag and value of each."""
        return self._rows

    def entries(self, ids: Mapping[str, int]) -> list[Entry]:
        """For the writer, with the devices' registry ids."""
        return [(at_us, ids[device], tag, value) for at_us, device, tag, value in self._rows]
