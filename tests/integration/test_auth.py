"""Sign-up, sign-in, renewal and sign-out: rules on a real database, then the official clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
from supabase import (
    AsyncClientOptions,
    AuthApiError,
    ClientOptions,
    acreate_client,
    create_client,
)
from supabase_auth.errors import AuthWeakPasswordError
from tests.integration.auth_calls import EMAIL, PASSWORD, Auth, refusal, serving
from tests.web import node

from rapport.local.stack.running import Stack
from rapport.local.supabase import keys
from rapport.local.supabase.signing_key import new_signing_key

# As a seed for a hosted project writes it.
SEED = """
    insert into auth.users (
        instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
        raw_app_meta_data, raw_user_meta_data, created_at, updated_at,
        confirmation_token, recovery_token, email_change_token_new, email_change
    )
    values (
        '00000000-0000-0000-0000-000000000000', gen_random_uuid(),
        'authenticated', 'authenticated', %s,
        extensions.crypt(%s, extensions.gen_salt('bf')), now(),
        '{"provider": "email", "providers": ["email"]}', '{}', now(), now(), '', '', '', ''
    )
"""


@pytest.fixture
async def auth(start: Callable[..., Stack]) -> AsyncIterator[Auth]:
    async with serving(start()) as auth:
        yield auth


async def test_a_seeded_user_signs_in_whatever_the_case_of_the_address(auth: Auth) -> None:
    auth.sql(SEED, EMAIL, PASSWORD)

    session = (await auth.sign_in("Olivia@Alpine.example")).json()

    claims = keys.verify(keys.KeySet.of(auth.stack), session["access_token"])
    assert claims.sub == session["user"]["id"]
    assert claims.role == "authenticated"
    assert session["user"]["email"] == EMAIL
    assert "encrypted_password" not in session["user"]


async def test_a_seed_that_gotrue_could_not_read_is_refused_by_name(auth: Auth) -> None:
    auth.sql(SEED, EMAIL, PASSWORD)
    auth.sql("update auth.users set recovery_token = null")

    answer = await auth.sign_in()

    assert refusal(answer) == (500, "unexpected_failure")
    assert "recovery_token" in answer.json()["msg"]


async def test_a_wrong_password_and_an_unknown_address_look_the_same(auth: Auth) -> None:
    await auth.sign_up()

    wrong = await auth.sign_in(password="wrong")
    unknown = await auth.sign_in(email="nobody@alpine.example")

    assert refusal(wrong) == (400, "invalid_credentials")
    assert wrong.json() == unknown.json()


@pytest.mark.parametrize("hashed", [None, "", "not a hash", "$2a$10$short"])
async def test_a_user_without_a_usable_hash_cannot_sign_in(auth: Auth, hashed: str | None) -> None:
    auth.sql(SEED, EMAIL, PASSWORD)
    auth.sql("update auth.users set encrypted_password = %s", hashed)

    for password in ("", PASSWORD):
        assert refusal(await auth.sign_in(password=password)) == (400, "invalid_credentials")


async def test_what_follows_the_72nd_byte_of_a_password_counts(auth: Auth) -> None:
    await auth.sign_up(password="x" * 72)

    assert (await auth.sign_in(password="x" * 72)).status_code == 200
    assert refusal(await auth.sign_in(password="x" * 73)) == (400, "invalid_credentials")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"email": EMAIL, "password": "short"}, (422, "weak_password")),
        ({"email": EMAIL, "password": "x" * 73}, (400, "validation_failed")),
        ({"email": EMAIL}, (400, "validation_failed")),
        ({"email": "nobody", "password": PASSWORD}, (400, "validation_failed")),
        ({"email": f"{'x' * 250}@y.example", "password": PASSWORD}, (400, "validation_failed")),
        ({"email": EMAIL, "password": PASSWORD, "data": [1]}, (400, "validation_failed")),
        ({"email": EMAIL, "password": PASSWORD, "data": {"a": "\0"}}, (400, "validation_failed")),
        ({"phone": "040 111 222", "password": PASSWORD}, (400, "validation_failed")),
        ({"phone": "+38640111222", "password": "short"}, (422, "weak_password")),
        (
            {"email": EMAIL, "phone": "+38640111222", "password": PASSWORD},
            (400, "validation_failed"),
        ),
        ({}, (422, "anonymous_provider_disabled")),
        ({"email": EMAIL, "password": "x" * 1_000_000}, (413, "validation_failed")),
    ],
)
async def test_a_sign_up_is_refused_for_a_reason(
    auth: Auth, body: dict[str, object], expected: tuple[int, str]
) -> None:
    answer = await auth.call("POST", "/signup", body)

    assert refusal(answer) == expected
    assert PASSWORD not in answer.text
    assert (await auth.admin("GET", "/admin/users")).json()["users"] == []


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_is_refused(auth: Auth, body: bytes) -> None:
    answer = await auth.http.post("/signup", content=body)

    assert refusal(answer) == (400, "bad_json")


async def test_an_address_signs_up_once_even_at_the_same_time(auth: Auth) -> None:
    body = {"email": EMAIL, "password": PASSWORD}

    answers = await asyncio.gather(*(auth.call("POST", "/signup", body) for _ in range(3)))

    assert sorted(answer.status_code for answer in answers) == [200, 422, 422]
    assert {a.json()["error_code"] for a in answers if a.is_error} == {"user_already_exists"}


async def test_each_refresh_token_is_exchanged_for_the_next(auth: Auth) -> None:
    session = await auth.sign_up()

    second = (await auth.refresh(session["refresh_token"])).json()
    third = (await auth.refresh(second["refresh_token"])).json()

    tokens = {answer["refresh_token"] for answer in (session, second, third)}
    assert len(tokens) == 3
    before, after = (
        keys.verify(keys.KeySet.of(auth.stack), answer["access_token"])
        for answer in (session, third)
    )
    assert before.session_id == after.session_id
    assert before.sub == after.sub


async def test_a_client_that_lost_the_answer_gets_the_same_token_again(auth: Auth) -> None:
    first = (await auth.sign_up())["refresh_token"]

    answers = await asyncio.gather(*(auth.refresh(first) for _ in range(3)))

    assert len({answer.json()["refresh_token"] for answer in answers}) == 1


async def test_a_token_used_long_after_its_exchange_ends_the_whole_session(auth: Auth) -> None:
    first = (await auth.sign_up())["refresh_token"]
    second = (await auth.refresh(first)).json()["refresh_token"]
    third = (await auth.refresh(second)).json()["refresh_token"]
    auth.sql("update auth.refresh_tokens set updated_at = updated_at - interval '11 seconds'")

    stolen = await auth.refresh(first)

    assert refusal(stolen) == (400, "refresh_token_already_used")
    assert refusal(await auth.refresh(third)) == (400, "refresh_token_already_used")
    assert (await auth.sign_in()).status_code == 200


async def test_an_unknown_refresh_token_is_refused(auth: Auth) -> None:
    assert refusal(await auth.refresh("unknown")) == (400, "refresh_token_not_found")


@pytest.mark.parametrize(
    ("scope", "survivors"),
    [("global", []), ("local", ["other"]), ("others", ["own"])],
)
async def test_a_logout_ends_the_refresh_tokens_of_its_scope(
    auth: Auth, scope: str, survivors: list[str]
) -> None:
    sessions = {"own": await auth.sign_up(), "other": (await auth.sign_in()).json()}

    answer = await auth.call(
        "POST", f"/logout?scope={scope}", token=sessions["own"]["access_token"]
    )

    assert answer.status_code == 204
    alive = [
        name
        for name, session in sessions.items()
        if (await auth.refresh(session["refresh_token"])).status_code == 200
    ]
    assert alive == survivors


async def test_an_ended_session_no_longer_reads_its_user(auth: Auth) -> None:
    token = (await auth.sign_up())["access_token"]
    await auth.call("POST", "/logout", token=token)

    answer = await auth.call("GET", "/user", token=token)

    assert refusal(answer) == (403, "session_not_found")
    assert keys.verify(keys.KeySet.of(auth.stack), token).role == "authenticated"


async def test_users_need_a_token_of_their_own(auth: Auth) -> None:
    unknown = keys.mint_user_token(auth.stack.signing_key, user_id=uuid4())
    forged = keys.mint_user_token(new_signing_key(), user_id=uuid4())

    answers = [
        await auth.call("GET", "/user", token=token)
        for token in (None, auth.stack.anon_key, unknown, forged)
    ]

    assert [refusal(answer) for answer in answers] == [
        (401, "no_authorization"),
        (403, "bad_jwt"),
        (403, "user_not_found"),
        (403, "bad_jwt"),
    ]


async def test_a_new_password_replaces_the_old_and_ends_other_sessions(auth: Auth) -> None:
    other = await auth.sign_up()
    own = (await auth.sign_in()).json()

    answer = await auth.call(
        "PUT", "/user", {"password": "battery staple"}, token=own["access_token"]
    )

    assert answer.status_code == 200
    assert refusal(await auth.sign_in()) == (400, "invalid_credentials")
    assert (await auth.sign_in(password="battery staple")).status_code == 200
    assert (await auth.refresh(own["refresh_token"])).status_code == 200
    assert refusal(await auth.refresh(other["refresh_token"])) == (400, "refresh_token_not_found")
    same = await auth.call(
        "PUT", "/user", {"password": "battery staple"}, token=own["access_token"]
    )
    assert refusal(same) == (422, "same_password")


async def test_metadata_is_merged_and_null_removes_a_key(auth: Auth) -> None:
    token = (await auth.sign_up())["access_token"]
    await auth.call("PUT", "/user", {"data": {"name": "Olivia", "city": "Bled"}}, token=token)

    answer = await auth.call(
        "PUT", "/user", {"data": {"city": None, "nested": {"empty": None}}}, token=token
    )

    metadata = answer.json()["user_metadata"]
    assert metadata["name"] == "Olivia"
    assert metadata["nested"] == {"empty": None}
    assert "city" not in metadata


async def test_only_the_service_key_administers(auth: Auth) -> None:
    token = (await auth.sign_up())["access_token"]

    for method, path in (
        ("GET", "/admin/users"),
        ("POST", "/admin/users"),
        ("GET", f"/admin/users/{uuid4()}"),
        ("PUT", f"/admin/users/{uuid4()}"),
        ("DELETE", f"/admin/users/{uuid4()}"),
    ):
        assert refusal(await auth.call(method, path, {}, token=token)) == (403, "not_admin")
        anonymous = await auth.call(method, path, {}, token=auth.stack.anon_key)
        assert refusal(anonymous) == (403, "not_admin")


async def test_an_unconfirmed_address_cannot_sign_in(auth: Auth) -> None:
    created = await auth.admin("POST", "/admin/users", {"email": EMAIL, "password": PASSWORD})
    assert refusal(await auth.sign_in()) == (400, "email_not_confirmed")

    await auth.admin("PUT", f"/admin/users/{created.json()['id']}", {"email_confirm": True})

    assert (await auth.sign_in()).status_code == 200


async def test_a_banned_user_gets_no_token_until_the_ban_is_lifted(auth: Auth) -> None:
    session = await auth.sign_up()
    path = f"/admin/users/{session['user']['id']}"

    await auth.admin("PUT", path, {"ban_duration": "24h"})
    assert refusal(await auth.sign_in()) == (400, "user_banned")
    assert refusal(await auth.refresh(session["refresh_token"])) == (400, "user_banned")

    await auth.admin("PUT", path, {"ban_duration": "none"})
    assert (await auth.sign_in()).status_code == 200


async def test_an_administrator_cannot_give_an_address_twice(auth: Auth) -> None:
    await auth.sign_up()
    other = (await auth.sign_up(email="andrej@alpine.example"))["user"]["id"]

    created = await auth.admin("POST", "/admin/users", {"email": EMAIL, "password": PASSWORD})
    changed = await auth.admin("PUT", f"/admin/users/{other}", {"email": EMAIL})

    assert refusal(created) == (422, "email_exists")
    assert refusal(changed) == (422, "email_exists")


async def test_users_are_listed_in_pages(auth: Auth) -> None:
    for name in ("a", "b", "c"):
        await auth.sign_up(email=f"{name}@alpine.example")

    pages = [
        (await auth.admin("GET", f"/admin/users?page={page}&per_page=2")).json()["users"]
        for page in (1, 2, 3)
    ]

    assert [[user["email"][0] for user in page] for page in pages] == [["c", "b"], ["a"], []]
    assert refusal(await auth.admin("GET", "/admin/users?page=0")) == (400, "validation_failed")


async def test_a_deleted_user_is_gone_with_all_sessions(auth: Auth) -> None:
    session = await auth.sign_up()
    path = f"/admin/users/{session['user']['id']}"

    assert (await auth.admin("DELETE", path)).status_code == 200

    assert refusal(await auth.admin("GET", path)) == (404, "user_not_found")
    assert refusal(await auth.admin("DELETE", path)) == (404, "user_not_found")
    assert refusal(await auth.refresh(session["refresh_token"])) == (400, "refresh_token_not_found")
    assert refusal(await auth.sign_in()) == (400, "invalid_credentials")


async def test_errors_follow_the_version_that_the_client_speaks(auth: Auth) -> None:
    old = await auth.http.post("/token?grant_type=password", json={"email": "x"})
    new = await auth.http.post(
        "/token?grant_type=password",
        json={"email": "x"},
        headers={"x-supabase-api-version": "2024-01-01"},
    )

    assert old.json()["code"] == 400
    assert "x-supabase-api-version" not in old.headers
    assert new.json()["code"] == "validation_failed"
    assert new.json()["message"] == old.json()["msg"]
    assert new.headers["x-supabase-api-version"] == "2024-01-01"


async def test_a_connection_that_the_database_closed_is_replaced(auth: Auth) -> None:
    await auth.sign_up()
    auth.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s",
        "supabase_auth_admin",
    )

    assert (await auth.sign_in()).status_code == 200


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """The connections of official clients, which do not close their own."""
    with httpx.Client() as client:
        yield client


@pytest.fixture
async def ahttp() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


def test_the_official_client_signs_in_and_out(gateway: Stack, http: httpx.Client) -> None:
    options = ClientOptions(httpx_client=http, auto_refresh_token=False)
    client = create_client(gateway.url, gateway.publishable_key, options)

    signed_up = client.auth.sign_up({"email": EMAIL, "password": PASSWORD})
    assert signed_up.session
    assert signed_up.user
    assert client.auth.sign_in_with_password({"email": EMAIL, "password": PASSWORD}).session
    renewed = client.auth.refresh_session()
    assert renewed.session
    assert renewed.session.refresh_token != signed_up.session.refresh_token
    claims = client.auth.get_claims()
    assert claims
    assert claims["claims"]["sub"] == signed_up.user.id
    client.auth.update_user({"data": {"name": "Olivia"}})
    read = client.auth.get_user()
    assert read
    assert read.user.user_metadata["name"] == "Olivia"
    client.auth.sign_out()
    assert client.auth.get_session() is None

    with pytest.raises(AuthApiError) as refused:
        client.auth.sign_in_with_password({"email": EMAIL, "password": "wrong"})
    assert (refused.value.status, refused.value.code) == (400, "invalid_credentials")
    with pytest.raises(AuthWeakPasswordError) as weak:
        client.auth.sign_up({"email": "new@alpine.example", "password": "short"})
    assert weak.value.reasons == ["length"]


async def test_the_official_async_client_administers(
    gateway: Stack, ahttp: httpx.AsyncClient
) -> None:
    options = AsyncClientOptions(httpx_client=ahttp, auto_refresh_token=False)
    admin = (await acreate_client(gateway.url, gateway.secret_key, options)).auth.admin
    client = await acreate_client(gateway.url, gateway.publishable_key, options)

    created = await admin.create_user({"email": EMAIL, "password": PASSWORD, "email_confirm": True})
    user_id = created.user.id
    assert [user.id for user in await admin.list_users()] == [user_id]
    assert (await admin.get_user_by_id(user_id)).user.email == EMAIL
    session = await client.auth.sign_in_with_password({"email": EMAIL, "password": PASSWORD})
    assert session.user
    assert session.user.id == user_id
    changed = await admin.update_user_by_id(user_id, {"app_metadata": {"desk": "front"}})
    assert changed.user.app_metadata["desk"] == "front"
    refreshed = await client.auth.refresh_session()
    assert refreshed.user
    assert refreshed.user.app_metadata["desk"] == "front"
    await client.auth.sign_out({"scope": "global"})
    await admin.delete_user(user_id)
    assert await admin.list_users() == []


def last_mail(stack: Stack, http: httpx.Client, to: str) -> dict[str, str]:
    answer = http.get(f"{stack.inbox_url}/messages", params={"to": to})
    return dict(answer.json()["messages"][0])


def test_the_official_client_signs_in_by_code_and_by_link(
    gateway: Stack, http: httpx.Client
) -> None:
    options = ClientOptions(httpx_client=http, auto_refresh_token=False)
    client = create_client(gateway.url, gateway.publishable_key, options)

    client.auth.sign_in_with_otp({"email": EMAIL})
    code = last_mail(gateway, http, EMAIL)["code"]
    signed_in = client.auth.verify_otp({"email": EMAIL, "token": code, "type": "email"})
    assert signed_in.user
    admin = create_client(gateway.url, gateway.secret_key, options).auth.admin
    link = admin.generate_link({"type": "recovery", "email": EMAIL})
    token = link.properties.hashed_token
    recovered = client.auth.verify_otp({"token_hash": token, "type": "recovery"})
    assert recovered.user
    assert recovered.user.id == signed_in.user.id
    client.auth.update_user({"password": PASSWORD})
    assert client.auth.sign_in_with_password({"email": EMAIL, "password": PASSWORD}).session
    with pytest.raises(AuthApiError) as refused:
        client.auth.verify_otp({"email": EMAIL, "token": code, "type": "email"})
    assert (refused.value.status, refused.value.code) == (403, "otp_expired")


def test_a_portal_in_javascript_signs_in_by_link_and_by_phone(gateway: Stack) -> None:
    node.install()
    script = Path(__file__).with_name("auth_client.mjs")

    done = node.run(script, gateway.url, gateway.publishable_key, EMAIL, "+38640111222", PASSWORD)

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("storage").startswith("Storage is not served")
    assert told == {
        "page": "http://localhost:5173/portal",
        "invitation": "x",
        "user": EMAIL,
        "again": "AuthPKCECodeVerifierMissingError",
        "phone": "38640111222",
        "wrong": "otp_expired",
        "anonymous": "anonymous_provider_disabled",
        "oauth": 501,
    }


def test_the_inbox_shows_text_and_only_to_this_machine(gateway: Stack, http: httpx.Client) -> None:
    hostile = "<script>alert(1)</script>"
    with psycopg.connect(gateway.db_url("supabase_auth_admin")) as connection:
        connection.execute(
            "insert into local_inbox.messages (channel, recipient, subject, body, link)"
            " values ('email', %s, %s, %s, %s)",
            [hostile, hostile, hostile, f'http://a.example/"{hostile}'],
        )

    page = http.get(gateway.inbox_url, follow_redirects=True)

    # the page shows what it asks for, as text: see test_site.py
    assert page.status_code == 200
    assert str(page.url) == f"{gateway.url}/mail/"
    assert hostile not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    address = f"{gateway.inbox_url}/messages"
    (shown,) = http.get(address).json()["messages"]
    assert (shown["recipient"], shown["subject"], shown["body"]) == (hostile, hostile, hostile)
    for headers in ({"origin": "http://localhost:5173"}, {"host": "evil.example"}):
        assert http.get(address, headers=headers).status_code == 403
    assert http.get(address, headers={"origin": gateway.url}).status_code == 200
    assert http.get(address, params={"to": "x" * 300}).status_code == 400
    for path in ("/storage/v1/bucket", "/functions/v1/hello", "/graphql/v1"):
        answer = http.post(f"{gateway.url}{path}")
        assert answer.status_code == 501
        assert "not served" in answer.json()["message"]
