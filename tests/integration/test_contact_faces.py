"""A contact's faces through PostgREST and Realtime, with the official clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from postgrest import SyncPostgrestClient
from tests.integration.realtime_clients import (
    ALICE,
    BOB,
    SECONDS,
    listen,
    official_client,
    write,
)

from rapport.client.events import Event
from rapport.client.face_feed import FaceFeed
from rapport.client.faces import LiveChatContact, contact_live_chat
from rapport.local.fakes.whatsapp.payloads import encode, inbound_text
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import WEBHOOK_PATH, Stack
from rapport.local.supabase.keys import mint_user_token
from rapport.whatsapp.webhook import HEADER, sign

NUMBER = "106540352242922"
ALPINE, BAY = UUID(int=0xA1), UUID(int=0xB1)
VERA = UUID(int=0xE)
FACES = ("contacts_v2", "contacts_live_chat")
both_faces = pytest.mark.parametrize("face", FACES)


@dataclass(frozen=True)
class Business:
    """A stack with two accounts: alice is agent of Alpine, vera a viewer, bob agent of Bay."""

    stack: Stack
    database: Database

    def http(self, user: UUID) -> httpx.Client:
        token = mint_user_token(self.stack.signing_key, user_id=user)
        headers = {"apikey": self.stack.publishable_key, "authorization": f"Bearer {token}"}
        return httpx.Client(base_url=f"{self.stack.url}/rest/v1", headers=headers, timeout=30)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        user: UUID = ALICE,
        returning: str = "representation",
    ) -> httpx.Response:
        with self.http(user) as client:
            return client.request(
                method, path, json=body, headers={"prefer": f"return={returning}"}
            )

    def make(self, **fields: object) -> dict[str, Any]:
        response = self.ask("POST", "/contacts_v2", fields)
        assert response.status_code == 201, response.text
        made: dict[str, Any] = response.json()[0]
        return made

    def whatsapp(self, sender: str, text: str) -> None:
        """A message comes, signed as Meta signs it."""
        body = encode(inbound_text(phone_number_id=NUMBER, sender=sender, name="Nika", text=text))
        response = httpx.post(
            self.stack.functions_url + WEBHOOK_PATH,
            content=body,
            headers={
                "content-type": "application/json",
                HEADER: sign(body, self.stack.whatsapp_app_secret),
            },
            timeout=30,
        )
        assert response.status_code == 200, response.text


@pytest.fixture
def business(start: Callable[..., Stack], database: Database) -> Business:
    with write(database) as owner:
        people = [(ALICE, ALPINE, "agent"), (VERA, ALPINE, "viewer"), (BOB, BAY, "agent")]
        cursor = owner.cursor()
        cursor.executemany(
            "insert into auth.users (id, email, aud, role)"
            " values (%s, %s, 'authenticated', 'authenticated')",
            [(user, f"{user.int:x}@rapport.example") for user, _, _ in people],
        )
        cursor.executemany(
            "insert into public.accounts (id, name) values (%s, %s)",
            [(ALPINE, "Alpine"), (BAY, "Bay")],
        )
        cursor.executemany(
            "insert into public.account_members (user_id, account_id, role, display_name)"
            " values (%s, %s, %s, 'somebody')",
            people,
        )
        cursor.execute(
            "insert into public.whatsapp_channels"
            " (account_id, phone_number_id, display_phone_number, name)"
            " values (%s, %s, '+1 555 078 3881', 'Front desk')",
            [ALPINE, NUMBER],
        )
    return Business(start("postgrest", "gateway", "functions"), database)


def test_official_client_writes_one_face_and_reads_the_other(business: Business) -> None:
    with business.http(ALICE) as http:
        client = SyncPostgrestClient(str(http.base_url), http_client=http)
        _write_one_face_and_read_the_other(client)


def _write_one_face_and_read_the_other(client: SyncPostgrestClient) -> None:
    [made] = (
        client.table("contacts_live_chat")
        .insert({"name": "Nika", "phone": "+38631222333", "conversation_status": "Pending"})
        .execute()
        .data
    )
    [page] = (
        client.table("contacts_v2").select("*").eq("conversation_status", "pending").execute().data
    )
    assert (page["id"], page["name"]) == (made["id"], "Nika")

    client.table("contacts_v2").update({"conversation_status": "closed"}).eq(
        "id", made["id"]
    ).execute()
    [chat] = client.table("contacts_live_chat").select("*").eq("id", made["id"]).execute().data
    assert chat["conversation_status"] == "Closed"

    saved = client.rpc(
        "upsert_contact",
        {
            "account_id": str(ALPINE),
            "contact": {"phone": "+38631222333", "tags": ["vip"]},
            "face": "live_chat",
        },
    ).execute()
    assert saved.data == chat | {
        "tags": ["vip"],
        "version": chat["version"] + 1,
        "updated_at": saved.data["updated_at"],
    }


@both_faces
def test_answers_of_writes(business: Business, face: str) -> None:
    made = business.ask("POST", f"/{face}", {"name": "Nika"})
    assert made.status_code == 201
    [row] = made.json()
    assert business.ask("POST", f"/{face}", {"name": "Oto"}, returning="minimal").status_code == 201
    one = f"/{face}?id=eq.{row['id']}"

    quiet = business.ask("PATCH", one, {"name": "Nika K."}, returning="minimal")
    assert (quiet.status_code, quiet.content) == (204, b"")
    told = business.ask("PATCH", one, {"email": "n@kos.si"})
    assert told.status_code == 200
    assert [(r["name"], r["email"]) for r in told.json()] == [("Nika K.", "n@kos.si")]

    # a version that has passed
    stale = business.ask("PATCH", one, {"name": "x", "version": row["version"]})
    assert (stale.status_code, stale.json()["details"]) == (409, "field: version")

    gone = business.ask("DELETE", one)
    assert gone.status_code == 200
    assert [r["id"] for r in gone.json()] == [row["id"]]
    assert business.ask("GET", one).json() == []


@both_faces
@pytest.mark.parametrize("returning", ["minimal", "representation"])
def test_write_that_hits_nothing_is_404_whatever_is_asked_back(
    business: Business, face: str, returning: str
) -> None:
    made = business.make(name="Nika")
    quiet = business.ask("DELETE", f"/{face}?id=eq.{made['id']}", user=BOB, returning=returning)
    for method, contact, user, body in (
        ("PATCH", uuid4(), ALICE, {"name": "x"}),
        ("DELETE", uuid4(), ALICE, None),
        # another account's
        ("PATCH", made["id"], BOB, {"name": "x"}),
        ("DELETE", made["id"], BOB, None),
    ):
        answer = business.ask(
            method, f"/{face}?id=eq.{contact}", body, user=user, returning=returning
        )
        assert answer.status_code == 404, answer.text
        assert answer.json() == quiet.json()
        assert answer.json()["code"] == "PT404"
        assert answer.json()["message"].startswith("No contact was changed")
    assert business.ask("GET", f"/{face}?id=eq.{made['id']}").json()[0]["name"] == "Nika"


@both_faces
def test_refusals_have_a_status_and_name_the_field(business: Business, face: str) -> None:
    made = business.make(name="Nika", phone="+38631222333")
    one = f"/{face}?id=eq.{made['id']}"

    def refused(method: str, path: str, body: object, user: UUID = ALICE) -> tuple[int, str]:
        answer = business.ask(method, path, body, user=user)
        return answer.status_code, answer.json()["details"]

    assert refused("PATCH", one, {"name": "x"}, VERA) == (403, "field: account_id")
    assert refused("POST", f"/{face}", {"account_id": str(BAY)}) == (403, "field: account_id")
    assert refused("PATCH", one, {"conversation_status": "OPEN"}) == (
        422,
        "field: conversation_status",
    )
    assert refused("PATCH", one, {"created_at": "2020-01-01"}) == (422, "field: created_at")
    assert refused("PATCH", one, {"phone": "040"}) == (422, "field: phone")
    assert refused("POST", f"/{face}", {"phone": "+38631222333"}) == (
        409,
        f"field: phone; contact: {made['id']}",
    )


@both_faces
def test_many_contacts_are_written_at_once_or_not_at_all(business: Business, face: str) -> None:
    rows = [{"name": f"Guest {n}", "phone": f"+3863100{n:04}"} for n in range(50)]
    made = business.ask("POST", f"/{face}", rows)
    assert made.status_code == 201
    assert [row["name"] for row in made.json()] == [row["name"] for row in rows]

    changed = business.ask("PATCH", f"/{face}?name=like.Guest*", {"tags": ["guest"]})
    assert changed.status_code == 200
    assert len(changed.json()) == 50
    assert {tuple(row["tags"]) for row in changed.json()} == {("guest",)}

    # the last one is wrong
    refused = business.ask(
        "POST", f"/{face}", [{"name": "First", "phone": "+38640000001"}, {"name": "", "phone": "x"}]
    )
    assert (refused.status_code, refused.json()["details"]) == (422, "field: phone")
    assert business.ask("GET", f"/{face}?name=eq.First").json() == []


async def test_adapter_yields_the_live_chats_rows(business: Business) -> None:
    """From what is heard on the account's topic alone, each as it happens."""
    feed: FaceFeed[LiveChatContact] = FaceFeed(contact_live_chat)
    with business.http(ALICE) as http:
        topics = http.post("/rpc/my_topics", json={}).json()
    [topic] = [row["topic"] for row in topics if row["kind"] == "account"]

    async def view() -> list[LiveChatContact]:
        rows = await asyncio.to_thread(business.ask, "GET", "/contacts_live_chat")
        return [LiveChatContact.model_validate(row) for row in rows.json()]

    async with official_client(business.stack, ALICE) as client:
        ear = await listen(client, topic, event="*", private=True)
        await ear.state()

        async def agrees() -> LiveChatContact:
            """Hears until the feed shows what the view does, and returns the one contact."""
            wanted = await view()
            async with asyncio.timeout(SECONDS):
                while list(feed.rows.values()) != wanted:
                    feed.apply(Event.model_validate((await ear.broadcast())["payload"]))
            return wanted[0]

        await asyncio.to_thread(business.whatsapp, "38631222333", "Is Tuesday free?")
        came = await agrees()
        assert (came.name, came.wa_id, came.conversation_status) == ("Nika", "38631222333", "Open")
        assert came.last_inbound_at is not None

        one = f"/contacts_v2?id=eq.{came.id}"
        await asyncio.to_thread(
            business.ask, "PATCH", one, {"name": "Nika Kos", "conversation_status": "closed"}
        )
        written = await agrees()
        assert (written.name, written.conversation_status) == ("Nika Kos", "Closed")

        await asyncio.to_thread(business.whatsapp, "38631222333", "Hello?")
        again = await agrees()
        assert again.conversation_status == "Open"
        assert again.conversation_id != came.conversation_id

        await asyncio.to_thread(business.ask, "DELETE", one)
        async with asyncio.timeout(SECONDS):
            while feed.rows:
                feed.apply(Event.model_validate((await ear.broadcast())["payload"]))
        assert await view() == []
