"""Topic names and filters, how they match (section 4.7), and UTF-8 (section 1.5)."""

from tests.conformance.packets import Puback, Publish, Suback, T, publish, subscribe
from tests.conformance.publish_rows import listens
from tests.conformance.script import V5, V31, V311, Table, a, b

TABLE = Table(4000)
row = TABLE.row
ALL = (V31, V311, V5)
OLD = (V31, V311)
BOTH = (V311, V5)

# Filter, topics that match, topics that do not; every one is below T/ unless it begins with !.
MATCHES: list[tuple[str, str, str, str]] = [
    ("4.7.1-2 4.7.1-1", "sport/tennis/player1/#",
     "sport/tennis/player1 sport/tennis/player1/ranking sport/tennis/player1/score/wimbledon sport/tennis/player1/",
     "sport/tennis/player2 sport/tennis sport/tennis/player11"),
    ("4.7.1-2 4.7.1-1", "sport/#", "sport sport/ sport/a sport/a/b", "sports Sport"),
    ("4.7.1-2 4.7.1-1", "#", "a a/b / // a/", ""),
    ("4.7.1-3 4.7.1-2", "sport/tennis/+", "sport/tennis/player1 sport/tennis/player2 sport/tennis/",
     "sport/tennis/player1/ranking sport/tennis"),
    ("4.7.1-3 4.7.1-2", "sport/+", "sport/ sport/a", "sport sport/a/b"),
    ("4.7.1-3 4.7.1-2", "sport/+/player1", "sport/tennis/player1 sport//player1", "sport/player1 sport/a/b/player1"),
    ("4.7.1-3 4.7.1-2", "+", "a b", "a/b /a"),
    ("4.7.1-3 4.7.1-2", "+/+", "a/b /finance finance/ /", "a a/b/c"),
    ("4.7.1-3 4.7.1-2", "/+", "/finance /", "finance //a"),
    ("4.7.1-3 4.7.1-2", "+/+/+", "a/b/c // /b/", "a/b a/b/c/d"),
    ("4.7.1-3 4.7.1-1", "+/tennis/#", "sport/tennis sport/tennis/a /tennis/a/b", "tennis/a a/b/tennis"),
    ("4.7.1-3 4.7.1-1", "+/#", "a a/b /", ""),
    ("4.7.3-1 4.7.3-4", "/finance", "/finance", "finance //finance finance/"),
    ("4.7.3-1 4.7.3-4", "finance/", "finance/", "finance finance//"),
    ("4.7.3-1 4.7.3-4", "a//b", "a//b", "a/b a///b"),
    ("4.7.3-1 4.7.3-4", "/", "/", "// a/"),
    ("4.7.3-4 4.7.3-4", "Accounts", "Accounts", "ACCOUNTS accounts Account Accountss"),
    ("4.7.3-4 4.7.3-4", "%41/b", "%41/b", "A/b"),
    ("4.7.3-4 4.7.3-4", "a/./b", "a/./b", "a/b"),
    ("4.7.3-4 4.7.3-4", "a/../b", "a/../b", "b"),
    ("4.7.3-4 4.7.3-4", "a\\/b", "a\\/b", "a/b a"),
    ("4.7.3-4 4.7.3-4", "*/b", "*/b", "a/b"),
    ("4.7.3-4 4.7.3-4", "\u00e9", "\u00e9", "e\u0301 e E\u0301"),
    ("4.7.3-4 4.7.3-4", "\u212b", "\u212b", "\u00c5"),
    ("4.7.3-4 4.7.3-4", "\U0001f680/+", "\U0001f680/x", "\U0001f681/x"),
    ("1.5.3-3 1.5.4-3", "\ufeffa", "\ufeffa", "a"),
    ("1.5.3-3 1.5.4-3", "a\ufeff", "a\ufeff", "a"),
]  # fmt: skip
for numbers, name, same, different in MATCHES:
    old, new = numbers.split()
    topics = [f"{T}/{topic}" for topic in same.split(" ")]
    others = [f"{T}/{topic}" for topic in different.split(" ") if topic]
    # A sentinel ends the row: what did not come before it does not come.
    row(f"the filter {name} matches {same or 'nothing'}, not {different or 'nothing else'}", {OLD: f"{old} 3.3.2-3", V5: f"{new} 3.3.2-3"},
        b.joins(), b.sends(subscribe(1, f"{T}/{name}", f"end/{T}")), b.gets(Suback(1, 0, 0)), a.joins(),
        a.sends(*(publish(topic, f"{i}") for i, topic in enumerate(topics + others)), publish(f"end/{T}")),
        b.gets(*(Publish(topic, f"{i}") for i, topic in enumerate(topics)), Publish(f"end/{T}")))  # fmt: skip
row("topics with spaces", {OLD: "4.7.3-4", V5: "4.7.3-4"},
    b.joins(), b.sends(subscribe(1, f"{T}/a b", f"{T}/+/ ")), b.gets(Suback(1, 0, 0)), a.joins(),
    a.sends(publish(f"{T}/a b"), publish(f"{T}/ab"), publish(f"{T}/x/ "), publish(f"{T}/ / ")),
    b.gets(Publish(f"{T}/a b"), Publish(f"{T}/x/ "), Publish(f"{T}/ / ")))  # fmt: skip
