"""What must hold after a fault: nothing lost, nothing twice, order kept, and a rebuild equal."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row
from tests.faults.load import PATIENCE_S, Load

from rapport.settings import StoreSettings
from rapport.store.webhooks import WebhookStore, json_of
from rapport.whatsapp.items import items_of
from rapport.whatsapp.replay import replay
from rapport.whatsapp.webhook import parse

# seconds in which a status comes, if it comes at all
STILL_S = 3.0
# messages that the stand-in for WhatsApp shows, at most
SHOWN = 1_000


def settled(load: Load) -> None:
    """Waits until all that was acknowledged is there, and nothing waits to be sent."""
    _until(lambda: _count(load, "sender_type = 'client'") >= load.webhooks + load.customers)
    _until(lambda: _count(load, "sender_type = 'operator' and status = 'queued'") == 0)
    # The statuses of the last ones are under way. A stand-in that was killed brings none.
    before = -1
    while (now := _count(load, "sender_type = 'operator' and status = 'sent'")) != before:
        before = now
        time.sleep(STILL_S if now else 0)


def judge(load: Load) -> dict[str, int]:
    """Raises AssertionError; returns the replies by their status."""
    rows = _rows(
        load,
        "select m.conversation_id, m.seq, m.sender_type, m.message, m.status, m.client_ref,"
        " m.provider_id, m.sent_at from public.messages m"
        " where m.conversation_id = any (%s) order by m.conversation_id, m.seq",
        load.threads,
    )
    # each webhook's message once
    inbound = Counter(row["message"] for row in rows if row["sender_type"] == "client")
    wanted = {f"webhook {place}" for place in range(load.webhooks)}
    wanted |= {f"first {place}" for place in range(load.customers)}
    assert set(inbound) == wanted
    assert [text for text, count in inbound.items() if count > 1] == []
    # places without a gap, and no time of another century
    for thread in load.threads:
        seqs = [row["seq"] for row in rows if row["conversation_id"] == thread]
        assert seqs == list(range(1, len(seqs) + 1))
    assert max(row["sent_at"] for row in rows) < datetime.now(UTC) + timedelta(minutes=6)

    # each reply once, in the order in which it was written, here and at the provider
    replies = [row for row in rows if row["sender_type"] == "operator"]
    assert len({row["client_ref"] for row in replies}) == len(replies) == load.replied
    shown: defaultdict[str, list[str]] = defaultdict(list)
    taken = httpx.get(
        f"{load.summary.whatsapp_url}/_fake/messages?limit={SHOWN}", trust_env=False, timeout=60
    ).json()["messages"]
    assert len(taken) < SHOWN, "not all are shown"
    for message in taken:
        shown[message["to"]].append(message["text_shown"])
    for place, thread in enumerate(load.threads):
        here = [row["message"] for row in replies if row["conversation_id"] == thread]
        assert here == [f"reply {place} {number}" for number in range(len(here))]
        there = shown[load.number(place)]
        assert [text for text, count in Counter(there).items() if count > 1] == []
        assert there == [text for text in here if text in set(there)]
        # of the others nobody knows, and they say so; none is said to have failed
        for row in replies:
            if row["conversation_id"] == thread:
                known = ("sent", "delivered", "read")
                is_there = row["message"] in there
                assert row["status"] in ((*known, "unknown") if is_there else ("unknown",)), row
    _rebuild(load)
    _compare(load)
    return dict(Counter(row["status"] for row in replies))


def slowest_sent(load: Load) -> float:
    """Seconds from the writing of a reply until WhatsApp took it, of the slowest."""
    [row] = _rows(
        load,
        "select coalesce(max(extract(epoch from t.ended_at - m.created_at)), 0)::float as seconds"
        " from private.outbound_attempts t join public.messages m on m.id = t.message_id"
        " where t.outcome = 'accepted' and m.conversation_id = any (%s)",
        load.threads,
    )
    seconds: float = row["seconds"]
    return seconds


def _rebuild(load: Load) -> None:
    """Reading every raw webhook again adds nothing and corrects nothing."""
    settings = StoreSettings.model_validate(
        {"supabase_url": load.summary.url, "supabase_secret_key": load.summary.secret_key}
    )
    since = datetime.now(UTC) - timedelta(hours=2)
    with closing(WebhookStore(settings)) as store:
        span = store.span_of_webhook_events(since, None)
        assert span.last_id is not None
        for one in replay(store, since=since, last_id=span.last_id, dry_run=True):
            assert (one.applied, one.corrected, one.rejected, one.failure) == (0, 0, 0, None)


# What only WhatsApp says, as it is stored and as the raw webhooks say it: the rows are equal.
REBUILT = {
    "messages": (
        """
        select m.provider_id, m.type, m.message, m.content, m.sent_at, k.thread_key
        from public.messages m
        join public.conversations k on k.id = m.conversation_id
        where m.sender_type = 'client' and m.provider_id in (select provider_id from raw)
        """,
        """
        select distinct provider_id, type, text, content, sent_at,
            identity_kind || ':' || identity_key
        from raw
        where kind = 'message'
        """,
    ),
    "statuses": (
        "select provider_id, status, at from private.message_statuses",
        "select provider_id, status, min(at) from raw where kind = 'status' group by 1, 2",
    ),
    "replies": (
        """
        select provider_id, status, delivered_at, read_at, failed_at
        from public.messages
        where provider_id in (select provider_id from raw where kind = 'status')
        """,
        """
        select provider_id,
            case
                when bool_or(status = 'read') then 'read'
                when bool_or(status = 'delivered') then 'delivered'
                else 'sent'
            end,
            min(at) filter (where status in ('delivered', 'read')),
            min(at) filter (where status = 'read'),
            null::timestamptz
        from raw
        where kind = 'status'
        group by 1
        """,
    ),
    "conversations": (
        """
        select conversation_id, last_seq, last_inbound_at
        from public.conversation_activity
        where conversation_id = any (%(threads)s)
        """,
        """
        select m.conversation_id, count(*), max(r.sent_at)
        from public.messages m
        left join (select distinct provider_id, sent_at from raw where kind = 'message') r
            using (provider_id)
        where m.conversation_id = any (%(threads)s)
        group by 1
        """,
    ),
}


def _compare(load: Load) -> None:
    """What WhatsApp has said of messages, replies and conversations is what its webhooks say."""
    with psycopg.connect(load.summary.db_url) as owner:
        owner.execute(
            "create temporary table bodies (items jsonb, received_at timestamptz) on commit drop"
        )
        with owner.cursor() as reader, owner.cursor() as writer:
            events = reader.execute("select body, received_at from private.webhook_events")
            read = [
                (json.dumps([json_of(one) for one in items_of(parse(body))]), at)
                for body, at in events
            ]
            with writer.copy("copy bodies from stdin") as copy:
                for row in read:
                    copy.write_row(row)
        owner.execute(
            "create temporary table raw on commit drop as select i.* from bodies b"
            " cross join lateral unnest(private.read_whatsapp_items(b.items, b.received_at)) i"
        )
        for name, (stored, rebuilt) in REBUILT.items():
            for one, other in ((stored, rebuilt), (rebuilt, stored)):
                differing = owner.execute(
                    f"({one}) except ({other}) limit 3".encode(), {"threads": load.threads}
                ).fetchall()
                assert differing == [], (name, differing)


def _rows(load: Load, query: str, *parameters: object) -> list[dict[str, Any]]:
    with psycopg.connect(load.summary.db_url, row_factory=dict_row) as connection:
        return connection.execute(query.encode(), parameters).fetchall()


def _count(load: Load, condition: str) -> int:
    [row] = _rows(
        load,
        f"select count(*) from public.messages where conversation_id = any (%s) and {condition}",
        load.threads,
    )
    count: int = row["count"]
    return count


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if holds():
                return
        except psycopg.OperationalError:
            # it is coming back
            pass
        assert time.monotonic() < deadline, "It did not settle."
        time.sleep(0.2)
