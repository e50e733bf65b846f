"""Who has subscribed to what: one tree of topic levels for each user.

A filter is a path in the tree; ``+`` and ``#`` are children like any other level. A topic is matched by walking all
paths that fit it, at most two children a level. Topics that begin with ``$`` are not met by a wildcard in the first
level [MQTT-4.7.2-1].

Small fleets ask for the same few topics again and again, so answers are remembered until a subscription changes.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ingest.mqtt.packets import SHARE

# Topics whose matches are remembered.
REMEMBERED_MAX: Final = 4_096

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Granted:
    """A subscription as it was granted: the options of SUBSCRIBE, and the subscription identifier (0 for none)."""

    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    identifier: int = 0


class Share(Generic[S]):
    """The members of one ``$share`` group, who take turns.

    Attributes:
        turn: whose it is next, by place in ``members``.
    """

    __slots__ = ("members", "turn")

    def __init__(self) -> None:
        self.members: dict[S, Granted] = {}
        self.turn = 0

    def in_turn(self) -> Iterator[tuple[S, Granted]]:
        """All members, beginning with the one whose turn it is; the next call begins with the one behind it."""
        members = list(self.members.items())
        first = self.turn % len(members)
        self.turn = first + 1
        yield from members[first:]
        yield from members[:first]


class Node(Generic[S]):
    """One level of filters."""

    __slots__ = ("children", "shares", "subscribers")

    def __init__(self) -> None:
        self.children: dict[bytes, Node[S]] = {}
        self.subscribers: dict[S, Granted] = {}
        self.shares: dict[bytes, Share[S]] = {}

    @property
    def is_empty(self) -> bool:
        return not (self.children or self.subscribers or self.shares)


@dataclass(frozen=True, slots=True)
class Matches(Generic[S]):
    """Who is to get a message: everybody with all their subscriptions that fit, and one member of each share."""

    direct: dict[S, tuple[Granted, ...]]
    shares: tuple[Share[S], ...]

    def __bool__(self) -> bool:
        return bool(self.direct or self.shares)


def split_share(text: bytes) -> tuple[bytes, bytes]:
    """The group (empty for none) and the filter of what a SUBSCRIBE names; it is well formed."""
    if not text.startswith(SHARE):
        return b"", text
    group, _, rest = text[len(SHARE) :].partition(b"/")
    return group, rest


class SubscriptionTree(Generic[S]):
    """One user's subscriptions. Subscribers are compared by identity or however they hash."""

    def __init__(self) -> None:
        self._root: Node[S] = Node()
        self._remembered: dict[bytes, Matches[S]] = {}

    def add(self, text: bytes, subscriber: S, granted: Granted) -> bool:
        """Subscribe, replacing a subscription to the same filter [MQTT-3.8.4-3]; whether there was one."""
        self._remembered.clear()
        group, text = split_share(text)
        node = self._root
        for level in text.split(b"/"):
            node = node.children.setdefault(level, Node())
        members = node.shares.setdefault(group, Share()).members if group else node.subscribers
        existed = subscriber in members
        members[subscriber] = granted
        return existed

    def remove(self, text: bytes, subscriber: S) -> bool:
        """Unsubscribe; whether there was a subscription."""
        self._remembered.clear()
        group, text = split_share(text)
        path = [self._root]
        levels = text.split(b"/")
        for level in levels:
            child = path[-1].children.get(level)
            if child is None:
                return False
            path.append(child)
        node = path[-1]
        share = node.shares.get(group) if group else None
        members = node.subscribers if not group else share.members if share is not None else {}
        existed = members.pop(subscriber, None) is not None
        if share is not None and not share.members:
            del node.shares[group]
        for parent, level in zip(reversed(path[:-1]), reversed(levels), strict=True):
            if not parent.children[level].is_empty:
                break
            del parent.children[level]
        return existed

    def match(self, topic: bytes) -> Matches[S]:
        """Who has subscribed to the topic. The answer is shared: it must not be changed."""
        found = self._remembered.get(topic)
        if found is None:
            found = self._match(topic)
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[topic] = found
        return found

    def _match(self, topic: bytes) -> Matches[S]:
        levels = topic.split(b"/")
        direct: dict[S, tuple[Granted, ...]] = {}
        shares: list[Share[S]] = []

        def take(node: Node[S]) -> None:
            for subscriber, granted in node.subscribers.items():
                direct[subscriber] = (*direct.get(subscriber, ()), granted)
            shares.extend(node.shares.values())

        nodes = [self._root]
        for number, level in enumerate(levels):
            wildcards = number > 0 or not level.startswith(b"$")
            following = []
            for node in nodes:
                if wildcards and (child := node.children.get(b"#")) is not None:
                    take(child)
                if wildcards and (child := node.children.get(b"+")) is not None:
                    following.append(child)
                if (child := node.children.get(level)) is not None:
                    following.append(child)
            nodes = following
        for node in nodes:
            take(node)
            # «#» includes the parent level: «a/#» fits «a» (3.1.1 section 4.7.1.2).
            if (child := node.children.get(b"#")) is not None:
                take(child)
        return Matches(direct, tuple(shares))
