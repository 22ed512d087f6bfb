"""The speed of `backend.ingest_whatsapp`, beside an empty RPC and the usual way over PostgREST.

The empty RPC gets the same request and does nothing. The difference between the two is the cost of
ingest itself, its commit included.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from urllib.parse import urlencode

import psycopg
from pydantic import JsonValue

from rapport.commands.bench.business import Business
from rapport.commands.bench.load import ConflictError, Exchange, HttpLoad, LoadRequest
from rapport.local.errors import StackError
from rapport.local.stack.running import Stack

SENDERS = 200
ROUNDS = 5
SECONDS = 2.0

# for a temporary stack only: the baseline writes tables that service_role may not write
PREPARATION = """
create table public.raw_events (
    id bigint generated always as identity primary key,
    body text not null,
    applied boolean not null default false
);
create function backend.nothing(body text, items jsonb)
    returns jsonb language sql set search_path = '' as $$ select '{}'::jsonb $$;
grant execute on function backend.nothing(text, jsonb) to service_role;
grant usage on schema public to service_role;
grant select, insert, update on all tables in schema public to service_role;
-- which the domains of messages ask
grant execute on function private.refuse_value(text, text, text) to service_role;
notify pgrst, 'reload schema';
"""


@dataclass(frozen=True)
class Rates:
    """Messages per second in one round, for each way."""

    empty_rpc: float
    ingest: float
    select_insert_update: float


@dataclass(frozen=True)
class IngestFigures:
    """All rounds with one number of connections."""

    connections: int
    rounds: tuple[Rates, ...]

    @property
    def per_second(self) -> Rates:
        """The median rates."""
        return Rates(
            median(rates.empty_rpc for rates in self.rounds),
            median(rates.ingest for rates in self.rounds),
            median(rates.select_insert_update for rates in self.rounds),
        )


def measure(
    stack: Stack, connections: Sequence[int], rounds: int = ROUNDS, seconds: float = SECONDS
) -> list[IngestFigures]:
    """Measures on a temporary stack, with each of these numbers of connections."""
    with psycopg.connect(stack.db_url(), autocommit=True) as connection:
        connection.execute(PREPARATION)
        ways = _Ways(Business.found(stack, connection).add_number(connection))
        # every sender is known before the measurement begins
        everybody = json.dumps([ways.item(number, number) for number in range(SENDERS)])
        connection.execute("select backend.ingest_whatsapp(%s, %s)", [everybody, everybody])
    return [_measure(stack, ways, number, rounds, seconds) for number in connections]


def _measure(
    stack: Stack, ways: _Ways, connections: int, rounds: int, seconds: float
) -> IngestFigures:
    backend = _load(stack, connections, {"Content-Profile": "backend"})
    public = _load(stack, connections, {"Prefer": "return=representation"})
    _wait_for_reload(backend, ways)
    measured = [
        Rates(
            backend.rate(ways.empty_rpc, seconds),
            backend.rate(ways.ingest, seconds),
            public.rate(ways.select_insert_update, seconds),
        )
        for _ in range(rounds)
    ]
    return IngestFigures(connections, tuple(measured))


def _load(stack: Stack, connections: int, headers: Mapping[str, str]) -> HttpLoad:
    return HttpLoad(
        stack.host,
        stack.postgrest_port,
        {
            # past the gateway, PostgREST knows tokens alone
            "Authorization": f"Bearer {stack.service_role_key}",
            "Content-Type": "application/json",
            **headers,
        },
        connections,
    )


def _wait_for_reload(backend: HttpLoad, ways: _Ways) -> None:
    """Waits until PostgREST knows the new function."""
    for _ in range(100):
        try:
            backend.rate(ways.empty_rpc, 0.05)
        except StackError:
            continue
        return
    raise StackError("PostgREST does not know the empty RPC.")


@dataclass(frozen=True)
class _Ways:
    """The ways to take in a message of a number."""

    phone_number_id: str

    def item(self, number: int, sender: int) -> dict[str, JsonValue]:
        return {
            "kind": "message",
            "phone_number_id": self.phone_number_id,
            "provider_id": f"wamid.bench.{number}",
            "wa_id": str(38_650_000_000 + sender),
            "user_id": None,
            "profile_name": f"Sender {sender}",
            "sent_at": datetime.now(UTC).isoformat(),
            "type": "text",
            "text": f"Message {number}",
            "content": None,
            "reply_to": None,
        }

    def empty_rpc(self, exchange: Exchange, number: int) -> None:
        exchange(self._call("nothing", number))

    def ingest(self, exchange: Exchange, number: int) -> None:
        answer = json.loads(exchange(self._call("ingest_whatsapp", number)))
        if answer["applied"] != 1:
            raise StackError(f"Ingest answered {answer}.")

    def select_insert_update(self, exchange: Exchange, number: int) -> None:
        """The usual way of webhook handlers: for the same rows, one statement after the other."""
        item = self.item(number, random.randrange(SENDERS))  # noqa: S311 - whose turn it is
        event = _only(exchange(_post("/raw_events", {"body": json.dumps(item)})))
        channel = _only(
            exchange(_get("/whatsapp_channels", phone_number_id=item["phone_number_id"]))
        )
        account = channel["account_id"]
        identity = _only(
            exchange(
                _get(
                    "/contact_identities", account_id=account, kind="phone", match_key=item["wa_id"]
                )
            )
        )
        contact = _only(exchange(_get("/contacts", id=identity["contact_id"])))
        if contact["profile_name"] != item["profile_name"]:
            raise StackError("The baseline's senders do not change their names.")
        conversation = _only(
            exchange(_get("/conversations", customer_id=contact["id"], status="open"))
        )
        known = _get(
            "/messages", whatsapp_channel_id=channel["id"], provider_id=str(item["provider_id"])
        )
        if json.loads(exchange(known)) != []:
            raise StackError("The baseline sent a message twice.")
        message: dict[str, JsonValue] = {
            "account_id": account,
            "conversation_id": conversation["id"],
            "customer_id": contact["id"],
            "sender_type": "client",
            "sender_id": item["wa_id"],
            "sender_name": item["profile_name"],
            "message": item["text"],
            "whatsapp_channel_id": channel["id"],
            "provider_id": item["provider_id"],
            "status": "delivered",
            "sent_at": item["sent_at"],
        }
        _append(exchange, message)
        exchange(_patch("/raw_events", {"applied": True}, id=event["id"]))

    def _call(self, function: str, number: int) -> LoadRequest:
        item = self.item(number, random.randrange(SENDERS))  # noqa: S311 - whose turn it is
        return _post(f"/rpc/{function}", {"body": json.dumps(item), "items": [item]})


def _append(exchange: Exchange, message: dict[str, JsonValue]) -> None:
    """Numbers the message one above the last; repeats if another writer took that number."""
    thread = {"conversation_id": message["conversation_id"]}
    for _ in range(200):
        activity = _only(exchange(_get("/conversation_activity", **thread)))
        last_seq = int(activity["last_seq"]) + 1
        try:
            exchange(_post("/messages", message | {"seq": last_seq}))
        except ConflictError:
            continue
        latest = {
            "last_seq": last_seq,
            "last_message_at": message["sent_at"],
            "last_inbound_at": message["sent_at"],
        }
        exchange(_patch("/conversation_activity", latest, **thread))
        return
    raise StackError("The baseline never found a free number.")


def _post(path: str, row: Mapping[str, JsonValue]) -> LoadRequest:
    return LoadRequest("POST", path, json.dumps(row).encode())


def _get(path: str, **equal: JsonValue) -> LoadRequest:
    return LoadRequest("GET", f"{path}?{_filter(equal)}")


def _patch(path: str, row: Mapping[str, JsonValue], **equal: JsonValue) -> LoadRequest:
    return LoadRequest("PATCH", f"{path}?{_filter(equal)}", json.dumps(row).encode())


def _filter(equal: Mapping[str, JsonValue]) -> str:
    return urlencode({name: f"eq.{value}" for name, value in equal.items()})


def _only(answer: bytes) -> dict[str, str]:
    rows: list[dict[str, str]] = json.loads(answer)
    if len(rows) != 1:
        raise StackError(f"The baseline found {len(rows)} rows where one was expected.")
    return rows[0]
