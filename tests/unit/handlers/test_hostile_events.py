"""Each function on hostile events and hostile answers: its log has ids, and no word of anybody."""

from __future__ import annotations

import base64
import importlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from rapport.log import Crash
from rapport.push.vapid import new_private_key
from rapport.whatsapp.backlog import pack
from rapport.whatsapp.webhook import sign

EVENTS = Path(__file__).parents[2] / "events"
HANDLERS = (
    "daily",
    "deliver_outbound",
    "drain_webhooks",
    "fetch_media",
    "media_api",
    "messages_api",
    "metakocka_api",
    "metakocka_sync",
    "send_later",
    "send_notifications",
    "sweep_health",
    "sync_templates",
    "wake",
    "whatsapp_webhook",
)

PHONE = "385911234567"
TOKEN = "EAAGm0PX4ZCpsBA"
WORDS = f"Ana Horvat (+{PHONE}) with {TOKEN} at Slovenska 1"
NUMBER = "106540352242922"
IDS = {
    name: str(uuid4())
    for name in ("message_id", "conversation_id", "account_id", "push_id", "subject_id", "media_id")
}
SECRETS = {
    "SUPABASE_SECRET_KEY": "sb_secret_HostileEvents_1",
    "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_HostileEvents",
    "WHATSAPP_APP_SECRET": "app-secret-of-hostile-events",
    "WHATSAPP_VERIFY_TOKEN": "verify-token-of-hostile-events",
    "WHATSAPP_TOKEN": TOKEN,
    "METAKOCKA_SECRET_KEY": "erp-key-of-hostile-events",
    "WAKE_SECRET": "wake-secret-of-hostile-events-0123456789",
    "AWS_SECRET_ACCESS_KEY": "aws-secret-of-hostile-events",
}
USER_TOKEN = "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"
# what must be in no line
FORBIDDEN = ("Horvat", "Slovenska", PHONE, "Dober dan", USER_TOKEN, *SECRETS.values())

# what a database of hostile rows hands out
JOBS: dict[str, Any] = {
    "claim_outbound": {
        "claimed": [
            {
                **{name: IDS[name] for name in ("message_id", "account_id", "conversation_id")},
                "phone_number_id": NUMBER,
                "wa_id": PHONE,
                "user_id": None,
                "type": "text",
                "text": WORDS,
                "content": None,
                "reply_to": None,
                "reaction_to": None,
            }
        ],
        "next_at": None,
    },
    "begin_send": True,
    "claim_media": [
        {
            **{name: IDS[name] for name in ("message_id", "account_id", "conversation_id")},
            "media_id": IDS["media_id"],
            "phone_number_id": NUMBER,
            "provider_id": "77",
            "mime_type": WORDS,
            "sha256": None,
            "object_key": f"{IDS['account_id']}/x",
        }
    ],
    "claim_pushes": {
        "claimed": [
            {
                **{name: IDS[name] for name in ("push_id", "account_id", "subject_id")},
                "endpoint": f"http://127.0.0.1:9/{PHONE}",
                "p256dh": base64.urlsafe_b64encode(bytes(65)).decode(),
                "auth": base64.urlsafe_b64encode(bytes(16)).decode(),
                "kind": "message",
                "title": WORDS,
                "body": WORDS,
            }
        ],
        "next_at": None,
    },
    "template_owners": [{"waba_id": "61", "phone_number_ids": [NUMBER]}],
    "metakocka_connections_due": [{"account_id": IDS["account_id"], "reasons": ["contacts"]}],
    "set_push_key": None,
    "resolve_conversation": IDS["conversation_id"],
    "files_to_delete": [f"{IDS['account_id']}/{PHONE}"],
}
# once each; what is claimed is claimed
EMPTY = {
    "claim_outbound": {"claimed": [], "next_at": None},
    "claim_media": [],
    "claim_pushes": {"claimed": [], "next_at": None},
    "files_to_delete": [],
    "metakocka_connections_due": [],
}
# of our functions, of Postgres, of the gateway; and an answer of another shape
REFUSALS: tuple[tuple[int, dict[str, Any]], ...] = (
    (400, {"code": "PT422", "message": WORDS, "details": WORDS, "hint": WORDS}),
    (400, {"code": "22P02", "message": WORDS, "details": WORDS}),
    (409, {"code": "23505", "message": WORDS, "details": WORDS}),
    (401, {"message": WORDS}),
    (200, {"words": WORDS, "error": {"code": 100, "message": WORDS}}),
)


