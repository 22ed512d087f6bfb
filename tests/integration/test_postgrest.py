"""The stores against real PostgREST: whose call it is, what a refusal says, what is repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import HttpUrl, SecretStr
from tests.sql.outbound import conversation, send_to
from tests.stacks import Start
from tests.world import World, seed_uuid

from rapport.api_keys import new_api_key
from rapport.connections import Answer, Connections, Unreachable
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
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.supabase import keys
from rapport.settings import StoreSettings, UserStoreSettings
from rapport.store.chat import ChatStore
from rapport.store.contacts import Contact, ContactStore
from rapport.store.media import UserMedia
from rapport.store.postgrest import Caller, Store, UserStores, UserStoreT

ALPINE = "695a15a5c526dbe7c085ece2"


class Losing(Connections):
    """A network that loses the answers to the first requests, which arrive."""

    def __init__(self, answers: int) -> None:
        super().__init__(timeout=9)
        self._left = answers
        self.arrived = 0

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        answer = super().send(method, url, headers, body)
        self.arrived += 1
        if self._left:
            self._left -= 1
            raise Unreachable("ReadTimeout")
        return answer


@pytest.fixture
def database(world_database: Database) -> Database:
    return world_database


@pytest.fixture
def gateway(start: Start) -> Stack:
    return start("postgrest", "gateway")


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with psycopg.connect(database.url(), autocommit=True) as owner:
        yield World(database, owner)


def settings(gateway: Stack, key: str | None = None) -> StoreSettings:
    return StoreSettings(
        supabase_url=HttpUrl(gateway.url),
        supabase_secret_key=SecretStr(key or gateway.secret_key),
    )


class Users:
    """Stores of the two businesses' people; all are closed with the test."""

    def __init__(self, gateway: Stack, opened: ExitStack) -> None:
        self._gateway = gateway
        self._opened = opened

    def __call__(
        self,
        store: Callable[[Caller], UserStoreT],
        name: str = "andrej",
        *,
        lost: int = 0,
        key: str | None = None,
        token: str | None = None,
    ) -> UserStoreT:
        key = key or self._gateway.publishable_key
        users = UserStores(
            UserStoreSettings(
                supabase_url=HttpUrl(self._gateway.url), supabase_publishable_key=SecretStr(key)
            ),
            store,
            Losing(lost),
        )
        self._opened.enter_context(closing(users))
        signing_key = self._gateway.signing_key
        return users.of(token or keys.mint_user_token(signing_key, user_id=seed_uuid(name)))


@pytest.fixture
def as_user(gateway: Stack) -> Iterator[Users]:
    with ExitStack() as opened:
        yield Users(gateway, opened)


@pytest.fixture
def service(gateway: Stack) -> Iterator[Caller]:
    with closing(Store(settings(gateway))) as store:
        yield store._backend


def test_the_functions_are_told_why_the_database_refuses(gateway: Stack, service: Caller) -> None:
    with closing(ContactStore(settings(gateway))) as store, pytest.raises(NotFound) as unknown:
        store.import_contacts("nobody", [Contact(name="Ana")])
    assert (str(unknown.value), unknown.value.field) == (
        "There is no such account: nobody.",
        "account",
    )

    span = {"after_id": 0, "since": "2026-01-01", "until": None}
    with pytest.raises(Unprocessable, match=r"A page has 1 to 1,000 events\.") as wrong:
        service.call("read_webhook_events", span | {"page_size": 0})
    assert wrong.value.field == "page_size"


def test_an_accounts_country_is_told_where_it_is_known(gateway: Stack, world: World) -> None:
    world.owner.execute(
        "update public.accounts set country = 'SI' where external_id = %s", [ALPINE]
    )
    with closing(ContactStore(settings(gateway))) as store:
        assert store.account_country(ALPINE) == "SI"
        assert store.account_country("bay") is None
        with pytest.raises(NotFound, match="There is no such account"):
            store.account_country("nobody")


