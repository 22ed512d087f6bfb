"""Everything that clients can name, by everybody: what is not allowed here is refused.

The left side comes from the catalog: a table, view or function without a line in the matrix
fails. Every write is undone afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest

from rapport.local.stack.postgres import Cluster, Database
from tests.sql.actors import ACTORS, SIGNED_IN, about, populate, topics, undone, visible
from tests.sql.matrix import EDITORS, FUNCTIONS, TABLES
from tests.world import ALPINE, BAY, World, seed_uuid

ROLES = ("anon", "authenticated", "service_role")
REFUSED = ("42501", "PT404")
# a view that takes no writes at all
NOT_WRITABLE = "55000"


ACCOUNTS = {"Alpine": ALPINE, "Bay": BAY}

every_actor = pytest.mark.parametrize("name", ACTORS)


@pytest.fixture(scope="module")
def full(cluster: Cluster, world_template: Database) -> Iterator[World]:
    """Both businesses with rows in every table; these tests change none."""
    database = cluster.clone_database(world_template, "matrix")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        world = World(database, owner)
        populate(world)
        yield world
    cluster.drop_database(database.name)


@dataclass(frozen=True)
class Done:
    rowcount: int
    rows: list[tuple[Any, ...]]


def attempt(
    world: World, name: str, statement: str, parameters: dict[str, Any]
) -> Done | psycopg.Error:
    """Does something as an actor, undoes it, and returns what came of it."""
    try:
        with undone(world, name) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            done = Done(cursor.rowcount, cursor.fetchall() if cursor.description else [])
    except psycopg.Error as error:
        return error
    return done


def source(table: str) -> str:
    """Where the owner finds the rows of a table or view."""
    return TABLES[table].source or f"public.{table}"


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


def test_what_is_not_written_by_users_says_what_writes_it(full: World) -> None:
    assert not catalog_names(
        full,
        "select c.relname::text as name from pg_class c"
        " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')"
        " and private.way_to_write(c.relname) is null"
        " and not (has_any_column_privilege('authenticated', c.oid, 'insert')"
        " and has_any_column_privilege('authenticated', c.oid, 'update')"
        " and has_table_privilege('authenticated', c.oid, 'delete'))",
    )


# Select


def expected(world: World, name: str, table: str) -> list[dict[str, Any]] | None:
    actor = ACTORS[name]
    if actor.database_role != "authenticated":
        return None
    line = TABLES[table]
    condition = {"customer": line.customer, "stranger": line.stranger}.get(actor.role, line.staff)
    if condition is None:
        return []
    rows = world.rows(
        f"select to_jsonb(t) - %(personal)s::text[] as row from {source(table)} t"
        f" where {condition}",
        {
            "account": actor.account,
            "contact": actor.contact,
            "user": seed_uuid(name),
            "role": actor.role,
            "personal": list(line.personal),
        },
    )
    return sorted((row["row"] for row in rows), key=repr)


@pytest.mark.parametrize("table", TABLES)
def test_both_businesses_have_rows_to_be_kept_apart(full: World, table: str) -> None:
    for account in ACCOUNTS.values():
        for condition in (TABLES[table].staff, TABLES[table].customer):
            assert condition is None or full.rows(
                f"select from {source(table)} t where {condition}", about(full, account)
            )


@every_actor
def test_everybody_reads_their_own_and_nothing_else(full: World, name: str) -> None:
    seen = {table: visible(full, name, table) for table in TABLES}

    assert seen == {table: expected(full, name, table) for table in TABLES}


# Insert, update, delete


def write(table: str, operation: str) -> str:
    """A write to one account's rows; to a table that nobody writes, one of its first column."""
    line = TABLES[table]
    if operation == "insert":
        return f"insert into public.{table} {line.inserted or 'default values'}"
    if operation == "update":
        return f"update public.{table} set {line.updated or '{} = default'} where {line.condition}"
    return f"delete from public.{table} where {line.condition}"


@every_actor
@pytest.mark.parametrize("account", ACCOUNTS)
def test_only_these_write_and_only_their_own(full: World, name: str, account: str) -> None:
    actor, facts = ACTORS[name], about(full, ACCOUNTS[account])
    wrong = []
    for table, line in TABLES.items():
        [column] = full.rows(
            "select attname::text as name from pg_attribute"
            " where attrelid = %s::regclass and attnum = 1",
            [f"public.{table}"],
        )
        for operation in ("insert", "update", "delete"):
            allowed = (
                actor.role in line.writers.get(operation, ()) and actor.account == facts["account"]
            )
            statement = write(table, operation).replace("{}", column["name"])
            outcome = attempt(full, name, statement, facts)
            if isinstance(outcome, psycopg.Error):
                # anything but a refusal would mean that the rights were there
                refusals = (*REFUSED, NOT_WRITABLE, *line.refused)
                fine = not allowed and outcome.sqlstate in refusals
            else:
                fine = (outcome.rowcount > 0) == allowed
            if not fine:
                wrong.append((statement, outcome))
    assert wrong == []


