"""Tables that users write: what they may name, and the words of every rule."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

from rapport.local.stack.postgres import Database
from tests.sql.asking import ask, refusal
from tests.sql.portal import CILKA, change, insert, make_job, write_invoice
from tests.world import ALPINE, World, seed_uuid

GUARDED = [
    "accounts",
    "invoices",
    "jobs",
    "loyalty_transactions",
    "messages",
    "metakocka_connections",
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
def test_the_guard_knows_every_rule_that_the_table_has_now(template: Database, table: str) -> None:
    """It is made from the catalog once: what is added later has it made again."""
    with psycopg.connect(template.url()) as connection:
        row = connection.execute(
            "select prosrc from pg_proc where oid = %s::regproc",
            [f"private.tg_{table}__guard_row"],
        ).fetchone()
        rules = connection.execute(
            "select kind, rule, broken from private.rules_of_table(('public.' || %s)::regclass)",
            [table],
        ).fetchall()
    assert row is not None
    assert len(rules) > 6
    for kind, rule, broken in rules:
        assert f"array['{kind}', '{rule}']" in row[0]
        assert broken in row[0]


@pytest.mark.parametrize("table", GUARDED)
def test_every_check_of_what_users_write_has_words(template: Database, table: str) -> None:
    with psycopg.connect(template.url()) as connection:
        row = connection.execute(
            "select prosrc from pg_proc where oid = %s::regproc",
            [f"private.tg_{table}__guard_given"],
        ).fetchone()
        checks = connection.execute(
            """
            select
                k.conname::text,
                array_agg(a.attname::text),
                obj_description(k.oid, 'pg_constraint') is not null
            from pg_constraint k
            join pg_attribute a on a.attrelid = k.conrelid and a.attnum = any (k.conkey)
            where k.conrelid = %s::regclass
              and k.contype = 'c'
            group by k.oid, k.conname
            """,
            [f"public.{table}"],
        ).fetchall()
    assert row is not None
    # put aside where rows are inserted and where they are updated
    unwritten = {
        column
        for _, columns, _ in checks
        for column in columns
        if row[0].count(f"jsonb_build_object('{column}'") == 2
    }
    silent = [
        name for name, columns, has_words in checks if not has_words and set(columns) - unwritten
    ]
    assert silent == []


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
