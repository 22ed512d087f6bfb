"""The database time of a large webhook: one call, until its commit.

The function's own parser makes the webhooks from payloads. Messages come from known senders;
statuses are of known messages, which were sent from the phone app.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import psycopg
from pydantic import JsonValue

from rapport.commands.bench.business import Business, Owner
from rapport.local.errors import StackError
from rapport.local.fakes.whatsapp.payloads import (
    DISPLAY_NUMBER,
    Payload,
    encode,
    epoch,
    message_id,
    webhook,
)
from rapport.local.stack.running import Stack
from rapport.store.webhooks import json_of
from rapport.whatsapp.items import items_of

UPDATES = 1_000
CONVERSATIONS = 200
CALLS = 9
# the connection's plans exist after these
WARM_UP = 2


@dataclass(frozen=True)
class BatchFigures:
    """Milliseconds for each update, webhook by webhook."""

    messages: tuple[float, ...]
    statuses: tuple[float, ...]


def measure(
    stack: Stack, updates: int = UPDATES, conversations: int = CONVERSATIONS, calls: int = CALLS
) -> BatchFigures:
    """Ingests webhooks of so many updates over so many conversations.

    Raises StackError when an update is not applied.
    """
    with psycopg.connect(stack.db_url(), autocommit=True) as owner:
        number = Business.found(stack, owner).add_number(owner)
        owner.execute("set role service_role")
        senders = [str(38_670_000_000 + sender) for sender in range(conversations)]
        # the senders become known
        _ingest(owner, _messages(number, senders, conversations))

        messages_ms, statuses_ms = [], []
        for _ in range(WARM_UP + calls):
            messages_ms.append(_ingest(owner, _messages(number, senders, updates)) / updates)
            sent = [message_id() for _ in range(updates)]
            _ingest(owner, _echoes(number, senders, sent))
            statuses_ms.append(_ingest(owner, _statuses(number, senders, sent)) / updates)
    return BatchFigures(tuple(messages_ms[WARM_UP:]), tuple(statuses_ms[WARM_UP:]))


def _ingest(owner: Owner, payload: Payload) -> float:
    """The milliseconds that one webhook took."""
    items = [json_of(item) for item in items_of(payload)]
    arguments = [encode(payload).decode(), json.dumps(items)]
    begun = time.perf_counter()
    row = owner.execute("select backend.ingest_whatsapp(%s, %s)", arguments).fetchone()
    taken = time.perf_counter() - begun
    if row is None or row[0]["applied"] != len(items):
        raise StackError(f"Of {len(items)} updates not all were applied: {row}.")
    return taken * 1000


def _messages(number: str, senders: list[str], count: int) -> Payload:
    profiles: list[JsonValue] = [
        {"profile": {"name": f"Sender {sender}"}, "wa_id": sender} for sender in senders
    ]
    messages: list[JsonValue] = [
        {
            "from": senders[place % len(senders)],
            "id": message_id(),
            "timestamp": epoch(None),
            "type": "text",
            "text": {"body": f"Message {place}"},
        }
        for place in range(count)
    ]
    return webhook(number, {"contacts": profiles, "messages": messages})


def _echoes(number: str, recipients: list[str], ids: list[str]) -> Payload:
    echoes: list[JsonValue] = [
        {
            "from": DISPLAY_NUMBER,
            "to": recipients[place % len(recipients)],
            "id": provider_id,
            "timestamp": epoch(None),
            "type": "text",
            "text": {"body": f"Echo {place}"},
        }
        for place, provider_id in enumerate(ids)
    ]
    return webhook(number, {"message_echoes": echoes}, "smb_message_echoes")


def _statuses(number: str, recipients: list[str], ids: list[str]) -> Payload:
    statuses: list[JsonValue] = [
        {
            "id": provider_id,
            "status": "delivered",
            "timestamp": epoch(None),
            "recipient_id": recipients[place % len(recipients)],
        }
        for place, provider_id in enumerate(ids)
    ]
    return webhook(number, {"statuses": statuses})
