"""Retained messages of one user: the last one of each topic, found by filter.

Kept as a tree of levels, so that a subscription with wildcards looks only at what can fit it.
"""

from collections.abc import Iterator

from storage.notes import Message


class Node:
    """One level of topics."""

    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[bytes, Node] = {}
        self.message: Message | None = None


class RetainedMessages:
    """The retained messages of one user's topics.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        self._root = Node()
        self.count = 0

    def put(self, message: Message) -> bool:
        """Keep it as its topic's last message; whether it is the first one."""
        node = self._root
        for level in message.topic.split(b"/"):
            node = node.children.setdefault(level, Node())
        is_first = node.message is None
        self.count += is_first
        node.message = message
        return is_first

    def get(self, topic: bytes) -> Message | None:
        node: Node | None = self._root
        for level in topic.split(b"/"):
            node = node.children.get(level) if node is not None else None
        return node.message if node is not None else None

    def remove(self, topic: bytes) -> bool:
        """Whether there was one."""
        path, levels = [self._root], topic.split(b"/")
        for level in levels:
            child = path[-1].children.get(level)
            if child is None:
                return False
            path.append(child)
        if path[-1].message is None:
            return False
        path[-1].message = None
        self.count -= 1
        for parent, level in zip(reversed(path[:-1]), reversed(levels), strict=True):
            child = parent.children[level]
            if child.children or child.message is not None:
                break
            del parent.children[level]
        return True

    def __iter__(self) -> Iterator[Message]:
        """All of them, in no particular order."""
        yield from _all(self._root)

    def matching(self, text: bytes) -> Iterator[Message]:
        """Those whose topic fits the filter, in no particular order."""
        yield from _matching(self._root, text.split(b"/"), 0)


def _matching(node: Node, levels: list[bytes], at: int) -> Iterator[Message]:
    if at == len(levels):
        if node.message is not None:
            yield node.message
        return
    level = levels[at]
    if level == b"#":
        # «a/#» fits «a» too.
        if node.message is not None and at > 0:
            yield node.message
        for name, child in node.children.items():
            if at > 0 or not name.startswith(b"$"):
                yield from _all(child)
    elif level == b"+":
        for name, child in node.children.items():
            if at > 0 or not name.startswith(b"$"):
                yield from _matching(child, levels, at + 1)
    elif (found := node.children.get(level)) is not None:
        yield from _matching(found, levels, at + 1)


def _all(node: Node) -> Iterator[Message]:
    if node.message is not None:
        yield node.message
    for child in node.children.values():
        yield from _all(child)
