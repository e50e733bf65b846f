"""The Event service of a running daemon (contract 3.4, fields as in 1.7)."""

from typing import Any

import pytest

from tests.daemon import Daemon
from tests.live.test_rest import call, refused

BLANK = {
    "mapped_ch": None, "description": "", "notify_type": "email", "post_url": "", "enabled": False, "source": "",
    "operator": "=", "threshold": "",
}  # fmt: skip
FULL = {
    "mapped_ch": 3, "description": "boiler hot", "notify_type": "http", "post_url": "https://ops.example/hook",
    "enabled": True, "source": "temp", "operator": ">=", "threshold": "75",
}  # fmt: skip


@pytest.fixture(scope="module")
def daemon(rest: Daemon) -> Daemon:
    call(rest, "POST", "/v2/channel/3")
    return rest


def made(daemon: Daemon, body: object = None) -> dict[str, Any]:
    status, event = call(daemon, "POST", "/v2/event/", body)
    assert status == 201, event
    found: dict[str, Any] = event
    return found


def test_an_event_is_made_blank_filled_shown_and_deleted(daemon: Daemon) -> None:
    event = made(daemon)
    number = event.pop("event_id")
    assert type(number) is int
    assert event == BLANK
    assert list(made(daemon)) == ["event_id", *BLANK]
    assert call(daemon, "PUT", f"/v2/event/{number}", FULL) == (200, {"event_id": number, **FULL})
    assert call(daemon, "GET", f"/v2/event/{number}") == (200, [{"event_id": number, **FULL}])
    assert call(daemon, "PUT", f"/v2/event/{number}/", {"enabled": "false"})[1]["enabled"] is False
    assert {"event_id": number, **FULL, "enabled": False} in call(daemon, "GET", "/v2/event")[1]
    assert call(daemon, "DELETE", f"/v2/event/{number}") == (200, {})
    for method, body in (("GET", None), ("PUT", {}), ("DELETE", None)):
        assert refused(daemon, method, f"/v2/event/{number}", body) == (404, "NO_EVENT")


def test_event_ids_count_up_and_are_never_used_again(daemon: Daemon) -> None:
    first = made(daemon)["event_id"]
    second = made(daemon, FULL)
    assert second == {"event_id": first + 1, **FULL}
    call(daemon, "DELETE", f"/v2/event/{first + 1}")
    assert made(daemon)["event_id"] == first + 2


@pytest.mark.parametrize(
    ("given", "shown"),
    [(75, "75"), (75.0, "75"), (-1.5, "-1.5"), ("a", "a"), ("", ""), (1e300, str(int(1e300)))],
)
def test_a_threshold_is_a_number_or_a_text_and_shown_as_a_text(
    daemon: Daemon, given: Any, shown: str
) -> None:
    assert made(daemon, {"threshold": given})["threshold"] == shown


@pytest.mark.parametrize("operator", ["<", ">", "<=", ">=", "=", "!="])
@pytest.mark.parametrize("notify_type", ["email", "http"])
def test_every_operator_and_notification_is_taken(daemon: Daemon, operator: str, notify_type: str) -> None:
    event = made(daemon, {"operator": operator, "notify_type": notify_type})
    assert (event["operator"], event["notify_type"]) == (operator, notify_type)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"operator": "=="}, (400, "BAD_JSON_FORMAT")),
        ({"operator": None}, (400, "BAD_JSON_FORMAT")),
        ({"notify_type": "sms"}, (400, "BAD_JSON_FORMAT")),
        ({"enabled": "perhaps"}, (400, "BAD_JSON_FORMAT")),
        ({"threshold": True}, (400, "BAD_JSON_FORMAT")),
        ({"threshold": []}, (400, "BAD_JSON_FORMAT")),
        ({"source": 1}, (400, "BAD_JSON_FORMAT")),
        ({"description": "x" * 1_025}, (400, "BAD_JSON_FORMAT")),
        ({"post_url": ["x"]}, (400, "BAD_JSON_FORMAT")),
        *(
            ({"post_url": url}, (400, "BAD_JSON_FORMAT"))
            for url in (
                "ops.example/hook",
                "/hook",
                "//ops.example/",
                "ftp://ops.example/",
                "javascript:alert(1)",
                "http://",
                "http:///x",
                "http://me:secret@ops.example/",
                "http://me@ops.example/",
                "http://ops.example:99999/",
                "http://ops.example:x/",
                "http://ops.example/a b",
                "http://ops.example/\n",
                "http://ops.example\r\nX: y",
                "http://ops.example/\u00e4",
                " http://ops.example/",
                "http://ops.example/" + "x" * 1_024,
            )
        ),
        ({"mapped_ch": "x"}, (400, "BAD_JSON_FORMAT")),
        ({"mapped_ch": 99}, (404, "NO_CHANNEL")),
        ("{", (400, "BAD_JSON_FORMAT")),
        ("[]", (400, "BAD_JSON_FORMAT")),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    daemon: Daemon, body: object, answer: tuple[int, str]
) -> None:
    event = made(daemon, FULL)
    before = call(daemon, "GET", "/v2/event")
    assert refused(daemon, "POST", "/v2/event", body) == answer
    assert refused(daemon, "PUT", f"/v2/event/{event['event_id']}", body) == answer
    assert call(daemon, "GET", "/v2/event") == before


@pytest.mark.parametrize(
    "url",
    [
        "", "http://ops.example", "https://ops.example:8443/hook?to=a@b.example&x=%20#top", "HTTP://10.0.0.7/x",
        "http://[::1]:80/", "http://ops.example?x",
    ],
)  # fmt: skip
def test_a_webhook_is_an_absolute_url(daemon: Daemon, url: str) -> None:
    assert made(daemon, {"notify_type": "http", "post_url": url})["post_url"] == url


def test_keys_that_are_not_known_or_fixed_are_passed_over(daemon: Daemon) -> None:
    event = made(daemon, {"event_id": 999_999, "what": 1})
    assert event["event_id"] != 999_999
    assert call(daemon, "PUT", f"/v2/event/{event['event_id']}", {"event_id": 1})[1] == event


@pytest.mark.parametrize("number", ["0", "999999", "-1", "x", "1.0", "9" * 30, "%F0%9F%98%80"])
def test_what_is_no_event_is_not_found(daemon: Daemon, number: str) -> None:
    assert refused(daemon, "GET", f"/v2/event/{number}") == (404, "NO_EVENT")


def test_an_event_of_a_deleted_channel_watches_none(daemon: Daemon) -> None:
    call(daemon, "POST", "/v2/channel/8")
    event = made(daemon, {"mapped_ch": 8, "enabled": True})
    call(daemon, "DELETE", "/v2/channel/8")
    assert call(daemon, "GET", f"/v2/event/{event['event_id']}")[1] == [{**event, "mapped_ch": None}]


def test_events_are_their_users_own(daemon: Daemon) -> None:
    event = made(daemon, FULL)
    mine = daemon.user
    try:
        daemon.add_user()
        assert call(daemon, "GET", "/v2/event") == (200, [])
        assert refused(daemon, "GET", f"/v2/event/{event['event_id']}") == (404, "NO_EVENT")
        assert refused(daemon, "PUT", f"/v2/event/{event['event_id']}", {}) == (404, "NO_EVENT")
        assert made(daemon)["event_id"] == 1
    finally:
        daemon.user = mine
