"""sql/ states the schema, supabase/migrations makes it on a project: both make the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from rapport.local.stack import supabase_cli
from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.state import PROJECT
from tests.migrations import baseline

MIGRATIONS = sorted(baseline.MIGRATIONS.glob("*.sql"))

OURS = "('public', 'backend', 'private')"
RELATIONS = f"""
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in {OURS}
"""
FUNCTIONS = f"""
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in {OURS}
"""


def _grants(acl: str) -> str:
    """An access list in an order of its own."""
    return f"array(select acl::text from unnest({acl}) acl order by 1)"


CATALOG = {
    "schemas": f"""
        select nspname, {_grants("nspacl")}, obj_description(oid, 'pg_namespace')
        from pg_namespace where nspname in {OURS}
    """,
    "relations": f"""
        select c.oid::regclass::text, c.relkind, c.relowner::regrole::text, c.relrowsecurity,
               c.relforcerowsecurity, c.relreplident, c.reloptions, {_grants("c.relacl")},
               case when c.relkind = 'v' then pg_get_viewdef(c.oid) end,
               obj_description(c.oid, 'pg_class')
        {RELATIONS}
    """,
    "columns": f"""
        select c.oid::regclass::text, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
               a.attnotnull, a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid),
               {_grants("a.attacl")}, col_description(c.oid, a.attnum)
        from pg_attribute a
        join pg_class c on c.oid = a.attrelid
        join pg_namespace n on n.oid = c.relnamespace
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where n.nspname in {OURS} and a.attnum > 0 and not a.attisdropped and c.relkind <> 'i'
    """,
    "constraints": f"""
        select con.conrelid::regclass::text, con.conname, pg_get_constraintdef(con.oid),
               obj_description(con.oid, 'pg_constraint')
        from pg_constraint con
        join pg_namespace n on n.oid = con.connamespace
        where n.nspname in {OURS}
    """,
    "indexes": f"select pg_get_indexdef(c.oid) {RELATIONS} and c.relkind in ('i', 'I')",
    "functions": f"""
        select p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proowner::regrole::text,
               {_grants("p.proacl")}, obj_description(p.oid, 'pg_proc')
        {FUNCTIONS}
    """,
    "types": f"""
        select t.oid::regtype::text, t.typtype, {_grants("t.typacl")},
               obj_description(t.oid, 'pg_type')
        from pg_type t
        join pg_namespace n on n.oid = t.typnamespace
        where n.nspname in {OURS}
    """,
    "triggers": """
        select pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger')
        from pg_trigger t
        where not t.tgisinternal
    """,
    "policies": """
        select pol.polrelid::regclass::text, pol.polname, pol.polcmd, pol.polpermissive,
               array(select r::regrole::text from unnest(pol.polroles) r order by 1),
               pg_get_expr(pol.polqual, pol.polrelid), pg_get_expr(pol.polwithcheck, pol.polrelid),
               obj_description(pol.oid, 'pg_policy')
        from pg_policy pol
    """,
    "default grants": f"""
        select d.defaclrole::regrole::text, d.defaclnamespace::regnamespace::text, d.defaclobjtype,
               {_grants("d.defaclacl")}
        from pg_default_acl d
    """,
    "publications": """
        select t.*, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate
        from pg_publication_tables t
        join pg_publication p using (pubname)
    """,
    "extensions": "select extname, extnamespace::regnamespace::text from pg_extension",
}


@pytest.fixture(scope="module")
def migrated(cluster: Cluster, prepared: Database, binaries: Binaries) -> Iterator[Database]:
    """A database made by the official CLI from the migrations and the seed."""
    database = cluster.clone_database(prepared, "migrated")
    supabase_cli.migrate(database, binaries, PROJECT)
    yield database
    cluster.drop_database("migrated")


def read(database: Database, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.url("supabase_admin")) as connection:
        return sorted(connection.execute(query.encode()).fetchall(), key=repr)


@pytest.mark.parametrize("part", CATALOG)
def test_schema_and_history_are_equal(template: Database, migrated: Database, part: str) -> None:
    stated = read(template, CATALOG[part])

    assert stated
    assert read(migrated, CATALOG[part]) == stated


def test_the_baseline_is_what_sql_says_now() -> None:
    """Else: uv run python -m tests.migrations.baseline."""
    assert {file.name: file.read_text() for file in MIGRATIONS} == baseline.baselines()


def test_migrating_again_changes_nothing(migrated: Database, binaries: Binaries) -> None:
    everything = {part: read(migrated, query) for part, query in CATALOG.items()}
    rows = "select (select count(*) from auth.users), (select count(*) from public.contacts)"
    before = read(migrated, rows)

    supabase_cli.migrate(migrated, binaries, PROJECT)

    assert {part: read(migrated, query) for part, query in CATALOG.items()} == everything
    assert read(migrated, rows) == before


def test_migrations_are_named_by_time_and_verb() -> None:
    names = [file.name for file in MIGRATIONS]

    assert names
    assert [
        name for name in names if not re.fullmatch(r"\d{14}_[a-z]+(_[a-z0-9]+)+\.sql", name)
    ] == []
    assert len({name[:14] for name in names}) == len(names)


def test_migrations_keep_to_what_a_hosted_project_allows() -> None:
    """There, `postgres` may not create or alter objects in the platform's schemas, but for
    policies and triggers on realtime.messages; locally its membership would let it."""
    forbidden = re.compile(
        r"\b(create|alter|drop)\s+(or\s+replace\s+)?"
        r"(table|function|view|index|type|sequence|schema|trigger|role|extension)\b[^;]*?"
        r"\b(auth|realtime|storage|vault|net|cron)\.",
        re.IGNORECASE,
    )
    # to refer to it, and to ask who is signed in, is what the platform's schema is for
    allowed = re.compile(r"\breferences\s+auth\.users\b|\bauth\.uid\(\)", re.IGNORECASE)
    for file in MIGRATIONS:
        code = re.sub(r"\$\$.*?\$\$|--[^\n]*|/\*.*?\*/", "", file.read_text(), flags=re.DOTALL)
        statements = [statement.strip() for statement in code.split(";")]
        refused = [
            statement
            for statement in statements
            if forbidden.search(allowed.sub("", f"{statement};"))
        ]
        assert refused == [], file.name
        assert not re.search(r"\balter\s+system\b|\bsuperuser\b", code, re.IGNORECASE), file.name
