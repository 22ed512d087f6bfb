"""The embedded database lets `postgres` do what a hosted project lets it do.

The rules were found out on hosted projects, see tests/hosted.
"""

from __future__ import annotations

import psycopg
import pytest

from rapport.local.stack.postgres import Database
from tests.hosted.rules import COMMENT_ON_POLICY, REFUSED, RULES, answer


def test_rules_of_a_hosted_project_hold_here(template: Database) -> None:
    rules = [rule for rule in RULES if rule.schema is None]

    answers = {str(rule): answer(template, rule.statements) for rule in rules}

    assert answers == {str(rule): rule.embedded for rule in rules}
    # as on projects that have not been upgraded since July 2026
    assert answer(template, COMMENT_ON_POLICY) == REFUSED


def test_a_policy_locks_the_platforms_tables_as_there(template: Database) -> None:
    with psycopg.connect(template.url()) as owner:
        owner.execute("create table public.r (a int); create policy p on public.r using (true)")
        locked = owner.execute(
            "select relation::regclass::text from pg_locks"
            " where pid = pg_backend_pid() and mode = 'AccessExclusiveLock'"
        ).fetchall()
        owner.rollback()

    assert {("auth.users",), ("auth.sessions",), ("realtime.messages",)} <= set(locked)


def test_a_lent_role_is_gone_after_the_command(template: Database) -> None:
    with psycopg.connect(template.url()) as owner:
        owner.execute("create policy p on realtime.messages using (true)")
        for role in ("supabase_realtime_admin", "supabase_auth_admin"):
            row = owner.execute("select pg_has_role('postgres', %s, 'usage')", [role]).fetchone()
            assert row == (False,)
        owner.rollback()


def test_a_partition_takes_no_policy(template: Database) -> None:
    with psycopg.connect(template.url()) as owner:
        partition = owner.execute(
            "select inhrelid::regclass::text from pg_inherits"
            " where inhparent = 'realtime.messages'::regclass limit 1"
        ).fetchone()
        assert partition is not None
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner of table"):
            owner.execute(f"create policy p on {partition[0]} using (true)".encode())
