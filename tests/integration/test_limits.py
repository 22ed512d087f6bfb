"""What one signed-in user may ask of PostgREST: exact counts, so much at once, so much a minute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from tests.sql.portal import CILKA, make_job
from tests.stacks import Start
from tests.world import ALPINE, World, seed_uuid, text_message

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.supabase.keys import mint_user_token

# the same for everybody
PUBLIC = {"status_words"}
SLOTS = 8
READING = -1


@dataclass(frozen=True)
class Office:
    """Two businesses behind PostgREST."""

    world: World
    stack: Stack
    http: httpx.Client

    def ask(
        self,
        user: str,
        method: str,
        path: str,
        body: object = None,
        headers: list[tuple[str, str]] | None = None,
    ) -> httpx.Response:
        token = mint_user_token(self.stack.signing_key, user_id=seed_uuid(user))
        return self.http.request(
            method,
            f"/rest/v1/{path}",
            json=body,
            headers=[
                ("apikey", self.stack.publishable_key),
                ("authorization", f"Bearer {token}"),
                *(headers or []),
            ],
        )

    def ask_directly(self, user: str, path: str) -> httpx.Response:
        """Asks PostgREST itself: the gateway would let fewer requests of a user through."""
        token = mint_user_token(self.stack.signing_key, user_id=seed_uuid(user))
        return self.http.get(
            f"{self.stack.postgrest_url}/{path}", headers={"authorization": f"Bearer {token}"}
        )

    def allow(self, **limits: int) -> None:
        """Sets limits of the first business."""
        for limit, value in limits.items():
            self.world.owner.execute(
                f"update public.accounts set {limit} = %s where id = %s".encode(), [value, ALPINE]
            )

    def write(self, user: str, thread: UUID, count: int = 1, **columns: Any) -> httpx.Response:
        """Posts messages in one request."""
        rows = [{"conversation_id": str(thread), "message": f"{n}"} | columns for n in range(count)]
        return self.ask(user, "POST", "messages", rows)

    @contextmanager
    def busy(self, user: str, *locks: int) -> Iterator[psycopg.Connection[Any]]:
        """Requests of a user's that are at work, by the locks that they hold."""
        with self.world.connect() as connection, connection.transaction():
            for lock in locks:
                connection.execute(
                    "select pg_advisory_xact_lock(uuid_hash(%s), %s)", [seed_uuid(user), lock]
                )
            yield connection


@pytest.fixture
def database(world_database: Database) -> Database:
    return world_database


@pytest.fixture
def office(start: Start, database: Database) -> Iterator[Office]:
    stack = start("postgrest", "gateway")
    with (
        psycopg.connect(database.url(), autocommit=True) as owner,
        httpx.Client(base_url=stack.url, trust_env=False, timeout=30) as http,
    ):
        yield Office(World(database, owner), stack, http)


@pytest.fixture
def thread(office: Office) -> UUID:
    make_job(office.world)
    found: UUID = office.world.value("select id from public.conversations")
    return found


# Counts


COUNTS = [
    [("prefer", "count=planned")],
    [("prefer", "count=estimated")],
    [("Prefer", "handling=lenient, count=planned")],
    # of two headers PostgREST obeys the first, and shows functions the last
    [("prefer", "count=planned"), ("prefer", "handling=lenient")],
]


def readable(office: Office) -> list[str]:
    """Every table and view that signed-in users may ask for."""
    return [
        row["relname"]
        for row in office.world.rows(
            "select c.relname::text from pg_class c"
            " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')"
            " and has_any_column_privilege('authenticated', c.oid, 'select') order by 1"
        )
    ]