row("a topic that begins with a slash", {ALL: "4.7.3-4"},
    listens(name=f"/{T}/t"), a.joins(), a.sends(publish(f"{T}/t"), publish(f"/{T}/t")), b.gets(Publish(f"/{T}/t")))  # fmt: skip
row("a topic of 201 levels", {ALL: "4.7.3-3"},
    listens(name=T + "/a" * 198 + "/+/#"), a.joins(), a.sends(publish(T + "/a" * 200)), b.gets(Publish(T + "/a" * 200)))  # fmt: skip
row("a topic of 60000 bytes", {ALL: "4.7.3-3"},
    listens(name=f"{T}/#"), a.joins(), a.sends(publish(f"{T}/" + "a" * 60_000)), b.gets(Publish(f"{T}/" + "a" * 60_000)))  # fmt: skip

# $-topics.
for name in ("#", "+/@@@@@@/x", "+/#"):
    row(f"the filter {name} does not match topics that begin with $", {ALL: "4.7.2-1"},
        b.joins(), b.sees_all(), b.sends(subscribe(1, name)), b.gets(Suback(1, 0)), b.gets_nothing(), a.joins(),
        a.sends(publish(f"$foo/{T}/x"), publish(f"{T}/{T}/x", "shown")), b.gets(Publish(f"{T}/{T}/x", "shown")))  # fmt: skip
row("a filter that begins with $ matches such topics", {ALL: "4.7.2-1"},
    listens(name=f"$foo/{T}/+"), a.joins(), a.sends(publish(f"$foo/{T}/x")), b.gets(Publish(f"$foo/{T}/x")))  # fmt: skip
row("$SYS may be subscribed to, and is not published to", {ALL: "4.7.2-1"},
    b.joins(), b.sends(subscribe(1, f"$SYS/{T}/#")), b.gets(Suback(1, 0)), a.joins(),
    a.sends(publish(f"$SYS/{T}/x")), a.gets_nothing(), b.gets_nothing())  # fmt: skip
row("a $ further inside is an ordinary character", {ALL: "4.7.2-1"},
    listens(name=f"{T}/+/#"), a.joins(), a.sends(publish(f"{T}/$foo/$bar")), b.gets(Publish(f"{T}/$foo/$bar")))  # fmt: skip
row("+ does not match a $-topic's retained message", {ALL: "4.7.2-1"},
    a.joins(), a.sends(publish(f"$foo/{T}", qos=1, retain=True)), a.gets(Puback(1)),
    listens(name=f"+/{T}"), b.gets_nothing())  # fmt: skip

# UTF-8, in a topic that is published and in one that is subscribed to.
ILL_FORMED = {
    "a lone continuation byte": b"\x80", "a lone lead byte": b"\xc3", "an overlong slash": b"\xc0\xaf",
    "an overlong NUL": b"\xc0\x80", "an overlong form of three bytes": b"\xe0\x80\xaf", "a high surrogate": b"\xed\xa0\x80",
    "a low surrogate": b"\xed\xbf\xbf", "a surrogate pair": b"\xed\xa0\xbd\xed\xb8\x80",
    "a code point above U+10FFFF": b"\xf4\x90\x80\x80", "a lead byte of five": b"\xf8\x88\x80\x80\x80", "0xFF": b"\xff",
    "a character cut short": b"\xe2\x82",
}  # fmt: skip
for title, content in ILL_FORMED.items():
    row(f"{title} in a topic closes the connection", {V311: "1.5.3-1 3.3.2-1", V5: "1.5.4-1 3.3.2-1"},
        a.joins(), a.sends(publish(T.encode() + b"/" + content)), a.closed(0x81, 0x82, 0x90))  # fmt: skip
    row(f"{title} in a filter closes the connection", {V311: "1.5.3-1 3.8.3-1", V5: "1.5.4-1 3.8.3-1"},
        a.joins(), a.sends(subscribe(1, T.encode() + b"/" + content)), a.closed(0x81, 0x82, 0x8F))  # fmt: skip
row("U+0000 in a topic closes the connection", {V311: "1.5.3-2 4.7.3-2", V5: "1.5.4-2 4.7.3-2"},
    a.joins(), a.sends(publish(f"{T}/\0")), a.closed(0x81, 0x82, 0x90))  # fmt: skip
row("U+0000 at the end of a QoS 2 topic closes the connection", {V311: "1.5.3-2 4.7.3-2", V5: "1.5.4-2 4.7.3-2"},
    a.joins(), a.sends(publish(f"{T}/a\0", qos=2)), a.closed(0x81, 0x82, 0x90))  # fmt: skip
for content in ("\u00e4", "\u20ac", "\U0001f680", "\U0010fffd", "\ue000", "\u0800"):
    row(f"U+{ord(content):04X} in topic, filter and client id", {V311: "1.5.3-1", V5: "1.5.4-1"},
        b.joins(client=T + content), b.sends(subscribe(1, f"{T}/{content}")), b.gets(Suback(1, 0)),
        a.joins(), a.sends(publish(f"{T}/{content}")), b.gets(Publish(f"{T}/{content}")))  # fmt: skip
row("a client id with a byte order mark is another one", {V311: "1.5.3-3", V5: "1.5.4-3"},
    a.joins(client=f"{T}x"), b.joins(client=f"\ufeff{T}x"), a.gets_nothing(), b.gets_nothing())  # fmt: skip
