"""The Graph API's stand-in: as its clients, its customers and the function behind it see it."""

from __future__ import annotations

import io
import json
import queue
import secrets
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from pydantic import HttpUrl, SecretStr
from tests.stacks import served

from rapport.errors import WhatsAppRefused, WhatsAppUnavailable
from rapport.local.fakes.whatsapp import media
from rapport.local.fakes.whatsapp.app import application
from rapport.local.fakes.whatsapp.errors import GraphError
from rapport.local.fakes.whatsapp.state import Bucket, State
from rapport.local.stack.running import Stack
from rapport.settings import GraphSettings
from rapport.whatsapp import webhook as signature
from rapport.whatsapp.graph import GraphClient, GraphMedia, Refused
from rapport.whatsapp.items import items_of

NUMBER = "1003427786179738"
ANA = "385911234567"
TINA = "SI.13491208655302741918"
TOKEN = "a token"
APP_SECRET = "an app secret"
PATIENCE_S = 15.0
TEXT = {"messaging_product": "whatsapp", "to": ANA, "type": "text", "text": {"body": "hello"}}


@dataclass
class Function:
    """What Meta posts to: hears webhooks, and refuses as many as it is told to."""

    refusals: int = 0
    port: int = 0
    heard: queue.SimpleQueue[dict[str, Any]] = field(default_factory=queue.SimpleQueue)

    def statuses(self, count: int) -> list[dict[str, Any]]:
        return [self.next()["statuses"][0] for _ in range(count)]

    def next(self) -> dict[str, Any]:
        """The value of the next webhook."""
        webhook = self.heard.get(timeout=PATIENCE_S)
        value: dict[str, Any] = webhook["entry"][0]["changes"][0]["value"]
        return value


@dataclass(frozen=True)
class Fake:
    url: str
    client: httpx.Client

    def order(self, what: str, **fields: object) -> httpx.Response:
        return self.client.post(f"{self.url}/_fake/{what}", json=fields)

    def behave(self, **fields: object) -> None:
        assert self.order("behaviour", **fields).status_code == httpx.codes.OK

    def send(self, body: object = TEXT, **options: Any) -> httpx.Response:
        return self.graph("POST", f"{NUMBER}/messages", json=body, **options)

    def graph(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.client.request(
            method,
            f"{self.url}/v26.0/{path}",
            headers={"authorization": f"Bearer {TOKEN}"},
            **options,
        )

    def shown(self, **filters: str) -> list[dict[str, Any]]:
        """What customers' phones show."""
        answer = self.client.get(f"{self.url}/_fake/messages", params=filters)
        messages: list[dict[str, Any]] = answer.json()["messages"]
        return messages


@pytest.fixture
def function() -> Iterator[Function]:
    function = Function()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if not signature.is_signed(body, self.headers[signature.HEADER], APP_SECRET):
                self.send_response(401)
            elif function.refusals:
                function.refusals -= 1
                self.send_response(503)
            else:
                function.heard.put(json.loads(body))
                self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    function.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield function
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fake(function: Function) -> Iterator[Fake]:
    app = application(f"http://127.0.0.1:{function.port}/", APP_SECRET, TOKEN)
    with served(app) as url, httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        yield Fake(url, client)


def refused(answer: httpx.Response) -> tuple[int, int]:
    """The HTTP status and the code of an error, whose shape is checked on the way."""
    error = answer.json()["error"]
    assert error["type"] == "OAuthException"
    assert error["message"].startswith(f"(#{error['code']}) ")
    assert error["error_data"]["messaging_product"] == "whatsapp"
    assert error["error_data"]["details"]
    assert error["fbtrace_id"]
    return answer.status_code, error["code"]


def test_both_halves_of_a_chat_are_kept(fake: Fake) -> None:
    customer = {"phone_number_id": NUMBER, "from": ANA}
    fake.order("inbound", **customer, text="hello", provider_id="wamid.1")
    fake.order("inbound", **customer, image={"caption": "the sofa"}, reply_to="wamid.1")
    fake.order("inbound", **customer, button_reply={"id": "1", "title": "Yes"})
    fake.order("inbound", **customer, echo=True, text="from the shop's own phone")
    fake.order("inbound", **customer, edit={"message_id": "wamid.1", "text": "hello!"})
    fake.order("inbound", **customer, number_change={"new_wa_id": "385997654321"})
    fake.order("inbound", **(customer | {"from": "38599111222"}), text="another's")
    fake.send({**TEXT, "to": ANA})

    kept = fake.client.get(f"{fake.url}/_fake/messages", params={"to": ANA}).json()
    assert [
        (one["from"], one["type"], one["text_shown"], one["reply_to"], one["echo"])
        for one in kept["written"]
    ] == [
        (ANA, "text", "hello", None, False),
        (ANA, "image", "the sofa", "wamid.1", False),
        (ANA, "interactive", "Yes", None, False),
        (ANA, "text", "from the shop's own phone", None, True),
        (ANA, "edit", "", None, False),
    ]
    assert kept["written"][0]["id"] == "wamid.1"
    assert len(kept["messages"]) == 1
    fake.order("reset")
    assert fake.client.get(f"{fake.url}/_fake/messages").json()["written"] == []


def test_its_webhooks_are_taken_as_metas(stack: Stack) -> None:
    def order(what: str, **fields: object) -> httpx.Response:
        return httpx.post(f"{stack.whatsapp_url}/_fake/{what}", json=fields, trust_env=False)

    customer = {"phone_number_id": "106540352242922", "from": ANA}
    text = order("inbound", **customer, name="Ana", text="hello 🧽")
    assert text.json()["status"] == 200
    assert json.loads(text.json()["answer"])["received"] == 1
    (change,) = text.json()["webhook"]["entry"][0]["changes"]
    (message,) = change["value"]["messages"]
    assert (message["from"], message["text"]["body"]) == (ANA, "hello 🧽")

    moved = order("inbound", **customer, number_change={"new_wa_id": "385997654321"})
    assert moved.json()["status"] == 200
    assert json.loads(moved.json()["answer"])["received"] == 1
    (change,) = moved.json()["webhook"]["entry"][0]["changes"]
    assert change["value"]["messages"][0]["system"]["wa_id"] == "385997654321"

    failure = order(
        "status",
        phone_number_id="106540352242922",
        recipient=ANA,
        provider_id=message["id"],
        status="failed",
        error={"code": 131026, "title": "Message undeliverable"},
    )
    assert failure.json()["status"] == 200
    (change,) = failure.json()["webhook"]["entry"][0]["changes"]
    assert change["value"]["statuses"][0]["errors"][0]["code"] == 131026

    nonsense = order("inbound", **{"from": "Ana"})
    assert nonsense.status_code == 422
    assert {fault["loc"][0] for fault in nonsense.json()} == {"from", "phone_number_id"}
    two = order("inbound", **customer, text="hello", location={"latitude": 46, "longitude": 14})
    assert two.status_code == 422
    assert [(fault["loc"], fault["msg"]) for fault in two.json()] == [
        (["location"], "text and location are given: give one of them")
    ]
    number = customer["phone_number_id"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"phone_number_id": number, "text": "hello"}, "from"),
        (customer, "text"),
        ({**customer, "group_change": {"event": "create"}}, "group_id"),
        ({**customer, "txt": "hello"}, "txt"),
    ]
    for given, name in wrong:
        refused = order("inbound", **given)
        assert refused.status_code == 422, given
        assert refused.json()[0]["loc"][0] == name, refused.text

    # the token that functions are given opens the API
    sent = httpx.post(
        f"{stack.graph_url}/{NUMBER}/messages",
        headers={"authorization": f"Bearer {stack.whatsapp_token}"},
        json=TEXT,
        trust_env=False,
    )
    assert sent.status_code == httpx.codes.OK


