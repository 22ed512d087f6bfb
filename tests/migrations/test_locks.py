"""A migration on 200,000 contacts keeps nobody waiting: no long lock, measured by the locks.

A statement that reads or rewrites a table while its transaction keeps writers off is found by
Postgres' own figures: the locks that it has, the scans that it made, the file that the table is in.
How long anything takes is not asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from rapport.local.stack.postgres import Cluster, Database
from tests.migrations.baseline import statements, written_by_hand
from tests.migrations.rules import SMALL
from tests.stacks import copy_of

CONTACTS = 200_000
# who has one of these on a table keeps its writers waiting
KEEPS_WRITERS_OFF = ["ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"]
FILL = """
set session_replication_role = replica;
-- a sample's index alone has to be built on these rows, and no query is asked
do $$
declare
    index record;
begin
    for index in
        select i.indexrelid::regclass as name
        from pg_index i
        where i.indrelid = 'public.contacts'::regclass
          and not i.indisprimary
          and not exists (select from pg_constraint c where c.conindid = i.indexrelid)
    loop
        execute format('drop index %s', index.name);
    end loop;
end $$;
-- no foreign key is looked at
insert into public.contacts (account_id, name)
select 'a0000000-0000-4000-8000-0000000000ff', 'Contact ' || n
from generate_series(1, {count}) n;
"""
# of this transaction; a table that was never scanned has no line
FACTS = """
    select c.relname, pg_relation_filenode(c.oid), coalesce(s.seq_scan, 0),
           exists (
               select
               from pg_locks l
               where l.relation = c.oid
                 and l.pid = pg_backend_pid()
                 and l.granted
                 and l.mode = any (%s)
           )
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_stat_xact_user_tables s on s.relid = c.oid
    where n.nspname in ('public', 'private') and c.relkind = 'r'
"""
GOOD = """
set lock_timeout = '5s';
-- before: create index concurrently contacts_colour_idx on public.contacts (name, created_at);
alter table public.contacts add column colour text not null default 'blue';
alter table public.contacts add constraint contacts_colour_check check (colour <> '') not valid;
create index if not exists contacts_colour_idx on public.contacts (name, created_at);
create table public.colours (name text primary key);
insert into public.colours values ('blue');
"""
BAD = {
    "create index contacts_shade_idx on public.contacts (name)": "contacts is read",
    "alter table public.contacts add constraint c check (name <> '')": "contacts is read",
    "alter table public.contacts alter column name set not null": "contacts is read",
    "alter table public.contacts add column code uuid default gen_random_uuid()": (
        "contacts is rewritten"
    ),
    "alter table public.contacts add column weight int;"
    "alter table public.contacts alter column weight type bigint": "contacts is rewritten",
    "lock table public.contacts; select count(*) from public.contacts": "contacts is read",
}


@pytest.fixture(scope="module")
def filled(cluster: Cluster, template: Database) -> Iterator[Database]:
    with copy_of(cluster, template) as database:
        with psycopg.connect(database.url("supabase_admin"), autocommit=True) as connection:
            connection.execute(FILL.format(count=CONTACTS).encode())
        yield database


def facts(connection: psycopg.Connection) -> dict[str, tuple[int, int, bool]]:
    rows = connection.execute(FACTS, [KEEPS_WRITERS_OFF]).fetchall()
    return {name: (node, scans, is_locked) for name, node, scans, is_locked in rows}


def waits(connection: psycopg.Connection, text: str) -> list[str]:
    """What a migration lets others wait for; it runs in the connection's transaction."""
    found = []
    for statement in statements(text):
        before = facts(connection)
        connection.execute(statement.text.encode())
        after = facts(connection)
        for table, (node, scans, _) in before.items():
            if table in SMALL or table not in after:
                continue
            new_node, new_scans, is_locked = after[table]
            if node != new_node:
                found.append(f"{table} is rewritten by: {statement.text}")
            elif is_locked and new_scans > scans:
                found.append(f"{table} is read under a lock by: {statement.text}")
    return found


def prepare(connection: psycopg.Connection, text: str) -> None:
    """Runs what is to be done before, outside a transaction."""
    for statement in re.findall(
        r"^-- before: (create (?:unique )?index concurrently .*;)$", text, re.MULTILINE
    ):
        connection.execute(statement.encode())


def test_migrations_keep_no_writer_waiting(filled: Database) -> None:
    """The sample does, and so do all that are written by hand."""
    texts = [GOOD, *(file.read_text() for file in written_by_hand())]
    with (
        psycopg.connect(filled.url("postgres"), autocommit=True) as migrating,
        psycopg.connect(filled.url("postgres"), autocommit=True) as reader,
        psycopg.connect(filled.url("postgres"), autocommit=True) as writer,
    ):
        # nobody who came first is waited for by others longer than this
        writer.execute("set statement_timeout = '20s'")
        for text in texts:
            prepare(migrating, text)
            with migrating.transaction():
                assert waits(migrating, text) == []
            # between two migrations, and after them, people read and write
            assert reader.execute(
                "select count(*) from public.contacts where name = 'Contact 7'"
            ).fetchone() == (1,)
            writer.execute("update public.contacts set notes = 'seen' where name = 'Contact 7'")


def test_what_keeps_writers_waiting_is_found(filled: Database) -> None:
    with psycopg.connect(filled.url("postgres")) as connection:
        for text, words in BAD.items():
            with connection.transaction(force_rollback=True):
                found = waits(connection, text)
            assert [one for one in found if words in one], (text, found)


def test_who_reads_for_long_makes_the_migration_give_up_and_nobody_wait(filled: Database) -> None:
    with (
        psycopg.connect(filled.url("postgres")) as reader,
        psycopg.connect(filled.url("postgres"), autocommit=True) as migrating,
        psycopg.connect(filled.url("postgres"), autocommit=True) as writer,
    ):
        # an open transaction, such as that of a backup
        reader.execute("select name from public.contacts limit 1")
        migrating.execute("set lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            migrating.execute("alter table public.contacts add column shade text")
        writer.execute("update public.contacts set notes = 'again' where name = 'Contact 8'")
