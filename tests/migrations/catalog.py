"""What a schema consists of, read from the catalog, so that two databases can be compared."""

from __future__ import annotations

from typing import Any

import psycopg

from rapport.local.stack.postgres import Database

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


def read(database: Database, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, in an order of their own."""
    with psycopg.connect(database.url("supabase_admin")) as connection:
        # every name with its schema, under any path of the role
        connection.execute("set search_path = ''")
        return sorted(connection.execute(query.encode()).fetchall(), key=repr)
