"""The store's answers to what PostgREST and the network do; its SQL has tests of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from rapport.errors import (
    Conflict,
    RapportError,
    StoreBusy,
    StoreClosed,
    StoreError,
    StoreUnavailable,
)
from rapport.settings import StoreSettings
from rapport.store.webhooks import SkippedItem, WebhookStore

ANSWER = {"event_id": 12, "applied": 3, "duplicates": 0, "rejected": []}
SETTINGS = StoreSettings(
    supabase_url=HttpUrl("https://project.example"),
    supabase_service_role_key=SecretStr("service-key"),
)

Respond = Callable[[httpx.Request], httpx.Response]


class Script:
    """Answers one request after the other, and remembers them."""

    def __init__(self, *steps: Respond) -> None:
        self._steps = iter(steps)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return next(self._steps)(request)


def answers(status: int, value: object) -> Respond:
    return lambda _request: httpx.Response(status, json=value)


def fails(code: str, status: int = 500) -> Respond:
    return answers(status, {"code": code, "message": "Ana's number", "details": "+385911234567"})


def refuses(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


@pytest.fixture
def stores() -> Iterator[Callable[[Script], WebhookStore]]:
    opened: list[WebhookStore] = []

    def opens(script: Script) -> WebhookStore:
        opened.append(WebhookStore(SETTINGS, httpx.MockTransport(script)))
        return opened[-1]

    yield opens
    for store in opened:
        store.close()


Stores = Callable[[Script], WebhookStore]


def test_an_ingest_is_one_call_of_one_function(stores: Stores) -> None:
    script = Script(answers(200, ANSWER))
    items = [SkippedItem(reason="unknown_status", detail="played")]
    assert stores(script).ingest_whatsapp("{}", items).event_id == 12
    (request,) = script.requests
    assert request.method == "POST"
    assert request.url == "https://project.example/rest/v1/rpc/ingest_whatsapp"
    assert request.headers["content-profile"] == "backend"
    assert request.headers["apikey"] == "service-key"
    assert request.headers["authorization"] == "Bearer service-key"
    assert json.loads(request.content) == {
        "body": "{}",
        "items": [
            {"kind": "skipped", "waba_id": None, "reason": "unknown_status", "detail": "played"}
        ],
    }


# of the gateway in front of PostgREST
away = answers(503, {"message": "PostgREST is not available"})


# what PostgREST makes of a backend that is killed at its work
dying = fails("", 400)


@pytest.mark.parametrize(
    "step", [fails("40P01"), fails("57P01"), fails("PGRST002", 503), away, dying, refuses]
)
def test_what_passes_in_a_moment_is_tried_again(stores: Stores, step: Respond) -> None:
    script = Script(step, answers(200, ANSWER))
    assert stores(script).ingest_whatsapp("{}", []).applied == 3
    assert len(script.requests) == 2


def test_what_lasts_is_given_up_after_three_tries(stores: Stores) -> None:
    script = Script(refuses, refuses, refuses)
    with pytest.raises(StoreUnavailable):
        stores(script).ingest_whatsapp("{}", [])
    assert len(script.requests) == 3


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (fails("55P03"), StoreBusy),
        (fails("PGRST202", 404), StoreClosed),
        (fails("PGRST301", 401), StoreClosed),
        (answers(401, {"message": "Invalid API key"}), StoreClosed),
        (answers(540, "Project paused"), StoreClosed),
        (answers(404, {"message": "no Route matched with those values"}), StoreClosed),
        # an anon key in the place of the service key: a stranger's refusal
        (fails("42501", 401), StoreClosed),
    ],
)
def test_what_does_not_pass_in_a_moment_is_left_to_the_queue(
    stores: Stores, step: Respond, error: type[RapportError]
) -> None:
    script = Script(step)
    with pytest.raises(StoreUnavailable) as caught:
        stores(script).ingest_whatsapp("{}", [])
    assert type(caught.value) is error
    assert len(script.requests) == 1


def test_a_refusal_is_not_tried_again(stores: Stores) -> None:
    script = Script(fails("23505", 409))
    with pytest.raises(Conflict):
        stores(script).ingest_whatsapp("{}", [])
    assert len(script.requests) == 1


@pytest.mark.parametrize("value", [{"event_id": "Ana"}, [], None, "Ana"])
def test_an_answer_of_another_shape_is_refused_unquoted(stores: Stores, value: object) -> None:
    with pytest.raises(StoreError) as caught:
        stores(Script(answers(200, value))).ingest_whatsapp("{}", [])
    assert "Ana" not in str(caught.value)


def test_no_data_of_a_row_is_in_an_error(stores: Stores) -> None:
    with pytest.raises(RapportError) as caught:
        stores(Script(fails("22P02", 400))).ingest_whatsapp("{}", [])
    assert "22P02" in str(caught.value)
    assert "Ana" not in str(caught.value)
    assert "385911234567" not in str(caught.value)
    assert caught.value.__suppress_context__