# Sending


def test_a_message_is_accepted_and_its_statuses_come_in_order(
    fake: Fake, function: Function
) -> None:
    answer = fake.send(TEXT | {"to": "+385 91 123 4567", "biz_opaque_callback_data": "ours"})

    assert answer.status_code == httpx.codes.OK
    body = answer.json()
    assert body["messaging_product"] == "whatsapp"
    assert body["contacts"] == [{"input": "+385 91 123 4567", "wa_id": ANA}]
    (message,) = body["messages"]
    assert message["id"].startswith("wamid.")
    statuses = function.statuses(3)
    assert [one["status"] for one in statuses] == ["sent", "delivered", "read"]
    assert {one["id"] for one in statuses} == {message["id"]}
    assert {one["recipient_id"] for one in statuses} == {ANA}
    assert {one["biz_opaque_callback_data"] for one in statuses} == {"ours"}
    (shown,) = fake.shown()
    assert (shown["id"], shown["to"], shown["text"]) == (message["id"], ANA, {"body": "hello"})
    assert shown["statuses"] == ["sent", "delivered", "read"]
    assert fake.shown(to="385910000000") == []


@pytest.mark.parametrize(
    ("type_", "content"),
    [
        ("image", {"link": "https://example.com/a.jpg", "caption": "a stain"}),
        ("video", {"link": "https://example.com/a.mp4"}),
        ("audio", {"link": "https://example.com/a.ogg"}),
        ("document", {"link": "https://example.com/a.pdf", "filename": "offer.pdf"}),
        ("sticker", {"link": "https://example.com/a.webp"}),
        ("location", {"latitude": 46.05, "longitude": 14.5, "name": "Ljubljana"}),
        ("contacts", [{"name": {"formatted_name": "Marko"}, "phones": [{"phone": "+386"}]}]),
        (
            "interactive",
            {"type": "button", "body": {"text": "When?"}, "action": {"buttons": []}},
        ),
        ("reaction", {"message_id": "wamid.1", "emoji": "👍"}),
        ("template", {"name": "hello_world", "language": {"code": "en_US"}}),
    ],
)
def test_every_type_is_shown_as_it_was_sent(fake: Fake, type_: str, content: object) -> None:
    message = {"messaging_product": "whatsapp", "to": ANA, "type": type_, type_: content}

    assert fake.send(message).status_code == httpx.codes.OK
    (shown,) = fake.shown()
    assert (shown["type"], shown[type_]) == (type_, content)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("nonsense", 100),
        (TEXT | {"messaging_product": "telegram"}, 131009),
        ({"messaging_product": "whatsapp", "type": "text", "text": {"body": "x"}}, 131008),
        (TEXT | {"to": "Ana"}, 131009),
        (TEXT | {"text": {}}, 131008),
        (TEXT | {"text": {"body": "x" * 4097}}, 131009),
        (TEXT | {"type": "image"}, 131008),
        (TEXT | {"type": "image", "image": {"id": "1", "link": "https://x.example/"}}, 131009),
        (TEXT | {"type": "image", "image": {"id": "404"}}, 131009),
        (TEXT | {"type": "poll", "poll": {}}, 131051),
        (TEXT | {"biz_opaque_callback_data": "x" * 513}, 131009),
    ],
)
def test_what_is_wrong_is_refused_and_reaches_nobody(fake: Fake, body: object, code: int) -> None:
    assert refused(fake.send(body)) == (400, code)
    assert fake.shown() == []