def test_estimates_are_refused_everywhere_and_exact_counts_are_given(office: Office) -> None:
    tables = readable(office)
    assert len(tables) > 20
    for table in tables:
        exact = office.ask("andrej", "GET", f"{table}?limit=1", headers=[("prefer", "count=exact")])
        assert exact.status_code in (200, 206), (table, exact.text)
        assert exact.headers["content-range"].split("/")[1].isdigit()
        if table in PUBLIC:
            continue
        for headers in (COUNTS[0], COUNTS[1], COUNTS[3]):
            refused = office.ask("stranger", "GET", f"{table}?limit=1", headers=headers)
            assert refused.status_code == 400, (table, headers, refused.text)


@pytest.mark.parametrize("headers", COUNTS)
def test_an_estimate_is_refused_with_a_sentence(
    office: Office, headers: list[tuple[str, str]]
) -> None:
    path = f"contacts?account_id=eq.{ALPINE}&limit=1"

    for _ in range(20):
        assert office.ask("stranger", "HEAD", path, headers=headers).status_code == 400
        # PostgREST has ended the connection
        refused = office.ask("stranger", "GET", path, headers=headers)
        assert refused.status_code == 400
    assert "content-range" not in refused.headers
    assert refused.json() == {
        "code": "PT400",
        "message": "Only exact counts are given: "
        "an estimate would tell about rows that are not yours.",
        "details": "field: Prefer",
        "hint": "Ask for count=exact, or for no count.",
    }


def test_an_estimate_that_nobody_refuses_is_exact(office: Office) -> None:
    """Up to as many rows as an answer has PostgREST counts those that are the caller's to see."""
    headers = [("prefer", "count=estimated"), ("prefer", "handling=lenient")]
    answer = office.ask("stranger", "HEAD", f"contacts?account_id=eq.{ALPINE}", headers=headers)
    assert answer.headers["content-range"] == "*/0"


# Embedded tables


@pytest.mark.usefixtures("thread")
@pytest.mark.parametrize(
    "path",
    [
        "contacts?select=*,jobs(*,conversations(id,messages(message))),invoices(*)",
        "conversations?select=id,messages(id,message)&messages.limit=20&messages.order=seq.desc",
        "messages?select=id,conversations(id,contacts(name))",
        "jobs?select=id,contacts!inner(name)&contacts.name=eq.cilka",
        "invoices?select=number,...contacts(name)",
        "accounts?select=name,account_members(display_name),contacts(conversations(id))",
        "inbox?select=*",
        'messages?select="lateral ( json_agg":message,"lateral ) (":id,conversations(id)',
    ],
)
def test_what_pages_embed_is_given(office: Office, path: str) -> None:
    for user in ("andrej", "cilka"):
        answer = office.ask(user, "GET", path)
        assert answer.status_code == 200, answer.text


@pytest.mark.usefixtures("thread")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("messages?select=id,conversations(id,messages(*))", "would repeat many rows"),
        (
            "messages?select=id,conversations(contacts(invoices(id)))&limit=1",
            "would repeat many rows",
        ),
        ("messages?select=id,...conversations(messages(*))", "would repeat many rows"),
        ("jobs?select=id,contacts!inner(invoices!inner(id))", "would repeat many rows"),
        (
            "accounts?select=contacts(jobs(conversations(messages(id))))",
            "Tables are embedded 4 levels deep; 3 are allowed.",
        ),
        (
            "conversations?select=" + ",".join(f"a{n}:messages(*)" for n in range(9)),
            "9 tables are embedded; 8 are allowed.",
        ),
    ],
)
def test_what_multiplies_is_refused(office: Office, path: str, message: str) -> None:
    for _ in range(6):  # also once Postgres keeps the plan of a prepared statement
        refused = office.ask("cilka", "GET", path)
        assert refused.status_code == 400, refused.text
        assert message in refused.json()["message"]
        assert refused.json()["details"] == "field: select"
        assert refused.json()["hint"]


# At once


def test_more_requests_at_once_than_a_user_may_have_are_refused(office: Office) -> None:
    with office.busy("andrej", *range(1, SLOTS + 1)):
        refused = office.ask("andrej", "GET", "contacts?select=id")
        others = office.ask("olivia", "GET", "contacts?select=id")

    assert others.status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["code"] == "PT429"
    assert refused.json()["message"] == "You have 8 requests at work."
    assert office.ask("andrej", "GET", "contacts?select=id").status_code == 200


