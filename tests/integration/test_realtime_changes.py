"""postgres_changes over /realtime/v1: real WAL, and RLS for each subscriber."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.realtime_clients import (
    ALICE,
    BOB,
    Ear,
    bare_socket,
    follow,
    listen,
    official_client,
    write,
)
from tests.stacks import Start, changed_copy_of

from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.running import Stack
from rapport.local.supabase.keys import mint_user_token

SCHEMA = """
    create table public.notes (
        id int primary key,
        owner_id uuid,
        body text,
        secret text,
        amount numeric,
        details jsonb,
        code char(5)
    );
    alter table public.notes enable row level security;
    grant select (id, owner_id, body, amount, details, code) on public.notes to authenticated;
    create policy "users read their own notes"
        on public.notes
        for select
        to authenticated
        using (owner_id = auth.uid());

    create table public.unpublished (id int primary key);

    alter publication supabase_realtime add table public.notes;
"""
# nothing can be deleted from it
KEYLESS = """
    create table public.keyless (id int);
    alter table public.keyless enable row level security;
    grant select on public.keyless to authenticated;
    alter publication supabase_realtime add table public.keyless;
"""


@pytest.fixture(scope="module")
def template(cluster: Cluster, prepared: Database) -> Iterator[Database]:
    """What a hosted project has, with a schema of these tests' own."""
    with changed_copy_of(cluster, prepared, SCHEMA) as database:
        yield database


@pytest.fixture
def stack(start: Start) -> Stack:
    return start("gateway")


@pytest.fixture
def own_stack(own_start: Start) -> Stack:
    return own_start("gateway")


def run(database: Database, *statements: str) -> None:
    """Runs each statement in a transaction of its own."""
    with write(database) as connection:
        for statement in statements:
            connection.execute(statement)


async def ids(ear: Ear, count: int) -> list[int]:
    changes = [(await ear.change())["data"] for _ in range(count)]
    return [(change.get("record") or change["old_record"])["id"] for change in changes]


async def test_a_row_is_told_to_those_who_may_read_it(stack: Stack, database: Database) -> None:
    async with official_client(stack, ALICE) as alice, official_client(stack, BOB) as bob:
        hers = await follow(alice, "notes", table="notes")
        his = await follow(bob, "notes", table="notes")

        run(
            database,
            f"""insert into notes values
                (1, '{ALICE}', 'hi', 'hidden', 7.50, '{{"a": [1, null]}}', 'abc'),
                (2, '{BOB}', 'ho', 'hidden', null, null, null)""",
        )

        change = await hers.change()
        assert change["data"] | {"commit_timestamp": None} == {
            "schema": "public",
            "table": "notes",
            "type": "INSERT",
            "commit_timestamp": None,
            "errors": None,
            "columns": [
                {"name": "id", "type": "int4"},
                {"name": "owner_id", "type": "uuid"},
                {"name": "body", "type": "text"},
                {"name": "amount", "type": "numeric"},
                {"name": "details", "type": "jsonb"},
                {"name": "code", "type": "bpchar"},
            ],
            "record": {
                "id": 1,
                "owner_id": str(ALICE),
                "body": "hi",
                "amount": 7.5,
                "details": {"a": [1, None]},
                "code": "abc  ",
            },
        }
        assert await ids(his, 1) == [2]
        assert hers.changes.empty()


async def test_an_update_has_the_old_key_and_under_full_identity_the_old_row(
    own_stack: Stack, own_database: Database
) -> None:
    async with official_client(own_stack, ALICE) as alice:
        ear = await follow(alice, "notes", table="notes")

        run(
            own_database,
            f"insert into notes (id, owner_id, body) values (1, '{ALICE}', 'a')",
            "update notes set body = 'b'",
            "alter table notes replica identity full",
            "update notes set body = 'c', secret = 'hidden'",
        )

        await ear.change()
        by_key, whole = (await ear.change())["data"], (await ear.change())["data"]
        assert by_key["old_record"] == {"id": 1}
        assert whole["old_record"] == {
            "id": 1,
            "owner_id": str(ALICE),
            "body": "b",
            "amount": None,
            "details": None,
            "code": None,
        }
        assert whole["record"]["body"] == "c"


async def test_a_deletion_is_told_to_all_by_its_key_alone(
    own_stack: Stack, own_database: Database
) -> None:
    run(
        own_database,
        "alter table notes replica identity full",
        f"insert into notes (id, owner_id, body) values (1, '{ALICE}', 'a')",
    )
    async with official_client(own_stack, BOB) as bob:
        ear = await follow(bob, "notes", table="notes")

        run(own_database, "delete from notes")

        data = (await ear.change())["data"]
        assert data["type"] == "DELETE"
        assert data["old_record"] == {"id": 1}