def test_who_brings_no_token_is_refused(fake: Fake) -> None:
    for headers in ({}, {"authorization": "Bearer another"}, {"authorization": f"Basic {TOKEN}"}):
        answer = fake.client.post(f"{fake.url}/v26.0/{NUMBER}/messages", headers=headers, json=TEXT)
        assert refused(answer) == (401, 190)
    assert fake.shown() == []


def test_a_path_without_a_version_is_unknown(fake: Fake) -> None:
    bearer = {"authorization": f"Bearer {TOKEN}"}
    answer = fake.client.post(f"{fake.url}/latest/{NUMBER}/messages", headers=bearer, json=TEXT)
    assert refused(answer) == (400, 2500)


def test_who_has_no_number_is_reached_by_user_id(fake: Fake, function: Function) -> None:
    message = {"messaging_product": "whatsapp", "recipient": TINA, "text": {"body": "hello"}}

    assert fake.send(message).json()["contacts"] == [{"input": TINA, "user_id": TINA}]
    (status, *_) = function.statuses(3)
    assert status["recipient_user_id"] == TINA
    assert "recipient_id" not in status
    # the number wins
    assert fake.send(message | {"to": ANA}).json()["contacts"] == [{"input": ANA, "wa_id": ANA}]
    assert len(fake.shown(to=TINA)) == 1


def test_reading_and_typing_are_seen(fake: Fake) -> None:
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.1"}

    assert fake.send(read | {"typing_indicator": {"type": "text"}}).json() == {"success": True}
    (mark,) = fake.client.get(f"{fake.url}/_fake/messages").json()["reads"]
    assert (mark["message_id"], mark["typing"]) == ("wamid.1", True)
    assert refused(fake.send(read | {"message_id": "1"})) == (400, 131009)
    assert fake.shown() == []


def test_free_words_need_an_open_window_where_that_is_asked_for(
    fake: Fake, function: Function
) -> None:
    template = {"name": "hello_world", "language": {"code": "en_US"}}
    fake.behave(closed_window="refuse")
    assert refused(fake.send()) == (400, 131047)
    assert fake.send(TEXT | {"type": "template", "template": template}).is_success
    function.statuses(3)

    fake.behave(closed_window="fail")
    assert fake.send().is_success
    (failed,) = function.statuses(1)
    assert (failed["status"], failed["errors"][0]["code"]) == ("failed", 131047)

    customer = {"phone_number_id": NUMBER, "from": ANA, "text": "hello"}
    fake.order("inbound", **customer, at="2026-01-01T00:00:00Z")
    function.next()
    assert fake.send().is_success
    assert function.statuses(1)[0]["status"] == "failed"
    fake.order("inbound", **customer)
    function.next()
    assert fake.send().is_success
    assert function.statuses(1)[0]["status"] == "sent"


# Misbehaviour


def test_a_message_whose_answer_is_lost_was_sent_all_the_same(
    fake: Fake, function: Function
) -> None:
    fake.behave(faults=[{"drop": True, "after_accepting": True}])

    with pytest.raises(httpx.RemoteProtocolError):
        fake.send(TEXT | {"biz_opaque_callback_data": "ours"})
    assert function.statuses(1)[0]["biz_opaque_callback_data"] == "ours"
    assert len(fake.shown()) == 1
    assert fake.send().is_success


def test_a_connection_can_break_before_anything_happened(fake: Fake) -> None:
    fake.behave(faults=[{"drop": True}])

    with pytest.raises(httpx.RemoteProtocolError):
        fake.send()
    assert fake.shown() == []


def test_an_answer_can_come_too_late(fake: Fake) -> None:
    fake.behave(faults=[{"delay_ms": 60_000}])

    with pytest.raises(httpx.ReadTimeout):
        fake.send(timeout=0.2)
    assert len(fake.shown()) == 1


def test_the_next_requests_fail_as_often_as_asked_for(fake: Fake) -> None:
    fake.behave(
        faults=[
            {"code": 131056, "times": 2},
            {"code": 130429, "status": 429, "retry_after": 7},
            {"status": 502},
            {"status": 503, "after_accepting": True},
            {"on": "read", "code": 190},
        ]
    )

    assert [refused(fake.send()) for _ in range(2)] == [(400, 131056)] * 2
    limited = fake.send()
    assert refused(limited) == (429, 130429)
    assert limited.headers["retry-after"] == "7"
    page = fake.send()
    assert (page.status_code, page.headers["content-type"]) == (502, "text/html; charset=utf-8")
    assert fake.shown() == []
    assert fake.send().status_code == 503
    assert len(fake.shown()) == 1
    assert fake.send().is_success
    left = fake.client.get(f"{fake.url}/_fake/behaviour").json()["faults"]
    assert [fault["on"] for fault in left] == ["read"]


