"""Retained messages against a dictionary, filters against a regular expression."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ingest.mqtt.retained import RetainedMessages
from storage.notes import Message
from tests.ingest.topic_model import TOPICS, filters, fits


def message(topic: bytes, payload: bytes) -> Message:
    return Message(topic, payload, 1, True, b"", 0, 1)


@given(
    st.lists(st.tuples(TOPICS, st.one_of(st.none(), st.binary(max_size=1))), max_size=30),
    st.lists(filters(), max_size=8),
)
def test_a_filter_finds_the_last_message_of_each_topic_that_it_fits(
    changes: list[tuple[bytes, bytes | None]], texts: list[bytes]
) -> None:
    retained = RetainedMessages()
    model: dict[bytes, Message] = {}
    for topic, payload in changes:
        if payload is None:
            assert retained.remove(topic) == (model.pop(topic, None) is not None)
        else:
            model[topic] = message(topic, payload)
            retained.put(model[topic])
        assert retained.count == len(model)
        assert retained.get(topic) == model.get(topic)
    for text in texts:
        found = list(retained.matching(text))
        assert sorted(each.topic for each in found) == sorted(topic for topic in model if fits(text, topic))
        assert all(each == model[each.topic] for each in found)


def test_all_are_given_those_of_system_topics_too() -> None:
    retained = RetainedMessages()
    for topic in (b"a", b"a/b", b"$x/y", b""):
        retained.put(message(topic, b"x"))
    assert sorted(each.topic for each in retained) == [b"", b"$x/y", b"a", b"a/b"]


@given(st.lists(TOPICS, unique=True, max_size=20), st.randoms())
def test_what_is_removed_leaves_an_empty_tree(topics: list[bytes], chance: random.Random) -> None:
    retained = RetainedMessages()
    for topic in topics:
        retained.put(message(topic, b"x"))
    chance.shuffle(topics)
    for topic in topics:
        assert retained.remove(topic)
        assert not retained.remove(topic)
    assert retained.count == 0
    assert not retained._root.children


def test_a_topic_that_is_only_on_the_way_to_another_has_no_message() -> None:
    retained = RetainedMessages()
    retained.put(message(b"a/b", b"x"))
    assert retained.get(b"a") is None
    assert not retained.remove(b"a")
    assert retained.count == 1
