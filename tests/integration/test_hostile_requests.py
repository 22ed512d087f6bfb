"""Every route of serverless.yml, asked by somebody hostile: always an answer, never a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.stacks import Start
from tests.world import seed_uuid

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.supabase import keys
from rapport.server.serverless import SERVERLESS_FILE, Route, Service

ROUTES = [
    route
    for function in Service.read(SERVERLESS_FILE).functions.values()
    for route in function.routes
]
every_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.key)

# what a path's parameter may be, as it stands in an address
SEGMENTS = [
    "%00",
    "%FF%FE",
    "%C3%28",
    "%ED%A0%80",
    "a%00b",
    "..%2F..%2Fetc",
    "%2e%2e",
    "null",
    "-1",
    "9" * 400,
    "%25s%25n",
    "'%20or%201=1--",
    "%C3%A9",
    "%F0%9F%92%A9",
    "{id}",
    "00000000-0000-0000-0000-000000000000",
]
HEADERS = [
    b"Bearer \xe9",
    b"Bearer \xff\xfe",
    b"Bearer",
    b"Basic YTpi",
    b"Bearer a b",
    b"Bearer " + b"a" * 9000,
    b"bearer null",
    b"Bearer eyJhbGciOiJub25lIn0.e30.",
    b"\xc3\xa9",
]
FIELDS = [
    "bookingId",
    "conversationId",
    "conversation_id",
    "customerId",
    "message",
    "type",
    "content",
    "clientRef",
    "replyTo",
    "upToSeq",
    "before",
    "after",
    "limit",
    "cursor",
    "bulk",
    "accountId",
    "contactId",
    "contactIds",
    "metakockaId",
    "metakockaIds",
    "worker",
    "mimeType",
    "mime_type",
    "size",
    "file_name",
    "invoiceData",
    "hasInvoice",
    "hub.mode",
    "hub.verify_token",
    "hub.challenge",
]
ODD_TEXTS = [
    "",
    "\x00",
    "a\x00b",
    "é",
    "💩",
    "null",
    "-1",
    "9" * 400,
    "1e999",
    "\u202e",
    "x" * 5000,
]

texts = st.one_of(
    st.sampled_from(ODD_TEXTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
)
numbers = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.just(2**63),
    st.just(-(2**63) - 1),
    st.just(10**400),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), texts), inner, max_size=4),
    ),
    max_leaves=12,
)
bodies = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=6).map(
        lambda body: json.dumps(body).encode()
    ),
    values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=80),
    st.sampled_from(
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b'"x"',
            b"\xff",
            b'{"message": "\\ud800"}',
            b'{"message": NaN}',
            b'{"a":' * 3000 + b"1" + b"}" * 3000,
            b"[" * 100_000,
            b'{"message": "\\u0000"}',
            b'{"limit": 1' + b"0" * 5000 + b"}",
        ]
    ),
)
queries = st.one_of(
    st.lists(st.tuples(st.sampled_from(FIELDS), texts), max_size=4).map(
        lambda pairs: "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
    ),
    st.sampled_from(
        ["%00=%00", "limit=%FF", "&&&", "=", "limit=1&limit=2", "%C3%28=1", "conversationId=%00"]
    ),
)
types = st.sampled_from(
    [
        "application/json",
        "text/plain",
        "application/octet-stream",
        "é".encode().decode("latin-1"),
        "",
    ]
)


@pytest.fixture
def database(world_database: Database) -> Database:
    return world_database


@pytest.fixture
def stack(start: Start) -> Stack:
    return start("postgrest", "gateway", "functions", "fakes")


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.functions_url, trust_env=False, timeout=30) as client:
        yield client


def token(stack: Stack, name: str) -> bytes:
    minted = keys.mint_user_token(stack.signing_key, user_id=seed_uuid(name))
    return f"Bearer {minted}".encode()


def fault_of(answer: httpx.Response) -> str | None:
    """What is wrong with an answer, if anything."""
    if answer.status_code >= 500:
        return "an error of ours"
    if answer.status_code < 400:
        return None
    told: dict[str, Any] = answer.json()
    if not {"code", "message"} <= set(told) <= {"code", "message", "field", "hint"}:
        # what no function has seen is answered by API Gateway
        return None if told == {"message": "Not Found"} else "another shape"
    if not told["message"].endswith("."):
        return "no sentence"
    return None


def ask(
    http: httpx.Client, route: Route, segment: str = "x", query: str = "", **parts: Any
) -> None:
    path = route.path.replace("{id}", segment)
    url = httpx.URL(http.base_url, raw_path=f"{path}?{query}".encode())
    answer = http.request(route.method, url, **parts)
    assert fault_of(answer) is None, (
        route.key,
        segment,
        query,
        parts,
        answer.status_code,
        answer.text,
    )


@every_route
def test_no_header_of_a_stranger_makes_it_crash(http: httpx.Client, route: Route) -> None:
    for header in HEADERS:
        url = route.path.replace("{id}", str(seed_uuid("any")))
        answer = http.request(
            route.method, url, headers=[(b"authorization", header)], content=b"{}"
        )
        assert 400 <= answer.status_code < 500, (header, answer.text)
        assert fault_of(answer) is None, (header, answer.text)
        for name in (b"x-hub-signature-256", b"cookie", b"content-type", b"x-forwarded-for"):
            answer = http.request(route.method, url, headers=[(name, header)], content=b"{}")
            assert 400 <= answer.status_code < 500, (name, header, answer.text)


@pytest.mark.parametrize(
    "route", [one for one in ROUTES if "{" in one.path], ids=lambda route: route.key
)
def test_no_path_makes_it_crash(http: httpx.Client, stack: Stack, route: Route) -> None:
    for name in ("andrej", "cilka"):
        for segment in SEGMENTS:
            url = httpx.URL(http.base_url, raw_path=route.path.replace("{id}", segment).encode())
            answer = http.request(
                route.method, url, headers=[(b"authorization", token(stack, name))]
            )
            assert 400 <= answer.status_code < 500, (segment, answer.text)
            assert fault_of(answer) is None, (segment, answer.text)


@every_route
def test_no_body_and_no_query_make_it_crash(http: httpx.Client, stack: Stack, route: Route) -> None:
    by_name = {name: token(stack, name) for name in ("olivia", "cilka", "stranger")}

    @settings(
        max_examples=60,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.sampled_from(sorted(by_name)), bodies, queries, types, st.sampled_from(SEGMENTS))
    def ask_anything(name: str, body: bytes, query: str, type_: str, segment: str) -> None:
        ask(
            http,
            route,
            segment,
            query,
            content=body if route.method == "POST" else None,
            headers=[(b"authorization", by_name[name]), (b"content-type", type_.encode("latin-1"))],
        )

    ask_anything()
