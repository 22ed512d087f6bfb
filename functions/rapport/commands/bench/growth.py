"""Whether a business that grows waits longer: the same questions at several numbers of messages.

A fifth of the messages are as many contacts, and a fourth of those belong to the account that
asks, as its agent and under row level security. Times and pages are the server's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from statistics import median

import psycopg
from psycopg.rows import TupleRow

from rapport.commands.bench.latency import Latency
from rapport.commands.bench.population import Population, account_id, agent_id, populate
from rapport.local.errors import StackError
from rapport.local.stack.postgres import SUPERUSER
from rapport.local.stack.running import Stack

SIZES = (100_000, 1_000_000, 5_000_000)
ACCOUNTS = 1_000
ASKED = 20
# plans and caches exist after these
WARM_UP = 3
# the account that asks is the largest
ACCOUNT = 1
# the population's number of it
PHONE_NUMBER_ID = "100000000001"
TITLES = {
    "ingest": "Taking in a message",
    "inbox": "The inbox's first page",
    "conversation": "A conversation's last messages",
    "search": "A search of contacts",
    "catch-up": "Catch-up after 100 messages",
    "prune": "A look for what is to be deleted",
}

_INBOX = """
select * from public.inbox where account_id = %s order by last_message_at desc, id limit 50
"""
_MESSAGES = """
select * from public.messages
where account_id = %s and conversation_id = %s
order by seq desc limit 50
"""

Connection = psycopg.Connection[TupleRow]
# the role that asks, the statement and its parameters
Question = tuple[str, str, Sequence[object]]


@dataclass(frozen=True)
class Size:
    """What each question took at a number of messages: the server's time, and pages."""

    messages: int
    times: dict[str, Latency]
    pages: dict[str, float]


def measure(stack: Stack, sizes: Sequence[int] = SIZES, accounts: int = ACCOUNTS) -> list[Size]:
    """Fills the stack's database with each size in turn. It deletes the stack's data."""
    return [_measure(stack, messages, accounts) for messages in sizes]


def _measure(stack: Stack, messages: int, accounts: int) -> Size:
    with psycopg.connect(stack.db_url(SUPERUSER), autocommit=True) as superuser:
        _empty(superuser)
        contacts = messages // 5
        populate(superuser, Population(accounts, contacts, contacts // 4, messages))
    times, pages = {}, {}
    with psycopg.connect(stack.db_url(), autocommit=True) as owner:
        for name, ask in _questions(owner).items():
            taken = [_explained(owner, ask()) for _ in range(WARM_UP + ASKED)][WARM_UP:]
            times[name] = Latency.of(seconds for seconds, _ in taken)
            pages[name] = median(touched for _, touched in taken)
    return Size(messages, times, pages)


def _empty(superuser: Connection) -> None:
    with superuser.transaction():
        superuser.execute("set local session_replication_role = replica")
        superuser.execute("truncate public.accounts, auth.users cascade")


def _questions(owner: Connection) -> dict[str, Callable[[], Question]]:
    account = account_id(ACCOUNT)
    names = _column(
        owner,
        # whole names, which few share at any size: of a surname there are more the more contacts
        # there are, and to write twenty times as many rows takes longer
        "select name from public.contacts"
        " where account_id = %s and name is not null order by id limit 100",
        account,
    )
    conversations = _column(
        owner,
        "select conversation_id from public.conversation_activity where account_id = %s"
        " order by conversation_id limit 100",
        account,
    )
    senders = _column(
        owner,
        "select customer_wa_id from public.conversations"
        " where account_id = %s and status = 'open' order by id limit 100",
        account,
    )
    numbers = count()

    def ingest() -> Question:
        number = next(numbers)
        item = _item(number, str(senders[number % len(senders)]))
        body = json.dumps(item)
        return "service_role", "select backend.ingest_whatsapp(%s, %s)", (body, f"[{body}]")

    # a client that was away since now
    with _asking(owner, "authenticated"):
        row = owner.execute("select public.changes_since()").fetchone()
    if row is None:
        raise StackError("The catch-up gave no cursor.")
    cursor = row[0]["cursor"]
    for _ in range(100):
        role, statement, parameters = ingest()
        with _asking(owner, role):
            owner.execute(statement.encode(), parameters)
    return {
        "ingest": ingest,
        "inbox": lambda: (
            "authenticated",
            _INBOX,
            (account,),
        ),
        "conversation": lambda: (
            "authenticated",
            _MESSAGES,
            (account, conversations[next(numbers) % len(conversations)]),
        ),
        "search": lambda: (
            "authenticated",
            "select public.search_contacts(%s, %s)",
            (account, names[next(numbers) % len(names)]),
        ),
        "catch-up": lambda: ("authenticated", "select public.changes_since(%s, 500)", (cursor,)),
        "prune": lambda: ("service_role", "select backend.prune()", ()),
    }


def _item(number: int, sender: str) -> dict[str, object]:
    return {
        "kind": "message",
        "phone_number_id": PHONE_NUMBER_ID,
        "provider_id": f"wamid.growth.{number}",
        "wa_id": sender,
        "user_id": None,
        "profile_name": None,
        "sent_at": datetime.now(UTC).isoformat(),
        "type": "text",
        "text": f"Message {number}",
        "content": None,
        "reply_to": None,
    }


def _column(owner: Connection, query: str, *parameters: object) -> list[object]:
    return [row[0] for row in owner.execute(query.encode(), parameters)]


@contextmanager
def _asking(owner: Connection, role: str) -> Iterator[None]:
    """The connection as the account's agent, or as the functions' role."""
    claims = {"role": role, "sub": str(agent_id(ACCOUNT))}
    owner.execute("select set_config('request.jwt.claims', %s, false)", [json.dumps(claims)])
    owner.execute(f"set role {role}".encode())
    yield
    owner.execute("reset role")


def _explained(owner: Connection, question: Question) -> tuple[float, int]:
    """The seconds and the pages of one run of a statement."""
    role, statement, parameters = question
    with _asking(owner, role):
        row = owner.execute(
            f"explain (analyze, buffers, timing off, format json) {statement}".encode(), parameters
        ).fetchone()
    if row is None:
        raise StackError("The database explained nothing.")
    (answer,) = row[0]
    plan = answer["Plan"]
    milliseconds = answer["Planning Time"] + answer["Execution Time"]
    return milliseconds / 1000, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
