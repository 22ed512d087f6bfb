"""WhatsApp both ways through a whole stack: what arrives is seen, and the answer goes back."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx
import psycopg
import pytest
from tests.integration.described import is_described
from tests.stacks import Start
from tests.world import ALPINE_NUMBER, World, seed_uuid

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.supabase import keys
from rapport.local.supabase.prepare import set_doorbell

T = TypeVar("T")

CILKA = "38640111222"
PATIENCE = 30  # seconds; on a machine that is busy with something else


def until(look: Callable[[], T | None]) -> T:
    """The first thing that is found."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


class Desk:
    """An agent, the phone of a customer, and the rows as they stand."""

    def __init__(self, stack: Stack, world: World) -> None:
        self.stack = stack
        token = keys.mint_user_token(stack.signing_key, user_id=seed_uuid("andrej"))
        self._rest = httpx.Client(
            base_url=f"{stack.url}/rest/v1",
            headers={"apikey": stack.publishable_key, "Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=30,
        )
        self._phone = httpx.Client(
            base_url=f"{stack.whatsapp_url}/_fake", trust_env=False, timeout=30
        )
        self._api = httpx.Client(
            base_url=f"{stack.functions_url}/api",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=30,
            event_hooks={"response": [is_described]},
        )
        self.world = world

    def close(self) -> None:
        for client in (self._rest, self._phone, self._api):
            client.close()

    def api(self, method: str, path: str, body: object = None) -> httpx.Response:
        """The agent's request to an endpoint of ours."""
        return self._api.request(method, path, json=body)

    def tell(self, what: str, order: dict[str, Any]) -> None:
        """Tells the stand-in what the customer or WhatsApp does."""
        self._phone.post(f"/{what}", json=order).raise_for_status()

    def customer_writes(self, text: str) -> None:
        self.tell(
            "inbound",
            {"phone_number_id": ALPINE_NUMBER, "from": CILKA, "name": "Cilka", "text": text},
        )

    @property
    def conversation(self) -> str:
        return str(self.world.value("select id from public.conversations"))

    def rpc(self, function: str, **arguments: Any) -> Any:
        """The agent's call of a function."""
        answer = self._rest.post(f"/rpc/{function}", json=arguments)
        answer.raise_for_status()
        return answer.json()

    def write(self, way: str, **fields: Any) -> str:
        """A message by the one way or the other; returns its id."""
        if way == "row":
            return self.answer(None, **fields)
        body = {"conversation_id": self.conversation} | fields
        answer = self.api("POST", "/operator/messages", body)
        answer.raise_for_status()
        message_id: str = answer.json()["id"]
        return message_id

    def answer(self, text: str | None, **fields: Any) -> str:
        """Inserts a message through PostgREST, as a dashboard does; returns its id."""
        answer = self._rest.post(
            "/messages",
            json={"conversation_id": self.conversation, "message": text} | fields,
            headers={"Prefer": "return=representation"},
        )
        answer.raise_for_status()
        message_id: str = answer.json()[0]["id"]
        return message_id

    def insert(self, table: str, **columns: Any) -> list[dict[str, Any]]:
        """The agent's new row."""
        answer = self._rest.post(
            f"/{table}", json=columns, headers={"Prefer": "return=representation"}
        )
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()
        return rows

    def change(self, table: str, row: str, **columns: Any) -> None:
        """The agent changes a row."""
        self._rest.patch(f"/{table}?id=eq.{row}", json=columns).raise_for_status()

    def messages(self) -> list[dict[str, Any]]:
        """What the customer's phone shows of ours."""
        messages: list[dict[str, Any]] = self._phone.get("/messages").json()["messages"]
        return messages

    def shown(self) -> list[str]:
        return [message["text_shown"] for message in self.messages()]

    def has_status(self, message_id: str, *statuses: str) -> str | None:
        status: str = self.world.value(
            "select status from public.messages where id = %s", [message_id]
        )
        return status if status in statuses else None


@pytest.fixture
def database(world_database: Database) -> Database:
    """What the stack runs on."""
    return world_database


@pytest.fixture
def desk(start: Start, database: Database) -> Iterator[Desk]:
    stack = start("postgrest", "gateway", "functions", "fakes", "net", "moto")
    set_doorbell(stack)
    with psycopg.connect(database.url(), autocommit=True) as owner:
        desk = Desk(stack, World(database, owner))
        yield desk
        desk.close()


def test_row_written_through_postgrest_reaches_the_phone_and_is_read(desk: Desk) -> None:
    desk.customer_writes("Is Tuesday free?")

    message = desk.answer("Tuesday at ten.")

    # by the doorbell: the schedule would come after a minute
    assert until(lambda: desk.has_status(message, "read")) == "read"
    assert desk.shown() == ["Tuesday at ten."]


def test_answers_go_in_the_order_in_which_they_were_written(desk: Desk) -> None:
    desk.customer_writes("Is Tuesday free?")

    messages = [desk.answer(f"line {n}") for n in range(5)]

    for message in messages:
        until(lambda message=message: desk.has_status(message, "sent", "delivered", "read"))
    assert desk.shown() == [f"line {n}" for n in range(5)]


def test_what_is_due_soon_wakes_the_worker_that_sends_it(desk: Desk) -> None:
    """By the doorbell, as an answer: a message for later, and a reminder of an appointment."""
    desk.customer_writes("Is Tuesday free?")
    soon = datetime.now(UTC) + timedelta(seconds=2)
    later = {"conversation_id": desk.conversation, "message": "Yes.", "send_at": soon.isoformat()}
    desk.insert("scheduled_messages", **later)
    until(lambda: desk.shown() or None)

    # somebody who has never written: the reminder opens the conversation
    [nina] = desk.insert("contacts_v2", name="Nina", phone="+38640999000")
    start = datetime.now(UTC) + timedelta(days=1)
    job = {"customer_id": nina["id"], "service_type": "Cleaning", "starts_at": start.isoformat()}
    [appointment] = desk.insert("jobs", **job)
    owner = desk.world.owner
    owner.execute("update public.jobs set created_at = now() - interval '1 day'")
    owner.execute(
        """
        insert into public.reminder_rules (
            account_id, name, kind, minutes, template, whatsapp_channel_id, active_since
        )
        select
            w.account_id, 'hour before', 'before_appointment', 60,
            '{"name": "hello_world", "language": "en_US"}', w.id, now() - interval '1 day'
        from public.whatsapp_channels w
        where w.phone_number_id = %s
        """,
        [ALPINE_NUMBER],
    )
    desk.change("jobs", appointment["id"], starts_at=(start - timedelta(hours=23.5)).isoformat())
    [reminder] = until(lambda: desk.messages()[1:] or None)
    assert (reminder["to"], reminder["type"]) == ("38640999000", "template")
    assert desk.shown()[0] == "Yes."


def test_answer_that_was_lost_is_settled_by_its_status_and_not_sent_again(desk: Desk) -> None:
    """Failure case 20: WhatsApp took it, and nobody heard."""
    desk.customer_writes("Is Tuesday free?")
    desk.tell(
        "behaviour",
        {
            "faults": [{"on": "messages", "times": 1, "after_accepting": True, "drop": True}],
            "webhooks": {"mode": "hold"},
        },
    )
    message = desk.answer("Tuesday at ten.")
    until(lambda: desk.has_status(message, "unknown"))

    desk.tell("behaviour", {})
    desk.tell("release", {})

    until(lambda: desk.has_status(message, "read"))
    assert desk.shown() == ["Tuesday at ten."]


def test_answers_are_shown_once_whatever_happens_to_calls_and_webhooks(desk: Desk) -> None:
    desk.customer_writes("Is Tuesday free?")
    desk.tell(
        "behaviour",
        {
            "faults": [
                {"on": "messages", "times": 1, "code": 131000, "status": 500},
                {"on": "messages", "times": 1, "after_accepting": True, "drop": True},
                {"on": "messages", "times": 1, "code": 130429, "status": 429, "retry_after": 1},
            ],
            "webhooks": {"mode": "post", "copies": 3, "reverse": True},
        },
    )

    messages = [desk.answer(f"line {n}") for n in range(4)]

    for message in messages:
        until(lambda message=message: desk.has_status(message, "read"))
    assert sorted(desk.shown()) == [f"line {n}" for n in range(4)]


def test_file_that_a_customer_sends_is_kept_and_given_to_the_agent(desk: Desk) -> None:
    picture = b"GIF89a" + bytes(range(256)) * 40
    desk.tell(
        "inbound",
        {
            "phone_number_id": ALPINE_NUMBER,
            "from": CILKA,
            "image": {"data": base64.b64encode(picture).decode(), "mime_type": "image/gif"},
        },
    )
    message = desk.world.value("select id from public.messages")

    def given() -> dict[str, Any] | None:
        answer = desk.api("GET", f"/messages/{message}/media")
        found: dict[str, Any] = answer.json()
        return found if answer.status_code == 200 else None

    link = until(given)["url"]

    assert httpx.get(link, trust_env=False).content == picture


@pytest.mark.parametrize("way", ["row", "endpoint"])
def test_template_is_filled_by_name_and_read_on_the_phone(desk: Desk, way: str) -> None:
    desk.customer_writes("When do I come?")
    # as sync_templates reads it from the stand-in
    desk.world.owner.execute(
        "update public.whatsapp_channels set waba_id = '9' where phone_number_id = %s",
        [ALPINE_NUMBER],
    )
    desk.world.owner.execute(
        "insert into public.whatsapp_templates"
        " (account_id, waba_id, name, language, category, status, components, variables)"
        " select account_id, '9', 'appointment_reminder', 'en', 'UTILITY', 'APPROVED',"
        """ '[{"type": "BODY", "text": "Hello {{1}}, we see you on {{2}}."}]',"""
        """ '{"header": [], "body": ["body.1", "body.2"], "buttons": []}'"""
        " from public.whatsapp_channels where waba_id = '9'"
    )
    content = {
        "name": "appointment_reminder",
        "language": "en",
        "variables": {"body.1": "Cilka", "body.2": "Friday"},
    }
    message = desk.write(way, type="template", content=content)

    until(lambda: desk.has_status(message, "read"))
    assert desk.shown() == ["Hello Cilka, we see you on Friday."]
    assert desk.shown() == [
        desk.world.value("select message from public.messages where id = %s", [message])
    ]


@pytest.mark.parametrize("way", ["row", "endpoint"])
def test_file_that_an_agent_sends_reaches_the_phone(desk: Desk, way: str) -> None:
    desk.customer_writes("What does the hall look like?")
    picture = b"GIF89a" + bytes(100)
    announced = desk.api(
        "POST",
        "/media",
        {
            "conversation_id": desk.conversation,
            "type": "image",
            "mime_type": "image/png",
            "size": len(picture),
            "file_name": "hall.png",
        },
    ).json()
    put = httpx.put(
        announced["url"], content=picture, headers=announced["headers"], trust_env=False
    )
    assert put.status_code == 200

    content = {"upload_id": announced["uploadId"], "caption": "So"}
    message = desk.write(way, type="image", content=content)

    until(lambda: desk.has_status(message, "read"))
    [shown] = desk.messages()
    assert (shown["type"], shown["image"]["caption"]) == ("image", "So")


def test_an_answer_in_a_group_goes_to_the_group(desk: Desk) -> None:
    in_group = {"phone_number_id": ALPINE_NUMBER, "from": CILKA, "group_id": "HBgLMTY1MDM4"}
    desk.tell("inbound", in_group | {"group_change": {"event": "create", "name": "Floors"}})
    desk.tell("inbound", in_group | {"name": "Cilka", "text": "Is Tuesday free?"})

    message = desk.answer("Tuesday at ten.")

    assert until(lambda: desk.has_status(message, "read")) == "read"
    assert [(one["to"], one["text_shown"]) for one in desk.messages()] == [
        ("HBgLMTY1MDM4", "Tuesday at ten.")
    ]
    assert desk.world.rows("select group_name, customer_id from public.conversations") == [
        {"group_name": "Floors", "customer_id": None}
    ]


def test_somebody_who_calls_may_be_answered_in_words(desk: Desk) -> None:
    caller = {"phone_number_id": ALPINE_NUMBER, "from": CILKA, "name": "Cilka"}
    desk.tell("inbound", caller | {"call": {"call_id": "wacid.1"}})
    desk.tell("inbound", caller | {"call": {"call_id": "wacid.1", "event": "terminate"}})

    message = desk.answer("We call you back at ten.")

    assert until(lambda: desk.has_status(message, "read")) == "read"
    assert desk.world.value("select message from public.messages order by seq limit 1") == (
        "[missed call]"
    )


def test_an_agent_without_a_page_is_told_on_the_phone_once_for_a_burst(desk: Desk) -> None:
    stack = desk.stack

    def browser(what: str, order: dict[str, Any] | None = None) -> Any:
        url = f"{stack.push_url}/_fake/{what}"
        method = "GET" if order is None else "POST"
        return httpx.request(method, url, json=order, trust_env=False).raise_for_status().json()

    # its first run tells browsers the key
    woken = {"Authorization": f"Bearer {stack.wake_secret}"}
    httpx.post(
        stack.wake_url, json={"worker": "send_notifications"}, headers=woken, trust_env=False
    )
    key = until(lambda: desk.rpc("push_key"))
    device = browser("devices", {"public_key": key})
    desk.rpc("save_push_subscription", endpoint=device["endpoint"], **device["keys"])

    desk.customer_writes("Is Tuesday free?")
    desk.customer_writes("Or Wednesday?")

    # by the doorbell: the schedule would come after a minute
    [told] = until(lambda: browser("received")["received"] or None)
    assert told["shown"] == {
        "title": "cilka",
        "body": "New messages: 2. Or Wednesday?",
        "kind": "message",
        "id": desk.conversation,
    }
    # the browser ends its subscription, and the next push learns of it
    browser("forget", {"endpoint": device["endpoint"]})
    desk.customer_writes("Hello?")
    devices = "select from public.push_subscriptions"
    until(lambda: not desk.world.rows(devices) or None)
    assert len(browser("received")["received"]) == 1
