"""What users are told when PostgREST refuses: our own words, never a row's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from uuid import UUID

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from rapport.errors import (
    NotAllowed,
    NotFound,
    NotSignedIn,
    RapportError,
    StoreClosed,
    StoreError,
    StoreUnavailable,
    Unprocessable,
)
from rapport.settings import UserStoreSettings
from rapport.store.media import UserMedia

SETTINGS = UserStoreSettings(
    supabase_url=HttpUrl("https://project.example"), supabase_anon_key=SecretStr("anon-key")
)
ROW = {
    "state": "pending",
    "mime_type": None,
    "file_name": None,
    "size": None,
    "object_key": "a/b/c",
    "error": None,
}

Respond = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def users() -> Iterator[Callable[[Respond], UserMedia]]:
    opened: list[UserMedia] = []

    def opens(respond: Respond) -> UserMedia:
        opened.append(UserMedia(SETTINGS, httpx.MockTransport(respond)))
        return opened[-1]

    yield opens
    for one in opened:
        one.close()


Users = Callable[[Respond], UserMedia]


def answers(status: int, value: object) -> Respond:
    return lambda _request: httpx.Response(status, json=value)


def fails(code: str, status: int) -> Respond:
    return answers(
        status, {"code": code, "message": "Ana's words.", "details": "row", "hint": "Try this."}
    )


def test_a_user_s_own_token_is_sent(users: Users) -> None:
    requests: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=[ROW])

    media = users(respond).find("the-token", UUID(int=7))
    assert media is not None
    (request,) = requests
    assert request.url.path == "/rest/v1/message_media"
    assert request.url.params["message_id"] == f"eq.{UUID(int=7)}"
    assert request.headers["authorization"] == "Bearer the-token"
    assert request.headers["apikey"] == "anon-key"


def test_no_row_is_no_file(users: Users) -> None:
    assert users(answers(200, [])).find("t", UUID(int=7)) is None


def test_an_upload_is_announced_as_it_is(users: Users) -> None:
    bodies: list[object] = []

    def respond(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        upload = {"upload_id": str(UUID(int=1)), "object_key": "k", "mime_type": "m", "size": 1}
        return httpx.Response(200, json=upload)

    assert users(respond).begin_upload("t", {"size": 1}).object_key == "k"
    assert bodies == [{"size": 1}]


def breaks(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


@pytest.mark.parametrize(
    ("respond", "kind", "told"),
    [
        (fails("PGRST301", 401), NotSignedIn, False),
        # of the gateway, which knows no users: it is our own key that is wrong
        (answers(401, {"message": "Ana's words."}), StoreClosed, False),
        (answers(540, "Ana's words."), StoreClosed, False),
        (fails("", 400), StoreUnavailable, False),
        (fails("PT422", 422), Unprocessable, True),
        (fails("PT404", 404), NotFound, True),
        (fails("42501", 403), NotAllowed, True),
        (fails("22P02", 400), Unprocessable, False),
        (fails("40001", 500), StoreUnavailable, False),
        (answers(503, "Ana's words."), StoreUnavailable, False),
        (answers(200, {"Ana's words.": 1}), StoreError, False),
        (breaks, StoreUnavailable, False),
    ],
)
def test_a_refusal_has_its_error_and_only_our_own_words(
    users: Users, respond: Respond, kind: type[RapportError], *, told: bool
) -> None:
    with pytest.raises(RapportError) as caught:
        users(respond).find("t", UUID(int=7))
    assert type(caught.value) is kind
    assert (str(caught.value) == "Ana's words.") == told
    assert (caught.value.hint == "Try this.") == told
    assert ("Ana" in str(caught.value)) == told
