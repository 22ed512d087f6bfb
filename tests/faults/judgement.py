"""What must hold after a fault: nothing lost, nothing twice, order kept, and a rebuild equal."""

from __future__ import annotations

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
from rapport.store.webhooks import WebhookStore
from rapport.whatsapp.replay import replay

# seconds in which a status comes, if it comes at all
STILL_S = 3.0


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
    for message in httpx.get(
        f"{load.summary.whatsapp_url}/_fake/messages", trust_env=False, timeout=60
    ).json()["messages"]:
        shown[message["to"]].append(message["text_shown"])
    for place, thread in enumerate(load.threads):
        here = [row["message"] for row in replies if row["conversation_id"] == thread]
        assert here == [f"reply {place} {number}" for number in range(len(here))]
        there = shown[load.number(place)]
        assert [text for text, count in Counter(there).items() if count > 1] == []
        assert there == [text for text in here if text in set(there)]
        # of the others nobody knows, and they say so
        for row in replies:
            if row["conversation_id"] == thread and row["message"] not in there:
                assert row["status"] == "unknown", row
    _rebuild(load)
    return dict(Counter(row["status"] for row in replies))


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
