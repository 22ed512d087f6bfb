"""How fast `backend.ingest_whatsapp` is, beside an empty RPC and the usual way over PostgREST."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from urllib.parse import quote

import psycopg
from pydantic import JsonValue

from rapport.local.bench.load import Exchange, Load, Request
from rapport.local.demo import ALPINE_NUMBER
from rapport.local.errors import StackError
from rapport.local.stack import Stack

SENDERS = 200
ROUNDS = 5
SECONDS = 2.0

# On a stack that is thrown away: the baseline writes tables, which service_role may not.
PREPARATION = """
create function backend.nothing() returns void language sql set search_path = '' as '';
grant execute on function backend.nothing() to service_role;
grant usage on schema public to service_role;
grant select, insert, update on all tables in schema public to service_role;
notify pgrst, 'reload schema';
"""


@dataclass(frozen=True)
class Rates:
    """Messages per second of one round, by way of taking them in."""

    empty_rpc: float
    ingest: float
    select_insert_update: float


@dataclass(frozen=True)
class IngestFigures:
    """The rounds of one run."""

    rounds: tuple[Rates, ...]

    @property
    def of_empty_rpc(self) -> float:
        """The rate of ingest as a part of the empty RPC's; the median of the rounds."""
        return median(rates.ingest / rates.empty_rpc for rates in self.rounds)

    @property
    def times_baseline(self) -> float:
        """How many times faster than the usual way; the median of the rounds."""
        return median(rates.ingest / rates.select_insert_update for rates in self.rounds)

    @property
    def per_second(self) -> Rates:
        """The median rates."""
        return Rates(
            median(rates.empty_rpc for rates in self.rounds),
            median(rates.ingest for rates in self.rounds),
            median(rates.select_insert_update for rates in self.rounds),
        )


def measure(stack: Stack) -> IngestFigures:
    """Measures on a stack that is thrown away afterwards.

    Raises StackError where Postgres would not keep what it has acknowledged.
    """
    with psycopg.connect(stack.db_url(), autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit"):
            row = connection.execute(f"show {setting}".encode()).fetchone()
            if row != ("on",):
                raise StackError(f"{setting} is not on: the figures would mean nothing.")
        connection.execute(PREPARATION)
        # every sender is known before the clock runs
        everybody = json.dumps([_item(number, number) for number in range(SENDERS)])
        connection.execute("select backend.ingest_whatsapp(%s, %s)", [everybody, everybody])
    backend = _load(stack, {"Content-Profile": "backend"})
    public = _load(stack, {"Prefer": "return=representation"})
    _wait_for_reload(backend)
    rounds = [
        Rates(
            backend.rate(_empty_rpc, SECONDS),
            backend.rate(_ingest, SECONDS),
            public.rate(_select_insert_update, SECONDS),
        )
        for _ in range(ROUNDS)
    ]
    return IngestFigures(tuple(rounds))


def _load(stack: Stack, headers: Mapping[str, str]) -> Load:
    return Load(
        stack.host,
        stack.postgrest_port,
        {
            "Authorization": f"Bearer {stack.service_role_key}",
            "Content-Type": "application/json",
            **headers,
        },
    )


def _wait_for_reload(backend: Load) -> None:
    """PostgREST learns of a new function a moment after it is made."""
    for _ in range(100):
        try:
            backend.rate(_empty_rpc, 0.05)
        except StackError:
            continue
        return
    raise StackError("PostgREST does not know the empty RPC.")


def _empty_rpc(exchange: Exchange, _number: int) -> None:
    exchange(Request("POST", "/rpc/nothing", b"{}"))


def _item(number: int, sender: int) -> dict[str, JsonValue]:
    return {
        "kind": "message",
        "phone_number_id": ALPINE_NUMBER,
        "provider_id": f"wamid.bench.{number}",
        "wa_id": _number_of(sender),
        "user_id": None,
        "profile_name": f"Sender {sender}",
        "sent_at": datetime.now(UTC).isoformat(),
        "type": "text",
        "text": f"Message {number}",
        "content": None,
        "reply_to": None,
    }


def _number_of(sender: int) -> str:
    return str(38_650_000_000 + sender)


def _ingest(exchange: Exchange, number: int) -> None:
    item = _item(number, random.randrange(SENDERS))  # noqa: S311 - whose turn it is
    arguments: dict[str, JsonValue] = {"body": json.dumps(item), "items": [item]}
    answer = json.loads(
        exchange(Request("POST", "/rpc/ingest_whatsapp", json.dumps(arguments).encode()))
    )
    if answer["applied"] != 1:
        raise StackError(f"Ingest answered {answer}.")


def _select_insert_update(exchange: Exchange, number: int) -> None:
    """What webhook handlers commonly do, one row after the other."""
    item = _item(number, random.randrange(SENDERS))  # noqa: S311 - whose turn it is
    channel = _only(
        exchange(_get(f"/whatsapp_channels?phone_number_id=eq.{item['phone_number_id']}"))
    )
    phone = quote(f"+{item['wa_id']}")
    contact = _only(
        exchange(_get(f"/contacts?account_id=eq.{channel['account_id']}&phone=eq.{phone}"))
    )
    conversation = _only(
        exchange(_get(f"/conversations?customer_id=eq.{contact['id']}&status=neq.closed"))
    )
    known = exchange(
        _get(
            f"/messages?whatsapp_channel_id=eq.{channel['id']}&provider_id=eq.{item['provider_id']}"
        )
    )
    if json.loads(known) != []:
        raise StackError("The baseline sent a message twice.")
    message = {
        "account_id": channel["account_id"],
        "conversation_id": conversation["id"],
        "customer_id": contact["id"],
        "seq": number,
        "sender_type": "client",
        "sender_id": item["wa_id"],
        "sender_name": item["profile_name"],
        "message": item["text"],
        "whatsapp_channel_id": channel["id"],
        "provider_id": item["provider_id"],
        "status": "delivered",
        "sent_at": item["sent_at"],
    }
    exchange(Request("POST", "/messages", json.dumps(message).encode()))
    latest = {"last_message_at": item["sent_at"], "last_inbound_at": item["sent_at"]}
    exchange(
        Request("PATCH", f"/conversations?id=eq.{conversation['id']}", json.dumps(latest).encode())
    )


def _get(path: str) -> Request:
    return Request("GET", path)


def _only(answer: bytes) -> dict[str, str]:
    rows: list[dict[str, str]] = json.loads(answer)
    if len(rows) != 1:
        raise StackError(f"The baseline found {len(rows)} rows where one was expected.")
    return rows[0]
