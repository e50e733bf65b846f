"""Cursors of pages: what a reply says of where the next one begins, as a text that clients carry and do not read."""

import base64
import binascii
from typing import Any, TypeVar

import msgspec

from query.errors import ApiError

T = TypeVar("T")


def text_of(place: Any) -> str:
    """A place that msgspec can write, in the letters of a URL."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).rstrip(b"=").decode()


def place_of(text: str, kind: type[T]) -> T:
    """What ``text_of`` was given, if it is of this type. Raises ApiError: BAD_PARAMETER."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        return msgspec.msgpack.decode(data, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        raise ApiError("BAD_PARAMETER", "cursor: not one that an earlier page gave") from None
