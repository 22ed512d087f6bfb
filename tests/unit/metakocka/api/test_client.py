"""The knowledge after a call of Metakocka, for all that the network and its server can do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tests.unit.metakocka.documented import (
    ADDED,
    DOCUMENTS,
    FOUND,
    REFUSED,
    TESTNI,
    UPDATED,
    UPORABNIK,
)

from rapport.errors import (
    ConfigError,
    MetakockaClosed,
    MetakockaError,
    MetakockaOutcomeUnknown,
    MetakockaRefused,
    MetakockaUnavailable,
)
from rapport.metakocka.agreement.party import Party, Person
from rapport.metakocka.api import client as calls
from rapport.metakocka.api.bodies import new_partner, partner_update
from rapport.metakocka.api.client import POLICIES, Company, MetakockaClient, Policy
from rapport.metakocka.api.from_partner import from_record
from rapport.parameters import OneSecret
from rapport.retry import Retries

SECRET = "8899-secret-key"
COMPANY = Company("an account", "16", "https://main.metakocka.example/rest/eshop/v1")
NOVAK = new_partner(
    Party(name="Novak", street="Cesta 1", post_number="1000", place="Kranj", country="Slovenija")
)
REPEATABLE = partner_update(from_record(TESTNI), {"name": "Novak"})
ADDING = partner_update(from_record(UPORABNIK), {"people": (Person(name="Ana"),)})
AT_ONCE = {name: Policy(retries=Retries(attempts=3, first_wait=0)) for name in POLICIES}
PAGE = "<!DOCTYPE html><title>Prijava</title>"

Respond = Callable[[httpx.Request], httpx.Response]


class Server:
    """Answers in turn as it is told, and the last answer for ever."""

    def __init__(self, *answers: Respond) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request)


@pytest.fixture
def clients() -> Iterator[Callable[[Respond], MetakockaClient]]:
    opened: list[MetakockaClient] = []

    def opens(respond: Respond) -> MetakockaClient:
        transport = httpx.MockTransport(respond)
        secrets = OneSecret(SecretStr(SECRET))
        opened.append(MetakockaClient(COMPANY, secrets, AT_ONCE, transport))
        return opened[-1]

    yield opens
    for client in opened:
        client.close()


Clients = Callable[[Respond], MetakockaClient]


def answers(body: object, status: int = 200, **headers: str) -> Respond:
    content = body if isinstance(body, str) else json.dumps(body)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request: httpx.Response(status, content=content, headers=names)


def breaks(error: type[httpx.RequestError]) -> Respond:
    def respond(request: httpx.Request) -> httpx.Response:
        raise error(request.content.decode(), request=request)

    return respond


def body(request: httpx.Request) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(request.content)
    return sent


def test_a_call_carries_the_key_and_the_company_in_its_body(clients: Clients) -> None:
    server = Server(answers(ADDED))
    created = clients(server).add_partner(NOVAK)
    assert created.mk_id == "228000046627"
    assert created.mk_contact_id == "228000046630"
    assert [one.street for one in created.mk_address_id_list] == ["Test, 4", "Tehnološki park 24"]
    (request,) = server.requests
    assert request.method == "POST"
    assert str(request.url) == f"{COMPANY.url}/add_partner"
    assert body(request) == {"secret_key": SECRET, "company_id": "16", "partner": NOVAK.body}


def test_partners_are_found_listed_and_updated(clients: Clients) -> None:
    server = Server(answers(FOUND))
    client = clients(server)
    assert [one.customer for one in client.find_partners("partner_name", "janez")] == [
        "BAJEC JANEZ",
        "TESTNI JANEZ",
    ]
    assert client.get_partner("228000012291") == TESTNI
    assert client.get_partner("404") is None
    assert len(client.list_partners()) == 2
    sent = [body(request) for request in server.requests]
    assert [one.get("partner_name", one.get("partner_id")) for one in sent] == [
        "janez",
        "228000012291",
        "404",
        "",
    ]
    assert ADDING
    assert clients(Server(answers(UPDATED))).update_partner(ADDING) == UPORABNIK
    assert clients(Server(answers({"opr_code": "0"}))).update_partner(ADDING) is None


def test_documents_are_searched_by_pages(clients: Clients) -> None:
    server = Server(answers(DOCUMENTS))
    since = datetime(2019, 12, 17, 12, 28, 54, 1, UTC)
    page = clients(server).search_documents("sales_order", since, limit=50, offset=100)
    assert page.partner_ids == ["180600025047"]
    assert body(server.requests[0]) == {
        "secret_key": SECRET,
        "company_id": "16",
        "doc_type": "sales_order",
        "result_type": "doc",
        "query_advance": [{"type": "last_change_from", "value": "2019-12-17T12:28:54+00:00"}],
        "limit": "50",
        "offset": "100",
    }
    with pytest.raises(ValueError, match="100"):
        clients(server).search_documents("sales_order", since, limit=101)


LOST: list[Respond] = [
    breaks(httpx.ReadTimeout),
    breaks(httpx.WriteError),
    breaks(httpx.RemoteProtocolError),
    answers(PAGE),
    answers(PAGE, 302),
    answers(PAGE, 500),
    answers(PAGE, 503, retry_after="0"),
    answers(PAGE, 408),
    answers(PAGE, 429),
    answers("[]"),
    answers({"opr_code": "1", "error_desc": "java.lang.InterruptedException"}),
]
NOT_HEARD: list[Respond] = [
    breaks(httpx.ConnectError),
    breaks(httpx.ConnectTimeout),
]
REFUSALS: list[Respond] = [answers(REFUSED), answers(PAGE, 400), answers({"opr_code": 2})]
# about everybody: a quota that is used up, a company or key that may not
CLOSED: list[Respond] = [
    *(answers({"opr_code": code, "opr_desc": "No."}) for code in ("3", "4", "5")),
    *(answers(PAGE, status) for status in (401, 402, 403)),
]


@pytest.mark.parametrize("lost", [*LOST, answers({"opr_code": "0"})])
def test_a_creation_whose_answer_is_lost_is_not_repeated(clients: Clients, lost: Respond) -> None:
    server = Server(lost)
    with pytest.raises(MetakockaOutcomeUnknown) as caught:
        clients(server).add_partner(NOVAK)
    assert len(server.requests) == 1
    assert (caught.value.operation, caught.value.attempts) == ("add_partner", 1)
    assert not caught.value.retryable


@pytest.mark.parametrize("lost", LOST)
def test_an_update_that_adds_is_not_repeated_and_one_that_does_not_is(
    clients: Clients, lost: Respond
) -> None:
    assert ADDING
    assert REPEATABLE
    server = Server(lost, answers(UPDATED))
    with pytest.raises(MetakockaOutcomeUnknown):
        clients(server).update_partner(ADDING)
    assert len(server.requests) == 1
    server = Server(lost, lost, answers(FOUND))
    assert clients(server).update_partner(REPEATABLE) == TESTNI
    assert len(server.requests) == 3


@pytest.mark.parametrize("not_heard", NOT_HEARD)
def test_what_was_not_heard_is_said_again(clients: Clients, not_heard: Respond) -> None:
    server = Server(not_heard, answers(ADDED))
    assert clients(server).add_partner(NOVAK).mk_id == "228000046627"
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", [*LOST, *NOT_HEARD])
def test_reading_is_repeated_as_often_as_it_is_set(clients: Clients, fault: Respond) -> None:
    server = Server(fault)
    with pytest.raises(MetakockaUnavailable) as caught:
        clients(server).get_partner("1")
    assert len(server.requests) == caught.value.attempts == 3
    assert caught.value.retryable


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_is_refused_is_not_repeated(clients: Clients, refusal: Respond) -> None:
    assert REPEATABLE
    for call in (
        lambda client: client.add_partner(NOVAK),
        lambda client: client.update_partner(REPEATABLE),
        lambda client: client.list_partners(),
    ):
        server = Server(refusal)
        with pytest.raises(MetakockaRefused):
            call(clients(server))
        assert len(server.requests) == 1


@pytest.mark.parametrize("closed", CLOSED)
def test_what_is_about_everybody_is_no_refusal_and_is_not_repeated(
    clients: Clients, closed: Respond
) -> None:
    for call in (
        lambda client: client.add_partner(NOVAK),
        lambda client: client.update_partner(REPEATABLE),
        lambda client: client.get_partner("1"),
    ):
        server = Server(closed)
        with pytest.raises(MetakockaClosed) as caught:
            call(clients(server))
        assert len(server.requests) == caught.value.attempts == 1


def test_a_refusal_has_metakockas_code_and_words(clients: Clients) -> None:
    with pytest.raises(MetakockaRefused, match="buyer order '5662'") as caught:
        clients(Server(answers(REFUSED))).add_partner(NOVAK)
    assert caught.value.opr_code == "6"


def test_a_server_that_asks_for_too_much_patience_is_given_up(clients: Clients) -> None:
    server = Server(answers(PAGE, 429, retry_after="3600"))
    with pytest.raises(MetakockaUnavailable) as caught:
        clients(server).get_partner("1")
    assert len(server.requests) == 1
    assert caught.value.retry_after == 3600


def test_a_list_that_is_not_complete_is_no_evidence(clients: Clients) -> None:
    client = clients(Server(answers({**FOUND, "partner_list_count": "3"})))
    with pytest.raises(MetakockaError, match="Not every"):
        client.find_partners("partner_name", "janez")


def test_an_answer_without_end_is_not_read(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "ANSWER_LIMIT", 100)
    with pytest.raises(MetakockaUnavailable, match="too long"):
        clients(Server(answers({"partner_list_count": "x" * 100}))).list_partners()


@pytest.mark.parametrize(
    "fault",
    [
        *LOST,
        *NOT_HEARD,
        *REFUSALS,
        *CLOSED,
        answers({"opr_code": "6", "opr_desc": f"wrong secret_key {SECRET}"}),
    ],
)
def test_the_key_is_in_no_error_and_in_no_repr(clients: Clients, fault: Respond) -> None:
    client = clients(Server(fault))
    with pytest.raises(MetakockaError) as caught:
        client.add_partner(NOVAK)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error!r} {error} {vars(error)}"
        assert "Novak" not in f"{error!r} {error} {vars(error)}"
        error = error.__cause__ or error.__context__
    assert SECRET not in f"{client!r} {vars(client)}"


def test_calls_of_one_company_are_made_one_after_the_other(clients: Clients) -> None:
    busy = threading.Lock()
    overlapped = []

    def respond(_request: httpx.Request) -> httpx.Response:
        if not busy.acquire(blocking=False):
            overlapped.append(True)
            return httpx.Response(200, json=FOUND)
        threading.Event().wait(0.01)
        busy.release()
        return httpx.Response(200, json=FOUND)

    # two clients of one company, as two functions of one process have
    threads = [
        threading.Thread(target=client.find_partners, args=("partner_name", "janez"))
        for client in (clients(respond), clients(respond))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not overlapped


def test_calls_of_two_companies_need_not_wait_for_each_other() -> None:
    together = threading.Barrier(2, timeout=10)

    def respond(_request: httpx.Request) -> httpx.Response:
        together.wait()
        return httpx.Response(200, json=FOUND)

    def call(company_id: str) -> None:
        company = Company("an account", company_id, COMPANY.url)
        secrets = OneSecret(SecretStr(SECRET))
        with MetakockaClient(company, secrets, AT_ONCE, httpx.MockTransport(respond)) as client:
            client.list_partners()

    threads = [threading.Thread(target=call, args=(id_,)) for id_ in ("16", "17")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken


def test_without_a_key_nothing_is_sent() -> None:
    server = Server(answers(FOUND))
    transport = httpx.MockTransport(server)
    with (
        MetakockaClient(COMPANY, OneSecret(None), AT_ONCE, transport) as client,
        pytest.raises(ConfigError),
    ):
        client.list_partners()
    assert server.requests == []


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for() -> None:
    """A worker that did would lose its lease, and the next one after it."""

    def drops() -> Iterator[bytes]:
        while True:
            # each read is in time, the whole is not
            time.sleep(0.01)
            yield b" "

    policies = {name: Policy(timeout=0.05, retries=Retries(attempts=1)) for name in POLICIES}
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=drops()))
    client = MetakockaClient(COMPANY, OneSecret(SecretStr(SECRET)), policies, transport)
    with client:
        with pytest.raises(MetakockaUnavailable):
            client.list_partners()
        with pytest.raises(MetakockaOutcomeUnknown):
            client.add_partner(NOVAK)
