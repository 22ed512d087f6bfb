"""The time from the last of several edits of a contact to its partner, on an idle stack.

It includes the pause that collects several edits, the doorbell and the worker's start, which run
meanwhile, and two calls of Metakocka.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import httpx
import psycopg
from psycopg.rows import TupleRow

from rapport.commands.bench.latency import Latency
from rapport.local.errors import StackError
from rapport.local.stack.logins import LOGINS
from rapport.local.stack.running import Stack
from rapport.local.supabase import keys

ROUNDS = 20
# in each round, without a pause
EDITS = 3
COMPANY = "16"
_CONTACT = """
insert into public.contacts (account_id, name, street, post_number, place, country)
select m.account_id, 'Bench', 'Pot 1', '1000', 'Ljubljana', 'Slovenija'
from auth.users u
join public.account_members m
    on m.user_id = u.id
where u.email = %s
returning account_id, id, (select u.id from auth.users u where u.email = %s)
"""
_CONNECTION = """
insert into public.metakocka_connections (account_id, company_id)
select m.account_id, %s
from auth.users u
join public.account_members m
    on m.user_id = u.id
where u.email = %s
"""
_AT_REST = """
select
    not exists (select from private.metakocka_dirty)
    and not exists (select from private.sync_leases)
"""
_PATIENCE = 60.0

Owner = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class EditFigures:
    """`latency` begins at the answer to the last edit; `pushes` counts the calls that wrote."""

    latency: Latency
    rounds: int
    pushes: int


def measure(stack: Stack) -> EditFigures:
    """Edits a contact as an agent, through PostgREST, and waits until its partner has it."""
    agent = next(login for login in LOGINS if login.role == "agent")
    with psycopg.connect(stack.db_url(), autocommit=True) as owner:
        owner.execute(_CONNECTION, [COMPANY, agent.email])
        row = owner.execute(_CONTACT, [agent.email, agent.email]).fetchone()
        if row is None:
            raise StackError("the stack has no agent to edit a contact")
        _account, contact, user = row
        with (
            _agent(stack, user) as rest,
            httpx.Client(base_url=stack.metakocka_fake_url, trust_env=False) as metakocka,
        ):
            _until(lambda: _name(metakocka) == "Bench")
            before = _pushes(metakocka)
            seconds = [_round(owner, rest, metakocka, contact, number) for number in range(ROUNDS)]
            return EditFigures(Latency.of(seconds), ROUNDS, _pushes(metakocka) - before)


def _agent(stack: Stack, user: UUID) -> httpx.Client:
    token = keys.mint_user_token(stack.signing_key, user_id=user)
    return httpx.Client(
        base_url=f"{stack.url}/rest/v1",
        headers={"apikey": stack.publishable_key, "Authorization": f"Bearer {token}"},
        trust_env=False,
    )


def _round(
    owner: Owner, rest: httpx.Client, metakocka: httpx.Client, contact: UUID, number: int
) -> float:
    _until(lambda: owner.execute(_AT_REST).fetchone() == (True,))
    # at a random phase of every periodic task
    time.sleep(random.random())  # noqa: S311 - nothing secret
    for edit in range(EDITS):
        answer = rest.patch(
            "/contacts_v2",
            params={"id": f"eq.{contact}"},
            json={"name": f"Bench {number} {edit}"},
        )
        if not answer.is_success:
            raise StackError(f"PostgREST answered {answer.status_code}: {answer.text}")
    begun = time.perf_counter()
    _until(lambda: _name(metakocka) == f"Bench {number} {EDITS - 1}")
    return time.perf_counter() - begun


def _name(metakocka: httpx.Client) -> str | None:
    answer = metakocka.get("/_fake/partners", params={"company_id": COMPANY}).json()
    names = [one["customer"] for one in answer["partners"]]
    return next((name for name in names if name.startswith("Bench")), None)


def _pushes(metakocka: httpx.Client) -> int:
    calls: dict[str, int] = metakocka.get("/_fake/calls").json()["calls"]
    return calls.get("update_partner", 0)


def _until(is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > ends_at:
            raise StackError("an edit did not reach Metakocka")
        time.sleep(0.005)