def test_a_fault_that_cannot_be_is_refused(fake: Fake) -> None:
    assert fake.order("behaviour", faults=[{"drop": True, "code": 1}]).status_code == 422
    assert fake.order("behaviour", webhooks={"copies": 0}).status_code == 422
    assert fake.order("behaviour", nonsense=True).status_code == 422


def test_webhooks_can_come_twice_and_against_their_order(fake: Fake, function: Function) -> None:
    fake.behave(webhooks={"copies": 2, "reverse": True})
    fake.send()

    words = [one["status"] for one in function.statuses(6)]
    assert words == ["read", "read", "delivered", "delivered", "sent", "sent"]


def test_what_comes_against_its_order_happened_in_its_order(fake: Fake, function: Function) -> None:
    fake.behave(webhooks={"statuses": ["sent", "read"], "reverse": True, "pace_ms": 1000})
    fake.send()

    read, sent = function.statuses(2)
    assert (read["status"], sent["status"]) == ("read", "sent")
    assert int(sent["timestamp"]) < int(read["timestamp"])


def test_webhooks_can_be_held_and_released(fake: Fake, function: Function) -> None:
    fake.behave(webhooks={"mode": "hold", "statuses": ["sent"], "pace_ms": 0})
    held = fake.order("inbound", **{"phone_number_id": NUMBER, "from": ANA, "text": "first"})
    assert held.json()["status"] is None
    fake.order("inbound", **{"phone_number_id": NUMBER, "from": ANA, "text": "second"})
    assert fake.client.get(f"{fake.url}/_fake/messages").json()["held"] == 2
    assert function.heard.empty()

    assert fake.order("release", reverse=True).json() == {"released": 2}
    texts = [function.next()["messages"][0]["text"]["body"] for _ in range(2)]
    assert texts == ["second", "first"]
    assert fake.order("release").json() == {"released": 0}


def test_webhooks_can_get_lost(fake: Fake, function: Function) -> None:
    fake.behave(webhooks={"mode": "drop", "pace_ms": 0})
    fake.send()
    lost = fake.order("inbound", **{"phone_number_id": NUMBER, "from": ANA, "text": "hello"})

    assert lost.json()["status"] is None
    fake.behave()
    fake.order("inbound", **{"phone_number_id": NUMBER, "from": ANA, "text": "here"})
    heard = function.next()
    while "messages" not in heard:
        # a status that was on its way when nothing got lost any more
        heard = function.next()
    assert heard["messages"][0]["text"]["body"] == "here"


def test_a_status_that_the_function_refuses_comes_again(fake: Fake, function: Function) -> None:
    function.refusals = 2
    fake.send()

    assert [one["status"] for one in function.statuses(3)] == ["sent", "delivered", "read"]


def test_what_a_customer_wrote_comes_again_until_it_is_taken(
    fake: Fake, function: Function
) -> None:
    function.refusals = 2
    order = fake.order("inbound", **{"phone_number_id": NUMBER, "from": ANA, "text": "hello"})
    assert order.json()["status"] == httpx.codes.SERVICE_UNAVAILABLE

    assert function.next()["messages"][0]["text"]["body"] == "hello"


def test_what_was_held_comes_again_until_it_is_taken(fake: Fake, function: Function) -> None:
    fake.behave(webhooks={"mode": "hold"})
    fake.order("inbound", **{"phone_number_id": NUMBER, "from": ANA, "text": "hello"})
    fake.behave()
    function.refusals = 1

    assert fake.order("release").json() == {"released": 1}
    assert function.next()["messages"][0]["text"]["body"] == "hello"


def test_a_number_can_be_limited(fake: Fake) -> None:
    fake.behave(limits={"per_second": 1})
    assert fake.send().is_success
    refused = fake.send()
    assert refused.json()["error"]["code"] == 130429
    assert len(fake.shown()) == 1

    fake.behave()
    assert fake.send().is_success


def test_a_limit_refills_one_by_one() -> None:
    bucket = Bucket(left=2, at=0)
    taken = [bucket.take(at, size=2, seconds_each=6) for at in (0, 0, 0, 6, 6, 60, 60, 60)]
    assert taken == [True, True, False, True, False, True, True, False]


def test_messages_to_one_person_can_be_limited_apart(fake: Fake) -> None:
    fake.behave(limits={"pair_burst": 2, "pair_ms": 120_000})
    answers = [fake.send() for _ in range(3)]
    assert [answer.is_success for answer in answers] == [True, True, False]
    assert answers[2].json()["error"]["code"] == 131056
    assert fake.send(TEXT | {"to": "385911234568"}).is_success


def test_a_message_can_fail_later(fake: Fake, function: Function) -> None:
    fake.behave(webhooks={"statuses": ["sent", "failed"], "error_code": 131049})
    fake.send()

    sent, failed = function.statuses(2)
    assert "errors" not in sent
    assert failed["errors"][0]["code"] == 131049


