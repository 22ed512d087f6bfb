"""A business to measure with: an agent, and customers with portal logins."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import TupleRow

from rapport.client.live import LiveClient
from rapport.local.stack.running import Stack
from rapport.local.supabase.keys import ACCESS_TOKEN_LIFETIME, mint_user_token

# half of what a token lives
TOKEN_SECONDS = ACCESS_TOKEN_LIFETIME.total_seconds() / 2

Owner = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class Customer:
    """A customer with an appointment and a login."""

    id: UUID
    user: UUID
    job: UUID


@dataclass(frozen=True)
class Business:
    """An account with one agent."""

    stack: Stack
    account: UUID
    agent: UUID
    # with the times at which they are renewed
    _tokens: dict[UUID, tuple[str, float]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def found(cls, stack: Stack, owner: Owner) -> Business:
        """Creates a business. `owner` is the database owner's connection, in autocommit."""
        business = cls(stack, uuid4(), uuid4())
        owner.execute(
            "insert into public.accounts (id, external_id, name) values (%s, %s, 'Bench')",
            [business.account, f"bench-{business.account}"],
        )
        _add_logins(owner, [business.agent])
        owner.execute(
            "insert into public.account_members (account_id, user_id, role, display_name)"
            " values (%s, %s, 'agent', 'Agent')",
            [business.account, business.agent],
        )
        return business

    def add_customers(self, owner: Owner, count: int) -> list[Customer]:
        """Creates customers without a phone, so that WhatsApp plays no part."""
        added = [Customer(uuid4(), uuid4(), uuid4()) for _ in range(count)]
        _add_logins(owner, [customer.user for customer in added])
        self.act(owner)
        with owner.transaction():
            cursor = owner.cursor()
            cursor.executemany(
                "insert into public.contacts (id, account_id, name, portal_user_id)"
                " values (%s, %s, 'Customer', %s)",
                [(customer.id, self.account, customer.user) for customer in added],
            )
            cursor.executemany(
                "insert into public.jobs (id, account_id, customer_id, service_type, starts_at)"
                " values (%s, %s, %s, 'Cleaning', now())",
                [(customer.job, self.account, customer.id) for customer in added],
            )
        return added

    def add_number(self, owner: Owner) -> str:
        """Registers a WhatsApp number by WhatsApp's id."""
        number = str(self.account.int % 10**15)
        owner.execute(
            "insert into public.whatsapp_channels"
            " (account_id, phone_number_id, display_phone_number, name)"
            " values (%s, %s, '+1 555 0100', 'Bench')",
            [self.account, number],
        )
        return number

    def act(self, connection: Owner) -> None:
        """Makes the connection act as the agent from now on."""
        claims = {"role": "authenticated", "sub": str(self.agent)}
        connection.execute(
            "select set_config('request.jwt.claims', %s, false)", [json.dumps(claims)]
        )

    def token(self, user: UUID) -> str:
        """A signed-in person's access token, which is kept as a page keeps it."""
        token, ends = self._tokens.get(user, ("", 0.0))
        if ends < time.monotonic():
            token = mint_user_token(self.stack.signing_key, user_id=user)
            self._tokens[user] = (token, time.monotonic() + TOKEN_SECONDS)
        return token

    def client(self, user: UUID) -> LiveClient:
        """A signed-in person's live client."""

        async def access_token() -> str:
            return self.token(user)

        return LiveClient(self.stack.url, self.stack.publishable_key, access_token)


def _add_logins(owner: Owner, users: Iterable[UUID]) -> None:
    with owner.transaction():
        owner.cursor().executemany(
            "insert into auth.users (id, email, aud, role)"
            " values (%s, %s, 'authenticated', 'authenticated')",
            [(user, f"{user}@bench.example") for user in users],
        )
