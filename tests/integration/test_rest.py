"""/rest/v1 through the gateway, in front of real PostgREST."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from tests.stacks import Start, changed_copy_of
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.running import Stack
from rapport.local.supabase import keys
from rapport.local.supabase.signing_key import new_signing_key

SCHEMA = """
    create table public.notes (id bigint primary key, body text not null);
    alter table public.notes enable row level security;
    create policy "signed-in users do everything"
        on public.notes
        for all
        to authenticated
        using (true)
        with check (true);
    grant select, insert, update, delete on public.notes to authenticated;

    create function public.caller()
        returns jsonb
        language sql
        stable
        set search_path = ''
    as $$
        select jsonb_build_object(
            'uid', auth.uid(),
            'role', auth.role(),
            'email', auth.email(),
            'headers', current_setting('request.headers', true)::jsonb
        )
    $$;
    grant execute on function public.caller() to anon, authenticated, service_role;
"""


@pytest.fixture(scope="module")
def template(cluster: Cluster, template: Database) -> Iterator[Database]:
    """A database with a table and a function of these tests' own."""
    with changed_copy_of(cluster, template, SCHEMA) as database:
        yield database


@pytest.fixture
def stack(start: Start) -> Stack:
    return start("postgrest", "gateway")


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A client without any key."""
    with httpx.Client(base_url=stack.url) as client:
        yield client


@pytest.fixture
def user(stack: Stack) -> Iterator[httpx.Client]:
    """A signed-in user's client."""
    token = keys.mint_user_token(stack.signing_key, user_id=uuid4())
    headers = {"apikey": stack.publishable_key, "authorization": f"Bearer {token}"}
    with httpx.Client(base_url=stack.url, headers=headers) as client:
        yield client


def test_a_key_is_required(stack: Stack, http: httpx.Client) -> None:
    for path in ("/rest/v1/rpc/caller", "/auth/v1/settings"):
        missing = http.get(path)
        wrong = http.get(path, headers={"apikey": stack.publishable_key + "x"})
        bearer_alone = http.get(path, headers={"authorization": f"Bearer {stack.anon_key}"})

        for answer, message in (
            (missing, "No API key found in request"),
            (wrong, "Invalid API key"),
            (bearer_alone, "No API key found in request"),
        ):
            assert (answer.status_code, answer.json()["message"]) == (401, message)
            assert answer.json()["hint"]


def test_health_and_the_signing_keys_need_no_key(stack: Stack, http: httpx.Client) -> None:
    assert http.get("/health").status_code == 200
    published = http.get("/auth/v1/.well-known/jwks.json")
    assert published.headers["cache-control"] == "public, max-age=600"
    assert published.json() == {"keys": [stack.signing_key.public_jwk()]}


def test_a_key_alone_stands_for_its_role(stack: Stack, http: httpx.Client) -> None:
    by_header = http.get("/rest/v1/rpc/caller", headers={"apikey": stack.secret_key})
    by_query = http.get("/rest/v1/rpc/caller", params={"apikey": stack.publishable_key})

    assert by_header.json()["role"] == "service_role"
    assert by_query.json()["role"] == "anon"


def test_policies_see_the_user_of_the_token(stack: Stack, http: httpx.Client) -> None:
    user_id = uuid4()
    token = keys.mint_user_token(stack.signing_key, user_id=user_id, email="olivia@alpine.example")

    seen = http.get(
        "/rest/v1/rpc/caller",
        headers={"apikey": stack.publishable_key, "authorization": f"Bearer {token}"},
    ).json()

    assert seen["uid"] == str(user_id)
    assert seen["role"] == "authenticated"
    assert seen["email"] == "olivia@alpine.example"
    assert "apikey" not in seen["headers"]


