"""Topics of the contract (2.3.3): what a PUBLISH on a topic is meant to do.

    <token>/json/<device>[/<tag>]      JSON or a bare number
    <token>/binary/<device>[/<tag>]    raw bytes
    <token>/state/<device>             device state; a tag level is ignored
    <token>/<device>                   the v1 form
    <token>/<device>/subscribe         a command, only relayed

``json``, ``binary`` and ``state`` are reserved: ``<token>/json`` alone is nothing, not a device called json. One
trailing slash is ignored.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from storage.kinds import PayloadKind


class NotData(Enum):
    """Topics that carry no reading."""

    FOREIGN = "the first level is not this user's device token"
    COMMAND = "a message to a device"
    UNKNOWN = "no topic of the contract"


@dataclass(frozen=True, slots=True)
class DataTopic:
    """Where a reading comes from: the payload's kind, the device, the tag (empty for none)."""

    kind: PayloadKind
    device_id: bytes
    tag: bytes


KINDS: Final = {b"json": PayloadKind.JSON, b"binary": PayloadKind.BINARY, b"state": PayloadKind.STATE}


def parse_topic(topic: bytes, token: bytes) -> DataTopic | NotData:
    """Split a topic name; token is the connected user's device token."""
    levels = topic.split(b"/")
    if levels[0] != token:
        return NotData.FOREIGN
    if len(levels) > 2 and levels[-1] == b"":
        levels.pop()
    match levels[1:]:
        case [kind, device_id] if kind in KINDS:
            return DataTopic(KINDS[kind], device_id, b"")
        case [kind, device_id, tag] if kind in KINDS:
            return DataTopic(KINDS[kind], device_id, b"" if kind == b"state" else tag)
        case [_, b"subscribe"]:
            return NotData.COMMAND
        case [device_id] if device_id not in KINDS:
            return DataTopic(PayloadKind.FORM, device_id, b"")
    return NotData.UNKNOWN
