"""What a topic filter fits, said once more in another way: as a regular expression."""

import re

from hypothesis import strategies as st

# Few names, so that filters and topics meet; an empty level and one with a dollar are levels too.
NAMES = [b"a", b"b", b"", b"$c"]
TOPICS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(b"/".join).filter(bool)


@st.composite
def filters(draw: st.DrawFn) -> bytes:
    """A well-formed filter, ``#`` at its end or nowhere."""
    levels = draw(st.lists(st.sampled_from([*NAMES, b"+"]), max_size=4))
    if not levels or draw(st.booleans()):
        levels.append(b"#")
    return b"/".join(levels) or b"+"


def fits(text: bytes, topic: bytes) -> bool:
    """Whether the filter fits the topic (3.1.1 section 4.7)."""
    if topic.startswith(b"$") and text[:1] in (b"+", b"#"):
        return False
    if text == b"#":
        return True
    stem, has_tail = (text[:-2], True) if text.endswith(b"/#") else (text, False)
    pattern = b"/".join(b"[^/]*" if level == b"+" else re.escape(level) for level in stem.split(b"/"))
    return re.fullmatch(pattern + (b"(/.*)?" if has_tail else b""), topic) is not None
