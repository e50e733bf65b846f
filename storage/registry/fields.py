"""What may stand in the registry's fields, and how it says no."""

import re
import zoneinfo
from typing import Any, Final

TEXT_BYTES_MAX: Final = 1_024  # of one descriptive field
# An absolute http or https URL without a user's name or password in it, in printable ASCII; or nothing.
_PORT: Final = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
URL_PATTERN: Final = (
    rf"([hH][tT][tT][pP][sS]?://([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:({_PORT}))?([/?#][!-~]*)?)?"
)
# One address of a mailbox, without words around it: what could become a header of its own is none; or nothing.
MAIL_PATTERN: Final = r"([^\s@<>,;:\x00-\x1f\x7f]+@[^\s@<>,;:\x00-\x1f\x7f]+)?"
# What else lies in a system's zone directory: this machine's own zone, and all zones again with other rules.
NOT_ZONES: Final = ("localtime", "posix", "posixrules", "right")


class RegistryFormatError(Exception):
    """The file was written by another version of the daemon."""


class RegistryOutdatedError(RegistryFormatError):
    """The file has an older format, and this opener may not upgrade it."""


class RegistryBusyError(Exception):
    """Another process has kept the file locked for BUSY_MS."""


class LimitError(Exception):
    """The user has as many of something as the quota, or the setting behind it, allows."""


class DeviceLimitError(LimitError):
    """No more devices."""


class ChannelLimitError(LimitError):
    """No more channels."""


class EventLimitError(LimitError):
    """No more events."""


class InUseError(Exception):
    """The device, channel or tag exists already."""


class UnknownError(LookupError):
    """There is no such user, device, channel, event or token."""


class FieldError(ValueError):
    """A field's value is not acceptable; the message names the field."""


def is_text(value: str) -> bool:
    """Whether it can be stored: JSON's escapes and the command line may hold half a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_zone(name: str) -> None:
    """Refuse what is not an IANA time zone. Raises FieldError."""
    if name.partition("/")[0] in NOT_ZONES:
        raise FieldError(f"locale: {name!r} is not an IANA time zone")
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise FieldError(f"locale: {name!r} is not an IANA time zone") from error


def check_names(fields: dict[str, Any], names: tuple[str, ...], noun: str) -> None:
    """Refuse fields that are not among the names. Raises FieldError."""
    unknown = set(fields) - set(names)
    if unknown:
        raise FieldError(f"{min(unknown)}: not a field of {noun} that can be set")


def check_texts(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    """Refuse what is not a text, or too long. Raises FieldError."""
    for name in names:
        value = fields.get(name, "")
        if not isinstance(value, str):
            raise FieldError(f"{name}: expected a string")
        if not is_text(value):
            raise FieldError(f"{name}: not Unicode text")
        if len(value.encode()) > TEXT_BYTES_MAX:
            raise FieldError(f"{name}: longer than {TEXT_BYTES_MAX} bytes")


def check_pattern(fields: dict[str, Any], name: str, pattern: str, words: str) -> None:
    """Refuse a text that is not of this form. Raises FieldError."""
    if not re.fullmatch(pattern, fields.get(name, "")):
        raise FieldError(f"{name}: expected {words}, or nothing")


def check_flag(fields: dict[str, Any], name: str) -> None:
    """Raises FieldError."""
    if not isinstance(fields.get(name, False), bool):
        raise FieldError(f"{name}: expected true or false")