def test_a_reset_forgets_everything(fake: Fake, function: Function) -> None:
    fake.behave(faults=[{"code": 190}], webhooks={"mode": "hold"})
    fake.order("inbound", **{"phone_number_id": NUMBER, "from": ANA, "text": "hello"})
    fake.order("reset")

    assert fake.send().is_success
    assert len(fake.shown()) == 1
    assert len(function.statuses(3)) == 3
    assert fake.order("release").json() == {"released": 0}


# Media


def test_a_file_goes_up_and_comes_down_whole(fake: Fake) -> None:
    content = bytes(range(256)) * 3 + b"\r\n--\r\n" + secrets.token_bytes(100_000) + b"\r\n"
    uploaded = fake.graph(
        "POST",
        f"{NUMBER}/media",
        data={"messaging_product": "whatsapp", "type": "image/jpeg"},
        files={"file": ("stain.jpg", content, "image/jpeg")},
    )
    id_ = uploaded.json()["id"]

    described = fake.graph("GET", id_).json()
    assert (described["id"], described["mime_type"]) == (id_, "image/jpeg")
    assert described["file_size"] == len(content)
    assert described["sha256"] == sha256(content).hexdigest()
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert fake.client.get(described["url"], headers=bearer).content == content
    assert refused(fake.client.get(described["url"])) == (401, 190)
    assert fake.send(TEXT | {"type": "image", "image": {"id": id_}}).is_success

    assert fake.graph("DELETE", id_).json() == {"success": True}
    for gone in (fake.graph("GET", id_), fake.graph("DELETE", id_)):
        assert refused(gone) == (400, 100)
        assert gone.json()["error"]["error_subcode"] == 33
    assert refused(fake.client.get(described["url"], headers=bearer)) == (404, 100)


def test_an_upload_that_is_no_form_is_refused(fake: Fake) -> None:
    upload = f"{NUMBER}/media"
    assert refused(fake.graph("POST", upload, json={})) == (400, 100)
    assert refused(fake.graph("POST", upload, files={"file": ("a", b"x")})) == (400, 100)
    empty = {"messaging_product": "whatsapp"}
    assert refused(fake.graph("POST", upload, data=empty, files={"file": ("a", b"")})) == (
        400,
        131053,
    )


def test_the_address_of_a_file_is_good_for_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    state = State()
    file = media.store(state, b"x", "text/plain")
    fresh = str(media.describe(state, file, "")["url"]).rpartition("/")[2]
    assert media.download(state, fresh) == file

    monkeypatch.setattr(media, "URL_LIVES", -media.URL_LIVES)
    stale = str(media.describe(state, file, "")["url"]).rpartition("/")[2]
    with pytest.raises(GraphError):
        media.download(state, stale)


def test_a_download_can_fail_once(fake: Fake) -> None:
    fake.behave(faults=[{"on": "download", "status": 503}])
    order = {"phone_number_id": NUMBER, "from": ANA, "image": {}}
    webhook = fake.order("inbound", **order).json()["webhook"]
    id_ = webhook["entry"][0]["changes"][0]["value"]["messages"][0]["image"]["id"]
    url = fake.graph("GET", id_).json()["url"]

    bearer = {"authorization": f"Bearer {TOKEN}"}
    answers = [fake.client.get(url, headers=bearer).status_code for _ in range(2)]
    assert answers == [503, 200]


# What customers send


@pytest.mark.parametrize("kind", ["image", "video", "audio", "voice", "document", "sticker"])
def test_a_customers_file_can_be_fetched(fake: Fake, function: Function, kind: str) -> None:
    content = secrets.token_bytes(1000)
    order = {kind: {"data": b64encode(content).decode(), "caption": "a stain"}}
    fake.order("inbound", **{"phone_number_id": NUMBER, "from": ANA}, **order)

    (message,) = function.next()["messages"]
    type_ = "audio" if kind == "voice" else kind
    file = message[type_]
    assert (message["type"], file["caption"]) == (type_, "a stain")
    assert b64decode(file["sha256"]) == sha256(content).digest()
    if type_ == "audio":
        assert file["voice"] is (kind == "voice")
    url = fake.graph("GET", file["id"]).json()["url"]
    got = fake.client.get(url, headers={"authorization": f"Bearer {TOKEN}"})
    assert got.content == content
    assert got.headers["content-type"].split(";")[0] == file["mime_type"].split(";")[0]


