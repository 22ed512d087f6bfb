"""Every path that touches a key, with the keys of today's projects and with those of before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from pydantic import HttpUrl, SecretStr
from realtime import AsyncRealtimeClient, RealtimeSubscribeStates
from supabase import AsyncClientOptions, acreate_client
from tests.integration.realtime_clients import listen, websocket_url
from tests.stacks import Start
from tests.web import node
from tests.world import ALPINE, ALPINE_NUMBER, World, seed_uuid, text_message
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from rapport.api_keys import new_api_key
from rapport.client.server import Server
from rapport.client.tokens import Tokens
from rapport.errors import NotFound, NotSignedIn
from rapport.local.fakes.whatsapp.payloads import encode, inbound_text
from rapport.local.stack import children
from rapport.local.stack.ports import choose_any
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import WEBHOOK_PATH, Stack
from rapport.local.stack.state import settings_file
from rapport.local.stack.supervisor import Supervisor
from rapport.local.supabase import keys
from rapport.settings import StoreSettings, UserStoreSettings
from rapport.store.chat import ChatStore
from rapport.store.contacts import ContactStore
from rapport.store.postgrest import UserStores
from rapport.whatsapp.webhook import HEADER, sign

PASSWORD = "a long password"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0"


@dataclass(frozen=True)
class Kind:
    """The two keys of one kind."""

    publishable: str
    secret: str


KINDS = ("new", "legacy")


def sent(key: str) -> tuple[dict[str, str], dict[str, str]]:
    """How clients send a key while nobody is signed in: the official ones repeat it."""
    return {"apikey": key}, {"apikey": key, "authorization": f"Bearer {key}"}


def kind_of(stack: Stack, name: str) -> Kind:
    if name == "new":
        return Kind(stack.publishable_key, stack.secret_key)
    return Kind(stack.anon_key, stack.service_role_key)


@pytest.fixture
def database(world_database: Database) -> Database:
    return world_database


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with psycopg.connect(database.url(), autocommit=True) as owner:
        yield World(database, owner)


@pytest.fixture
def stack(start: Start) -> Stack:
    return start("postgrest", "gateway")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, stack: Stack) -> Kind:
    return kind_of(stack, request.param)


def conversation(world: World) -> UUID:
    """An open one, in which a customer has written a moment ago."""
    world.ingest(text_message("wamid.first", sent_at=datetime.now(UTC).isoformat()))
    found: UUID = world.value("select id from public.conversations")
    return found


def tokens(stack: Stack, user: str = "andrej") -> list[str]:
    """A user's token in each signature."""
    return [
        keys.mint_user_token(key, user_id=seed_uuid(user))
        for key in (stack.signing_key, stack.jwt_secret)
    ]


