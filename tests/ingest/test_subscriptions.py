"""The subscription tree against a list of filters, each a regular expression."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mqtt.subscriptions import Granted, SubscriptionTree
from tests.ingest.topic_model import TOPICS, filters, fits

SUBSCRIBERS = st.sampled_from(["x", "y", "z"])
CHANGES = st.lists(st.tuples(st.booleans(), filters(), SUBSCRIBERS, st.integers(0, 2)), max_size=30)


@given(CHANGES, st.lists(TOPICS, max_size=5))
def test_a_topic_meets_exactly_the_filters_that_fit_it(
    changes: list[tuple[bool, bytes, str, int]], topics: list[bytes]
) -> None:
    tree: SubscriptionTree[str] = SubscriptionTree()
    model: dict[tuple[str, bytes], Granted] = {}
    for is_new, text, subscriber, qos in changes:
        key = subscriber, text
        if is_new:
            assert tree.add(text, subscriber, Granted(qos)) == (key in model)
            model[key] = Granted(qos)
        else:
            assert tree.remove(text, subscriber) == (model.pop(key, None) is not None)
        for topic in topics:
            expected: dict[str, list[int]] = {}
            for (name, each), granted in model.items():
                if fits(each, topic):
                    expected.setdefault(name, []).append(granted.qos)
            found = tree.match(topic)
            assert {name: sorted(each.qos for each in grants) for name, grants in found.direct.items()} == {
                name: sorted(each) for name, each in expected.items()
            }
            assert bool(found) == bool(expected)


@given(st.lists(st.tuples(filters(), SUBSCRIBERS, st.booleans()), unique=True, max_size=20), st.randoms())
def test_what_is_removed_leaves_an_empty_tree(
    subscriptions: list[tuple[bytes, str, bool]], chance: random.Random
) -> None:
    tree: SubscriptionTree[str] = SubscriptionTree()
    made = [(b"$share/g/" + text if shared else text, name) for text, name, shared in subscriptions]
    for text, name in made:
        assert not tree.add(text, name, Granted(1))
    chance.shuffle(made)
    for text, name in made:
        assert tree.remove(text, name)
        assert not tree.remove(text, name)
    assert tree._root.is_empty


@pytest.mark.parametrize(
    ("text", "topic", "is_met"),
    [
        (b"#", b"$SYS/x", False), (b"+/x", b"$SYS/x", False), (b"$SYS/#", b"$SYS/x", True),
        (b"$SYS/+", b"$SYS/x", True), (b"a/#", b"a/$x", True), (b"a/+", b"a/$x", True),
        (b"a/#", b"a", True), (b"a/#", b"a/", True), (b"a/+", b"a", False), (b"a/+", b"a/", True),
        (b"+", b"/a", False), (b"+/+", b"/a", True), (b"/+", b"/a", True), (b"+/#", b"a", True), (b"a", b"A", False),
    ],
)  # fmt: skip
def test_the_examples_of_the_standard(text: bytes, topic: bytes, is_met: bool) -> None:
    tree: SubscriptionTree[str] = SubscriptionTree()
    tree.add(text, "x", Granted(0))
    assert bool(tree.match(topic)) == is_met == fits(text, topic)


def test_the_members_of_a_shared_group_take_turns() -> None:
    tree: SubscriptionTree[str] = SubscriptionTree()
    for name in ("x", "y", "z"):
        tree.add(b"$share/g/a/+", name, Granted(1))
    tree.add(b"$share/h/a/#", "x", Granted(0))
    found = tree.match(b"a/b")
    assert not found.direct
    group, other = sorted(found.shares, key=lambda share: -len(share.members))
    turns = [next(group.in_turn())[0] for _ in range(6)]
    assert turns == ["x", "y", "z"] * 2
    assert [next(other.in_turn())[0] for _ in range(2)] == ["x", "x"]


def test_a_group_goes_on_when_a_member_leaves_and_ends_with_the_last() -> None:
    tree: SubscriptionTree[str] = SubscriptionTree()
    for name in ("x", "y"):
        tree.add(b"$share/g/a", name, Granted(1))
    (group,) = tree.match(b"a").shares
    next(group.in_turn())
    assert tree.remove(b"$share/g/a", "x")
    assert [next(group.in_turn())[0] for _ in range(2)] == ["y", "y"]
    assert not tree.remove(b"$share/h/a", "y")
    assert not tree.remove(b"a", "y")
    assert tree.remove(b"$share/g/a", "y")
    assert not tree.match(b"a")