async def test_a_filter_lets_through_what_it_names(stack: Stack, database: Database) -> None:
    expected = {
        "id=eq.2": [2],
        "id=neq.2": [1, 3, 9],
        "amount=gte.10.0": [2, 3, 9],
        "body=in.(one,three)": [1, 3],
        'body=eq."a, b"': [9],
        "body=like.t%": [2, 3],
        "details=is.null": [1, 2, 3, 9],
        "id=not.eq.2,amount=lt.100": [1],
        "code=eq.abc": [3],
    }
    run(database, "insert into notes (id) values (50)")
    async with official_client(stack, ALICE) as alice:
        ears: dict[str, Ear] = {}
        for text in expected:
            filtered = {"event": "INSERT", "schema": "public", "table": "notes", "filter": text}
            last = {"event": "DELETE", "schema": "public", "table": "notes"}
            ears[text] = await listen(alice, text, changes=(filtered, last))
            assert await ears[text].system() == "Subscribed to PostgreSQL"

        run(
            database,
            f"""insert into notes (id, owner_id, body, amount, code) values
                (1, '{ALICE}', 'one', 9, 'a'), (2, '{ALICE}', 'two', 10, 'ab'),
                (3, '{ALICE}', 'three', 100, 'abc'), (9, '{ALICE}', 'a, b', 1000, null)""",
            "delete from notes where id = 50",
        )

        heard = {text: await ids(ear, len(expected[text]) + 1) for text, ear in ears.items()}
        assert heard == {text: [*those, 50] for text, those in expected.items()}


async def test_bindings_are_told_apart_by_their_ids(stack: Stack, database: Database) -> None:
    token = mint_user_token(stack.signing_key, user_id=ALICE)
    inserts = {"event": "INSERT", "schema": "public", "table": "notes", "select": ["body"]}
    updates = {"event": "update", "schema": "public", "table": "notes", "filter": "id=eq.1"}
    async with bare_socket(stack, token) as socket:
        reply = await socket.join(
            "realtime:notes", {"config": {"postgres_changes": [inserts, updates]}}
        )
        bindings = reply["response"]["postgres_changes"]
        assert [{**binding, "id": None} for binding in bindings] == [
            inserts | {"id": None},
            updates | {"id": None},
        ]
        await socket.receive()

        run(
            database,
            f"insert into notes (id, owner_id, body) values (1, '{ALICE}', 'a')",
            "update notes set body = 'b'",
        )

        inserted, updated = (await socket.receive())[4], (await socket.receive())[4]
        assert inserted["ids"] == [bindings[0]["id"]]
        assert inserted["data"]["record"] == {"id": 1, "body": "a"}
        assert updated["ids"] == [bindings[1]["id"]]
        assert updated["data"]["record"]["amount"] is None


async def test_a_policy_that_raises_fails_for_its_row_alone(
    own_stack: Stack, own_database: Database
) -> None:
    run(
        own_database,
        """create policy "a broken policy"
            on notes
            as restrictive
            for select
            to authenticated
            using (amount is null or 1 / amount > 0)""",
    )
    async with official_client(own_stack, ALICE) as alice, official_client(own_stack, BOB) as bob:
        hers = await follow(alice, "notes", table="notes")
        his = await follow(bob, "notes", table="notes", filter="id=neq.2")

        run(
            own_database,
            f"""insert into notes (id, owner_id, amount) values
                (1, '{ALICE}', null), (2, '{ALICE}', 0), (3, '{BOB}', null)""",
        )

        assert (await hers.change())["data"]["record"]["id"] == 1
        assert (await hers.change())["data"]["errors"] == [
            "Error 500: Internal Server Error, RLS policy evaluation failed"
        ]
        assert await ids(his, 1) == [3]


async def test_a_row_without_a_key_is_an_error(own_database: Database, own_start: Start) -> None:
    with write(own_database) as connection:
        connection.execute(KEYLESS)
    async with official_client(own_start("gateway"), ALICE) as alice:
        ear = await follow(alice, "keyless", table="keyless")

        run(own_database, "insert into keyless values (1)")

        data = (await ear.change())["data"]
        assert data["errors"] == ["Error 400: Bad Request, no primary key"]
        assert data["record"] == {}


async def test_a_large_row_is_told_without_its_large_values(
    stack: Stack, database: Database
) -> None:
    async with official_client(stack, ALICE) as alice:
        ear = await follow(alice, "notes", table="notes")

        run(
            database,
            f"""insert into notes (id, owner_id, body)
                values (1, '{ALICE}', repeat('x', 2000000))""",
        )

        data = (await ear.change())["data"]
        assert data["errors"] == ["Error 413: Payload Too Large"]
        assert data["record"]["id"] == 1
        assert "body" not in data["record"]