def test_who_reads_waits_for_what_they_read_before(office: Office) -> None:
    with ThreadPoolExecutor(1) as background:
        with office.busy("andrej", READING):
            waiting = background.submit(office.ask, "andrej", "GET", "contacts?select=id")
            # what is written does not wait for it, nor does anybody else
            written = office.ask("andrej", "POST", "contacts_v2", {"name": "New"})
            assert written.status_code == 201, written.text
            assert office.ask("olivia", "GET", "contacts?select=id").status_code == 200
            assert not waiting.done()
        assert waiting.result().status_code == 200


def test_who_waits_for_long_is_refused(office: Office) -> None:
    with office.busy("andrej", READING):
        refused = office.ask("andrej", "GET", "contacts?select=id")

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert (
        refused.json()["message"]
        == "Another request of yours has been at work for more than 2 seconds."
    )


def test_as_many_requests_as_a_page_makes_are_answered(office: Office) -> None:
    """Quick ones wait for each other unnoticed."""
    with ThreadPoolExecutor(SLOTS) as background:
        answers = background.map(
            lambda _: office.ask("andrej", "GET", "inbox?select=*&limit=50").status_code,
            range(40),
        )
        assert set(answers) == {200}


# In a minute


def test_too_many_messages_in_a_minute_are_refused(office: Office, thread: UUID) -> None:
    office.allow(messages_per_minute=3)
    wait_for_a_new_minute()

    assert office.write("cilka", thread, 2).status_code == 201
    # all or nothing
    assert office.write("cilka", thread, 2).status_code == 429
    assert office.write("cilka", thread).status_code == 201
    refused = office.write("cilka", thread)

    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json() == {
        "code": "PT429",
        "message": "You have written 3 messages in this minute.",
        "details": f"retry after: {refused.headers['retry-after']} s",
        "hint": "A user may write 3 in a minute; go on in the next.",
    }
    assert office.write("andrej", thread).status_code == 201
    # what is said in haste has no number
    assert office.world.value("select last_seq from public.conversation_activity") == 5


def test_the_next_minute_begins_anew(office: Office, thread: UUID) -> None:
    office.allow(messages_per_minute=1)
    wait_for_a_new_minute()
    assert office.write("cilka", thread).status_code == 201
    assert office.write("cilka", thread).status_code == 429

    office.world.owner.execute("update private.user_writes set minute = minute - 1")

    assert office.write("cilka", thread).status_code == 201


def test_too_many_writes_in_a_minute_are_refused(office: Office) -> None:
    office.allow(writes_per_minute=4)
    wait_for_a_new_minute()

    # a request and a row each
    statuses = [
        office.ask("andrej", "POST", "contacts_v2", {"name": f"{n}"}).status_code for n in range(3)
    ]
    refused = office.ask(
        "andrej", "POST", "rpc/mark_read", {"conversation_id": str(UUID(int=1)), "up_to_seq": 1}
    )

    assert statuses == [201, 201, 429]
    assert refused.json()["message"] == "You have written 4 times in this minute."
    # reading goes on
    assert office.ask("andrej", "GET", "contacts?select=id").status_code == 200


def test_functions_are_not_counted(office: Office) -> None:
    office.allow(messages_per_minute=1, messages_per_request=1, rows_per_request=1)
    before = office.world.value("select count(*) from public.messages")
    items = [text_message(f"wamid.{n}") for n in range(150)]

    answer = office.http.post(
        "/rest/v1/rpc/ingest_whatsapp",
        json={"body": "{}", "items": items},
        headers={
            "apikey": office.stack.secret_key,
            "content-profile": "backend",
        },
    )

    assert answer.status_code == 200, answer.text
    assert office.world.value("select count(*) from public.messages") - before == 150
    assert office.world.value("select count(*) from private.user_writes") == 0


