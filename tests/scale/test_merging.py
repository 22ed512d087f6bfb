"""Contacts with much behind them are merged, and merges undone, within the time of a call."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from tests.scale.explained import Populated, explain

from rapport.commands.bench.population import account_id, agent_id
from rapport.local.stack.postgres import Database

pytestmark = pytest.mark.scale

# hosted, a statement is cut off after 8 s
LIMIT_MS = 2_000
MESSAGES = 10_000

# one long thread, or as many as a customer of many years has
THREADS = [1, 100]


@pytest.fixture
def twice_known(request: pytest.FixtureRequest, database: Database) -> Populated:
    """An account that knows one customer twice: the second has written all the messages."""
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute(
            "insert into auth.users (id, email, aud, role)"
            " values (%s, 'agent@rapport.example', 'authenticated', 'authenticated')",
            [agent_id(1)],
        )
        owner.execute(
            "insert into public.accounts (id, name) values (%s, 'Account')", [account_id(1)]
        )
        owner.execute(
            "insert into public.account_members (account_id, user_id, role, display_name)"
            " values (%s, %s, 'agent', 'Agent')",
            (account_id(1), agent_id(1)),
        )
        owner.execute(
            "insert into public.contacts (account_id, name)"
            " select %s, unnest(array['First', 'Second'])",
            [account_id(1)],
        )
        owner.execute(
            """
            insert into public.conversations (account_id, customer_id, channel, thread_key, status)
            select c.account_id, c.id, 'portal', 'portal', 'closed'
            from public.contacts c, generate_series(1, %s)
            where c.name = 'Second'
            """,
            [request.param],
        )
        owner.execute(
            """
            insert into public.messages (
                account_id, conversation_id, customer_id, seq, sender_type, message, status
            )
            select
                k.account_id, k.id, k.customer_id, seq, 'client', 'Is Tuesday free?', 'delivered'
            from public.conversations k, generate_series(1, %s) seq
            """,
            [MESSAGES // request.param],
        )
        owner.execute("vacuum (analyze)")
    return Populated(database)


@pytest.mark.parametrize("twice_known", THREADS, indirect=True)
def test_contact_with_10_000_messages_is_merged_and_given_back_in_time(
    twice_known: Populated, request: pytest.FixtureRequest, report: Callable[[str], None]
) -> None:
    first, second = twice_known.column("select id from public.contacts order by name")
    owners = "select distinct customer_id from public.messages"
    worked = []
    with twice_known.asking(1, secured=False) as connection:
        # a pooled connection keeps plans: those of a change of one row must do for all of them
        connection.execute(
            "update public.messages set message = 'Is Monday free?'"
            " where id = (select id from public.messages limit 1)"
        )
        for _ in range(2):
            merged = explain(connection, "select public.merge_contacts(%s, %s)", (first, second))
            assert twice_known.column(owners) == [first]

            (merge,) = twice_known.column(
                "select id from public.contact_merges where undone_at is null"
            )
            undone = explain(connection, "select public.undo_merge(%s)", [merge])
            assert twice_known.column(owners) == [second]
            worked += [merged.worked_ms, undone.worked_ms]

    report(
        f"{MESSAGES:,} messages in {request.node.callspec.params['twice_known']} threads:"
        f" merged in {max(worked[::2]):.0f} ms, undone in {max(worked[1::2]):.0f} ms"
    )
    assert max(worked) <= LIMIT_MS
