"""The REST services of a running daemon and what they have in common (contract 3.0)."""

from typing import Any

import pytest

from tests.daemon import Daemon

NEVER = "F" * 32


@pytest.fixture(scope="module")
def daemon(rest: Daemon) -> Daemon:
    return rest


Call = tuple[int, Any]


def call(daemon: Daemon, method: str, path: str, body: object = None, **headers: str) -> Call:
    """Status and JSON; headers as X_TAGNAME."""
    status, reply, found = daemon.request(
        method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
    )
    assert found["content-type"] == "application/json"
    return status, reply


def refused(daemon: Daemon, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    """Status and token of an error; it has words, too."""
    status, reply = call(daemon, method, path, body, **headers)
    assert list(reply) == ["error", "detail"], reply
    assert reply["detail"]
    return status, reply["error"]


# ---- common rules (3.0)

ROUTES = [
    ("GET", "/v2/device"), ("GET", "/v2/device/d"), ("POST", "/v2/device/d"), ("PUT", "/v2/device/d"),
    ("DELETE", "/v2/device/d"), ("GET", "/v2/channel"), ("GET", "/v2/channel/1"), ("POST", "/v2/channel/1"),
    ("PUT", "/v2/channel/1"), ("DELETE", "/v2/channel/1"), ("GET", "/v2/stream/1"), ("GET", "/v2/user"),
    ("PUT", "/v2/user"), ("POST", "/v2/user/token"), ("GET", "/v2/user/audit"), ("GET", "/v2/admin/users"),
    ("POST", "/v2/device"), ("GET", "/v2/channel/1/stream"), ("GET", "/v2/channel/1/stream/a"),
    ("PUT", "/v2/channel/1/stream/a"), ("DELETE", "/v2/channel/1/stream/a"), ("GET", "/v2/event"),
    ("GET", "/v2/event/1"), ("POST", "/v2/event"), ("PUT", "/v2/event/1"), ("DELETE", "/v2/event/1"), ("POST", "/v2/sql"),
    ("POST", "/v2/admin/users"), ("PUT", "/v2/admin/users/U000001"), ("GET", "/v2/admin/audit"),
]  # fmt: skip


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_the_api_token_there_is_nothing_to_see(
    daemon: Daemon, method: str, path: str, slash: str
) -> None:
    for token in ("", NEVER, daemon.user["device_token"], daemon.user["api_token"].lower(), "ÿ"):
        assert refused(daemon, method, path + slash, X_APITOKEN=token) == (401, "AUTH_REQUIRED")


@pytest.mark.parametrize(
    "path", ["/", "/v2", "/v2/", "/v2/devices", "/v2/user/x", "/v2/channel/1/x", "/v3/user", "/%F0%9F%98%80"]
)
def test_an_unknown_path_is_404(daemon: Daemon, path: str) -> None:
    assert refused(daemon, "GET", path) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/user", "GET, HEAD, PUT"),
        ("DELETE", "/v2/user/", "GET, HEAD, PUT"),
        ("PUT", "/v2/device", "GET, HEAD, POST"),
        ("PATCH", "/v2/device/d", "DELETE, GET, HEAD, POST, PUT"),
        ("DELETE", "/v2/channel/", "GET, HEAD"),
        ("PUT", "/v2/stream/1", "GET, HEAD, POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
def test_a_wrong_verb_is_405(daemon: Daemon, method: str, path: str, allowed: str) -> None:
    assert refused(daemon, method, path) == (405, "METHOD_NOT_ALLOWED")
    assert daemon.request(method, path)[2]["allow"] == allowed


@pytest.mark.parametrize(
    "body",
    ["{", "", " ", "[]", "7", '"x"', "null", '{"a":NaN}', "{'a':1}", b"\xff\xfe", "[" * 100_000, "v=1&v2=2"],
)
@pytest.mark.parametrize("path", ["/v2/device/json", "/v2/channel/39", "/v2/user"])
def test_a_body_that_is_no_json_object_is_refused(daemon: Daemon, path: str, body: str | bytes) -> None:
    call(daemon, "POST", path)
    assert refused(daemon, "PUT", path, body) == (400, "BAD_JSON_FORMAT")


@pytest.mark.parametrize(
    "label",
    [
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data",
        "application/xml; charset=latin1",
    ],
)
def test_a_body_is_json_whatever_its_label_says(daemon: Daemon, label: str) -> None:
    status, reply = call(daemon, "PUT", "/v2/user", '{"user_alias":"ä€😀"}'.encode(), Content_Type=label)
    assert (status, reply["user_alias"]) == (200, "ä€😀")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/device/half", r'{"description":"\ud800"}'),
        ("/v2/device/half", r'{"enabled":"\ud800"}'),
        ("/v2/device/half", r'{"mapped_ch":"\ud800"}'),
        ("/v2/channel/39", r'{"channel_name":"x\udfff"}'),
        ("/v2/user", r'{"organization":"\ud800x"}'),
        ("/v2/user", r'{"locale":"\ud800"}'),
    ],
)
def test_half_a_surrogate_pair_is_refused(daemon: Daemon, path: str, body: str) -> None:
    call(daemon, "POST", path)
    assert refused(daemon, "PUT", path, body) == (400, "BAD_JSON_FORMAT")


@pytest.mark.parametrize(
    "path",
    [
        "/v2/device", "/v2/device/d", "/v2/channel", "/v2/channel/1", "/v2/channel/1/stream", "/v2/channel/1/stream/x",
        "/v2/stream/37", "/v2/event", "/v2/event/1", "/v2/session", "/v2/user", "/v2/user/audit",
    ],
)  # fmt: skip
def test_a_parameter_that_there_is_not_is_refused(daemon: Daemon, path: str) -> None:
    call(daemon, "POST", "/v2/channel/37")
    assert refused(daemon, "GET", f"{path}?nonsense=1") == (400, "BAD_PARAMETER")
    if path in ("/v2/device/d", "/v2/channel/1", "/v2/channel/1/stream/x", "/v2/event/1"):
        assert refused(daemon, "DELETE", f"{path}?nonsense=1") == (400, "BAD_PARAMETER")


def test_what_old_clients_ask_passes_parameters_and_headers_over(daemon: Daemon) -> None:
    call(daemon, "POST", "/v2/channel/38")
    for path in ("/v1/channel", "/v1/channel/38", "/v1/stream/38", "/healthz"):
        assert call(daemon, "GET", f"{path}?nonsense=1", X_ENDTIME="last", X_NONSENSE="1")[0] == 200
    assert call(daemon, "GET", "/v2/channel/38", X_NONSENSE="1")[0] == 200
    assert daemon.post("passing", "1", "/post_v2/?nonsense=1")[0] == 201
