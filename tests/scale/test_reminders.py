"""Many reminders that are due at once are queued in a minute, in calls that are short."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rapport.chat.send_later import REMINDERS
from rapport.local.stack.postgres import Database

pytestmark = pytest.mark.scale

COUNT = 50_000
LIMIT_S = 60
CALL_LIMIT_S = 2

# an account whose customers all have an appointment tomorrow, and write on WhatsApp
SETUP = """
    insert into public.accounts (id, name) values ('%(account)s', 'Account');
    insert into public.whatsapp_channels
        (account_id, phone_number_id, display_phone_number, name, waba_id)
    values ('%(account)s', '1', 'any', 'any', '1');
    insert into public.whatsapp_templates (
        account_id, waba_id, name, language, category, status, components, variables, synced_at
    )
    values (
        '%(account)s', '1', 'remind', 'en', 'UTILITY', 'APPROVED',
        '[{"type": "BODY", "text": "Dear {{1}}, see you at {{2}}"}]',
        '{"body": ["body.1", "body.2"]}', now()
    );
    insert into public.contacts (account_id, name, phone)
    select '%(account)s', 'Customer ' || n, '+38640' || lpad(n::text, 6, '0')
    from generate_series(1, %(count)s) n;
    insert into public.conversations (
        account_id, customer_id, channel, whatsapp_channel_id, thread_key, customer_wa_id
    )
    select c.account_id, c.id, 'whatsapp', w.id, c.phone, right(c.phone, -1)
    from public.contacts c
    join public.whatsapp_channels w using (account_id);
    insert into public.reminder_rules (
        account_id, name, kind, minutes, template, whatsapp_channel_id
    )
    select
        w.account_id, 'tomorrow', 'before_appointment', 60,
        '{"name": "remind", "language": "en", "variables":
            {"body.1": "{{contact.name}}", "body.2": "{{appointment.time}}"}}',
        w.id
    from public.whatsapp_channels w;
"""
# without the chats of the bookings, which play no part here
JOBS = """
    set session_replication_role = replica;
    insert into public.jobs (account_id, customer_id, service_type, starts_at)
    select c.account_id, c.id, 'any', now() + interval '1 day'
    from public.contacts c;
    set session_replication_role = default;
"""


def processor_seconds(pid: int) -> float:
    """What a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_many_reminders_are_queued_in_a_minute(
    database: Database, report: Callable[[str], None]
) -> None:
    with database.cluster.connect(database.name) as owner:
        account = "11111111-1111-1111-1111-111111111111"
        owner.execute((SETUP % {"account": account, "count": COUNT}).encode())
        owner.execute(JOBS)
        owner.execute("vacuum analyze")

        calls: list[float] = []
        after: object = None
        before = processor_seconds(owner.info.backend_pid)
        start = time.perf_counter()
        while True:
            began = time.perf_counter()
            row = owner.execute(
                "select backend.send_reminders(%s, now() + interval '23 hours', %s)",
                [REMINDERS, json.dumps(after) if after else None],
            ).fetchone()
            calls.append(time.perf_counter() - began)
            assert row is not None
            after = row[0]["after"]
            if row[0]["is_done"]:
                break
        seconds = time.perf_counter() - start
        taken = processor_seconds(owner.info.backend_pid) - before

        queued = owner.execute("select count(*) from private.outbound_queue").fetchone()
        assert queued == (COUNT,)
    calls.sort()
    report(
        f"{COUNT} reminders queued in {seconds:.0f} s ({taken:.0f} s of a processor,"
        f" load {os.getloadavg()[0]:.1f}) by {len(calls)} calls:"
        f" {calls[len(calls) // 2] * 1000:.0f} ms, at most {calls[-1] * 1000:.0f} ms"
    )
    assert seconds <= LIMIT_S
    assert calls[-1] <= CALL_LIMIT_S