def test_forged_and_expired_tokens_are_refused(stack: Stack, http: httpx.Client) -> None:
    forged = keys.mint_user_token(new_signing_key(), user_id=uuid4())
    # PostgREST allows clocks to differ by 30 s
    expired = keys.mint_user_token(
        stack.signing_key, user_id=uuid4(), lifetime=timedelta(minutes=-1)
    )

    for token in (forged, expired):
        answer = http.get(
            "/rest/v1/rpc/caller",
            headers={"apikey": stack.publishable_key, "authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 401
        assert answer.json()["code"].startswith("PGRST")


def test_every_method_reaches_postgrest(user: httpx.Client) -> None:
    path = "/rest/v1/notes"
    returned = {"prefer": "return=representation"}

    assert user.post(path, json={"id": 1, "body": "a"}).status_code == 201
    replaced = user.put(path, params={"id": "eq.1"}, json={"id": 1, "body": "b"}, headers=returned)
    assert replaced.json() == [{"id": 1, "body": "b"}]
    changed = user.patch(path, params={"id": "eq.1"}, json={"body": "c"}, headers=returned)
    assert changed.json() == [{"id": 1, "body": "c"}]
    counted = user.head(path, headers={"prefer": "count=exact"})
    assert counted.headers["content-range"] == "0-0/1"
    assert counted.content == b""
    # of a table that was made a moment ago PostgREST learns a moment later
    options = user.options(path)
    for _ in range(100):
        if options.status_code == 200:
            break
        time.sleep(0.1)
        options = user.options(path)
    assert "GET" in options.headers["allow"]
    assert user.delete(path, params={"id": "eq.1"}).status_code == 204
    assert user.get(path).json() == []


def test_a_write_without_a_filter_is_refused(user: httpx.Client) -> None:
    path = "/rest/v1/notes"
    user.post(path, json=[{"id": 71, "body": "kept"}, {"id": 72, "body": "kept"}])

    for query in ("", "?select=id", "?order=id&limit=1", "?columns=body"):
        for method, command in (("PATCH", "UPDATE"), ("DELETE", "DELETE")):
            answer = user.request(method, path + query, json={"body": "lost"})
            assert answer.status_code == 400
            assert answer.json() == {
                "code": "21000",
                "details": None,
                "hint": None,
                "message": f"{command} requires a WHERE clause",
            }
    # as PostgREST answers
    assert user.delete("/rest/v1/rpc/caller").status_code == 405

    kept = user.get(path, params={"id": "in.(71,72)"}).json()
    assert [row["body"] for row in kept] == ["kept", "kept"]
    assert user.delete(path, params={"or": "(id.eq.71,id.eq.72)"}).status_code == 204


def test_what_newer_versions_have_dropped_is_refused(user: httpx.Client) -> None:
    prefer = {"prefer": "tx=commit, params=single-object"}
    answer = user.post("/rest/v1/rpc/caller", json={}, headers=prefer)

    assert (answer.status_code, answer.json()["code"]) == (400, "PGRST122")


@pytest.mark.parametrize(
    ("query", "accept"),
    [
        ("limit=%FF", "*/*"),
        ("", "\xff"),
        # in brackets of conditions and of tables; it would take seconds to read
        (f"or=({'or(' * 3000}id.is.null{')' * 3001}", "*/*"),
        (f"select={'notes(' * 3000}*{')' * 3000}", "*/*"),
        # also behind as many that close
        (f"body=eq.{')' * 3000}&select={'notes(' * 3000}*{')' * 3000}", "*/*"),
    ],
)
def test_what_postgrest_can_not_read_is_refused(
    user: httpx.Client, query: str, accept: str
) -> None:
    answer = user.get(f"/rest/v1/notes?{query}", headers=[(b"accept", accept.encode("latin-1"))])
    assert (answer.status_code, answer.json()["code"]) == (400, "PGRST100")


def test_a_query_arrives_as_it_was_written(user: httpx.Client) -> None:
    bodies = ["a,b", 'say "hi"', "100%", "čšž +&="]
    rows = [{"id": number, "body": body} for number, body in enumerate(bodies)]
    user.post("/rest/v1/notes", json=rows)

    for row in rows:
        found = user.get("/rest/v1/notes", params={"body": f"eq.{row['body']}"})
        assert found.json() == [row]


def test_large_bodies_pass_both_ways(user: httpx.Client) -> None:
    body = "x" * 3_000_000

    created = user.post(
        "/rest/v1/notes", json={"id": 1, "body": body}, headers={"prefer": "return=representation"}
    )

    assert created.json() == [{"id": 1, "body": body}]


def test_a_body_of_unknown_length_is_passed_on(user: httpx.Client) -> None:
    created = user.post(
        "/rest/v1/notes",
        content=iter([b'{"id": 1, ', b'"body": "a"}']),
        headers={"content-type": "application/json"},
    )

    assert created.status_code == 201


def test_sockets_are_for_realtime_alone(stack: Stack) -> None:
    address = f"ws://{stack.host}:{stack.gateway_port}/rest/v1/notes?apikey={stack.publishable_key}"

    with pytest.raises(InvalidStatus) as refused, connect(address):
        pass

    assert refused.value.response.status_code == 403


def test_browsers_of_any_origin_may_call(stack: Stack, http: httpx.Client) -> None:
    origin = {"origin": "https://portal.example"}

    preflight = http.options(
        "/rest/v1/notes",
        headers={
            **origin,
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "apikey,authorization,content-profile,prefer",
        },
    )
    answer = http.get("/rest/v1/rpc/caller", headers={**origin, "apikey": stack.publishable_key})
    refused = http.get("/rest/v1/rpc/caller", headers=origin)

    assert preflight.status_code == 200
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    assert "content-profile" in preflight.headers["access-control-allow-headers"]
    assert answer.headers.get_list("access-control-allow-origin") == ["*"]
    assert "access-control-allow-credentials" not in answer.headers
    assert "Content-Range" in answer.headers["access-control-expose-headers"]
    # or a page could not tell a wrong key from a dead network
    assert refused.headers["access-control-allow-origin"] == "*"


def test_without_postgrest_the_gateway_answers_503(own_start: Start) -> None:
    stack = own_start("gateway")

    answer = httpx.get(f"{stack.url}/rest/v1/", headers={"apikey": stack.publishable_key})

    assert answer.status_code == 503
    assert answer.json() == {"message": "PostgREST is not available"}
