"""The knowledge after a call of WhatsApp's API, for all that the network can do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from rapport.errors import ConfigError
from rapport.parameters import OneToken, ParameterTokens, token_source
from rapport.settings import GraphSettings
from rapport.whatsapp.graph import Accepted, GraphClient, Outcome, Refused, Unknown

NUMBER = "1003427786179738"
SECRET = "EAAG-secret"
SETTINGS = GraphSettings(
    whatsapp_graph_url=HttpUrl("https://graph.example/v26.0"), whatsapp_token=SecretStr(SECRET)
)

Respond = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def clients() -> Iterator[Callable[[Respond], GraphClient]]:
    opened: list[GraphClient] = []

    def opens(respond: Respond) -> GraphClient:
        opened.append(GraphClient(SETTINGS, httpx.MockTransport(respond)))
        return opened[-1]

    yield opens
    for client in opened:
        client.close()


Clients = Callable[[Respond], GraphClient]


def answers(status: int, body: object, **headers: str) -> Respond:
    content = body if isinstance(body, str) else json.dumps(body)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request: httpx.Response(status, content=content, headers=names)


def error(code: int, **more: object) -> dict[str, object]:
    known: dict[str, object] = {"message": "in words", "type": "OAuthException", "code": code}
    return {"error": known | more}


def raises(error: type[httpx.RequestError]) -> Respond:
    def respond(request: httpx.Request) -> httpx.Response:
        raise error("no", request=request)

    return respond


def send(clients: Clients, respond: Respond) -> Outcome:
    return clients(respond).send(NUMBER, {"type": "text"})


def test_a_message_goes_to_its_number_with_the_token(clients: Clients) -> None:
    requests = []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"messages": [{"id": "wamid.1"}]})

    assert send(clients, respond) == Accepted("wamid.1")
    (request,) = requests
    assert request.method == "POST"
    assert request.url == f"https://graph.example/v26.0/{NUMBER}/messages"
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert json.loads(request.content) == {"type": "text"}


@pytest.mark.parametrize(
    "failure", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError]
)
def test_without_a_connection_nothing_was_sent(
    clients: Clients, failure: type[httpx.RequestError]
) -> None:
    assert send(clients, raises(failure)) == Refused(-1, failure.__name__)


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ReadTimeout,
        httpx.WriteTimeout,
        httpx.ReadError,
        httpx.WriteError,
        httpx.RemoteProtocolError,
        httpx.DecodingError,
    ],
)
def test_once_something_went_over_the_line_nobody_knows(
    clients: Clients, failure: type[httpx.RequestError]
) -> None:
    assert send(clients, raises(failure)) == Unknown(failure.__name__)


@pytest.mark.parametrize(
    "respond",
    [
        answers(200, ""),
        answers(200, "<html>"),
        answers(200, {"messages": []}),
        answers(200, {"success": True}),
        answers(302, ""),
        answers(400, "<html>"),
        answers(500, {"error": "text"}),
        answers(502, "<html>Bad gateway</html>"),
        answers(503, ""),
    ],
)
def test_an_answer_that_is_not_whatsapps_proves_nothing(clients: Clients, respond: Respond) -> None:
    assert isinstance(send(clients, respond), Unknown)


@pytest.mark.parametrize("status", [400, 401, 403, 500, 503])
def test_an_error_of_whatsapps_is_its_code_whatever_the_status(
    clients: Clients, status: int
) -> None:
    assert send(clients, answers(status, error(131026))) == Refused(131026, "in words")


@pytest.mark.parametrize(
    "odd",
    [
        {"error_data": "in words"},
        {"error_data": []},
        {"error_data": {"details": None}},
        {"message": None},
        {"error_subcode": "463"},
    ],
)
def test_a_code_counts_however_odd_the_rest_is(clients: Clients, odd: dict[str, object]) -> None:
    outcome = send(clients, answers(401, error(190, **odd)))
    assert isinstance(outcome, Refused)
    assert outcome.code == 190


def test_the_details_say_more_than_the_message(clients: Clients) -> None:
    told = answers(400, error(132000, error_data={"details": "expected 2, given 1"}))
    assert send(clients, told) == Refused(132000, "expected 2, given 1")


def test_details_are_cut(clients: Clients) -> None:
    outcome = send(clients, answers(400, error(100, message="x" * 5000)))
    assert outcome == Refused(100, "x" * 500)


def test_a_number_that_the_token_does_not_see_is_the_tokens_fault(clients: Clients) -> None:
    assert send(clients, answers(400, error(100, error_subcode=33))) == Refused(200, "in words")
    assert send(clients, answers(400, error(100, error_subcode=34))) == Refused(100, "in words")


@pytest.mark.parametrize(
    ("header", "wait"),
    [("30", 30), ("-5", 0), ("999999999", 86_400), ("soon", None)],
)
def test_whatsapps_wait_is_taken_over(clients: Clients, header: str, wait: int | None) -> None:
    limited = answers(429, error(130429), retry_after=header)
    assert send(clients, limited) == Refused(130429, "in words", wait)


def test_a_wait_may_be_a_date(clients: Clients) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    outcome = send(clients, answers(429, error(4), retry_after=at))
    assert isinstance(outcome, Refused)
    assert outcome.retry_after is not None
    assert 0 < outcome.retry_after <= 60


def test_429_of_a_proxy_is_too_many_calls(clients: Clients) -> None:
    limited = answers(429, "slow down", retry_after="7")
    assert send(clients, limited) == Refused(4, "HTTP status 429", 7)


@pytest.mark.parametrize("typing", [True, False])
def test_a_message_is_marked_as_read(clients: Clients, typing: bool) -> None:
    bodies = []

    def respond(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json={"success": True})

    assert clients(respond).mark_read(NUMBER, "wamid.1", typing=typing) == Accepted("wamid.1")
    expected: dict[str, object] = {
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": "wamid.1",
    }
    assert bodies == [expected | ({"typing_indicator": {"type": "text"}} if typing else {})]


def test_marking_as_read_may_be_refused(clients: Clients) -> None:
    client = clients(answers(400, error(131009)))
    assert client.mark_read(NUMBER, "wamid.1", typing=False) == Refused(131009, "in words")


def test_without_a_token_nothing_is_sent() -> None:
    def respond(_request: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing is to be sent")

    client = GraphClient(GraphSettings(), httpx.MockTransport(respond))
    outcome = client.send(NUMBER, {})
    client.close()
    assert isinstance(outcome, Refused)
    assert outcome.code == -3
    assert "WHATSAPP_TOKEN" in outcome.details


class Tokens:
    """Gives another token after one was forgotten."""

    def __init__(self) -> None:
        self.forgotten = 0

    def token(self, phone_number_id: str) -> SecretStr:
        return SecretStr(f"token {self.forgotten} of {phone_number_id}")

    def forget(self, phone_number_id: str) -> None:
        assert phone_number_id == NUMBER
        self.forgotten += 1


def test_a_token_that_was_not_accepted_is_read_anew() -> None:
    seen = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(401, json=error(190))

    client = GraphClient(SETTINGS, httpx.MockTransport(respond), Tokens())
    assert client.send(NUMBER, {}) == Refused(190, "in words")
    client.send(NUMBER, {})
    client.close()
    # each call is made once more with the other token, which is not accepted either
    tries = (0, 1, 1, 2)
    assert seen == [f"Bearer token {number} of {NUMBER}" for number in tries]


def test_a_parameter_for_each_number_comes_before_one_token_for_all() -> None:
    both = GraphSettings(
        whatsapp_token=SecretStr(SECRET), whatsapp_token_parameter="/x/{phone_number_id}"
    )
    assert isinstance(token_source(both), ParameterTokens)
    assert isinstance(token_source(SETTINGS), OneToken)


def test_no_token_is_shown(clients: Clients) -> None:
    source = OneToken(SecretStr(SECRET))
    shown = f"{SETTINGS!r} {source!r} {source.token(NUMBER)!r}"
    shown += repr(send(clients, raises(httpx.ReadTimeout)))
    with pytest.raises(ConfigError) as caught:
        OneToken(None).token(NUMBER)
    assert SECRET not in f"{shown} {caught.value}"
