"""From sign-up to one's own conversation, live, and out again: official clients, real servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest
from postgrest.exceptions import APIError
from supabase import AsyncClient, AsyncClientOptions, acreate_client
from tests.world import ALPINE, ALPINE_NUMBER, text_message

from rapport.commands.observer import Observer, TopicRefusedError, insert_of
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack

PASSWORD = "correct horse"
STAFF, CUSTOMER = "andrej@alpine.example", "nejc@home.example"


@asynccontextmanager
async def client_of(stack: Stack) -> AsyncIterator[AsyncClient]:
    """The official client, which does not close its own connections."""
    async with httpx.AsyncClient() as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False)
        client = await acreate_client(stack.url, stack.publishable_key, options)
        try:
            yield client
        finally:
            await client.realtime.close()


async def sign_up(stack: Stack, email: str) -> str:
    """A new login, and its id."""
    async with client_of(stack) as client:
        answer = await client.auth.sign_up({"email": email, "password": PASSWORD})
    assert answer.user
    return answer.user.id


@asynccontextmanager
async def signed_in(stack: Stack, email: str) -> AsyncIterator[Observer]:
    async with client_of(stack) as client:
        await client.auth.sign_in_with_password({"email": email, "password": PASSWORD})
        yield Observer(email, client)


class Business:
    """Alpine with one member, and WhatsApp messages that come in."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def open(self, member: str) -> None:
        self.connection.execute(
            "insert into public.accounts (id, external_id, name) values (%s, 'alpine', 'Alpine')",
            [ALPINE],
        )
        self.connection.execute(
            "insert into public.account_members (account_id, user_id, role, display_name)"
            " values (%s, %s, 'agent', 'Andrej')",
            [ALPINE, member],
        )
        self.connection.execute(
            "insert into public.whatsapp_channels"
            " (account_id, phone_number_id, display_phone_number, name)"
            " values (%s, %s, 'any', 'any')",
            [ALPINE, ALPINE_NUMBER],
        )

    def receive(self, provider_id: str) -> str:
        """Takes in a message and returns its sender's contact."""
        items = json.dumps([text_message(provider_id)])
        with self.connection.transaction():
            self.connection.execute("set local role service_role")
            self.connection.execute("select backend.ingest_whatsapp(%s, %s)", [items, items])
        row = self.connection.execute("select customer_id from public.messages").fetchone()
        assert row
        return str(row[0])


@pytest.fixture
def business(database: Database) -> Iterator[Business]:
    with psycopg.connect(database.url(), autocommit=True) as connection:
        yield Business(connection)


async def messages(person: Observer) -> list[str]:
    return sorted(row["provider_id"] for row in await person.rows("messages"))


async def test_a_new_login_claims_its_conversation_and_leaves_it_again(
    gateway: Stack, business: Business
) -> None:
    business.open(member=await sign_up(gateway, STAFF))
    await sign_up(gateway, CUSTOMER)
    contact = business.receive("wamid.1")

    async with signed_in(gateway, STAFF) as andrej, signed_in(gateway, CUSTOMER) as nejc:
        invitation = await andrej.call("invite_to_portal", contact_id=contact)
        assert await nejc.rows("customers") == []

        claimed = await nejc.call("claim_portal_invitation", token=invitation["token"])

        # the customer reads what is its own
        assert claimed == {"account_id": str(ALPINE), "customer_id": contact}
        assert [row["id"] for row in await nejc.rows("customers")] == [contact]
        [conversation] = await nejc.rows("conversations")
        assert await messages(nejc) == ["wamid.1"]
        assert await nejc.rows("contacts") == []
        # writes it
        edit = nejc.client.table("my_profile").update({"name": "Nejc Novak"}).eq("id", contact)
        profile: Any = (await edit.execute()).data
        assert [(row["name"], row["account_name"]) for row in profile] == [("Nejc Novak", "Alpine")]
        assert [row["name"] for row in await andrej.rows("contacts_v2")] == ["Nejc Novak"]
        # and hears it
        topics = await nejc.call("my_topics", conversation_id=conversation["id"])
        data = [topic for topic in topics if topic["kind"] in ("customer", "conversation")]
        assert len(data) == 2
        for topic in data:
            await nejc.follow_topic(topic["topic"])
        await nejc.follow_table("messages")
        business.receive("wamid.2")
        await nejc.wait_for(insert_of("wamid.2", "broadcast"))
        await nejc.wait_for(insert_of("wamid.2", "postgres_changes"))

        await andrej.call("unlink_portal_login", contact_id=contact)

        account = await andrej.topic("account")
        await andrej.follow_topic(account)
        await andrej.follow_table("messages")
        heard = len(nejc.heard)
        business.receive("wamid.3")
        await andrej.wait_for(insert_of("wamid.3", "broadcast"))
        await andrej.wait_for(insert_of("wamid.3", "postgres_changes"))
        # an answer to something else comes after every effect that the message would have had
        with pytest.raises(TopicRefusedError):
            await nejc.follow_topic(account)
        async with signed_in(gateway, CUSTOMER) as again:
            for topic in topics:
                with pytest.raises(TopicRefusedError):
                    await again.follow_topic(topic["topic"])
        assert [event for event in nejc.heard[heard:] if event.table == "messages"] == []
        assert await messages(andrej) == ["wamid.1", "wamid.2", "wamid.3"]
        assert await messages(nejc) == []
        assert await nejc.rows("customers") == []
        with pytest.raises(APIError) as refused:
            await nejc.call("claim_portal_invitation", token=invitation["token"])
        assert refused.value.code == "PT404"


