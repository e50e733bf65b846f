"""Every refusal has an answer, and every answer is one valid HTTP response."""

import h11
import pytest

from ingest.connector import METHOD
from ingest.refusals import ANSWERS, STORED, Answer, http_bytes, http_replies
from storage.kinds import Refusal

NOW = 784_111_777.0  # RFC 9110's example, section 5.6.7
ALL = {"STORED": STORED, "METHOD": METHOD, **{refusal.name: answer for refusal, answer in ANSWERS.items()}}

# Contract 2.2, and our own names for what the contract leaves open.
STATUS = {
    Refusal.AUTH_REQUIRED: 401,
    Refusal.DEVICE_ID_ZERO: 400,
    Refusal.NEW_DEVICE_FOUND: 201,
    Refusal.MAX_DEVICE_REACH: 403,
    Refusal.NO_MAPPED_CH: 403,
    Refusal.DEVICE_DISABLED: 403,
    Refusal.TOO_MANY_REQUESTS: 429,
    Refusal.BAD_JSON_FORMAT: 400,
    Refusal.PAYLOAD_TOO_LARGE: 413,
}


def parse(received: bytes) -> tuple[h11.Response, bytes, h11.Connection]:
    """One response as a client reads it, with nothing left over."""
    client = h11.Connection(h11.CLIENT)
    client.send(
        h11.Request(method="POST", target="/post_v2/", headers=[("Host", "t"), ("Content-Length", "0")])
    )
    client.send(h11.EndOfMessage())
    client.receive_data(received)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data == (b"", False)
    return response, body, client


def field(response: h11.Response, name: bytes) -> bytes | None:
    values = [value for each, value in response.headers if each == name]
    assert len(values) <= 1
    return values[0] if values else None


@pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.name)
def test_every_refusal_has_an_answer_that_says_its_name(refusal: Refusal) -> None:
    answer = ANSWERS[refusal]
    assert answer.token == refusal.name
    # 201 is a refusal, too: the device was registered, the reading was not stored.
    expected = {Refusal.NEW_DEVICE_FOUND: 2, Refusal.UNAVAILABLE: 5}.get(refusal, 4)
    assert answer.status // 100 == expected


@pytest.mark.parametrize(
    ("refusal", "status"), STATUS.items(), ids=lambda each: getattr(each, "name", str(each))
)
def test_the_status_is_the_contracts(refusal: Refusal, status: int) -> None:
    assert ANSWERS[refusal].status == status


def test_stored_is_ok() -> None:
    assert (STORED.status, STORED.token) == (200, "OK")


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("answer", ALL.values(), ids=ALL)
def test_the_bytes_of_an_answer_are_one_http_response(answer: Answer, close: bool) -> None:
    response, body, client = parse(http_bytes(answer, NOW, close=close))
    assert (response.status_code, response.reason) == (answer.status, answer.reason.encode())
    assert body == answer.token.encode()
    assert field(response, b"content-type") == b"text/plain"
    assert field(response, b"content-length") == str(len(body)).encode()
    assert field(response, b"date") == b"Sun, 06 Nov 1994 08:49:37 GMT"
    for name, value in answer.headers:
        assert field(response, name.lower().encode()) == value.encode()
    if close:
        assert field(response, b"connection") == b"close"
        assert client.our_state is h11.MUST_CLOSE
    else:
        assert field(response, b"connection") is None
        client.start_next_cycle()
        assert client.our_state is h11.IDLE


@pytest.mark.parametrize(("refusal", "name"), [
    (Refusal.AUTH_REQUIRED, "WWW-Authenticate"),  # RFC 9110 section 15.5.2
    (Refusal.TOO_MANY_REQUESTS, "Retry-After"),  # contract 2.5
])  # fmt: skip
def test_an_answer_says_what_to_do_next(refusal: Refusal, name: str) -> None:
    assert [each for each, _ in ANSWERS[refusal].headers] == [name]


def test_another_method_is_told_the_one_that_is_allowed() -> None:
    assert METHOD.headers == (("Allow", "POST"),)  # RFC 9110 section 15.5.6


def test_the_replies_stand_at_the_refusals_numbers() -> None:
    replies = http_replies(NOW)
    assert len(replies) == 1 + len(Refusal)
    for number, pair in enumerate(replies):
        answer = ANSWERS[Refusal(number)] if number else STORED
        assert pair == (http_bytes(answer, NOW, close=False), http_bytes(answer, NOW, close=True))
