"""Tables that users write: what they may name, and the words of every rule."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from rapport.local.stack.postgres import Database
from tests.sql.asking import ask, refusal
from tests.sql.portal import CARLOS, CILKA, add_points, change, insert, make_job, write_invoice
from tests.world import ALPINE, BAY, World, seed_uuid

GUARDED = [
    "accounts",
    "conversation_notes",
    "invoices",
    "jobs",
    "labels",
    "loyalty_transactions",
    "messages",
    "metakocka_connections",
    "reminder_rules",
    "saved_replies",
    "scheduled_messages",
]


def test_every_table_that_users_write_is_guarded(template: Database) -> None:
    with psycopg.connect(template.url()) as connection:
        written = connection.execute(
            """
            select c.relname::text
            from pg_class c
            where c.relnamespace = 'public'::regnamespace
              and c.relkind in ('r', 'p')
              and has_any_column_privilege('authenticated', c.oid, 'insert, update')
            order by 1
            """
        ).fetchall()
    assert [row[0] for row in written] == GUARDED


@pytest.mark.parametrize("table", GUARDED)
def test_the_guard_is_what_would_be_made_of_the_table_now(template: Database, table: str) -> None:
    """It is made from the catalog once: a rule that is added later has it made again."""
    guard = f"private.tg_{table}__guard_row()"
    with psycopg.connect(template.url()) as connection:
        before = connection.execute(
            "select pg_get_functiondef(%s::regprocedure)", [guard]
        ).fetchone()
        connection.execute(
            f"drop function {guard}, private.tg_{table}__guard_given() cascade".encode()
        )
        connection.execute("select private.guard_table(%s, updated => '{any}')", [table])
        after = connection.execute(
            "select pg_get_functiondef(%s::regprocedure)", [guard]
        ).fetchone()
        connection.rollback()
    assert before == after


# columns of checks without words, and a value that their check refuses
UNWRITTEN: dict[str, dict[str, object]] = {
    "accounts": {
        "messages_per_minute": 0,
        "messages_per_request": 0,
        "writes_per_minute": 0,
        "rows_per_request": 0,
        "messages_quota": 1,
        "contacts_quota": 1,
        "file_bytes_quota": 1,
    },
    "conversation_notes": {"kind": "event", "event": "{}"},
    "messages": {
        "provider_id": "wamid.1",
        "whatsapp_channel_id": seed_uuid("nothing"),
        "status": "failed",
        "delivered_at": "2026-01-01",
        "read_at": "2026-01-01",
        "failed_at": "2026-01-01",
    },
}


@pytest.mark.parametrize("table", GUARDED)
def test_a_check_without_words_is_of_columns_that_users_do_not_write(
    template: Database, table: str
) -> None:
    with psycopg.connect(template.url()) as connection:
        silent = connection.execute(
            """
            select distinct a.attname::text
            from pg_constraint k
            join pg_attribute a on a.attrelid = k.conrelid and a.attnum = any (k.conkey)
            where k.conrelid = %s::regclass
              and k.contype = 'c'
              and obj_description(k.oid, 'pg_constraint') is null
            """,
            [f"public.{table}"],
        ).fetchall()
    assert {row[0] for row in silent} == set(UNWRITTEN.get(table, {}))


@pytest.mark.parametrize(("column", "value"), UNWRITTEN["accounts"].items())
def test_the_limits_of_an_account_are_not_its_owners_to_write(
    world: World, column: str, value: object
) -> None:
    refused = refusal(world, "olivia", f"update public.accounts set {column} = %s", value)
    assert (refused.code, refused.message) == ("PT422", f"{column} is not written here.")
    assert refused.detail == f"field: {column}"


@pytest.mark.parametrize(("column", "value"), UNWRITTEN["conversation_notes"].items())
def test_what_happened_at_the_desk_is_not_written_by_users(
    world: World, column: str, value: object
) -> None:
    make_job(world)
    write = f"insert into public.conversation_notes (conversation_id, note, {column})"
    refused = refusal(
        world, "olivia", f"{write} select id, 'x', %s from public.conversations", value
    )
    assert (refused.code, refused.message) == ("PT422", f"{column} is not written here.")
    assert refused.detail == f"field: {column}"


@pytest.mark.parametrize(("column", "value"), UNWRITTEN["messages"].items())
def test_how_a_message_is_sent_is_not_its_writers_to_say(
    world: World, column: str, value: object
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        insert(world, "andrej", "messages", customer_id=CILKA, message="any", **{column: value})
    assert refused.value.sqlstate == "PT422"
    assert refused.value.diag.message_primary == f"{column} is not written here."
    with world.acting_as("andrej") as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute(f"update public.messages set {column} = null".encode())
    assert refused.value.sqlstate == "42501"


@pytest.mark.parametrize(
    "given",
    [
        {"status": "scheduled"},
        {"status": None},
        {"version": 1},
        {"account_id": ALPINE},
        {"id": None},
        {"created_at": None, "updated_at": None},
    ],
)
def test_a_value_that_a_row_gets_anyway_may_be_given(world: World, given: dict[str, Any]) -> None:
    job = make_job(world, **given)

    assert (job["status"], job["version"], job["account_id"]) == ("scheduled", 1, ALPINE)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"status": "completed"}, "Leave it out; it is scheduled."),
        ({"version": 2}, "Leave it out; it is 1."),
        ({"created_at": "2020-01-01"}, None),
    ],
)
def test_another_value_is_refused(world: World, given: dict[str, Any], hint: str | None) -> None:
    with pytest.raises(psycopg.Error) as refused:
        make_job(world, **given)
    assert refused.value.sqlstate == "PT422"
    assert refused.value.diag.message_detail == f"field: {next(iter(given))}"
    assert hint in {None, refused.value.diag.message_hint}
    assert world.value("select count(*) from public.jobs") == 0


def test_a_row_that_was_read_is_written_back_whole(world: World) -> None:
    job = make_job(world)
    whole = {**job, "address": "Cesta 1"}

    changed = change(world, "andrej", "jobs", job["id"], **whole)
    assert (changed["address"], changed["version"]) == ("Cesta 1", 2)
    # and not once it is another
    columns = ", ".join(f"{column} = %s" for column in whole)
    refused = refusal(world, "andrej", f"update public.jobs set {columns}", *whole.values())
    assert (refused.code, refused.detail) == ("PT409", "field: version")


@pytest.mark.parametrize("column", ["service_type", "starts_at", "status"])
def test_what_is_needed_is_not_taken_away(world: World, column: str) -> None:
    make_job(world)

    refused = refusal(world, "andrej", f"update public.jobs set {column} = null")
    assert (refused.code, refused.detail) == ("PT422", f"field: {column}")


def test_an_upsert_writes_the_row_that_is_there(world: World) -> None:
    invoice = write_invoice(world)
    query = (
        "insert into public.invoices (id, customer_id, number, currency, amount_minor)"
        " values (%s, %s, %s, 'EUR', 7)"
        ' on conflict ("id") do update set number = excluded.number,'
        " amount_minor = excluded.amount_minor returning amount_minor"
    )
    assert ask(world, "andrej", query, invoice["id"], CILKA, "2026-002") == [{"amount_minor": 7}]
    # by one key, and not against another
    write_invoice(world, number="2026-003")
    refused = refusal(world, "andrej", query, invoice["id"], CILKA, "2026-003")
    assert (refused.code, refused.detail) == ("PT409", "field: number")
    plain = re.sub(r" on conflict.*", "", query)
    refused = refusal(world, "andrej", plain, invoice["id"], CILKA, "2026-004")
    assert (refused.code, refused.detail) == ("PT409", "field: id")


def a_thread(world: World, account: UUID) -> UUID:
    found: UUID = world.value(
        "select id from public.conversations where account_id = %s limit 1", [account]
    )
    return found


def test_an_upsert_does_not_reach_another_tenants_row(world: World) -> None:
    """It is refused in the words of the policies, by every table that users insert into."""
    theirs = {
        "jobs": make_job(world, "ana", CARLOS)["id"],
        "invoices": write_invoice(world, "ana", CARLOS)["id"],
        "loyalty_transactions": add_points(world, 5, "ana", customer_id=CARLOS)["id"],
        "messages": insert(world, "ana", "messages", customer_id=CARLOS, message="any")["id"],
        "labels": insert(world, "ana", "labels", account_id=BAY, name="any")["id"],
        "saved_replies": insert(
            world, "ana", "saved_replies", account_id=BAY, short_code="any", text="any"
        )["id"],
        "conversation_notes": insert(
            world, "ana", "conversation_notes", conversation_id=a_thread(world, BAY), note="any"
        )["id"],
    }
    waits = {"message": "any", "send_at": datetime.now(UTC) + timedelta(days=1)}
    threads = {
        customer: insert(world, user, "messages", customer_id=customer, message="any")[
            "conversation_id"
        ]
        for user, customer in (("ana", CARLOS), ("andrej", CILKA))
    }
    theirs["scheduled_messages"] = insert(
        world, "ana", "scheduled_messages", conversation_id=threads[CARLOS], **waits
    )["id"]
    make_job(world)
    of_cilka = {"customer_id": CILKA}
    ours: dict[str, dict[str, object]] = {
        "jobs": of_cilka | {"service_type": "any", "starts_at": "2026-12-01T09:00:00Z"},
        "invoices": of_cilka | {"number": "1", "currency": "EUR", "amount_minor": 1},
        "loyalty_transactions": of_cilka | {"type": "earned", "points": 1},
        "messages": of_cilka | {"message": "any"},
        "labels": {"account_id": ALPINE, "name": "any"},
        "saved_replies": {"account_id": ALPINE, "short_code": "any", "text": "any"},
        "conversation_notes": {"conversation_id": a_thread(world, ALPINE), "note": "any"},
        "scheduled_messages": {"conversation_id": threads[CILKA], **waits},
    }
    # an account's connection has the account's id: the policy on what is written refuses it; agents
    # write no rules
    assert {"accounts", "metakocka_connections", "reminder_rules", *theirs} == set(GUARDED)
    for table, id_ in theirs.items():
        before = world.rows(f"select * from public.{table} where id = %s", [id_])
        row = {"id": id_, **ours[table]}
        for action in ("do nothing", "do update set id = excluded.id"):
            query = (
                f"insert into public.{table} ({', '.join(row)})"
                f" values ({', '.join(['%s'] * len(row))})"
                f' on conflict ("id") {action} returning id as "on conflict (id, customer_id)"'
            )
            refused = refusal(world, "andrej", query, *row.values())
            if table in ("loyalty_transactions", "messages") and "update" in action:
                # PostgREST's requests are refused before, see check_request
                assert refused.code == "42501"
                continue
            assert refused.code == "42501", (table, action, refused)
            assert refused.message == f"You may not write this row of {table}."
            assert refused.hint
            assert refused.hint.endswith(".")
        assert world.rows(f"select * from public.{table} where id = %s", [id_]) == before


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ('INSERT INTO "x"("a") SELECT $1 ON CONFLICT("id") DO NOTHING', "id"),
        ('insert … on conflict ("number", "account_id") do update', "account_id,number"),
        ('insert … returning "id" as "on conflict (id)"', None),
        ("insert … select 'on conflict (id)', $1", None),
        ('insert … on conflict("id") do nothing returning "a" as "on conflict (number)"', "id"),
        ('insert into "on conflict (number)" … on conflict("id") do nothing', "id"),
        ("insert …", None),
    ],
)
def test_by_which_key_an_upsert_goes(template: Database, query: str, columns: str | None) -> None:
    with psycopg.connect(template.url()) as connection:
        row = connection.execute("select private.upserted_by(%s)", [query]).fetchone()
    assert row == (columns,)


def test_a_name_in_the_answer_does_not_stop_the_guard(world: World) -> None:
    invoice = write_invoice(world)
    query = (
        "insert into public.invoices (id, customer_id, number, currency, amount_minor)"
        " values (%s, %s, '2', 'EUR', 7) returning id as \"on conflict (id)\""
    )
    refused = refusal(world, "andrej", query, invoice["id"], CILKA)
    assert (refused.code, refused.detail) == ("PT409", "field: id")


def test_what_expires_the_schedule_says(world: World) -> None:
    query = (
        "insert into public.loyalty_transactions (customer_id, type, points)"
        " values (%s, 'expired', -1)"
    )
    refused = refusal(world, "andrej", query, CILKA)
    assert (refused.code, refused.hint) == ("42501", "The schedule alone says what expires.")


def test_who_may_not_connect_is_told_who_may(world: World) -> None:
    query = "insert into public.metakocka_connections (account_id, company_id) values (%s, '1')"
    refused = refusal(world, "andrej", query, ALPINE)
    assert (refused.code, refused.hint) == (
        "42501",
        "Admins can connect their accounts to Metakocka.",
    )


def test_the_owner_of_the_tables_is_not_guarded(world: World) -> None:
    world.owner.execute(
        "insert into public.jobs (customer_id, account_id, service_type, starts_at, status)"
        " values (%s, %s, 'any', now(), 'completed')",
        [CILKA, ALPINE],
    )


# Messages


def test_who_writes_may_be_said_by_who_writes(world: World) -> None:
    me = str(seed_uuid("andrej"))
    said = {"sender_type": "operator", "sender_id": me, "sender_name": "andrej", "status": "sent"}

    message = insert(world, "andrej", "messages", customer_id=CILKA, message="any", seq=1, **said)
    assert {key: message[key] for key in said} == said


@pytest.mark.parametrize(
    "said",
    [
        {"sender_type": "client"},
        {"sender_type": "system"},
        {"sender_type": "nobody"},
        {"sender_id": str(seed_uuid("olivia"))},
        {"sender_name": "olivia"},
        {"sender_name": "x" * 201},
        {"status": "read"},
        {"status": "odd"},
        {"seq": 0},
        {"client_ref": "x" * 129},
        {"account_id": ALPINE, "whatsapp_channel_id": ALPINE},
    ],
)
def test_nobody_writes_as_another(world: World, said: dict[str, Any]) -> None:
    with pytest.raises(psycopg.Error) as refused:
        insert(world, "andrej", "messages", customer_id=CILKA, message="any", **said)
    assert refused.value.sqlstate == "PT422"
    assert refused.value.diag.message_detail == f"field: {list(said)[-1]}"
    assert refused.value.diag.message_hint
    assert world.value("select count(*) from public.messages") == 0