def test_several_users_share_a_few_places_to_wait(office: Office) -> None:
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    with (
        office.busy("andrej", READING) as busy,
        office.busy("carlos", READING),
        ThreadPoolExecutor(5) as pool,
    ):
        reads = [pool.submit(office.ask_directly, "andrej", "contacts?select=id") for _ in range(4)]
        while office.world.value(waiting) < len(reads):
            time.sleep(0.01)

        refused = office.ask("carlos", "GET", "contacts?select=id")
        # all places are one user's, who may have more
        one_more = pool.submit(office.ask_directly, "andrej", "contacts?select=id")
        while office.world.value(waiting) == len(reads):
            time.sleep(0.01)
        busy.execute("commit")

        assert refused.status_code == 429
        assert refused.json()["hint"] == "Send one request after the other."
        assert [read.result().status_code for read in (*reads, one_more)] == [200] * 5


# In one request


def test_thousands_of_messages_are_refused_before_they_lock_anything(
    office: Office, thread: UUID
) -> None:
    rows = [
        {"conversation_id": str(thread), "message": "x", "client_ref": f"{n}"} for n in range(6000)
    ]

    refused = office.ask("cilka", "POST", "messages", rows)

    assert refused.status_code == 413, refused.text
    assert refused.json()["message"] == "These are more than 100 messages in one request."


def test_too_many_messages_in_one_request_are_refused(office: Office, thread: UUID) -> None:
    before = office.world.value("select last_seq from public.conversation_activity")

    refused = office.write("cilka", thread, 101)

    assert refused.status_code == 413
    assert refused.json()["message"] == "These are more than 100 messages in one request."
    assert refused.json()["hint"] == "Send the rest in further requests."
    assert office.world.value("select last_seq from public.conversation_activity") == before
    assert office.write("cilka", thread, 100).status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "contacts_v2", [{"name": f"{n}"} for n in range(4)]),
        ("PATCH", "contacts_v2?tags=cs.{many}", {"notes": "all"}),
        ("DELETE", "contacts_live_chat?tags=cs.{many}", None),
        ("PATCH", "jobs?service_type=eq.many", {"description": "all"}),
    ],
)
def test_too_many_rows_in_one_request_are_refused(
    office: Office, method: str, path: str, body: object
) -> None:
    office.world.owner.execute(
        "insert into public.contacts (account_id, name, tags)"
        " select %s, n::text, '{many}' from generate_series(1, 4) n",
        [ALPINE],
    )
    for _ in range(4):
        make_job(office.world, service_type="many")
    office.allow(rows_per_request=3)
    before = office.world.value("select sum(version) from public.contacts")

    refused = office.ask("andrej", method, path, body)

    assert refused.status_code == 413, refused.text
    assert refused.json()["message"] == "These are more than 3 rows in one request."
    assert office.world.value("select sum(version) from public.contacts") == before
    assert office.world.value("select count(*) from public.jobs where description = 'all'") == 0
    office.allow(rows_per_request=4)
    assert office.ask("andrej", method, path, body).is_success


def test_a_contact_with_many_rows_is_merged_in_one_request(office: Office) -> None:
    """What the database writes by itself is not the user's to count."""
    for _ in range(4):
        make_job(office.world)
    kept = office.world.value(
        "insert into public.contacts (account_id, name) values (%s, 'kept') returning id", [ALPINE]
    )
    office.allow(rows_per_request=1)

    merged = office.ask(
        "andrej", "POST", "rpc/merge_contacts", {"keep": str(kept), "drop": str(CILKA)}
    )

    assert merged.is_success, merged.text
    assert (
        office.world.value("select count(*) from public.jobs where customer_id = %s", [kept]) == 4
    )


def wait_for_a_new_minute() -> None:
    """Unless there is enough of this one left for what a test counts."""
    left = 60 - time.time() % 60
    if left < 6:
        time.sleep(left + 0.1)
