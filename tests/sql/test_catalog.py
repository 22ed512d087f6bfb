"""Rules that every object keeps, read from the catalog, so that a new one is held to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from rapport.local.stack.postgres import Database

SCHEMAS = ["public", "backend", "private"]


@pytest.fixture
def catalog(template: Database) -> Iterator[psycopg.Connection[Any]]:
    """The schema itself: nothing is written here."""
    with psycopg.connect(template.url()) as connection:
        yield connection


def names(catalog: psycopg.Connection[Any], query: str) -> list[str]:
    return sorted(row[0] for row in catalog.execute(query.encode(), {"schemas": SCHEMAS}))


FUNCTIONS = """
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = any (%(schemas)s)
"""
TABLES = """
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any (%(schemas)s) and c.relkind in ('r', 'p', 'v', 'm')
"""


def test_the_rules_have_something_to_hold(catalog: psycopg.Connection[Any]) -> None:
    assert len(names(catalog, f"select p.proname {FUNCTIONS}")) > 20
    assert len(names(catalog, f"select c.relname {TABLES}")) > 10


def test_every_table_has_row_level_security(catalog: psycopg.Connection[Any]) -> None:
    query = f"select c.oid::regclass::text {TABLES} and c.relkind <> 'v' and not c.relrowsecurity"
    assert names(catalog, query) == []


def test_every_view_asks_as_its_reader(catalog: psycopg.Connection[Any]) -> None:
    query = f"""
        select c.oid::regclass::text {TABLES} and c.relkind = 'v'
           and not coalesce(c.reloptions @> array['security_invoker=true'], false)
    """
    assert names(catalog, query) == []


def test_every_function_fixes_its_search_path(catalog: psycopg.Connection[Any]) -> None:
    query = f"""
        select p.oid::regprocedure::text {FUNCTIONS}
           and not coalesce(p.proconfig @> array['search_path=""'], false)
    """
    assert names(catalog, query) == []


def test_no_immutable_function_reads_a_table(catalog: psycopg.Connection[Any]) -> None:
    """Its answer becomes part of plans: an open session would keep it through a migration."""
    query = f"""
        with recursive functions as (
            select
                p.oid,
                p.oid::regprocedure::text as name,
                n.nspname || '.' || p.proname as called,
                p.provolatile,
                p.prosrc
            {FUNCTIONS}
        ),
        changing as (
            select f.oid, f.name, f.called, f.provolatile
            from functions f
            where exists (
                select
                from regexp_matches(
                    f.prosrc, '\\m(?:from|join)\\s+(?:\\w+\\.)?(\\w+)\\M(?!\\()', 'g'
                ) as source (names)
                join pg_class c on c.relname = source.names[1]
                where c.relkind in ('r', 'p', 'v')
            )
            union
            select f.oid, f.name, f.called, f.provolatile
            from functions f
            join changing c
                on f.prosrc like '%%' || c.called || '(%%'
        )
        select c.name from changing c where c.provolatile = 'i'
    """
    assert names(catalog, query) == []


def test_no_function_is_executable_by_everybody(catalog: psycopg.Connection[Any]) -> None:
    query = f"""
        select p.oid::regprocedure::text {FUNCTIONS}
           and has_function_privilege('anon', p.oid, 'execute')
    """
    # PostgREST calls the first before every request; who has an invitation's token has no login yet
    assert names(catalog, query) == [
        "portal_invitation(text)",
        "private.before_request()",
        "private.portal_invitation(text)",
    ]


def test_service_role_calls_backend_and_nothing_else(catalog: psycopg.Connection[Any]) -> None:
    callable_by_service = f"""
        select distinct n.nspname::text {FUNCTIONS}
           and has_function_privilege('service_role', p.oid, 'execute')
           and p.proname <> 'before_request'
    """
    assert names(catalog, callable_by_service) == ["backend"]
    readable_by_service = f"""
        select c.oid::regclass::text {TABLES}
           and has_table_privilege('service_role', c.oid,
                'select, insert, update, delete, truncate, references, trigger, maintain')
    """
    assert names(catalog, readable_by_service) == []


def test_anonymous_holds_nothing(catalog: psycopg.Connection[Any]) -> None:
    query = f"""
        select c.oid::regclass::text {TABLES}
           and has_table_privilege('anon', c.oid,
                'select, insert, update, delete, truncate, references, trigger, maintain')
    """
    assert names(catalog, query) == []


def test_signed_in_users_never_truncate_or_refer(catalog: psycopg.Connection[Any]) -> None:
    query = f"""
        select c.oid::regclass::text {TABLES}
           and has_table_privilege('authenticated', c.oid,
                'truncate, references, trigger, maintain')
    """
    assert names(catalog, query) == []


def test_what_policies_do_not_call_is_not_callable(catalog: psycopg.Connection[Any]) -> None:
    """Of the private functions signed-in users may execute these, and no more."""
    query = f"""
        select p.proname {FUNCTIONS} and n.nspname = 'private'
           and has_function_privilege('authenticated', p.oid, 'execute')
    """
    assert names(catalog, query) == [
        "add_duplicates",
        "assign_conversation",
        "authorize",
        "before_request",
        "caller_scope",
        "change_log_state",
        "change_member",
        "check_plan",
        "claim_member_invitation",
        "claim_portal_invitation",
        "confirm_fields",
        "count_rows",
        "decide_message",
        "delete_note",
        "dismiss_pair",
        "erase_own_contact",
        "export_own_contact",
        "fill_saved_reply",
        "find_latest_inbound",
        "fold",
        "forget_push_subscription",
        "hold_own_contact",
        "hold_to_rows",
        "inbox_counts",
        "inbox_ids",
        "invite_member",
        "invite_to_portal",
        "is_followed",
        "keep_notification_choice",
        "keep_push_subscription",
        "keep_watching",
        "label_conversation",
        "label_counts",
        "literal_patterns",
        "match_key",
        "may_receive",
        "may_send",
        "merge_contact_pair",
        "move_marker_back",
        "move_read_marker",
        "my_account_ids",
        "my_admin_account_ids",
        "my_changes",
        "my_customer_ids",
        "my_owned_account_ids",
        "my_rejected_webhooks",
        "my_writable_account_ids",
        "open_member_invitations",
        "open_upload",
        "pause_for_user",
        "people_of",
        "portal_account",
        "portal_invitation",
        "queue_sync",
        "read_cursor",
        "read_search_cursor",
        "refuse_estimate",
        "refuse_value",
        "release_own_contact",
        "remove_member",
        "request_media",
        "resolve_conflict",
        "resume_for_user",
        "resume_number",
        "revoke_invitation",
        "revoke_member_invitation",
        "revoke_message",
        "save_contact",
        "search_page",
        "search_patterns",
        "snooze_conversation",
        "stay_at_desk",
        "thread_for_template",
        "topics_of_caller",
        "try_reminder_rule",
        "undo_contact_merge",
        "unlink_portal_login",
        "unproved_fields_of",
        "upcoming_reminders",
        "vapid_key",
        "visible_rows",
        "why_for_admin",
        "window_closes_at",
        "word_patterns",
        "write_conversation_status",
        "write_cursor",
    ]


def test_everything_that_clients_see_is_described(catalog: psycopg.Connection[Any]) -> None:
    tables = f"""
        select c.oid::regclass::text {TABLES} and obj_description(c.oid, 'pg_class') is null
    """
    functions = f"""
        select p.oid::regprocedure::text {FUNCTIONS}
           and obj_description(p.oid, 'pg_proc') is null
    """
    policies = """
        select pol.polname::text
        from pg_policy pol
        join pg_class c on c.oid = pol.polrelid
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = any (%(schemas)s)
          and obj_description(pol.oid, 'pg_policy') is null
    """
    assert names(catalog, tables) == []
    assert names(catalog, functions) == []
    assert names(catalog, policies) == []


def test_every_column_that_users_read_is_described(catalog: psycopg.Connection[Any]) -> None:
    query = """
        select format('%%s.%%s', c.relname, a.attname)
        from pg_attribute a
        join pg_class c on c.oid = a.attrelid
        where c.relnamespace = 'public'::regnamespace
          and a.attnum > 0
          and not a.attisdropped
          and has_column_privilege('authenticated', c.oid, a.attnum, 'select')
          and coalesce(col_description(c.oid, a.attnum), '') = ''
    """
    assert names(catalog, query) == []


def test_every_type_is_described(catalog: psycopg.Connection[Any]) -> None:
    query = """
        select t.oid::regtype::text
        from pg_type t
        join pg_namespace n on n.oid = t.typnamespace
        left join pg_class c on c.oid = t.typrelid
        where n.nspname = any (%(schemas)s)
          and (t.typtype in ('d', 'e') or c.relkind = 'c')
          and obj_description(t.oid, 'pg_type') is null
    """
    assert names(catalog, query) == []


def test_tables_of_a_tenant_refer_to_each_other_with_the_tenant(
    catalog: psycopg.Connection[Any],
) -> None:
    """A foreign key between tables that have account_id carries it on both sides."""
    query = """
        select con.conname::text
        from pg_constraint con
        join pg_namespace n on n.oid = con.connamespace
        where con.contype = 'f'
          and n.nspname = 'public'
          and exists (
              select from pg_attribute a
              where a.attrelid = con.conrelid and a.attname = 'account_id'
          )
          and exists (
              select from pg_attribute a
              where a.attrelid = con.confrelid and a.attname = 'account_id'
          )
          and not exists (
              select
              from unnest(con.conkey, con.confkey) as k (ours, theirs)
              join pg_attribute a on a.attrelid = con.conrelid and a.attnum = k.ours
              join pg_attribute b on b.attrelid = con.confrelid and b.attnum = k.theirs
              where a.attname = 'account_id' and b.attname = 'account_id'
          )
    """
    assert names(catalog, query) == [
        # written by triggers alone, from the message itself
        "message_media_message_id_fkey",
        # found within its own conversation, and shows nothing but an id
        "messages_reply_to_fkey",
    ]


def test_followed_tables_are_logged_shown_readable_and_published(
    catalog: psycopg.Connection[Any],
) -> None:
    """Publication, triggers and the list of followed tables agree, and it names every column."""
    published = names(
        catalog,
        "select tablename::text from pg_publication_tables where pubname = 'supabase_realtime'",
    )
    triggered = names(
        catalog,
        """
        select distinct c.relname::text
        from pg_trigger t
        join pg_class c on c.oid = t.tgrelid
        where t.tgfoid = 'private.tg__publish'::regproc
        group by c.relname
        having count(*) = 3
        """,
    )
    assert triggered == published
    for table in published:
        row = catalog.execute(
            "select shown, hidden from private.followed_tables where table_name = %s", [table]
        ).fetchone()
        assert row is not None, table
        columns = names(
            catalog,
            f"select attname::text from pg_attribute where attrelid = 'public.{table}'::regclass"
            " and attnum > 0 and not attisdropped",
        )
        # of each column somebody has decided whether it is sent
        assert sorted([*row[0], *row[1]]) == sorted(columns), table


def test_what_users_write_is_counted(catalog: psycopg.Connection[Any]) -> None:
    """Each operation by which a user may write to a table or view has its limits."""
    missing = """
        select format('%%s of %%s', o.name, c.relname)
        from pg_class c
        cross join (values ('insert', 4), ('update', 16), ('delete', 8)) as o (name, bit)
        where c.relnamespace = 'public'::regnamespace
          and c.relkind in ('r', 'v')
          and case o.name
              when 'delete' then has_table_privilege('authenticated', c.oid, 'delete')
              else has_any_column_privilege('authenticated', c.oid, o.name)
          end
          and not exists (
              select
              from pg_trigger t
              where t.tgrelid = c.oid
                and t.tgtype & o.bit <> 0
                and t.tgfoid in (
                    'private.tg__count_rows'::regproc, 'private.tg__hold_to_rows'::regproc
                )
          )
    """
    assert names(catalog, missing) == []


def test_realtime_is_told_of_no_deletion(catalog: psycopg.Connection[Any]) -> None:
    told = """
        select concat_ws(' ', p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate)
        from pg_publication p
        where p.pubname = 'supabase_realtime'
    """
    assert names(catalog, told) == ["t t f f"]


# What an update fires; columns are those of "update of", as numbers.
ON_UPDATE = """
    with triggers as (
        select
            t.oid,
            t.tgrelid,
            c.relname || '.' || t.tgname as name,
            string_to_array(t.tgattr::text, ' ')::smallint[] as columns,
            substring(pg_get_triggerdef(t.oid) from ' WHEN (.*) EXECUTE FUNCTION ') as condition,
            p.proname as function,
            p.prosrc as body
        from pg_trigger t
        join pg_class c on c.oid = t.tgrelid
        join pg_proc p on p.oid = t.tgfoid
        where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
          and not t.tgisinternal
          and t.tgtype & 16 <> 0
    )
