"""The closed vocabularies that log, ring, Parquet and REST share. The numbers stand in files: never reuse one."""

from enum import IntEnum


class Kind(IntEnum):
    """The physical kind of one cell. A column has one kind for ever (docs/formats/published.md).

    NUMBER is a float64 and holds every finite JSON number that a float64 holds exactly as sent or that was
    written with a fraction or an exponent. INTEGER is an int64 whose magnitude is beyond 2**53. TEXT is UTF-8.
    JSON is the minified text of anything else: objects and arrays inside a value, ``null``, and integers
    beyond int64.
    """

    NUMBER = 0
    INTEGER = 1
    TEXT = 2
    BOOLEAN = 3
    JSON = 4


class PayloadKind(IntEnum):
    """How the payload of a log entry is to be read (docs/formats/log.md)."""

    JSON = 1
    FORM = 2
    BINARY = 3
    STATE = 4
    NOTE = 5


class Refusal(IntEnum):
    """Why a reading was not stored. Zero is never a refusal. Names double as metric labels and wire tokens."""

    AUTH_REQUIRED = 1
    DEVICE_ID_ZERO = 2
    NEW_DEVICE_FOUND = 3
    MAX_DEVICE_REACH = 4
    NO_MAPPED_CH = 5
    DEVICE_DISABLED = 6
    TOO_MANY_REQUESTS = 7
    BAD_JSON_FORMAT = 8
    BAD_FORM_FORMAT = 9
    PAYLOAD_TOO_LARGE = 10
    JSON_TOO_DEEP = 11
    KEY_TOO_LONG = 12
    TOO_MANY_STREAMS = 13
    NUMBER_OUT_OF_RANGE = 14
    TAG_INVALID = 15
    DEVICE_ID_INVALID = 16
    FOREIGN_TOPIC = 17
    UNKNOWN_TOPIC = 18
    UNAVAILABLE = 19
    TOO_MANY_TAGS = 20
