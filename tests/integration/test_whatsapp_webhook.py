"""WhatsApp's webhooks over real HTTP, through the function, the gateway and PostgREST."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row
from tests.integration.described import is_described

from rapport.local.fakes.whatsapp.payloads import Payload, encode, inbound_text
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import WEBHOOK_PATH, Stack
from rapport.whatsapp.webhook import HEADER, sign

EVENTS = Path(__file__).parents[1] / "events"
NUMBER = "106540352242922"

Row = dict[str, object]
Start = Callable[..., Stack]


class Webhook:
    """Meta's side of the webhook, and a look at the rows behind it."""

    def __init__(self, stack: Stack, connection: psycopg.Connection[Row]) -> None:
        self.stack = stack
        self._connection = connection
        self._client = httpx.Client(
            base_url=stack.functions_url,
            trust_env=False,
            timeout=30,
            event_hooks={"response": [is_described]},
        )
        self._log = stack.folder / "logs" / "functions.log"
        self._logged = self._log.stat().st_size

    def close(self) -> None:
        self._client.close()

    def get(self, **query: str) -> httpx.Response:
        return self._client.get(
            WEBHOOK_PATH, params={f"hub.{name}": value for name, value in query.items()}
        )

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        if headers is None:
            headers = {HEADER: sign(body, self.stack.whatsapp_app_secret)}
        return self._client.post(
            WEBHOOK_PATH, content=body, headers={"Content-Type": "application/json", **headers}
        )

    def deliver(self, name: str) -> dict[str, int]:
        """Posts a recorded event, which must be accepted."""
        response = self.post((EVENTS / f"{name}.json").read_bytes())
        assert response.status_code == 200, response.text
        answer: dict[str, int] = response.json()
        return answer

    def rows(self, query: LiteralString) -> list[Row]:
        return self._connection.execute(query).fetchall()

    def messages(self) -> list[Row]:
        return self.rows(
            "select type, message, content, status, sender_id from public.messages"
            " order by sent_at, provider_id"
        )

    def events(self) -> list[Row]:
        return self.rows("select body, rejected from private.webhook_events order by id")

    def log(self) -> str:
        """What the functions have logged since this began."""
        with self._log.open("rb") as log:
            log.seek(self._logged)
            return log.read().decode()

    def reasons(self) -> list[object]:
        """Why items of the webhooks so far were not applied."""
        return [
            row["reason"]
            for row in self.rows(
                "select r.value ->> 'reason' as reason from private.webhook_events e,"
                " jsonb_array_elements(e.rejected) r order by e.id, (r.value ->> 'index')::int"
            )
        ]


@contextmanager
def connected(stack: Stack, database: Database) -> Iterator[Webhook]:
    """The webhook of an account with one WhatsApp number."""
    with psycopg.connect(
        database.url("postgres"), autocommit=True, row_factory=dict_row
    ) as connection:
        connection.execute(
            "with account as (insert into public.accounts (name) values ('Alpine') returning id)"
            " insert into public.whatsapp_channels"
            " (account_id, phone_number_id, display_phone_number, name)"
            " select id, %s, '+1 555 078 3881', 'Front desk' from account",
            [NUMBER],
        )
        webhook = Webhook(stack, connection)
        yield webhook
        webhook.close()


@pytest.fixture
def webhook(start: Start, database: Database) -> Iterator[Webhook]:
    with connected(start("postgrest", "gateway", "functions"), database) as webhook:
        yield webhook


def test_meta_proves_that_the_address_is_ours(webhook: Webhook) -> None:
    token = webhook.stack.whatsapp_verify_token
    proof = webhook.get(mode="subscribe", verify_token=token, challenge="1158201444")
    assert (proof.status_code, proof.text) == (200, "1158201444")
    assert webhook.get(mode="subscribe", verify_token="x", challenge="1").status_code == 403