"""


def test_a_trigger_of_columns_names_each_column_that_its_condition_compares(
    catalog: psycopg.Connection[Any],
) -> None:
    """Also of a column that is added to the condition later."""
    named = "select name from triggers where condition is not null and columns <> '{}'"
    assert len(names(catalog, f"{ON_UPDATE} {named}")) > 20
    missing = """
        select t.name || ': ' || a.attname
        from triggers t
        join pg_attribute a on a.attrelid = t.tgrelid and a.attnum > 0 and not a.attisdropped
        where t.columns <> '{}'
          and a.attnum <> all (t.columns)
          -- with the old value; by itself, or in a row of several
          and t.condition ~ format(
              '\\m(new|old)\\.%%1$s (<>|IS DISTINCT FROM) |ROW\\([^)]*\\m(new|old)\\.%%1$s\\M',
              a.attname)
    """
    assert names(catalog, f"{ON_UPDATE} {missing}") == []


def test_no_trigger_of_columns_misses_what_another_trigger_assigns(
    catalog: psycopg.Connection[Any],
) -> None:
    """Postgres looks at the columns of the statement, not at those that a trigger assigns."""
    missed = """
        select w.name || ' assigns ' || a.attname || ' of ' || t.name
        from triggers t
        join pg_attribute a on a.attrelid = t.tgrelid and a.attnum = any (t.columns)
        join triggers w on w.tgrelid = t.tgrelid and w.oid <> t.oid
        where w.body ~ format('\\mnew\\.%%s\\M\\s*:=', a.attname)
          -- that one puts old values back
          and w.function not like '%%guard_given'
          -- each column that fires the other one fires this one too
          and not (w.columns <> '{}' and w.columns <@ t.columns)
    """
    table = "scheduled_messages"
    assert names(catalog, f"{ON_UPDATE} {missed}") == [
        # the owner on insert only, the time only where the statement sets it
        f"{table}._010_check assigns account_id of {table}._050_keep_owner",
        f"{table}._010_check assigns conversation_id of {table}._050_keep_owner",
        f"{table}._010_check assigns send_at of {table}._600_ring_update",
    ]
