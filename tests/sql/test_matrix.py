"""Everything that clients can name, by everybody: what is not allowed here is refused.

The left side comes from the catalog: a table, view or function without a line here fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from rapport.local.postgres import Cluster, Database
from tests.sql.conftest import (
    ALPINE,
    ALPINE_NUMBER,
    BAY,
    BAY_NUMBER,
    CUSTOMERS,
    STAFF,
    World,
    seed_uuid,
    text_message,
)


@dataclass(frozen=True)
class Reads:
    """Whose rows an audience sees, as a condition on a row; None where it sees none."""

    staff: str | None = "account_id = %(account)s"
    customer: str | None = None


OWN = "customer_id = %(customer)s"
TABLES = {
    "accounts": Reads(staff="id = %(account)s"),
    "account_members": Reads(),
    "whatsapp_channels": Reads(),
    "contacts": Reads(),
    "contact_identities": Reads(),
    "customers": Reads(customer="id = %(customer)s"),
    "conversations": Reads(customer=OWN),
    "conversation_activity": Reads(customer=OWN),
    "messages": Reads(customer=OWN),
}
# the roles that may call a function; what it then answers is shown by its own tests
FUNCTIONS = {
    "public.my_topics": {"authenticated"},
    "public.changes_since": {"authenticated"},
    "public.resolve_conversation": {"authenticated"},
    "backend.ingest_whatsapp": {"service_role"},
}
ROLES = ("anon", "authenticated", "service_role")
# name: database role, account as staff, contact as customer
ACTORS: dict[str, tuple[str, Any, Any]] = {
    "anonymous": ("anon", None, None),
    "service role": ("service_role", None, None),
    "stranger": ("authenticated", None, None),
    **{name: ("authenticated", account, None) for name, (account, _) in STAFF.items()},
    **{name: ("authenticated", None, seed_uuid(f"contact {name}")) for name in CUSTOMERS},
}


@pytest.fixture(scope="module")
def full(cluster: Cluster, world_template: Database) -> Iterator[World]:
    """Rows of both businesses in every table; these tests change none."""
    database = cluster.clone_database(world_template, "matrix")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        world = World(database, owner)
        for name, (account, phone) in CUSTOMERS.items():
            number = {ALPINE: ALPINE_NUMBER, BAY: BAY_NUMBER}[account]
            world.ingest(
                text_message(f"wamid.{name}", wa_id=phone[1:], phone_number_id=number),
                text_message(f"wamid.other.{name}", phone_number_id=number),
            )
        yield world
    cluster.drop_database(database.name)


def visible(world: World, actor: str, table: str) -> list[dict[str, Any]] | None:
    """The rows that an actor sees; None where reading is refused altogether."""
    role, _, _ = ACTORS[actor]
    user = actor if role == "authenticated" else None
    try:
        with world.acting(role, user) as connection:
            rows = connection.execute(
                sql.SQL("select to_jsonb(t) from public.{} t").format(sql.Identifier(table))
            ).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return sorted((row[0] for row in rows), key=repr)


def expected(world: World, actor: str, table: str) -> list[dict[str, Any]] | None:
    role, account, customer = ACTORS[actor]
    if role != "authenticated":
        return None
    reads = TABLES[table]
    condition = reads.staff if account else reads.customer if customer else None
    if condition is None:
        return []
    rows = world.rows(
        f"select to_jsonb(t) as row from public.{table} t where {condition}",
        {"account": account, "customer": customer},
    )
    return sorted((row["row"] for row in rows), key=repr)


def catalog_names(world: World, query: str) -> set[str]:
    return {row["name"] for row in world.rows(query)}


def test_every_table_and_view_has_its_line(full: World) -> None:
    assert set(TABLES) == catalog_names(
        full,
        "select c.relname::text as name from pg_class c"
        " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')",
    )


def test_every_function_has_its_line(full: World) -> None:
    # functions of triggers can't be called
    assert set(FUNCTIONS) == catalog_names(
        full,
        "select p.pronamespace::regnamespace || '.' || p.proname as name from pg_proc p"
        " where p.pronamespace in ('public'::regnamespace, 'backend'::regnamespace)"
        " and p.prorettype <> 'trigger'::regtype",
    )


@pytest.mark.parametrize("table", TABLES)
def test_both_businesses_have_rows_to_be_kept_apart(full: World, table: str) -> None:
    reads = TABLES[table]
    for account in (ALPINE, BAY):
        assert full.rows(f"select from public.{table} where {reads.staff}", {"account": account})
    for name in CUSTOMERS if reads.customer else ():
        assert full.rows(
            f"select from public.{table} where {reads.customer}",
            {"customer": seed_uuid(f"contact {name}")},
        )


@pytest.mark.parametrize("actor", ACTORS)
def test_everybody_reads_their_own_and_nothing_else(full: World, actor: str) -> None:
    seen = {table: visible(full, actor, table) for table in TABLES}

    assert seen == {table: expected(full, actor, table) for table in TABLES}


@pytest.mark.parametrize("actor", ACTORS)
def test_nobody_writes_a_table(full: World, actor: str) -> None:
    role, _, _ = ACTORS[actor]
    user = actor if role == "authenticated" else None
    written = []
    for table in TABLES:
        name = sql.Identifier(table)
        column = sql.Identifier(
            full.value(
                "select attname from pg_attribute where attrelid = %s::regclass and attnum = 1",
                [f"public.{table}"],
            )
        )
        for statement in (
            sql.SQL("insert into public.{} default values").format(name),
            sql.SQL("update public.{} set {} = default").format(name, column),
            sql.SQL("delete from public.{}").format(name),
            sql.SQL("truncate public.{}").format(name),
        ):
            try:
                with full.acting(role, user) as connection:
                    connection.execute(statement)
            except psycopg.errors.InsufficientPrivilege:
                continue
            written.append(statement.as_string())
    assert written == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_only_these_roles_call_a_function(full: World, function: str) -> None:
    allowed = {
        row["role"]
        for row in full.rows(
            """
            select r.role
            from unnest(%s::text[]) as r (role)
            join pg_proc p on p.oid = %s::regproc
            where has_function_privilege(r.role, p.oid, 'execute')
              and has_schema_privilege(r.role, p.pronamespace, 'usage')
            """,
            [list(ROLES), function],
        )
    }
    assert allowed == FUNCTIONS[function]


@pytest.mark.parametrize(
    "actor", [name for name, (role, *_) in ACTORS.items() if role == "authenticated"]
)
def test_everybody_joins_their_own_topics_and_no_other(full: World, actor: str) -> None:
    """Asked of the policy itself, for every topic that anybody has."""
    topics = {
        (owner, row[0])
        for owner, (role, *_) in ACTORS.items()
        if role == "authenticated"
        for conversation in full.rows("select id from public.conversations")
        for row in _topics(full, owner, conversation["id"])
    }
    names = {topic for _, topic in topics}
    with full.acting_as(actor) as connection:
        joined = {
            topic
            for topic in names
            if connection.execute("select private.may_receive(%s)", [topic]).fetchone() == (True,)
        }

    assert len(names) > 6
    assert joined == {topic for owner, topic in topics if owner == actor}


def _topics(world: World, actor: str, conversation: object) -> list[tuple[Any, ...]]:
    with world.acting_as(actor) as connection:
        return connection.execute(
            "select topic from public.my_topics(%s)", [conversation]
        ).fetchall()
