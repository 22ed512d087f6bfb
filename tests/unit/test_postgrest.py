"""The one caller of PostgREST, where network and gateway fail as real ones can't be told to.

What real PostgREST answers is in tests/integration/test_postgrest.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial

import httpx
import pytest
from pydantic import HttpUrl, SecretStr
from tests.answering import Answering

from rapport.errors import (
    Conflict,
    LeaseLost,
    NotAllowed,
    NotFound,
    NotSignedIn,
    RapportError,
    StoreBusy,
    StoreClosed,
    StoreError,
    StoreUnavailable,
    TooManyRequests,
    Unprocessable,
)
from rapport.settings import StoreSettings, UserStoreSettings
from rapport.store.postgrest import Caller, Store, UserStore, UserStores

URL = HttpUrl("https://project.example")
SERVICE = StoreSettings(supabase_url=URL, supabase_secret_key=SecretStr("sb_secret_key"))
USERS = UserStoreSettings(
    supabase_url=URL, supabase_publishable_key=SecretStr("sb_publishable_key")
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
    return answers(
        status,
        {
            "code": code,
            "message": "Ana's number.",
            "details": "field: phone; +385911234567",
            "hint": "Try this.",
        },
    )


def refuses(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def loses(_request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("lost")


Callers = Callable[[Script], Caller]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def service(opened: ExitStack) -> Callers:
    def opens(script: Script) -> Caller:
        store = opened.enter_context(closing(Store(SERVICE, Answering(script))))
        return store._backend

    return opens


@pytest.fixture
def user(opened: ExitStack) -> Callers:
    def opens(script: Script) -> Caller:
        stores = UserStores(USERS, UserStore, Answering(script))
        return opened.enter_context(closing(stores)).of("user.token.x")._caller

    return opens


@pytest.fixture(params=["service", "user"])
def caller(request: pytest.FixtureRequest) -> Callers:
    """The functions' own calls and a user's, which are to be alike."""
    opens: Callers = request.getfixturevalue(request.param)
    return opens


def test_each_calls_as_themselves_in_their_own_schema(service: Callers, user: Callers) -> None:
    for opens, schema, key, bearer in (
        (service, "backend", "sb_secret_key", None),
        (user, "public", "sb_publishable_key", "Bearer user.token.x"),
    ):
        script = Script(answers(200, None), answers(200, []))
        caller = opens(script)
        caller.call("any", {"a": 1})
        caller.rows("things", [("select", "id"), ("seq", "gt.1"), ("seq", "lt.5")])
        called, read = script.requests
        assert (called.method, called.url.path) == ("POST", "/rest/v1/rpc/any")
        assert called.content == b'{"a":1}'
        assert (read.method, read.url.path) == ("GET", "/rest/v1/things")
        assert read.url.params.multi_items() == [("select", "id"), ("seq", "gt.1"), ("seq", "lt.5")]
        assert called.headers["content-profile"] == read.headers["accept-profile"] == schema
        for request in script.requests:
            assert request.headers["apikey"] == key
            assert request.headers.get("authorization") == bearer


def test_a_function_that_answers_nothing(caller: Callers) -> None:
    assert caller(Script(lambda _: httpx.Response(204))).call("any", {}) is None


# of the gateway in front of PostgREST
away = answers(503, {"message": "PostgREST is not available"})


# what PostgREST makes of a backend that is killed at its work
dying = fails("", 400)

PASSING = [fails("40P01"), fails("57P01"), fails("PT503", 503), fails("PGRST002", 503)]


@pytest.mark.parametrize("step", [*PASSING, away, dying, refuses, loses])
def test_what_passes_in_a_moment_is_tried_again(caller: Callers, step: Respond) -> None:
    for repeated in (partial(Caller.call, function="any", arguments={}), _read):
        script = Script(step, answers(200, [{"id": 1}]))
        assert repeated(caller(script)) == [{"id": 1}]
        assert len(script.requests) == 2


def _read(caller: Caller) -> object:
    return caller.rows("any", [])


def test_what_lasts_is_given_up_after_three_tries(caller: Callers) -> None:
    script = Script(refuses, loses, refuses)
    with pytest.raises(StoreUnavailable):
        caller(script).call("any", {})
    assert len(script.requests) == 3


@pytest.mark.parametrize("step", [*PASSING, away, dying, refuses, loses])
def test_what_a_second_time_could_do_harm_is_tried_once(caller: Callers, step: Respond) -> None:
    script = Script(step)
    with pytest.raises(StoreUnavailable):
        caller(script).call("any", {}, repeat=False)
    assert len(script.requests) == 1


# for both of them, and told or not
ALIKE: list[tuple[Respond, type[RapportError], bool]] = [
    (fails("PT404", 404), NotFound, True),
    (fails("PT409", 409), Conflict, True),
    (fails("PT422", 422), Unprocessable, True),
    (fails("PT429", 429), TooManyRequests, True),
    (fails("RP004", 400), LeaseLost, True),
    # ours have a hint
    (fails("42501", 403), NotAllowed, True),
    (answers(403, {"code": "42501", "message": "Ana's number."}), NotAllowed, False),
    (fails("23505", 409), Conflict, False),
    (fails("55P03", 500), StoreBusy, False),
    (fails("XX000", 500), StoreError, False),
    (fails("PGRST202", 404), StoreClosed, False),
    (answers(401, {"message": "Ana's number."}), StoreClosed, False),
    (answers(540, "Ana's number."), StoreClosed, False),
    (answers(404, {"message": "no Route matched with those values"}), StoreClosed, False),
    (answers(302, None), StoreError, False),
    (answers(400, {"code": 7, "message": ["Ana's number."]}), StoreError, False),
]


@pytest.mark.parametrize(("step", "error", "told"), ALIKE)
def test_a_refusal_keeps_our_words_and_nobody_else_s(
    caller: Callers, step: Respond, error: type[RapportError], *, told: bool
) -> None:
    script = Script(step)
    with pytest.raises(RapportError) as caught:
        caller(script).call("any", {})
    assert type(caught.value) is error
    assert len(script.requests) == 1
    if told:
        assert (str(caught.value), caught.value.field, caught.value.hint) == (
            "Ana's number.",
            "phone",
            "Try this.",
        )
    else:
        assert "Ana" not in str(caught.value)
        assert (caught.value.field, caught.value.hint) == (None, None)
    assert "385" not in str(caught.value)
    assert caught.value.is_told == told
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("before", "now"),
    [
        # an expired token
        (fails("PGRST301", 401), fails("PGRST303", 401)),
        # a table that is not there, and a function whose arguments fit none
        (fails("42P01", 404), fails("PGRST205", 404)),
        (fails("42883", 404), fails("PGRST202", 404)),
        # the same code with another status
        (fails("54001", 413), fails("54001", 500)),
        (fails("53400", 503), fails("53400", 500)),
        (fails("42P17", 400), fails("42P17", 500)),
    ],
)
def test_postgrest_12_and_its_successors_mean_the_same(
    caller: Callers, before: Respond, now: Respond
) -> None:
    """Here runs 12.0.2, hosted 14 and later."""

    def error(step: Respond) -> RapportError:
        with pytest.raises(RapportError) as caught:
            caller(Script(step)).call("any", {}, repeat=False)
        return caught.value

    assert type(error(before)) is type(error(now))


@pytest.mark.parametrize(
    ("step", "of_service", "of_user"),
    [
        # the token is the functions' own, or a user's
        (fails("PGRST301", 401), StoreClosed, NotSignedIn),
        (fails("PGRST303", 401), StoreClosed, NotSignedIn),
        # an anon key in the place of the other: a stranger's refusal
        (fails("42501", 401), StoreClosed, NotSignedIn),
        # the value is one that the functions made, or a user's
        (fails("22P02", 400), StoreError, Unprocessable),
        (fails("23514", 400), StoreError, Unprocessable),
    ],
)
def test_a_token_and_a_value_are_whose_call_it_is(
    service: Callers,
    user: Callers,
    step: Respond,
    of_service: type[RapportError],
    of_user: type[RapportError],
) -> None:
    for opens, error in ((service, of_service), (user, of_user)):
        script = Script(step)
        with pytest.raises(RapportError) as caught:
            opens(script).call("any", {})
        assert type(caught.value) is error
        assert "Ana" not in str(caught.value)
        assert "385" not in str(caught.value)
        assert len(script.requests) == 1


@pytest.mark.parametrize("value", [{"event_id": "Ana"}, None, "Ana", ["Ana"]])
def test_an_answer_of_another_shape_is_refused_unquoted(caller: Callers, value: object) -> None:
    with pytest.raises(StoreError) as caught:
        caller(Script(answers(200, value))).rows("any", [])
    assert "Ana" not in str(caught.value)


@pytest.mark.parametrize("text", ["Ana", '{"a":' * 100_000, "1" * 5000])
def test_an_answer_that_can_not_be_read_is_no_crash(caller: Callers, text: str) -> None:
    with pytest.raises(StoreError) as caught:
        caller(Script(lambda _: httpx.Response(200, text=text))).call("any", {})
    assert "Ana" not in str(caught.value)


class Rotating(StoreSettings):
    """Settings whose key the project makes anew, `left` times."""

    left: int = 1

    def reread(self) -> Rotating | None:
        if not self.left:
            return None
        return self.model_copy(
            update={"supabase_secret_key": SecretStr("sb_secret_new"), "left": self.left - 1}
        )


def no_such_key(_request: httpx.Request) -> httpx.Response:
    """The gateway of a hosted project."""
    return httpx.Response(401, json={"message": "Invalid API key"})


def test_a_key_that_was_changed_is_read_anew_once_and_the_call_goes() -> None:
    settings = Rotating(supabase_url=URL, supabase_secret_key=SecretStr("header.claims.old"))
    script = Script(no_such_key, answers(200, 1), answers(200, 2), no_such_key, no_such_key)
    sent: list[httpx.Headers] = []

    def respond(request: httpx.Request) -> httpx.Response:
        # one request is sent twice, with other headers
        sent.append(request.headers.copy())
        return script(request)

    with closing(Store(settings, Answering(respond))) as store:
        # also one that is not repeated otherwise: it had no effect
        assert store._backend.call("any", {}, repeat=False) == 1
        assert store._backend.call("any", {}) == 2
        old, *newer = sent
        assert (old["apikey"], "authorization" in old) == ("header.claims.old", True)
        for headers in newer:
            # a key of the newer kind is no token
            assert (headers["apikey"], "authorization" in headers) == ("sb_secret_new", False)
        with pytest.raises(StoreClosed):
            store._backend.call("any", {})
    assert len(sent) == 4