CUSTOMER_ACTS: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"text": "hello"}, "text", {"body": "hello"}),
    (
        {"location": {"latitude": 46.05, "longitude": 14.5, "name": "Home"}},
        "location",
        {"latitude": 46.05, "longitude": 14.5, "name": "Home"},
    ),
    (
        {"button": {"payload": "CONFIRM", "text": "Confirm"}},
        "button",
        {"payload": "CONFIRM", "text": "Confirm"},
    ),
    (
        {"button_reply": {"id": "yes", "title": "Yes"}},
        "interactive",
        {"type": "button_reply", "button_reply": {"id": "yes", "title": "Yes"}},
    ),
    (
        {"list_reply": {"id": "carpet", "title": "Carpet", "description": "40 m²"}},
        "interactive",
        {
            "type": "list_reply",
            "list_reply": {"id": "carpet", "title": "Carpet", "description": "40 m²"},
        },
    ),
    (
        {"flow_reply": {"response": {"rooms": "2"}}},
        "interactive",
        {
            "type": "nfm_reply",
            "nfm_reply": {"name": "flow", "body": "Sent", "response_json": '{"rooms":"2"}'},
        },
    ),
    (
        {"reaction": {"message_id": "wamid.1", "emoji": "👍"}},
        "reaction",
        {"message_id": "wamid.1", "emoji": "👍"},
    ),
    ({"reaction": {"message_id": "wamid.1"}}, "reaction", {"message_id": "wamid.1"}),
    (
        {"order": {"catalog_id": "1", "product_items": []}},
        "order",
        {"catalog_id": "1", "product_items": []},
    ),
    (
        {"edit": {"message_id": "wamid.1", "text": "better"}},
        "edit",
        {
            "original_message_id": "wamid.1",
            "message": {"type": "text", "text": {"body": "better"}},
        },
    ),
    ({"revoke": {"message_id": "wamid.1"}}, "revoke", {"original_message_id": "wamid.1"}),
    ({"other": {"type": "hologram", "content": {"of": "a cat"}}}, "hologram", {"of": "a cat"}),
]


@pytest.mark.parametrize(("act", "type_", "content"), CUSTOMER_ACTS)
def test_what_a_customer_does_comes_as_documented(
    fake: Fake, function: Function, act: dict[str, Any], type_: str, content: object
) -> None:
    who = {"phone_number_id": NUMBER, "from": ANA, "name": "Ana", "at": "2026-11-21T10:00:00Z"}
    answer = fake.order("inbound", **who, **act, provider_id="wamid.2")

    value = function.next()
    assert value["contacts"] == [{"profile": {"name": "Ana"}, "wa_id": ANA}]
    assert value["messages"] == [
        {"id": "wamid.2", "timestamp": "1795255200", "type": type_, type_: content, "from": ANA}
    ]
    (item,) = items_of(answer.json()["webhook"])
    assert item.kind == ("effect" if type_ in ("reaction", "edit", "revoke") else "message")


def test_a_card_is_shared_as_it_is(fake: Fake, function: Function) -> None:
    cards = [{"name": {"formatted_name": "Marko"}, "phones": [{"phone": "+386 40 123 456"}]}]
    fake.order("inbound", **{"phone_number_id": NUMBER, "from": ANA}, contacts=cards)

    assert function.next()["messages"][0]["contacts"] == cards


def test_a_new_number_comes_without_contacts(fake: Fake, function: Function) -> None:
    fake.order(
        "inbound",
        **{"phone_number_id": NUMBER, "from": ANA, "name": "Ana"},
        number_change={"new_wa_id": "385997654321"},
    )

    value = function.next()
    assert "contacts" not in value
    assert value["messages"][0]["system"] == {
        "body": f"User Ana changed from {ANA} to 385997654321",
        "wa_id": "385997654321",
        "type": "user_changed_number",
    }


def test_what_is_unsupported_says_so(fake: Fake, function: Function) -> None:
    fake.order("inbound", **{"phone_number_id": NUMBER, "from": ANA}, unsupported=True)

    (message,) = function.next()["messages"]
    assert message["type"] == "unsupported"
    assert message["errors"][0]["code"] == 131051


def test_an_answer_a_forward_and_an_ad_are_told(fake: Fake, function: Function) -> None:
    ad = {"source_type": "ad", "source_id": "1", "headline": "Spring"}
    fake.order(
        "inbound",
        **{"phone_number_id": NUMBER, "from": ANA},
        text="Yes",
        reply_to="wamid.1",
        forwarded=True,
        referral=ad,
        group_id="a group",
    )

    (message,) = function.next()["messages"]
    assert message["context"] == {"from": "15550783881", "id": "wamid.1", "forwarded": True}
    assert (message["referral"], message["group_id"]) == (ad, "a group")


def test_who_has_no_number_writes_under_a_user_id(fake: Fake, function: Function) -> None:
    fake.order("inbound", phone_number_id=NUMBER, user_id=TINA, username="@tina.k", text="hi")

    value = function.next()
    assert value["contacts"][0]["user_id"] == TINA
    assert value["contacts"][0]["profile"]["username"] == "@tina.k"
    assert value["messages"][0]["from_user_id"] == TINA
    assert "from" not in value["messages"][0]


def test_what_is_written_in_the_phone_app_comes_as_an_echo(fake: Fake, function: Function) -> None:
    answer = fake.order("inbound", **{"phone_number_id": NUMBER, "from": ANA}, text="x", echo=True)

    change = answer.json()["webhook"]["entry"][0]["changes"][0]
    assert change["field"] == "smb_message_echoes"
    (echo,) = function.next()["message_echoes"]
    assert (echo["from"], echo["to"], echo["text"]) == ("15550783881", ANA, {"body": "x"})