def test_a_text_becomes_a_contact_a_conversation_and_a_message(webhook: Webhook) -> None:
    answer = webhook.deliver("text")
    assert answer == {"received": 1, "applied": 1, "duplicates": 0, "rejected": 0}
    (message,) = webhook.rows(
        "select m.message, m.sender_type, m.sender_name, c.channel, k.profile_name"
        " from public.messages m"
        " join public.conversations c on c.id = m.conversation_id"
        " join public.contacts k on k.id = m.customer_id"
    )
    assert message == {
        "message": "Dober dan, can you come on Friday? 🧽",
        "sender_type": "client",
        "sender_name": "Ana Horvat",
        "channel": "whatsapp",
        "profile_name": "Ana Horvat",
    }


def test_a_replay_changes_nothing(webhook: Webhook) -> None:
    webhook.deliver("text")
    before = webhook.rows("select * from public.messages")
    assert webhook.deliver("text") == {
        "received": 1,
        "applied": 0,
        "duplicates": 1,
        "rejected": 0,
    }
    assert webhook.rows("select * from public.messages") == before


def test_copies_at_the_same_moment_are_one_message(webhook: Webhook) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(webhook.deliver, ["text"] * 8))
    assert sum(answer["applied"] for answer in answers) == 1
    assert len(webhook.messages()) == 1


def test_a_first_batch_of_many_senders_at_once_is_kept_whole(webhook: Webhook) -> None:
    bodies = [
        encode(
            inbound_text(
                phone_number_id=NUMBER, sender=f"3859100000{n % 5:02}", name=f"P{n}", text=str(n)
            )
        )
        for n in range(20)
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(webhook.post, bodies))
    assert {answer.status_code for answer in answers} == {200}
    assert len(webhook.messages()) == 20
    assert len(webhook.rows("select id from public.conversations")) == 5


def test_bad_items_of_a_batch_are_recorded_and_block_no_other(webhook: Webhook) -> None:
    answer = webhook.deliver("batch")
    assert (answer["received"], answer["rejected"]) == (13, 7)
    assert [row["message"] for row in webhook.messages()] == ["first", "second", "[image]"]
    assert webhook.reasons() == [
        "malformed_message",
        "message_without_sender",
        "malformed_message",
        "malformed_status",
        "malformed_entry",
        "malformed_change",
        "unknown_account",
    ]


def test_a_number_of_nobodys_is_kept_in_the_raw_inbox(webhook: Webhook) -> None:
    answer = webhook.deliver("unknown_phone_number")
    assert (answer["applied"], answer["rejected"]) == (0, 1)
    assert webhook.reasons() == ["unknown_phone_number_id"]
    assert webhook.messages() == []
    (event,) = webhook.events()
    assert event["body"] == (EVENTS / "unknown_phone_number.json").read_text()


# about something else than one message that is shown
OTHERS = (
    "account_",
    "batch",
    "call_",
    "echo_reaction",
    "edit",
    "group_",
    "history",
    "phone_book",
    "preferences_",
    "reaction",
    "revoke",
    "status_",
    "template_status",
    "unknown_phone",
    "value_",
)
EVERY_TYPE = sorted(file.stem for file in EVENTS.glob("*.json") if not file.stem.startswith(OTHERS))
# texts that say more than their words
TEXTS_WITH_MORE = ("text_from_ad", "text_forwarded", "text_in_group")


# of the recorded events: what no log may show
PRIVATE = ("385911234567", "Ana", "Dober dan", "13491208655302741918", "wamid")


def test_every_type_of_message_is_shown_and_none_is_logged(webhook: Webhook) -> None:
    for name in EVERY_TYPE:
        assert webhook.deliver(name)["applied"] == 1, name
    rows = webhook.messages()
    assert len(rows) == len(EVERY_TYPE)
    assert all(row["message"] for row in rows)
    plain = [row for row in rows if row["content"] is None]
    assert {row["type"] for row in plain} == {"text"}
    assert len(plain) == sum(row["type"] == "text" for row in rows) - len(TEXTS_WITH_MORE)
    log = webhook.log()
    assert log.count('"stored"') == len(EVERY_TYPE)
    assert not [word for word in PRIVATE if word in log]