def test_rest_knows_nobody_users_and_the_functions(stack: Stack, kind: Kind) -> None:
    with httpx.Client(base_url=f"{stack.url}/rest/v1", trust_env=False) as http:
        for headers in sent(kind.publishable):
            refused = http.post("/rpc/my_topics", json={}, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (401, "42501")
        for headers in sent(kind.secret):
            known = http.post(
                "/rpc/account_country",
                json={"account": "bay"},
                headers=headers | {"content-profile": "backend"},
            )
            assert known.status_code == 200, known.text
        by_query = http.post("/rpc/my_topics", json={}, params={"apikey": kind.publishable})
        assert by_query.json()["code"] == "42501"
        for token in tokens(stack):
            read = http.get(
                "/accounts?select=id",
                headers={"apikey": kind.publishable, "authorization": f"Bearer {token}"},
            )
            assert read.json() == [{"id": str(ALPINE)}]


def test_the_functions_store_calls_as_themselves_and_as_users(
    stack: Stack, kind: Kind, world: World
) -> None:
    settings = StoreSettings(
        supabase_url=HttpUrl(stack.url), supabase_secret_key=SecretStr(kind.secret)
    )
    with closing(ContactStore(settings)) as store, pytest.raises(NotFound, match="no such account"):
        store.import_contacts("nobody", [])
    thread = conversation(world)
    users = UserStores(
        UserStoreSettings(
            supabase_url=HttpUrl(stack.url), supabase_publishable_key=SecretStr(kind.publishable)
        ),
        ChatStore,
    )
    with closing(users):
        for token in tokens(stack):
            assert users.of(token).reply_window(thread).open
        for key in (stack.publishable_key, stack.secret_key, "x"):
            with pytest.raises(NotSignedIn):
                users.of(key)


async def test_realtime_takes_a_key_for_public_topics_and_a_users_token_for_theirs(
    stack: Stack, kind: Kind, world: World
) -> None:
    with world.acting_as("andrej") as connection:
        row = connection.execute(
            "select topic from public.my_topics() where kind = 'account'"
        ).fetchone()
    assert row
    (topic,) = row
    for key in (kind.publishable, kind.secret):
        client = AsyncRealtimeClient(f"{stack.url}/realtime/v1", token=key)
        await client.connect()
        public = await listen(client, "lobby")
        assert (await public.state())[0] is RealtimeSubscribeStates.SUBSCRIBED
        await client.close()
    for token in tokens(stack):
        client = AsyncRealtimeClient(f"{stack.url}/realtime/v1", token=kind.publishable)
        await client.connect()
        early = await listen(client, topic, private=True)
        assert (await early.state())[0] is RealtimeSubscribeStates.CHANNEL_ERROR
        await early.channel.unsubscribe()
        await client.set_auth(token)
        theirs = await listen(client, topic, private=True)
        assert (await theirs.state())[0] is RealtimeSubscribeStates.SUBSCRIBED
        await client.close()


@pytest.mark.parametrize("name", KINDS)
def test_the_functions_serve_users_and_webhooks(
    start: Start, world: World, tmp_path: Path, name: str
) -> None:
    stack = start("postgrest", "gateway")
    kind = kind_of(stack, name)
    # the functions of a project that has no keys but these
    project = stack.model_copy(
        update={
            "folder": tmp_path,
            "publishable_key": kind.publishable,
            "secret_keys": {"default": kind.secret},
            **choose_any("functions_port"),
        }
    )
    project.save(settings_file(tmp_path))
    thread = conversation(world)
    with (
        Supervisor(tmp_path) as supervisor,
        httpx.Client(base_url=project.functions_url, trust_env=False, timeout=30) as http,
    ):
        supervisor.start(children.functions(project))
        for token in tokens(stack):
            headers = {"Authorization": f"Bearer {token}"}
            window = http.get(f"/api/conversations/{thread}/window", headers=headers)
            assert (window.status_code, window.json()["open"]) == (200, True)
            upload = http.post(
                "/api/media",
                headers=headers,
                json={
                    "conversationId": str(thread),
                    "type": "document",
                    "mimeType": "application/pdf",
                    "size": 4,
                    "fileName": "a.pdf",
                },
            )
            assert (upload.status_code, "uploadId" in upload.json()) == (201, True)
        for key in (stack.publishable_key, stack.secret_key, stack.anon_key):
            refused = http.get(
                f"/api/conversations/{thread}/window", headers={"Authorization": f"Bearer {key}"}
            )
            assert (refused.status_code, refused.json()["code"]) == (401, "not_signed_in")
        body = encode(
            inbound_text(
                phone_number_id=ALPINE_NUMBER,
                sender="38640111999",
                name="Nejc",
                text="Is Tuesday free?",
            )
        )
        headers = {HEADER: sign(body, stack.whatsapp_app_secret)}
        assert http.post(WEBHOOK_PATH, content=body, headers=headers).status_code == 200
    found = "select count(*) from public.messages where message = 'Is Tuesday free?'"
    assert world.value(found) == 1
    log = (tmp_path / "logs" / "functions.log").read_text()
    assert [key for key in (kind.secret, kind.publishable, *tokens(stack)) if key in log] == []


async def test_the_python_clients_send_no_key_as_a_users_token_and_verify_by_themselves(
    stack: Stack, kind: Kind
) -> None:
    asked: list[httpx.Request] = []

    async def note(request: httpx.Request) -> None:
        asked.append(request)

    hooks = {"request": [note]}
    email = f"{uuid4().hex}@alpine.example"
    async with httpx.AsyncClient(event_hooks=hooks, trust_env=False) as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False)
        admin = (await acreate_client(stack.url, kind.secret, options)).auth.admin
        made = await admin.create_user(
            {"email": email, "password": PASSWORD, "email_confirm": True}
        )
        client = await acreate_client(stack.url, kind.publishable, options)
        signed_in = await client.auth.sign_in_with_password({"email": email, "password": PASSWORD})
        assert signed_in.session
        assert (await client.table("accounts").select("id").execute()).data == []
        asked.clear()
        for _ in range(2):
            claims = await client.auth.get_claims()
            assert claims
            assert claims["headers"]["alg"] == "ES256"
            assert claims["claims"]["sub"] == made.user.id
        # the keys, once, and nothing else
        assert [request.url.path for request in asked] == ["/auth/v1/.well-known/jwks.json"]
        # of a project that signs with a shared secret, the server has to be asked
        older = keys.mint_user_token(
            stack.jwt_secret,
            user_id=UUID(made.user.id),
            session_id=UUID(claims["claims"]["session_id"]),
        )
        assert await client.auth.get_claims(older)
        assert asked[-1].url.path == "/auth/v1/user"

    (token, _) = tokens(stack)

    async def provider() -> str:
        return token

    server = Server(stack.url, kind.publishable, Tokens(provider, 30), 5)
    server._http.event_hooks["request"] = [note]
    asked.clear()
    assert await server.rows("accounts", [ALPINE])
    assert await server.my_topics()
    assert [request.headers["authorization"] for request in asked] == [f"Bearer {token}"] * 2
    assert {request.headers["apikey"] for request in asked} == {kind.publishable}
    await server.close()


