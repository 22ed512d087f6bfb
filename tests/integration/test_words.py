"""What users of PostgREST are told: words with a field and a remedy, never Postgres' own."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from tests.conftest import Start
from tests.sql.conftest import ALPINE, World, seed_uuid
from tests.sql.test_matrix import populate

from rapport.local import keys
from rapport.local.postgres import Database
from rapport.local.stack import Stack


@pytest.fixture
def database(world_database: Database) -> Database:
    return world_database


@pytest.fixture
def stack(start: Start, world: World) -> Stack:
    return start("postgrest")


@pytest.fixture
def world(database: Database):
    with psycopg.connect(database.url(), autocommit=True) as owner:
        world = World(database, owner)
        populate(world)
        yield world


def client(stack: Stack, name: str | None) -> httpx.Client:
    headers = {}
    if name:
        token = keys.mint_user_token(stack.jwt_secret, user_id=seed_uuid(name))
        headers = {"authorization": f"Bearer {token}"}
    return httpx.Client(base_url=stack.postgrest_url, headers=headers, trust_env=False, follow_redirects=True)


def test_explore(stack: Stack, world: World) -> None:
    c = client(stack, "andrej")
    doc = c.get("/").json()
    for path, methods in doc["paths"].items():
        print(path, [m for m in methods])
    print(doc["definitions"]["jobs"])
    cilka = str(seed_uuid("contact cilka"))
    r = {"prefer": "return=representation"}
    m = {"customer_id": cilka, "message": "x"}
    def show(*a, **k):
        x = c.request(*a, **k)
        print(a, k.get("json"), k.get("params"), x.status_code, x.text[:500], x.history)
    show("POST", "/accounts", json={"name": "x"})
    show("DELETE", "/jobs?id=is.null")
    show("PATCH", "/contacts?id=is.null", json={"name":"x"})
    show("POST", "/messages", json=m|{"sender_type": "bogus"})
    show("POST", "/messages", json=m|{"client_ref": "x"*200})
    show("POST", "/messages", json=m|{"id": "x"})
    show("POST", "/messages", json=m|{"client_ref": "abc", "sender_type": "operator", "sender_id": str(seed_uuid("andrej"))}, headers=r)
    show("POST", "/messages", json=m|{"client_ref": "abc"}, headers=r)
    show("POST", "/messages?on_conflict=client_ref", json=m|{"client_ref": "abc"}, headers={"prefer": "return=representation,resolution=merge-duplicates"})
    show("GET", "/contacts", headers={"accept-profile": "backend"})
    show("POST", "/rpc/prune", headers={"content-profile": "backend"})
    show("POST", "/rpc/no", json={})
    show("POST", "/messages", json=[m|{"client_ref": "abc"},m|{"client_ref": "abcd"}], headers=r)
    show("POST", "/messages", json=m|{"client_ref": "abc"})
    show("POST", "/messages", json=m|{"client_ref": "abc", "message": "y"})
    show("POST", "/messages?select=id,seq", json=m|{"client_ref": "abc"}, headers=r|{"accept": "application/vnd.pgrst.object+json"})
    show("POST", "/messages?on_conflict=id", json=m|{"client_ref": "abc"}, headers={"prefer": "return=representation,resolution=ignore-duplicates"})
    show("POST", "/rpc/post_message", json=m|{"client_ref": "abc"})
    c = client(stack, None)
    show("GET", "/contacts")
    show("POST", "/contacts", json={})
    show("POST", "/rpc/mark_read", json={})
    show("GET", "/")
    show("POST", "/rpc/prune", headers={"content-profile": "backend"})
    assert 0
