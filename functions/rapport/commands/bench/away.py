"""How long a client that was away needs to tell its callbacks all that it missed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
from psycopg import sql

from rapport.client.everything import EverythingCallbacks
from rapport.client.rows import Invoice, Job, Message
from rapport.commands.bench.business import Business, Customer, Owner
from rapport.commands.bench.waiting import until
from rapport.local.stack.running import Stack

CHANGES = 10_000
ROUNDS = 3
# each transaction has ten changes: six new messages, three of jobs, one of an invoice
MESSAGES, JOBS = 6, 3
TRANSACTION = MESSAGES + JOBS + 1
# changes of each job and each invoice
TIMES = 10
CHATS = 20


@dataclass(frozen=True)
class AwayFigures:
    """For each round, the seconds from `resume` to the last callback."""

    changes: int
    seconds: tuple[float, ...]


@dataclass
class Missing:
    """Changes that are still to be told: new messages by their text, rows by their last state."""

    messages: set[str] = field(default_factory=set)
    rows: dict[UUID, str] = field(default_factory=dict)
    told_at: float = 0

    @property
    def nothing(self) -> bool:
        return not self.messages and not self.rows

    @property
    def callbacks(self) -> EverythingCallbacks:
        return {
            "on_new_message": self._tell_message,
            "on_job_update": self._tell_row,
            "on_invoice_update": self._tell_row,
        }

    def _tell_message(self, message: Message) -> None:
        self.messages.discard(message.message)
        self.told_at = time.perf_counter()

    def _tell_row(self, row: Job | Invoice, _: Job | Invoice | None) -> None:
        if row.description == self.rows.get(row.id):
            del self.rows[row.id]
        self.told_at = time.perf_counter()


@dataclass(frozen=True)
class AwayRows:
    """What is written to."""

    chats: tuple[UUID, ...]
    jobs: tuple[UUID, ...]
    invoices: tuple[UUID, ...]


def measure(stack: Stack, changes: int = CHANGES, rounds: int = ROUNDS) -> AwayFigures:
    """Repeatedly writes to a customer who is away. `changes` is a multiple of ten."""
    with psycopg.connect(stack.db_url(), autocommit=True) as owner:
        business = Business.found(stack, owner)
        (customer,) = business.add_customers(owner, 1)
        transactions = changes // TRANSACTION
        rows = prepare(owner, business, customer, transactions)
        seconds = asyncio.run(_measure(owner, business, customer, rows, transactions, rounds))
    return AwayFigures(transactions * TRANSACTION, seconds)


async def _measure(
    owner: Owner,
    business: Business,
    customer: Customer,
    rows: AwayRows,
    transactions: int,
    rounds: int,
) -> tuple[float, ...]:
    seconds = []
    missing = Missing()
    async with (
        business.client(customer.user) as live,
        live.everything(customer.id, **missing.callbacks) as portal,
    ):
        for number in range(rounds):
            await until(lambda: portal.is_connected, "The customer's client does not connect.")
            await live.pause()
            await asyncio.to_thread(write, owner, rows, f"{number}", transactions, missing)
            begun = time.perf_counter()
            await live.resume()
            await until(lambda: missing.nothing, "What was missed is not told.")
            seconds.append(missing.told_at - begun)
    return tuple(seconds)


def prepare(owner: Owner, business: Business, customer: Customer, transactions: int) -> AwayRows:
    """Creates the appointments and invoices that change later, and makes further writes faster by
    giving up durability.
    """
    owner.execute("set synchronous_commit = off")
    jobs = owner.execute(
        "insert into public.jobs (account_id, customer_id, service_type, starts_at)"
        " select %s, %s, 'Cleaning', now() from generate_series(1, %s) returning id",
        [business.account, customer.id, max(transactions * JOBS // TIMES, 1)],
    ).fetchall()
    invoices = owner.execute(
        "insert into public.invoices (account_id, customer_id, number, currency, amount_minor)"
        " select %s, %s, 'bench ' || n, 'EUR', 100 from generate_series(1, %s) n returning id",
        [business.account, customer.id, max(transactions // TIMES, 1)],
    ).fetchall()
    owner.execute(
        "update public.invoices set status = 'sent' where customer_id = %s", [customer.id]
    )
    chats = owner.execute(
        "select id from public.conversations where customer_id = %s and booking_id is not null"
        " order by id limit %s",
        [customer.id, CHATS],
    ).fetchall()
    return AwayRows(
        tuple(chat for (chat,) in chats),
        tuple(job for (job,) in jobs),
        tuple(invoice for (invoice,) in invoices),
    )


def write(owner: Owner, rows: AwayRows, name: str, transactions: int, missing: Missing) -> None:
    """Writes what a client will have missed, and notes it."""
    with owner.pipeline():
        for number in range(transactions):
            with owner.transaction():
                for part in range(MESSAGES):
                    text = f"{name}: message {number}.{part}"
                    chat = rows.chats[(number * MESSAGES + part) % len(rows.chats)]
                    owner.execute(
                        "insert into public.messages (conversation_id, message) values (%s, %s)",
                        [chat, text],
                    )
                    missing.messages.add(text)
                for part in range(JOBS):
                    job = rows.jobs[(number * JOBS + part) % len(rows.jobs)]
                    _describe(owner, "jobs", job, f"{name}: {number}", missing)
                invoice = rows.invoices[number % len(rows.invoices)]
                _describe(owner, "invoices", invoice, f"{name}: {number}", missing)


def _describe(owner: Owner, table: str, row: UUID, text: str, missing: Missing) -> None:
    statement = sql.SQL("update public.{} set description = %s where id = %s")
    owner.execute(statement.format(sql.Identifier(table)), [text, row])
    missing.rows[row] = text