async def test_a_customer_without_a_password_claims_by_a_magic_link(
    gateway: Stack, business: Business
) -> None:
    business.open(member=await sign_up(gateway, STAFF))
    contact = business.receive("wamid.1")
    async with signed_in(gateway, STAFF) as andrej:
        invitation = await andrej.call("invite_to_portal", contact_id=contact)
    portal = f"http://localhost:5173/portal?invitation={invitation['token']}"

    async with client_of(gateway) as client, httpx.AsyncClient() as browser:
        await client.auth.sign_in_with_otp(
            {"email": CUSTOMER, "options": {"email_redirect_to": portal}}
        )
        inbox = await browser.get(f"{gateway.inbox_url}/messages", params={"to": CUSTOMER})
        followed = await browser.get(inbox.json()["messages"][0]["link"])
        page = httpx.URL(followed.headers["location"])
        await client.auth.exchange_code_for_session({"auth_code": page.params["code"]})
        nejc = Observer(CUSTOMER, client)

        claimed = await nejc.call("claim_portal_invitation", token=page.params["invitation"])

        assert claimed == {"account_id": str(ALPINE), "customer_id": contact}
        assert await messages(nejc) == ["wamid.1"]


async def test_refusals_have_their_status_over_http(
    gateway: Stack, business: Business, sign_in: Callable[[str], httpx.Client]
) -> None:
    business.open(member=await sign_up(gateway, STAFF))
    await sign_up(gateway, CUSTOMER)
    contact = business.receive("wamid.1")
    staff, customer = sign_in(STAFF), sign_in(CUSTOMER)

    def answer(client: httpx.Client, function: str, **arguments: str) -> httpx.Response:
        return client.post(f"/rest/v1/rpc/{function}", json=arguments)

    def invite() -> str:
        made = answer(staff, "invite_to_portal", contact_id=contact, valid_for="1 hour")
        assert made.status_code == 200, made.text
        return str(made.json()["token"])

    def claim(token: str) -> int:
        return answer(customer, "claim_portal_invitation", token=token).status_code

    token = invite()
    business.connection.execute(
        "update public.portal_invitations set created_at = now() - interval '2 hours',"
        " expires_at = now() - interval '1 hour'"
    )
    assert claim(token) == 410
    assert claim("unknown") == 404
    assert answer(customer, "invite_to_portal", contact_id=contact).status_code == 404
    too_long = answer(staff, "invite_to_portal", contact_id=contact, valid_for="1 year")
    assert too_long.status_code == 422
    assert claim(invite()) == 200
    assert answer(staff, "invite_to_portal", contact_id=contact).status_code == 409
    mine = "/rest/v1/my_profile?name=not.is.null"
    unnamed = customer.patch(mine, json={"account_name": "Mine"})
    assert (unnamed.status_code, unnamed.json()["details"]) == (422, "field: account_name")
    missed = customer.patch(f"/rest/v1/my_profile?id=eq.{ALPINE}", json={"name": "x"})
    assert missed.status_code == 404
    assert answer(staff, "unlink_portal_login", contact_id=contact).status_code == 204


@pytest.fixture
def sign_in(gateway: Stack) -> Iterator[Callable[[str], httpx.Client]]:
    """Signs in with a password; a bare client, which shows what HTTP says."""
    clients: list[httpx.Client] = []

    def sign_in(email: str) -> httpx.Client:
        client = httpx.Client(base_url=gateway.url, headers={"apikey": gateway.publishable_key})
        clients.append(client)
        session = client.post(
            "/auth/v1/token?grant_type=password", json={"email": email, "password": PASSWORD}
        )
        client.headers["authorization"] = f"Bearer {session.json()['access_token']}"
        return client

    yield sign_in
    for client in clients:
        client.close()
