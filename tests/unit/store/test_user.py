"""The user's store: whose token goes along, and what of the database's words comes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from rapport.errors import (
    Conflict,
    MethodNotAllowed,
    NotAllowed,
    NotFound,
    NotSignedIn,
    RapportError,
    StoreError,
    StoreUnavailable,
    Unprocessable,
    from_users_postgrest,
)
from rapport.settings import UserStoreSettings
from rapport.store.user import UserStore, UserStores

SETTINGS = UserStoreSettings(
    supabase_url=HttpUrl("https://project.example"), supabase_anon_key=SecretStr("anon-key")
)
ID = uuid4()

Respond = Callable[[httpx.Request], httpx.Response]
Stores = Callable[..., UserStore]


@pytest.fixture
def store() -> Iterator[Stores]:
    opened: list[UserStores] = []

    def opens(*steps: Respond, token: str = "user-token") -> UserStore:
        script = iter(steps)
        transport = httpx.MockTransport(lambda request: next(script)(request))
        opened.append(UserStores(SETTINGS, transport))
        return opened[-1].of(token)

    yield opens
    for stores in opened:
        stores.close()


def lost(_request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("lost")


def test_the_users_token_goes_along_and_no_key_that_may_more(store: Stores) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        assert request.url == "https://project.example/rest/v1/rpc/reply_window"
        assert request.headers["authorization"] == "Bearer user-token"
        assert request.headers["apikey"] == "anon-key"
        assert request.headers["content-profile"] == "public"
        return httpx.Response(200, json={"open": False, "closes_at": None})

    assert store(respond).reply_window(ID).open is False


def test_a_message_whose_answer_was_lost_is_repeated_under_one_reference(store: Stores) -> None:
    references = []

    def remember(request: httpx.Request) -> None:
        references.append(json.loads(request.content)["client_ref"])

    def loses(request: httpx.Request) -> httpx.Response:
        remember(request)
        raise httpx.ReadTimeout("lost")

    def answers(request: httpx.Request) -> httpx.Response:
        remember(request)
        return httpx.Response(200, json={"id": str(ID)})

    written = store(loses, answers).post_message(ID, "hi", "text", None, None, None)
    assert written == {"id": str(ID)}
    assert len(references) == 2
    assert len(set(references)) == 1


def test_a_decision_is_never_repeated(store: Stores) -> None:
    with pytest.raises(StoreUnavailable):
        store(lost).resend_message(ID)


def test_a_refusal_of_ours_comes_back_in_its_words(store: Stores) -> None:
    body = {
        "code": "PT422",
        "message": "The message is empty.",
        "details": "field: message",
        "hint": "Write something.",
    }
    with pytest.raises(Unprocessable, match=r"The message is empty\.") as caught:
        store(lambda _request: httpx.Response(422, json=body)).reply_window(ID)
    assert (caught.value.field, caught.value.hint) == ("message", "Write something.")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("PGRST301", NotSignedIn),
        ("PGRST303", NotSignedIn),
        ("PT404", NotFound),
        ("PT409", Conflict),
        ("42501", NotAllowed),
        ("23505", Conflict),
        ("22P02", Unprocessable),
        ("23514", Unprocessable),
        ("PT405", MethodNotAllowed),
        ("XX000", StoreError),
        (None, StoreError),
    ],
)
def test_a_code_has_its_error(code: str | None, error: type[RapportError]) -> None:
    assert type(from_users_postgrest(code, "m", None, None)) is error


@pytest.mark.parametrize("code", ["23505", "22P02", "57014", "42501", None])
def test_words_that_are_not_ours_stay_behind(code: str | None) -> None:
    error = from_users_postgrest(code, "Key (phone)=(+385911234567)", "+385911234567", None)
    assert "385" not in str(error)
    assert error.field is None
