"""What a request is for: the request-target (RFC 9112 section 3.2) and the Host field (RFC 9110 section 7.2).

Both are checked against RFC 3986's characters, nothing more is tolerated: a target that two readers could read
differently is an attack on one of them. An absolute-form overrules Host (RFC 9112 section 3.2.2), yet a wrong
Host is refused beside it too.
"""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple

from query.http.errors import ProtocolError

# RFC 3986: pchar, "/" and "?", with "%" checked apart so that the match stays linear.
ORIGIN = re.compile(rb"/[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*(?:\?[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]*)?")
QUERY_ONLY = re.compile(rb"\?[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]*")
BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+\-.]*)://([^/?#]*)(.*)")
# uri-host [":" port]; reg-name without the empty one, IP literals checked apart.
HOST = re.compile(
    rb"(?:(?P<name>[A-Za-z0-9\-._~!$&'()*+,;=%]+)|\[(?P<literal>[0-9A-Za-z:.\-_~!$&'()*+,;=]+)\])(?::(?P<port>[0-9]*))?"
)
FUTURE = re.compile(r"[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+")
PORT_MAX = 65_535

# The common names cost a look-up instead of a match; bounded, and never holds a wrong one.
_HOSTS_KNOWN_MAX = 256
_hosts_known: set[bytes] = set()


class Target(NamedTuple):
    """Where a request goes.

    Attributes:
        path: still percent-encoded; ``*`` for the whole server.
        query: without its question mark.
        authority: of an absolute-form, else None and Host has it.
    """

    path: bytes
    query: bytes
    authority: bytes | None


def is_host(value: bytes) -> bool:
    """Whether a Host field's value is uri-host [":" port]; an empty one is (RFC 9112 section 3.2)."""
    if value in _hosts_known or not value:
        return True
    found = HOST.fullmatch(value)
    if found is None or BAD_PERCENT.search(value):
        return False
    if found["port"] and (len(found["port"]) > 5 or int(found["port"]) > PORT_MAX):
        return False
    if found["literal"] is not None and not _is_ip_literal(found["literal"].decode("ascii")):
        return False
    if len(_hosts_known) < _HOSTS_KNOWN_MAX:
        _hosts_known.add(value)
    return True


def parse_target(method: bytes, target: bytes) -> Target:
    """The four forms of RFC 9112 section 3.2, each where it is allowed.

    Raises:
        ProtocolError: 400 for a wrong form or character, 421 for https over this unsecured connection.
    """
    if method == b"CONNECT":
        # authority-form, section 3.2.3; the port is not optional.
        if not target or not is_host(target) or not target.rpartition(b":")[2].isdigit():
            raise ProtocolError(400, "CONNECT needs host:port")
        return Target(target, b"", target)
    if target[:1] == b"/":
        if ORIGIN.fullmatch(target) is None or (b"%" in target and BAD_PERCENT.search(target)):
            raise ProtocolError(400, "the request target has a character that a URI cannot have")
        path, _, query = target.partition(b"?")
        return Target(path, query, None)
    if target == b"*":
        if method != b"OPTIONS":
            raise ProtocolError(400, "the target * is for OPTIONS")
        return Target(b"*", b"", None)
    return _parse_absolute(method, target)


def _parse_absolute(method: bytes, target: bytes) -> Target:
    found = ABSOLUTE.fullmatch(target)
    if found is None:
        raise ProtocolError(400, "the request target is neither a path nor an absolute URI")
    scheme, authority, rest = found.groups()
    if scheme.lower() not in (b"http", b"https"):
        raise ProtocolError(400, "the request target's scheme is not http")
    # RFC 9110 sections 4.2.1 (an empty host) and 4.2.4 (userinfo): both are errors.
    if not authority or b"@" in authority or not is_host(authority):
        raise ProtocolError(400, "the request target's authority is not host[:port]")
    if scheme.lower() == b"https":
        raise ProtocolError(421, "https is not spoken on this port")
    if not rest and method == b"OPTIONS":
        return Target(b"*", b"", authority)  # section 3.2.4
    if rest[:1] != b"/":
        if rest and QUERY_ONLY.fullmatch(rest) is None:
            raise ProtocolError(400, "the request target has a character that a URI cannot have")
        rest = b"/" + rest
    path, query, _ = parse_target(b"GET", rest)
    return Target(path, query, authority)


def _is_ip_literal(text: str) -> bool:
    if FUTURE.fullmatch(text):
        return True
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True