@pytest.mark.parametrize(
    ("order", "field", "kinds"),
    [
        ({"call": {}}, "calls", ["call"]),
        ({"call": {"event": "terminate", "seconds": 90}}, "calls", ["call"]),
        ({"call": {"event": "terminate", "ours": True}}, "calls", ["call"]),
        ({"call": {"event": "rejected"}}, "calls", ["call"]),
        ({"marketing": "stop"}, "user_preferences", ["marketing_choice"]),
        (
            {"history": [{"text": "one"}, {"text": "two", "ours": True}]},
            "history",
            ["account_event", "history", "history"],
        ),
        ({"phone_book": {}}, "smb_app_state_sync", ["phone_book"]),
        ({"phone_book": {"action": "remove"}}, "smb_app_state_sync", ["phone_book"]),
        *(
            (
                {"group_id": "G", "group_change": {"event": event, "name": "Floors"}},
                f"group_{part}_update",
                ["group_event"],
            )
            for event, part in (
                ("create", "lifecycle"),
                ("delete", "lifecycle"),
                ("suspend", "status"),
                ("unsuspend", "status"),
                ("rename", "settings"),
                ("join", "participants"),
                ("leave", "participants"),
            )
        ),
        ({"group_id": "G", "text": "Hello all"}, "messages", ["group"]),
    ],
)
def test_what_is_no_message_comes_in_its_field_and_is_understood(
    fake: Fake, function: Function, order: dict[str, Any], field: str, kinds: list[str]
) -> None:
    answer = fake.order("inbound", **{"phone_number_id": NUMBER, "from": ANA, **order})

    assert answer.status_code == httpx.codes.OK, answer.text
    webhook = answer.json()["webhook"]
    assert webhook["entry"][0]["changes"][0]["field"] == field
    assert [item.kind for item in items_of(webhook)] == kinds
    assert function.next()["metadata"]["phone_number_id"] == NUMBER


def test_a_group_is_written_to_and_has_a_window_of_its_own(fake: Fake, function: Function) -> None:
    fake.behave(closed_window="refuse")
    to_group = {**TEXT, "recipient_type": "group", "to": "HBgLMTY1MDM4"}
    assert refused(fake.send(to_group)) == (400, 131047)
    fake.order(
        "inbound", **{"phone_number_id": NUMBER, "from": ANA}, text="hi", group_id="HBgLMTY1MDM4"
    )
    function.next()
    # to the group alone
    assert refused(fake.send()) == (400, 131047)
    assert fake.send(to_group).status_code == httpx.codes.OK
    assert [message["to"] for message in fake.shown(to="HBgLMTY1MDM4")] == ["HBgLMTY1MDM4"]
    (status, *_) = function.statuses(3)
    assert (status["recipient_type"], status["recipient_id"]) == ("group", "HBgLMTY1MDM4")
    buttons = {"type": "interactive", "interactive": {"type": "button", "action": {}}}
    assert refused(fake.send({**to_group, **buttons})) == (400, 131051)


def test_any_other_event_is_signed_and_posted(fake: Fake, function: Function) -> None:
    update = {"event": "APPROVED", "message_template_name": "offer"}
    answer = fake.order("event", field="message_template_status_update", value=update)

    assert function.next() == update
    (change,) = answer.json()["webhook"]["entry"][0]["changes"]
    assert change["field"] == "message_template_status_update"


def test_a_file_that_is_too_large_is_refused(fake: Fake) -> None:
    data = b64encode(bytes(media.SIZE_LIMIT + 1)).decode()
    order = {"phone_number_id": NUMBER, "from": ANA, "image": {"data": data}}

    answer = fake.order("inbound", **order)
    assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY


# Templates


def test_templates_are_listed_page_by_page(fake: Fake) -> None:
    path: str | None = "102290129340398/message_templates?limit=2"
    pages = []
    while path:
        page = fake.graph("GET", path).json()
        pages.append([(one["name"], one["language"]) for one in page["data"]])
        following = page["paging"].get("next")
        path = following and following.partition("/v26.0/")[2]

    assert pages == [
        [("hello_world", "en_US"), ("appointment_reminder", "en")],
        [("appointment_reminder", "sl")],
    ]
    assert refused(fake.graph("GET", "1/message_templates?after=x")) == (400, 100)
    assert refused(fake.graph("GET", "1/message_templates?limit=x")) == (400, 100)


def test_a_template_is_submitted_and_used_with_its_variables(fake: Fake) -> None:
    template = {
        "name": "offer_ready",
        "language": "hr",
        "category": "UTILITY",
        "components": [{"type": "BODY", "text": "{{1}}, ponuda: {{2}} €"}],
    }
    created = fake.graph("POST", "1/message_templates", json=template)
    assert created.json()["status"] == "APPROVED"
    assert refused(fake.graph("POST", "1/message_templates", json=template)) == (400, 100)
    assert refused(fake.graph("POST", "1/message_templates", json={"name": "?"})) == (400, 100)

    def use(name: str, *values: str) -> httpx.Response:
        parameters = [{"type": "text", "text": value} for value in values]
        used = {
            "name": name,
            "language": {"code": "hr"},
            "components": [{"type": "body", "parameters": parameters}],
        }
        return fake.send(TEXT | {"type": "template", "template": used})

    accepted = use("offer_ready", "Ana", "120")
    assert accepted.json()["messages"][0]["message_status"] == "accepted"
    assert fake.shown()[0]["text_shown"] == "Ana, ponuda: 120 €"
    assert refused(use("offer_ready", "Ana")) == (400, 132000)
    assert refused(use("no_such_template")) == (404, 132001)