async def test_a_subscription_that_can_not_be_is_told_so_and_the_channel_stays(
    stack: Stack,
) -> None:
    raised = "Exception: ERROR P0001 (raise_exception) "
    whole = {"schema": "public", "table": "notes"}
    refusals: list[tuple[dict[str, object], str]] = [
        ({"schema": "public", "table": "unpublished"}, "Please check Realtime is enabled"),
        ({"schema": "public", "table": "missing"}, "Please check Realtime is enabled"),
        ({"event": "*"}, "No subscription params provided"),
        ({"table": "notes", "filter": "id=eq.1"}, "No subscription params provided"),
        ({"schema": "public", "filter": "id=eq.1"}, "No subscription params provided"),
        ({**whole, "filter": 1}, "No subscription params provided"),
        ({**whole, "filter": "id"}, 'Error parsing `filter` params: ["id"]'),
        (
            {**whole, "event": "INSERT", "filter": "id=eq.one"},
            (
                "An exception happened so please check your connect parameters: [event: INSERT, "
                'schema: public, table: notes, filters: [{"id", "eq", "one", false}], select: nil].'
                " Exception: ERROR 22P02 (invalid_text_representation) "
                'invalid input syntax for type integer: "one"'
            ),
        ),
        ({**whole, "filter": "id=in.(1,x)"}, 'invalid input syntax for type integer: "x"'),
        ({**whole, "filter": "id=isdistinct.null"}, 'syntax for type integer: "null"'),
        (
            {**whole, "filter": f"id=in.({','.join(map(str, range(101)))})"},
            raised + "too many values for `in` filter. Maximum 100",
        ),
        (
            {**whole, "filter": "body=is.NULL"},
            raised + "invalid value for is filter: must be null, true, false, or unknown",
        ),
        (
            {**whole, "filter": "body=is.true"},
            raised + "is true filter requires a boolean column, got text",
        ),
        (
            {**whole, "filter": "id=like.1%"},
            raised + "operator like requires a text-compatible column type, got integer",
        ),
        (
            {**whole, "filter": "details=imatch.x"},
            raised + "operator imatch requires a text-compatible column type, got jsonb",
        ),
        (
            {**whole, "filter": "body=match.("},
            raised + "invalid regular expression for match filter: invalid regular expression",
        ),
        ({**whole, "filter": "missing=eq.1"}, raised + "invalid column for filter missing"),
        ({**whole, "filter": "secret=eq.x"}, raised + "invalid column for filter secret"),
        ({**whole, "select": ["secret"]}, raised + "invalid column for select secret"),
        ({**whole, "select": "id"}, "Error parsing `select` params: expected a list"),
        ({"schema": "*", "select": ["id"]}, "Column selection is not supported"),
    ]
    token = mint_user_token(stack.signing_key, user_id=ALICE)
    async with bare_socket(stack, token) as socket:
        for binding, reason in refusals:
            topic = "realtime:refused"
            reply = await socket.join(topic, {"config": {"postgres_changes": [binding]}})
            assert reply["status"] == "ok"

            join_ref, _, _, event, payload = await socket.receive()

            assert (join_ref, event) == ("1", "system")
            assert (payload["extension"], payload["status"]) == ("postgres_changes", "error")
            assert reason in payload["message"], binding
            await socket.send("1", "2", topic, "phx_leave", {})
            assert (await socket.receive())[4] == {"status": "ok", "response": {}}
            assert (await socket.receive())[3] == "phx_close"


async def test_a_join_that_waits_is_answered_once_changes_are_followed(
    stack: Stack, database: Database
) -> None:
    binding: dict[str, object] = {"event": "INSERT", "schema": "public", "table": "notes"}
    options = {"wait": True, "timeout": 10_000}
    token = mint_user_token(stack.signing_key, user_id=ALICE)

    def config(**more: object) -> dict[str, object]:
        changes = [binding | more]
        return {"config": {"postgres_changes": changes, "postgres_changes_options": options}}

    async with bare_socket(stack, token) as socket:
        refused = await socket.join("realtime:notes", config(filter="missing=eq.1"))
        assert refused["status"] == "error"
        assert refused["response"]["reason"].startswith("RealtimeDisabledForConfiguration: Unable")

        assert (await socket.join("realtime:notes", config()))["status"] == "ok"
        run(database, f"insert into notes (id, owner_id) values (1, '{ALICE}')")

        assert (await socket.receive())[4]["message"] == "Subscribed to PostgreSQL"
        assert (await socket.receive())[4]["data"]["record"]["id"] == 1


async def test_a_large_transaction_arrives_whole_and_in_order(
    stack: Stack, database: Database
) -> None:
    async with official_client(stack, ALICE) as alice:
        ear = await follow(alice, "notes", table="notes")

        run(
            database,
            f"insert into notes (id, owner_id) select n, '{ALICE}' from generate_series(1, 5000) n",
        )

        assert await ids(ear, 5000) == list(range(1, 5001))