def test_an_account_is_named_only_by_who_works_for_several(full: World) -> None:
    # the account of the others is that of the customer or conversation that they name
    named = {table: line for table, line in TABLES.items() if "(account_id, " in line.inserted}
    assert {"contacts_v2", "labels", "saved_replies", "reminder_rules"} <= named.keys()
    written: dict[str, dict[str, str | None]] = {table: {} for table in named}
    for accounts in ("one", "several"):
        with full.connect() as owner, owner.transaction(force_rollback=True):
            if accounts == "several":
                owner.execute(
                    "insert into public.account_members (account_id, user_id, role, display_name)"
                    " values (%s, %s, 'owner', 'Olivia')",
                    [BAY, seed_uuid("olivia")],
                )
            owner.execute(b"set local role authenticated")
            owner.execute(
                b"select set_config('request.jwt.claims', jsonb_build_object("
                b"'role', 'authenticated', 'sub', %s::text)::text, true)",
                [str(seed_uuid("olivia"))],
            )
            for table, line in named.items():
                without = line.inserted.replace("account_id, ", "").replace("%(account)s, ", "")
                try:
                    with owner.transaction():
                        owner.execute(f"insert into public.{table} {without}".encode())
                    written[table][accounts] = None
                except psycopg.Error as error:
                    written[table][accounts] = f"{error.sqlstate} {error.diag.message_detail}"
    fine = {"one": None, "several": "PT422 field: account_id"}
    assert written == dict.fromkeys(named, fine)


@pytest.mark.parametrize("table", [name for name, line in TABLES.items() if line.writers])
@pytest.mark.parametrize("name", SIGNED_IN)
def test_write_without_a_condition_ends_at_the_own_rows(full: World, name: str, table: str) -> None:
    line, actor = TABLES[table], ACTORS[name]
    others = (
        f"select to_jsonb(t) as row from {source(table)} t"
        f" where not ({line.condition}) order by row"
    )
    own = {"account": actor.account, "contact": actor.contact, "role": actor.role}
    for operation, statement in (
        ("update", f"update public.{table} set {line.updated}"),
        ("delete", f"delete from public.{table}"),
    ):
        before = full.rows(others, own)
        with full.connect() as owner, owner.transaction(force_rollback=True):
            owner.execute(b"set local role authenticated")
            owner.execute(
                b"select set_config('request.jwt.claims', jsonb_build_object("
                b"'role', 'authenticated', 'sub', %s::text)::text, true)",
                [str(seed_uuid(name))],
            )
            if actor.role in line.writers.get(operation, ()):
                owner.execute(statement.encode())
            else:
                with pytest.raises(psycopg.Error) as refused, owner.transaction():
                    owner.execute(statement.encode())
                assert refused.value.sqlstate in REFUSED
            owner.execute(b"reset role")
            after = owner.execute(others.encode(), own).fetchall()
        if actor.contact or (actor.account and line.staff):
            assert [row[0] for row in after] == [row["row"] for row in before]
            assert before


# Calls


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
    assert allowed == FUNCTIONS[function].roles


def names_of(world: World, account: UUID) -> set[str]:
    """What nobody else may be told: all ids and numbers of an account."""
    tables = ("contacts", "conversations", "messages", "account_members", "whatsapp_channels")
    told = {str(account)}
    for table in tables:
        for row in world.rows(
            f"select to_jsonb(t) as row from public.{table} t where account_id = %s", [account]
        ):
            told |= {
                str(value)
                for column, value in row["row"].items()
                if value and (column in {"id", "phone", "user_id"} or column.endswith("_id"))
            }
    return told


@pytest.mark.parametrize("name", SIGNED_IN)
@pytest.mark.parametrize("account", ACCOUNTS)
def test_calls_about_an_account_are_for_those_who_belong_to_it(
    full: World, name: str, account: str
) -> None:
    actor, facts = ACTORS[name], about(full, ACCOUNTS[account])
    facts["cursor"] = None
    secrets = names_of(full, facts["account"]) - names_of(
        full, BAY if facts["account"] == ALPINE else ALPINE
    )
    given = {str(value) for value in facts.values()}
    for function, line in FUNCTIONS.items():
        if line.call is None:
            continue
        belongs = actor.account == facts["account"] and actor.role in line.callers
        outcome = attempt(full, name, line.call, facts)
        if isinstance(outcome, psycopg.Error):
            told = f"{outcome} {outcome.diag.message_detail} {outcome.diag.message_hint}"
            assert not belongs, (function, told)
            assert outcome.sqlstate in (*REFUSED, *line.refused), (function, told)
            assert not [secret for secret in secrets - given if secret in told], function
        else:
            assert belongs or line.quiet, function
            if actor.account != facts["account"]:
                told = repr(outcome.rows)
                assert not [secret for secret in secrets if secret in told], function


# Topics


def shows_itself(name: str, topic: str, extension: str) -> bool:
    """Whether somebody who is told a topic may send on it: signs of its own side, no data."""
    actor = ACTORS[name]
    sign, side = [*topic.split(":"), ""][:2]
    if (sign, extension) not in {("presence", "presence"), ("typing", "broadcast")}:
        return False
    if actor.role == "customer":
        return side == "customer"
    return side in {"desk", "staff"} and (sign == "presence" or actor.role in EDITORS)


@pytest.mark.parametrize("name", SIGNED_IN)
def test_everybody_joins_their_own_topics_and_sends_signs_alone(full: World, name: str) -> None:
    """Asked of the policies themselves, for every topic that anybody has."""
    every = {topic for owner in SIGNED_IN for topic in topics(full, owner)}
    own = topics(full, name)
    with full.acting_as(name) as connection:
        joined = {
            topic
            for topic in every
            if connection.execute("select private.may_receive(%s)", [topic]).fetchone() == (True,)
        }

    assert len(every) > 6
    assert joined == own
    send = """
        with chosen as materialized (select set_config('realtime.topic', %(topic)s, true))
        insert into realtime.messages (topic, extension, event, payload, private)
        select %(topic)s, %(extension)s, 'messages.inserted', '{}', true
        from chosen
    """
    for topic in every:
        for extension in ("broadcast", "presence"):
            sent = attempt(full, name, send, {"topic": topic, "extension": extension})
            if topic in own and shows_itself(name, topic, extension):
                assert isinstance(sent, Done), (topic, sent)
            else:
                assert isinstance(sent, psycopg.errors.InsufficientPrivilege), topic