def test_the_javascript_clients_too(stack: Stack, kind: Kind, world: World) -> None:
    node.install()
    email = f"{uuid4().hex}@alpine.example"
    with httpx.Client(base_url=stack.url, headers={"apikey": kind.secret}) as http:
        made = http.post(
            "/auth/v1/admin/users",
            json={"email": email, "password": PASSWORD, "email_confirm": True},
        )
    world.owner.execute(
        "insert into public.account_members (account_id, user_id, role, display_name)"
        " values (%s, %s, 'agent', 'Ajda')",
        [ALPINE, made.json()["id"]],
    )
    settings = {
        "url": stack.url,
        "publishable": kind.publishable,
        "secret": kind.secret,
        "email": email,
        "password": PASSWORD,
    }
    done = node.run(node.HERE / "keys.mjs", json.dumps(settings))
    assert done.returncode == 0, done.stderr

    told = json.loads(done.stdout)
    bearers = told.pop("liveBearers")
    assert bearers
    assert set(bearers) == {True}
    assert told == {
        "anonymous": "42501",
        "live": "NotSignedIn",
        "liveAsked": 0,
        "publicTopic": "SUBSCRIBED",
        "privateTopic": "CHANNEL_ERROR",
        "listed": 1,
        "backend": "PT404",
        "topics": True,
        "theirTopic": "SUBSCRIBED",
        "claims": [email, "ES256"],
        "firstAsked": ["/auth/v1/.well-known/jwks.json"],
        "again": email,
        "forged": "AuthInvalidJwtError",
        "laterAsked": [],
    }


def test_what_is_no_key_of_the_stack_opens_nothing(stack: Stack) -> None:
    key, secret = stack.publishable_key, stack.secret_key
    unknown = "Invalid API key"
    refused = [
        ({}, "No API key found in request"),
        ({"authorization": f"Bearer {key}"}, "No API key found in request"),
        ({"apikey": key + "x"}, unknown),
        ({"apikey": key[:-1]}, unknown),
        ({"apikey": new_api_key("secret")}, unknown),
        ({"apikey": "ključ".encode()}, unknown),
        # a key is no user's token, whosever it is
        ({"apikey": key, "authorization": f"Bearer {secret}"}, unknown),
        ({"apikey": secret, "authorization": f"bearer {key}"}, unknown),
        (
            {"apikey": secret, "user-agent": BROWSER},
            "Forbidden use of secret API key in browser",
        ),
    ]
    for path in ("/rest/v1/", "/auth/v1/settings"):
        for headers, message in refused:
            answer = httpx.get(stack.url + path, headers=headers, trust_env=False)
            assert (answer.status_code, answer.json()["message"]) == (401, message), headers
            assert "sb_" not in answer.text.replace("`sb_`", "")
    for headers in ({"apikey": key}, {"apikey": stack.service_role_key}):
        browser = headers | {"user-agent": BROWSER}
        assert httpx.get(f"{stack.url}/rest/v1/", headers=browser).status_code == 200


def test_a_secret_key_is_told_what_it_may_not_read(stack: Stack) -> None:
    url = f"{stack.url}/rest/v1/accounts"
    for method, path in (
        ("GET", url),
        ("POST", url),
        ("POST", f"{stack.url}/rest/v1/rpc/my_topics"),
    ):
        answer = httpx.request(
            method, path, json={}, headers={"apikey": stack.secret_key}, trust_env=False
        )
        assert answer.status_code == 403, answer.text
        assert answer.json()["message"] == (
            "A secret key reads and writes nothing in the schema public."
        )
        assert "Send a user's access token" in answer.json()["hint"]
        assert "Content-Profile: backend" in answer.json()["hint"]


async def test_what_is_no_key_of_the_stack_opens_no_socket(stack: Stack) -> None:
    cases: list[tuple[dict[str, str], dict[str, str], str]] = [
        ({"apikey": new_api_key("publishable")}, {}, "Invalid API key"),
        ({}, {"x-api-key": new_api_key("secret")}, "Invalid API key"),
        (
            {"apikey": stack.secret_key},
            {"User-Agent": BROWSER},
            "Forbidden use of secret API key in browser",
        ),
    ]
    for query, headers, message in cases:
        agent = headers.pop("User-Agent", "test")
        with pytest.raises(InvalidStatus) as refused:
            await connect(
                websocket_url(stack, **query), additional_headers=headers, user_agent_header=agent
            )
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body or b"")["message"] == message
