from __future__ import annotations

import psycopg

from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Database
from rapport.local.stack.state import PROJECT
from rapport.local.stack.supabase_cli import advisors

# Each begins with an id, and so does an index: of one conversation or contact there are few rows.
# An index on all columns would be one more to write with every message.
COVERED_BY_THE_FIRST_COLUMN = {
    "contact_search_contact_fkey",
    "contacts_merged_into_fkey",
    "conversation_activity_conversation_fkey",
    "conversation_labels_conversation_fkey",
    "conversation_notes_conversation_fkey",
    "desk_states_conversation_fkey",
    "loyalty_lots_transaction_fkey",
    "metakocka_contact_mappings_contact_fkey",
    "metakocka_dirty_contact_fkey",
    "messages_conversation_fkey",
    "read_markers_conversation_fkey",
    "scheduled_messages_conversation_fkey",
    "sent_reminders_rule_fkey",
}
# Who decided something: looked up when a login is deleted, which is rare, and by nobody else.
NOT_WORTH_AN_INDEX = {
    "contact_merges_merged_by_fkey",
    "contact_merges_undone_by_fkey",
    "contact_suggestions_decided_by_fkey",
    "metakocka_connections_user_id_fkey",
    "metakocka_contact_mappings_user_id_fkey",
    "sync_conflicts_resolved_by_fkey",
    "sync_errors_user_id_fkey",
    "sync_runs_user_id_fkey",
}


def test_the_advisors_find_nothing_in_our_schema(
    own_database: Database, binaries: Binaries
) -> None:
    assert advisors(own_database, binaries, PROJECT) == []


def test_the_advisors_hints_are_known(own_database: Database, binaries: Binaries) -> None:
    hints = [
        lint
        for lint in advisors(own_database, binaries, PROJECT, "info")
        # no index of a new database has been used
        if lint.name != "unused_index"
    ]
    assert {lint.name for lint in hints} == {"unindexed_foreign_keys"}
    assert {
        lint.detail.split("`")[3] for lint in hints
    } == COVERED_BY_THE_FIRST_COLUMN | NOT_WORTH_AN_INDEX


def test_the_advisors_find_a_table_without_row_level_security(
    own_database: Database, binaries: Binaries
) -> None:
    with psycopg.connect(own_database.url()) as connection:
        connection.execute("create table public.bare (id int primary key)")
        connection.execute("grant select on public.bare to anon")
    lints = advisors(own_database, binaries, PROJECT)
    assert [lint.name for lint in lints] == ["rls_disabled_in_public"]