@pytest.mark.parametrize("kind", ["call_", "group_", "history", "phone_book", "preferences_"])
def test_what_is_no_message_is_applied_and_none_is_logged(webhook: Webhook, kind: str) -> None:
    names = sorted(file.stem for file in EVENTS.glob(f"{kind}*.json"))
    for name in names:
        answer = webhook.deliver(name)
        # who asks to join is in the raw event alone
        assert answer["rejected"] == (name == "group_join_request"), name
        assert webhook.deliver(name)["applied"] == 0, name
    assert names
    log = webhook.log()
    assert not [word for word in (*PRIVATE, "38640333444", "Zupan", "Studio") if word in log]


def test_statuses_are_taken_also_before_their_message_is_known(webhook: Webhook) -> None:
    for word in ("read", "sent", "failed", "delivered"):
        assert webhook.deliver(f"status_{word}")["applied"] == 1, word
    assert webhook.deliver("status_read")["duplicates"] == 1


def test_any_signed_json_is_kept_as_it_came(webhook: Webhook) -> None:
    bodies = [
        rb'{"text": "\u0000 \ud83e", "entry": []}',
        '{"entry": [], "text": "č 🧽"}'.encode(),
        b'{"entry": 7}',
        b" [ ] ",
        b"null",
    ]
    assert [webhook.post(body).status_code for body in bodies] == [200] * len(bodies)
    assert [event["body"] for event in webhook.events()] == [body.decode() for body in bodies]


def test_unstorable_characters_do_not_cost_the_message(webhook: Webhook) -> None:
    payload = json.loads((EVENTS / "image.json").read_text())
    value = payload["entry"][0]["changes"][0]["value"]
    value["messages"][0]["image"]["caption"] = "a\0b\ud83e"
    value["contacts"][0]["profile"]["name"] = "Ana\0"
    assert webhook.post(encode(payload)).json()["applied"] == 1
    (message,) = webhook.messages()
    assert message["message"] == "[image] a\ufffdb\ufffd"


def test_what_is_no_webhook_leaves_nothing(webhook: Webhook) -> None:
    malformed = [b"", b"{", b'"\xff"', b"[" * 100_000]
    assert [webhook.post(body).status_code for body in malformed] == [400] * len(malformed)
    assert webhook.post(b" " * (4 * 1024 * 1024 + 1)).status_code == 413
    assert webhook.events() == []


def test_a_forged_webhook_leaves_nothing(webhook: Webhook) -> None:
    forged = [{}, {HEADER: "sha256="}, {HEADER: sign(b"{}", "another-secret")}]
    assert [webhook.post(b"{}", headers).status_code for headers in forged] == [401, 401, 401]
    assert webhook.events() == []
    # a signature that looks like one is counted, for the owners; the others are a passer-by's
    assert webhook.rows("select count from private.refused_signatures") == [{"count": 1}]


def test_a_proxy_of_the_machines_is_not_asked(
    own_start: Start, own_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    stack = own_start("postgrest", "gateway", "functions")
    with connected(stack, own_database) as webhook:
        assert webhook.deliver("text")["applied"] == 1


def test_a_webhook_that_can_not_be_stored_is_for_meta_to_repeat(own_start: Start) -> None:
    stack = own_start("functions")
    body = (EVENTS / "text.json").read_bytes()
    response = httpx.post(
        stack.functions_url + WEBHOOK_PATH,
        content=body,
        headers={HEADER: sign(body, stack.whatsapp_app_secret)},
        trust_env=False,
    )
    assert response.status_code == 503
    assert response.json()["code"] == "queue_unavailable"


def test_a_large_webhook_is_taken(webhook: Webhook) -> None:
    payload: Payload = inbound_text(
        phone_number_id=NUMBER, sender="385911234567", name="Ana", text="x" * 3_900_000
    )
    assert webhook.post(encode(payload)).json()["applied"] == 1
