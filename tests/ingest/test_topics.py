"""Topics, row by row (contract 2.3.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.topics import KINDS, DataTopic, NotData, parse_topic
from storage.kinds import PayloadKind

TOKEN = b"0123456789ABCDEF0123456789ABCDEF"
JSON, FORM, BINARY, STATE = PayloadKind.JSON, PayloadKind.FORM, PayloadKind.BINARY, PayloadKind.STATE

# What follows the token and its slash -> the kind, the device, the tag.
DATA = [
    (b"json/d1", JSON, b"d1", b""),
    (b"json/d1/t1", JSON, b"d1", b"t1"),
    (b"binary/d1", BINARY, b"d1", b""),
    (b"binary/d1/t1", BINARY, b"d1", b"t1"),
    (b"state/d1", STATE, b"d1", b""),
    (b"d1", FORM, b"d1", b""),
    # a tag level of a state is ignored
    (b"state/d1/t1", STATE, b"d1", b""),
    # one trailing slash is ignored
    (b"json/d1/", JSON, b"d1", b""),
    (b"json/d1/t1/", JSON, b"d1", b"t1"),
    (b"binary/d1/", BINARY, b"d1", b""),
    (b"state/d1/", STATE, b"d1", b""),
    (b"state/d1/t1/", STATE, b"d1", b""),
    (b"d1/", FORM, b"d1", b""),
    # ... and only one: what is left is an empty tag
    (b"json/d1//", JSON, b"d1", b""),
    # a reserved word is only reserved where a device of the v1 form would stand
    (b"json/json", JSON, b"json", b""),
    (b"json/d1/state", JSON, b"d1", b"state"),
    (b"binary/subscribe", BINARY, b"subscribe", b""),
    (b"json/subscribe", JSON, b"subscribe", b""),
    (b"json/d1/subscribe", JSON, b"d1", b"subscribe"),
    (b"subscribe", FORM, b"subscribe", b""),
    # words are reserved as they are written
    (b"JSON", FORM, b"JSON", b""),
    (b"jsonx", FORM, b"jsonx", b""),
    # an empty device is a device id, to be refused by its own name
    (b"", FORM, b"", b""),
    (b"json//t1", JSON, b"", b"t1"),
    (b"json//", JSON, b"", b""),
    # bytes are left as they are
    (b"json/\xff\x00/\xe3\x81\x82", JSON, b"\xff\x00", b"\xe3\x81\x82"),
    (b"0", FORM, b"0", b""),
]

NOT_DATA = [
    (TOKEN + b"/d1/subscribe", NotData.COMMAND),
    (TOKEN + b"/d1/subscribe/", NotData.COMMAND),
    (TOKEN + b"//subscribe", NotData.COMMAND),
    # reserved words alone are nothing
    (TOKEN + b"/json", NotData.UNKNOWN),
    (TOKEN + b"/binary", NotData.UNKNOWN),
    (TOKEN + b"/state", NotData.UNKNOWN),
    (TOKEN + b"/json/", NotData.UNKNOWN),
    (TOKEN + b"/binary/", NotData.UNKNOWN),
    (TOKEN + b"/state/", NotData.UNKNOWN),
    # no form of the contract
    (TOKEN, NotData.UNKNOWN),
    (TOKEN + b"/d1/other", NotData.UNKNOWN),
    (TOKEN + b"/d1/Subscribe", NotData.UNKNOWN),
    (TOKEN + b"/d1/subscribe/more", NotData.UNKNOWN),
    (TOKEN + b"/json/d1/t1/more", NotData.UNKNOWN),
    (TOKEN + b"/state/d1/t1/more", NotData.UNKNOWN),
    (TOKEN + b"/json/d1/t1//", NotData.UNKNOWN),
    # another's first level
    (b"", NotData.FOREIGN),
    (b"/", NotData.FOREIGN),
    (b"json/d1", NotData.FOREIGN),
    (b"/" + TOKEN + b"/json/d1", NotData.FOREIGN),
    (TOKEN[:-1] + b"/json/d1", NotData.FOREIGN),
    (TOKEN.lower() + b"/json/d1", NotData.FOREIGN),
    (TOKEN + b" /json/d1", NotData.FOREIGN),
    # the vendor's agent forgets the slash
    (TOKEN + b"d1/subscribe", NotData.FOREIGN),
]


@pytest.mark.parametrize(("rest", "kind", "device_id", "tag"), DATA, ids=[repr(row[0])[1:] for row in DATA])
def test_a_data_topic_names_kind_device_and_tag(
    rest: bytes, kind: PayloadKind, device_id: bytes, tag: bytes
) -> None:
    assert parse_topic(TOKEN + b"/" + rest, TOKEN) == DataTopic(kind, device_id, tag)


@pytest.mark.parametrize(("topic", "verdict"), NOT_DATA, ids=[repr(row[0])[1:] for row in NOT_DATA])
def test_any_other_topic_carries_no_reading(topic: bytes, verdict: NotData) -> None:
    assert parse_topic(topic, TOKEN) is verdict


def test_a_topic_is_another_users_as_soon_as_the_token_differs() -> None:
    topic = TOKEN + b"/json/d1"
    assert isinstance(parse_topic(topic, TOKEN), DataTopic)
    assert parse_topic(topic, TOKEN[::-1]) is NotData.FOREIGN


LEVELS = st.lists(
    st.sampled_from([b"json", b"binary", b"state", b"subscribe", b"d", b"", b"\xff"]), max_size=6
)


@given(LEVELS)
def test_a_trailing_slash_changes_nothing(levels: list[bytes]) -> None:
    topic = b"/".join([TOKEN, *levels])
    if levels and levels[-1]:
        assert parse_topic(topic + b"/", TOKEN) == parse_topic(topic, TOKEN)


@given(LEVELS)
def test_a_topic_is_taken_apart_without_a_loss(levels: list[bytes]) -> None:
    rest = b"/".join(levels)
    parsed = parse_topic(TOKEN + b"/" + rest, TOKEN)
    if isinstance(parsed, DataTopic) and parsed.kind is not STATE:
        word = [word for word, kind in KINDS.items() if kind is parsed.kind]
        tag = [parsed.tag] if parsed.tag else []
        assert b"/".join([*word, parsed.device_id, *tag]).rstrip(b"/") == rest.rstrip(b"/")