class World(ThreadingHTTPServer):
    """Everything that functions call: it refuses in a person's words, one way after the other."""

    hands_out = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self._given: set[str] = set()
        self._refusals = itertools.cycle(REFUSALS)
        self._lock = threading.Lock()

    def answer(self, path: str) -> tuple[int, Any]:
        call = path.rpartition("/rpc/")[2]
        with self._lock:
            if not (self.hands_out and call in JOBS):
                return next(self._refusals)
            if call in EMPTY and call in self._given:
                return 200, EMPTY[call]
            self._given.add(call)
        return 200, JOBS[call]


class _Answers(BaseHTTPRequestHandler):
    # by HTTP/1.0: no connection of a function's stays open
    server: World

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        status, told = self.server.answer(self.path.partition("?")[0])
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - the library's words

    def log_message(self, *_: Any) -> None:
        """Into no test's output."""


@dataclass(frozen=True)
class Context:
    aws_request_id: str = "run-1"
    ends_at: float = field(default_factory=lambda: time.monotonic() + 60)

    def get_remaining_time_in_millis(self) -> int:
        return int((self.ends_at - time.monotonic()) * 1000)


@pytest.fixture(scope="module")
def module_patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def world(module_patch: pytest.MonkeyPatch) -> Iterator[World]:
    """Where the functions of this module find everything."""
    world = World()
    thread = threading.Thread(target=world.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{world.server_port}"
    values = SECRETS | {
        "SUPABASE_URL": url,
        "WHATSAPP_GRAPH_URL": url,
        "METAKOCKA_URL": url,
        "METAKOCKA_COMPANIES": "any",
        "VAPID_PRIVATE_KEY": new_private_key(),
        "VAPID_CONTACT": "mailto:somebody@rapport.example",
        "PUSH_ALLOWS_LOOPBACK": "true",
        "MEDIA_BUCKET": "bucket",
        "WEBHOOK_QUEUE_URL": f"{url}/queue",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_ENDPOINT_URL": url,
        "AWS_ENDPOINT_URL_S3": url,
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in values.items():
        module_patch.setenv(name, value)
    _forget()
    yield world
    # what the functions keep would lead tests of other modules here
    _forget()
    world.shutdown()
    thread.join()
    world.server_close()


def _forget() -> None:
    for name in (*HANDLERS, "metakocka"):
        module = importlib.import_module(f"rapport.handlers.{name}")
        for kept in vars(module).values():
            if hasattr(kept, "cache_clear"):
                kept.cache_clear()
            elif hasattr(kept, "_settings"):
                kept._settings = None


def request(method: str, path: str, body: object = None, **headers: str) -> dict[str, object]:
    route, _, query = path.partition("?")
    text = body if isinstance(body, str) else json.dumps(body)
    parts = route.split("/")
    is_one = len(parts) > 4 and parts[2] in ("conversations", "messages")
    key = "/".join("{id}" if is_one and place == 3 else part for place, part in enumerate(parts))
    return {
        "routeKey": f"{method} {key}",
        "headers": {"authorization": f"Bearer {USER_TOKEN}"} | headers,
        "queryStringParameters": dict(one.split("=", 1) for one in query.split("&") if one),
        "pathParameters": {"id": parts[3]} if is_one else {},
        "requestContext": {"requestId": "request-1", "http": {"method": method}},
        "isBase64Encoded": False,
        "body": text,
    }


def webhooks() -> Iterator[str]:
    """Webhooks that say a person's words where numbers, times and names of fields are."""
    whole = (EVENTS / "text.json").read_text()
    yield whole.replace('"messages"', json.dumps(WORDS))
    yield whole.replace('"text"', json.dumps(WORDS))
    yield whole.replace('"timestamp": "1795168801"', f'"timestamp": {json.dumps(WORDS)}')
    yield json.dumps({"entry": [{"id": WORDS, "changes": [{"field": WORDS, "value": WORDS}]}]})
    yield json.dumps({"entry": WORDS})
    yield json.dumps(WORDS)


def events(handler: str) -> Iterator[dict[str, Any]]:
    conversation, message = IDS["conversation_id"], IDS["message_id"]
    base = "/api/integrations/metakocka/contacts"
    match handler:
        case "whatsapp_webhook":
            recorded = (file.read_text() for file in sorted(EVENTS.glob("*.json")))
            for body in (*recorded, *webhooks()):
                signature = sign(body.encode(), SECRETS["WHATSAPP_APP_SECRET"])
                yield request(
                    "POST", "/api/webhooks/whatsapp", body, **{"x-hub-signature-256": signature}
                )
            yield request("POST", "/api/webhooks/whatsapp", WORDS)
            yield request("GET", f"/api/webhooks/whatsapp?hub.verify_token={TOKEN}")
        case "drain_webhooks":
            yield {
                "Records": [
                    {
                        "messageId": f"message-{place}",
                        "receiptHandle": "r",
                        "body": body,
                        "attributes": {
                            "ApproximateReceiveCount": "1",
                            "SentTimestamp": "1764500000000",
                        },
                        "messageAttributes": {},
                    }
                    for place, body in enumerate([*map(pack, webhooks()), WORDS])
                ]
            }
        case "messages_api":
            new = {"conversationId": conversation, "message": WORDS, "clientRef": WORDS}
            yield request("POST", "/api/messages", new)
            yield request("POST", "/api/messages", WORDS)
            yield request("GET", f"/api/messages?conversationId={WORDS}")
            for path in ("read", "typing"):
                yield request("POST", f"/api/conversations/{conversation}/{path}", {})
            yield request("POST", f"/api/messages/{message}/resend", {})
            yield request("POST", f"/api/messages/{PHONE}/drop", {})
        case "media_api":
            announced = {"conversationId": conversation, "type": "image", "mimeType": WORDS}
            yield request("POST", "/api/media", {**announced, "size": 1, "fileName": WORDS})
            yield request("GET", f"/api/messages/{message}/media")
        case "metakocka_api":
            one = {"accountId": IDS["account_id"], "contactId": IDS["message_id"]}
            yield request("POST", f"{base}/sync-to-metakocka", one)
            yield request("POST", f"{base}/sync-from-metakocka", {"metakockaId": WORDS})
            yield request("GET", f"{base}/mappings?contactId={PHONE}")
        case "wake":
            yield request("POST", "/internal/wake", {"worker": WORDS})
            right = f"Bearer {SECRETS['WAKE_SECRET']}"
            yield request("POST", "/internal/wake", {"worker": WORDS}, authorization=right)
        case _:
            yield {"worker": handler, "said": WORDS}


def test_no_line_has_a_persons_words_and_each_has_its_ids(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    for world.hands_out in (False, True):
        for name in HANDLERS:
            function = importlib.import_module(f"rapport.handlers.{name}").handler
            # what they hand out is not for webhooks
            for event in () if world.hands_out and name == "whatsapp_webhook" else events(name):
                with suppress(Crash):
                    function(event, Context())

    told = capfd.readouterr()
    assert told.err == ""
    for words in FORBIDDEN:
        assert words not in told.out, words
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert len(lines) > len(HANDLERS)
    for line in lines:
        assert line["correlation_id"], line
    by_id = {
        name: {line["correlation_id"] for line in lines if line.get(name) == IDS[name]}
        for name in IDS
    }
    # of a request, what its address and its body name
    assert "request-1" in by_id["conversation_id"] & by_id["message_id"] & by_id["account_id"]
    # of a job, in the run that worked on it
    for one, found in (
        ("message_id", ("conversation_id", "account_id")),
        ("push_id", ("subject_id", "account_id")),
    ):
        of_one = [line for line in lines if line["correlation_id"] == IDS[one]]
        assert of_one, one
        for line in of_one:
            assert {name: line.get(name) for name in found} == {n: IDS[n] for n in found}, line
            assert "run-1" in line["attempt"]