def test_a_user_is_told_why_the_database_refuses(as_user: Users, world: World) -> None:
    thread = conversation(world)
    for name, error, field, hint in (
        ("vera", NotAllowed, None, "Owners, admins and agents may."),
        ("andrej", Unprocessable, "reply_to", None),
    ):
        with pytest.raises(RapportError) as caught:
            as_user(ChatStore, name).post_message(thread, "hi", "text", None, uuid4(), None)
        assert type(caught.value) is error
        assert str(caught.value).endswith(".")
        assert "code" not in str(caught.value)
        assert (caught.value.field, caught.value.hint and hint) == (field, hint)


def test_the_words_of_postgres_stay_behind(as_user: Users, service: Caller, world: World) -> None:
    secret = "Cilka's secret"
    asked = {"account": ALPINE, "ids": [secret]}
    with pytest.raises(StoreError) as caught:
        service.call("contacts_of_ids", asked)
    assert type(caught.value) is StoreError
    assert (secret in str(caught.value), caught.value.field, caught.value.hint) == (
        False,
        None,
        None,
    )
    assert caught.value.sqlstate == "22P02"

    thread = conversation(world)
    with pytest.raises(Unprocessable) as told:
        as_user(ChatStore)._caller.call("reply_window", {"conversation_id": secret})
    assert secret not in str(told.value)
    assert as_user(ChatStore).reply_window(thread).open


def test_a_key_that_is_wrong_is_for_the_operator(
    gateway: Stack, as_user: Users, world: World
) -> None:
    for key in (new_api_key("secret"), "x"):
        with (
            closing(ContactStore(settings(gateway, key))) as store,
            pytest.raises(StoreClosed, match="SUPABASE_SECRET_KEY"),
        ):
            store.account_country(ALPINE)
    with pytest.raises(StoreClosed, match="SUPABASE_PUBLISHABLE_KEY"):
        as_user(ChatStore, key="x").reply_window(conversation(world))
    with pytest.raises(NotSignedIn):
        as_user(ChatStore, token="x").reply_window(uuid4())
    with pytest.raises(NotSignedIn):
        as_user(UserMedia, token="x").find(uuid4())


def test_a_function_that_is_not_there_is_for_the_operator(service: Caller) -> None:
    with pytest.raises(StoreClosed, match="Apply the migrations"):
        service.call("no_such_function", {})


def test_a_call_whose_answer_is_lost_is_made_again_and_counts_once(
    as_user: Users, world: World
) -> None:
    thread = conversation(world)
    store = as_user(ChatStore, lost=2)
    written = store.post_message(thread, "hi", "text", None, None, None)
    count = "select count(*) from public.messages where sender_type = 'operator'"
    assert world.value(count) == 1
    assert [row["id"] for row in as_user(ChatStore, lost=1).messages(thread, None, 1, 10)] == [
        written["id"]
    ]
    assert as_user(ChatStore, lost=1).mark_read(thread, None) == 2
    assert as_user(ChatStore, lost=1).reply_window(thread).open
    assert as_user(ChatStore, lost=1).latest_inbound(thread) is not None

    # as soon as it is withdrawn, a second time changes nothing
    message = UUID(str(written["id"]))
    as_user(ChatStore, lost=1).drop_message(message)
    assert world.value("select status from public.messages where id = %s", [message]) == "failed"
    assert world.value("select count(*) from private.outbound_queue") == 0


def test_files_are_asked_for_by_the_same_rule(as_user: Users, world: World) -> None:
    announced: dict[str, object] = {
        "conversation_id": str(conversation(world)),
        "type": "document",
        "mime_type": "application/pdf",
        "size": 9,
        "file_name": None,
    }
    upload = as_user(UserMedia, lost=1).begin_upload(announced)  # type: ignore[arg-type]
    assert upload.mime_type == "application/pdf"
    assert as_user(UserMedia, lost=2).find(uuid4()) is None


def test_to_send_again_is_asked_for_once(as_user: Users, world: World) -> None:
    message = send_to(world, conversation(world))
    world.owner.execute("update public.messages set status = 'unknown' where seq = 2")
    world.owner.execute("delete from private.outbound_queue")
    world.owner.execute(
        "update private.outbound_attempts"
        " set outcome = 'unknown', ended_at = now() - interval '3 minutes'"
    )
    with pytest.raises(StoreUnavailable):
        as_user(ChatStore, lost=1).resend_message(UUID(message))
    # the first time was enough: a second would have been told that there is nothing to decide
    assert world.value("select count(*) from private.outbound_queue") == 1
