"""`rapport check` on a database in which one thing after the other is broken, and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from rapport.commands.check.database import examine_database, shipped
from rapport.commands.check.findings import Finding
from rapport.store.deployment import Deployment
from tests.world import World

# what is broken: the statement, the check that finds it, its state, words of the remedy
RELEASE = (
    "create or replace function backend.release() returns text language sql immutable"
    " set search_path = '' as 'select ''%s''::text'"
)
BROKEN = [
    (RELEASE % "0.0.9", "Release", "warning", "Apply the migrations first: supabase db push."),
    (RELEASE % "0.2.0", "Release", "warning", "Deploy the functions of the schema's release."),
    (RELEASE % "0.3.0", "Release", "wrong", "Deploy the functions of the schema's release now"),
    (
        "alter role authenticator reset pgrst.db_pre_request",
        "Limits of users",
        "wrong",
        "alter role authenticator set pgrst.db_pre_request = 'private.before_request'",
    ),
    (
        "alter table public.messages disable trigger _900_publish_insert",
        "Triggers",
        "wrong",
        "enable trigger",
    ),
    (
        "alter table public.labels disable row level security",
        "Row level security",
        "wrong",
        "enable row level security",
    ),
    ("grant select on public.contacts to anon", "Row level security", "wrong", "from anon"),
    (
        "alter publication supabase_realtime drop table public.invoices",
        "Publication",
        "wrong",
        "add table public.",
    ),
    (
        "alter publication supabase_realtime set (publish = 'insert, update, delete')",
        "Publication",
        "wrong",
        "set (publish = 'insert, update')",
    ),
    ("drop publication supabase_realtime", "Publication", "wrong", "supabase db push"),
    (
        'drop policy "subscribers can receive on their own topics" on realtime.messages',
        "Policies of Realtime",
        "wrong",
        "create policy",
    ),
    (
        "create policy everything on realtime.messages for select to authenticated using (true)",
        "Policies of Realtime",
        "warning",
        "Drop them",
    ),
    (
        "delete from public.account_members where role = 'owner'",
        "Accounts",
        "wrong",
        "rapport member add",
    ),
    (
        "insert into private.refused_signatures (hour, count) values (now(), 3)",
        "Webhooks",
        "wrong",
        "App settings, Basic",
    ),
    (
        """
        insert into private.refused_signatures (hour, count, first_at)
        values (now(), 3, now() - interval '1 minute');
        insert into private.webhook_events (provider, body, body_sha256)
        values ('whatsapp', '{}', sha256('{}'))
        """,
        "Webhooks",
        "warning",
        "two apps at Meta",
    ),
    (
        "insert into net._http_response (id, status_code, timed_out) values (1, 403, false)",
        "Doorbell, last hour",
        "wrong",
        "rapport connect functions",
    ),
    (
        "insert into net._http_response (id, error_msg) values (1, 'Could not resolve host')",
        "Doorbell, last hour",
        "wrong",
        "rapport connect functions",
    ),
    (
        """
        insert into public.metakocka_connections (account_id, company_id)
        select id, '16' from public.accounts where name = 'Alpine';
        insert into private.metakocka_dirty (contact_id, account_id)
        select id, account_id from public.contacts where name = 'cilka' on conflict do nothing;
        update private.metakocka_dirty set not_before = now() - interval '2 days'
        """,
        "Queue: metakocka",
        "wrong",
        "metakocka_sync",
    ),
    (
        "update public.whatsapp_channels set waba_id = '1'",
        "Templates of any",
        "warning",
        "sync_templates",
    ),
    ("delete from public.accounts", "Accounts", "wrong", "rapport account create"),
]


@pytest.fixture
def admin(world: World) -> Iterator[psycopg.Connection]:
    """A session that may break everything."""
    # Bay has none of the world's owners
    world.owner.execute(
        "update public.account_members set role = 'owner' where display_name = 'ana'"
    )
    with world.connect("supabase_admin") as connection:
        yield connection


@contextmanager
def broken(connection: psycopg.Connection, statement: str) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        connection.execute(statement.encode())
        yield


def facts(connection: psycopg.Connection) -> Deployment:
    row = connection.execute("select backend.deployment()").fetchone()
    assert row is not None
    return Deployment.model_validate(row[0])


def examined(connection: psycopg.Connection, migrations: Path) -> list[Finding]:
    return list(examine_database(facts(connection), migrations))


def test_each_broken_thing_is_found_with_its_remedy(
    admin: psycopg.Connection, tmp_path: Path
) -> None:
    usual = {one.check: one for one in examined(admin, tmp_path)}
    assert {check for check, one in usual.items() if one.state == "wrong"} == {"Migrations"}
    for statement, check, state, remedy in BROKEN:
        with broken(admin, statement):
            found = examined(admin, tmp_path)
        [finding] = [one for one in found if one.check == check and one.state != "ok"][:1]
        assert (finding.state, remedy in finding.remedy) == (state, True), (statement, finding)
    # nothing of it stays
    assert {one.check: one.state for one in examined(admin, tmp_path)} == {
        check: one.state for check, one in usual.items()
    }


def test_migrations_are_compared_with_those_of_this_version(
    admin: psycopg.Connection, tmp_path: Path
) -> None:
    (tmp_path / "20261130000000_create_foundation.sql").write_text("create table a (b int);\n")
    (tmp_path / "20261130000100_create_accounts.sql").write_text("select 1;\n\n-- c\nselect 2;\n")
    cli = (
        "create schema supabase_migrations;"
        "create table supabase_migrations.schema_migrations"
        " (version text primary key, statements text[], name text);"
        "insert into supabase_migrations.schema_migrations values"
        " ('20261130000000', '{create table a (b int)}', 'create_foundation')"
    )
    second = (
        "insert into supabase_migrations.schema_migrations values"
        " ('20261130000100', array['select 1', E'-- c\\nselect 2'], 'create_accounts')"
    )
    with broken(admin, cli):
        [missing] = [one for one in examined(admin, tmp_path) if one.check == "Migrations"]
        assert missing.found == "Not applied: 20261130000100_create_accounts."
        admin.execute(second.encode())
        [whole] = [one for one in examined(admin, tmp_path) if one.check == "Migrations"]
        assert (whole.state, whole.found) == ("ok", "All 2 of this version are applied.")
        admin.execute("update supabase_migrations.schema_migrations set statements = '{other}'")
        [other] = [one for one in examined(admin, tmp_path) if one.check == "Migrations"]
        assert other.found.startswith("2 migrations had another text when applied")
    assert list(shipped(tmp_path)) == ["20261130000000", "20261130000100"]


def test_the_doorbell_s_answers_are_told(admin: psycopg.Connection, tmp_path: Path) -> None:
    told = facts(admin).model_dump(mode="json")
    answers = [
        {"result": "202", "count": 1, "latest_at": told["now"]},
        {"result": "not reached", "count": 2, "latest_at": told["now"]},
    ]
    told["net"] = {"version": "0.20.0", "waiting": 0, "answers": answers}
    found = examine_database(Deployment.model_validate(told), tmp_path)
    [finding] = [one for one in found if one.check == "Doorbell, last hour"]
    assert finding.found.startswith("1 answer, status 202")
    assert "2 not reached" in finding.found


def test_slots_are_judged_by_their_lag(admin: psycopg.Connection, tmp_path: Path) -> None:
    usual = facts(admin)
    slot = {"name": "of_somebody", "plugin": "pgoutput", "wal_status": "reserved"}
    for changes, state, words in (
        ({"is_active": True, "lag_bytes": 2_000_000}, "ok", "1.9 MB behind at most"),
        ({"is_active": True, "lag_bytes": 200 * 2**20}, "warning", "200 MB behind"),
        ({"is_active": True, "lag_bytes": 2 * 2**30}, "wrong", "2,048 MB behind"),
        ({"is_active": False, "lag_bytes": 200 * 2**20}, "wrong", "nobody reads it"),
        ({"is_active": True, "lag_bytes": 0, "wal_status": "lost"}, "wrong", "lost its place"),
    ):
        told = usual.model_dump(mode="json")
        told["realtime"]["slots"] = [slot | changes]
        found = examine_database(Deployment.model_validate(told), tmp_path)
        [finding] = [one for one in found if one.check == "Replication slots"]
        assert (finding.state, words in finding.found) == (state, True), finding