def test_every_part_of_a_template_has_its_variables(fake: Fake) -> None:
    template = {
        "name": "visit",
        "language": "hr",
        "category": "UTILITY",
        "components": [
            {"type": "HEADER", "format": "IMAGE"},
            {"type": "BODY", "text": "x"},
            {"type": "BUTTONS", "buttons": [{"type": "URL", "url": "https://a.example/{{1}}"}]},
        ],
    }
    fake.graph("POST", "1/message_templates", json=template)
    header = {"type": "header", "parameters": [{"type": "image", "image": {"id": "7"}}]}
    button = {
        "type": "button",
        "sub_type": "url",
        "index": "0",
        "parameters": [{"type": "text", "text": "7"}],
    }

    def use(*components: object) -> httpx.Response:
        used = {"name": "visit", "language": {"code": "hr"}, "components": components}
        return fake.send(TEXT | {"type": "template", "template": used})

    assert refused(use(button)) == (400, 132012)
    assert refused(use(header)) == (400, 132000)
    assert refused(use(header, button | {"index": 1})) == (400, 132000)
    assert use(header, button).is_success
    assert use(header, button | {"index": 0}).is_success


@pytest.mark.parametrize(
    ("status", "code"), [("PENDING", 132001), ("PAUSED", 132015), ("DISABLED", 132016)]
)
def test_a_template_that_is_not_approved_is_not_sent(fake: Fake, status: str, code: int) -> None:
    template = {
        "name": "offer",
        "language": "hr",
        "category": "MARKETING",
        "status": status,
        "components": [{"type": "BODY", "text": "x"}],
    }
    fake.graph("POST", "1/message_templates", json=template)
    used = {"name": "offer", "language": {"code": "hr"}}

    answer = fake.send(TEXT | {"type": "template", "template": used})
    assert refused(answer)[1] == code


def test_a_number_is_known_once_it_was_used(fake: Fake) -> None:
    assert refused(fake.graph("GET", "777")) == (400, 100)
    fake.graph("POST", "777/messages", json=TEXT)

    assert fake.graph("GET", "777").json()["quality_rating"] == "GREEN"


# Tokens


class Tokens:
    """A token for each number."""

    def __init__(self, **tokens: str) -> None:
        self._tokens = tokens

    def token(self, phone_number_id: str) -> SecretStr:
        return SecretStr(self._tokens[phone_number_id])

    def forget(self, phone_number_id: str) -> None:
        pass


@pytest.mark.parametrize("is_right", [True, False])
def test_each_number_is_opened_by_its_own_token_alone(
    fake: Fake, function: Function, *, is_right: bool
) -> None:
    """Messages, read marks, typing, files both ways and templates, by the clients of ours."""
    tokens = {NUMBER: "ours", "2003427786179738": "second"}
    fake.behave(tokens=tokens, numbers={"501": [NUMBER], "502": ["2003427786179738"]})
    received: dict[str, str] = {}
    for number in tokens:
        fake.order("inbound", phone_number_id=number, **{"from": ANA}, image={})
        (message,) = function.next()["messages"]
        received[number] = message["image"]["id"]

    swapped = dict(zip(tokens, reversed(tokens.values()), strict=True))
    source = Tokens(**tokens if is_right else swapped)
    settings = GraphSettings(whatsapp_graph_url=HttpUrl(f"{fake.url}/v26.0"))
    graph, files = GraphClient(settings, tokens=source), GraphMedia(settings, tokens=source)
    calls: tuple[Callable[[str, str], object], ...] = (
        lambda number, _waba: files.find(number, received[number]),
        lambda number, _waba: files.upload(
            number, io.BytesIO(b"%PDF"), mime_type="application/pdf", file_name="a.pdf"
        ),
        lambda number, waba: files.templates(waba, [number]),
    )
    for number, waba in zip(tokens, ("501", "502"), strict=True):
        outcomes = (
            graph.send(number, TEXT),
            graph.mark_read(number, "wamid.1", typing=True),
            graph.mark_read(number, "wamid.1", typing=False),
        )
        codes = [one.code if isinstance(one, Refused) else None for one in outcomes]
        assert codes == ([None] * 3 if is_right else [190] * 3)
        for call in calls:
            if is_right:
                assert call(number, waba)
                continue
            with pytest.raises(WhatsAppRefused) as refusal:
                call(number, waba)
            assert refusal.value.graph_code == 190
    graph.close()
    files.close()


def test_a_file_is_downloaded_with_the_token_of_its_number(fake: Fake, function: Function) -> None:
    fake.behave(tokens={NUMBER: "ours"})
    fake.order("inbound", phone_number_id=NUMBER, **{"from": ANA}, image={})
    (message,) = function.next()["messages"]
    settings = GraphSettings(whatsapp_graph_url=HttpUrl(f"{fake.url}/v26.0"))
    files = GraphMedia(settings, tokens=Tokens(**{NUMBER: "ours", "2": TOKEN}))
    address = files.find(NUMBER, message["image"]["id"])
    with files.download(NUMBER, address) as chunks:
        assert b"".join(chunks)
    with pytest.raises(WhatsAppUnavailable), files.download("2", address):
        pass
    files.close()
