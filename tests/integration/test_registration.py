"""What `rapport connect` and `rapport check` find at Meta, where one thing after another fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr
from tests.stacks import served

from rapport.commands.check.findings import Finding
from rapport.commands.check.outside import examine_meta, examine_webhook
from rapport.commands.project import graph_settings, whatsapp_settings
from rapport.errors import RapportError
from rapport.local.fakes.whatsapp.app import application
from rapport.local.fakes.whatsapp.registered import APP_ID
from rapport.local.stack.running import WEBHOOK_PATH
from rapport.store.deployment import Deployment, RegisteredNumber
from rapport.whatsapp.registration import AppToken, Registration

NUMBER = "1003427786179738"
WABA = "102290129340398"
SHOWN = "+386 1 555 01 00"
TOKEN, SECRET, VERIFY = "a-token", "an-app-secret", "a-verify-token"


@dataclass
class Function:
    """The webhook's function: answers Meta's question about the verify token."""

    url: str = ""
    verify_token: str = VERIFY


@pytest.fixture(scope="module")
def function() -> Iterator[Function]:
    function = Function()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(url.query).items()}
            answer = asked.get("hub.challenge", "").encode()
            is_right = asked.get("hub.verify_token") == function.verify_token
            status = 404 if url.path != WEBHOOK_PATH else 200 if is_right else 403
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer if status == 200 else b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    function.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield function
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def meta(function: Function) -> Iterator[str]:
    """The stand-in's address."""
    with served(application(function.url + WEBHOOK_PATH, SECRET, TOKEN)) as url:
        yield url


@pytest.fixture(autouse=True)
def environment(meta: str, function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    function.verify_token = VERIFY
    for name, value in {
        "SUPABASE_URL": "http://127.0.0.1:1",
        "SUPABASE_SECRET_KEY": "sb_secret_any",
        "WHATSAPP_GRAPH_URL": f"{meta}/v26.0",
        "WHATSAPP_TOKEN": TOKEN,
        "WHATSAPP_APP_SECRET": SECRET,
        "WHATSAPP_VERIFY_TOKEN": VERIFY,
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    order(meta, "reset")


def order(meta: str, what: str, **fields: object) -> dict[str, Any]:
    answer = httpx.post(f"{meta}/_fake/{what}", json=fields, trust_env=False).raise_for_status()
    told: dict[str, Any] = answer.json()
    return told


def with_number(**changes: object) -> dict[str, Any]:
    number = {"waba_id": WABA, "display_phone_number": SHOWN} | changes
    return {"numbers": {NUMBER: number}}


def deployment(**changes: object) -> Deployment:
    """A deployment of one number."""
    number = {
        "account": "alpine",
        "phone_number_id": NUMBER,
        "waba_id": WABA,
        "display_phone_number": SHOWN,
        "stopped_reason": None,
        "templates": 1,
        "templates_read_at": None,
    }
    return Deployment.model_construct(numbers=[RegisteredNumber.model_validate(number | changes)])


def examined(function: Function, one: Deployment | None = None) -> dict[str, Finding]:
    settings = whatsapp_settings()
    found = [
        *examine_webhook(function.url, settings),
        *examine_meta(one or deployment(), function.url, settings),
    ]
    return {finding.check: finding for finding in found}


def test_nothing_is_wrong_with_the_stand_in(function: Function) -> None:
    found = examined(function)
    assert {check: one.state for check, one in found.items()} == {
        "Webhook's address": "ok",
        f"Token of {SHOWN}": "ok",
        "Webhook subscription": "ok",
        f"Number {SHOWN}": "ok",
        f"Webhooks of {SHOWN}": "ok",
    }


def test_each_broken_thing_at_meta_is_found_with_its_remedy(meta: str, function: Function) -> None:
    tomorrow = int((datetime.now(UTC) + timedelta(days=1)).timestamp())
    for registered, check, state, words, remedy in (
        ({"token_expires_at": 1}, f"Token of {SHOWN}", "wrong", "no longer good", "WHATSAPP_TOKEN"),
        ({"token_expires_at": tomorrow}, f"Token of {SHOWN}", "warning", "24 hours", "never ends"),
        (
            {"scopes": ["whatsapp_business_messaging"]},
            f"Token of {SHOWN}",
            "wrong",
            "whatsapp_business_management",
            "Put a new one",
        ),
        ({"callback_url": ""}, "Webhook subscription", "wrong", "nowhere", "connect whatsapp"),
        (
            {"callback_url": "https://old.example/api"},
            "Webhook subscription",
            "wrong",
            "https://old.example/api",
            "connect whatsapp",
        ),
        ({"fields": ["calls"]}, "Webhook subscription", "wrong", "messages", "connect whatsapp"),
        ({"fields": ["messages"]}, "Webhook subscription", "warning", "calls", "Meta offers"),
        ({"is_subscribed": False}, f"Webhooks of {SHOWN}", "wrong", WABA, "connect whatsapp"),
        (
            with_number(callback_url="https://other.example/"),
            f"Webhooks of {SHOWN}",
            "wrong",
            "https://other.example/",
            "Remove the override",
        ),
        (with_number(status="PENDING"), f"Number {SHOWN}", "wrong", "PENDING", "--pin"),
        ({"numbers": {}}, f"Number {SHOWN}", "wrong", "no object with this id", "Assign assets"),
    ):
        order(meta, "registered", **registered)
        finding = examined(function)[check]
        assert finding.state == state, finding
        assert words in finding.found, finding
        assert remedy in finding.remedy, finding


def test_each_wrong_secret_is_found_with_its_place(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as other:
        other.setenv("WHATSAPP_TOKEN", "another-token")
        finding = examined(function)[f"Token of {SHOWN}"]
        assert finding.state == "wrong"
        assert "another-token" not in finding.found
        assert f"/rapport/<stage>/whatsapp/{NUMBER}/token" in finding.remedy
    with monkeypatch.context() as other:
        other.setenv("WHATSAPP_APP_SECRET", "another-secret")
        finding = examined(function)["App secret"]
        assert finding.state == "wrong"
        assert "another-secret" not in finding.found
        assert "whatsapp-app-secret" in finding.remedy
        # while it changes, one of two is good
        other.setenv("WHATSAPP_APP_SECRET", f"another-secret,{SECRET}")
        assert "App secret" not in examined(function)
    function.verify_token = "of the function"
    finding = examined(function)["Webhook's address"]
    assert (finding.state, "403" in finding.found) == ("wrong", True)
    stopped = deployment(stopped_reason="WhatsApp has locked the account.")
    finding = examined(function, stopped)[f"Number {SHOWN}"]
    assert (finding.state, "rapport resume" in (finding.remedy or "")) == ("wrong", True)


def test_meta_s_refusals_are_told_with_their_remedies(meta: str) -> None:
    registration = Registration(graph_settings())
    app_token = AppToken(APP_ID, SecretStr(SECRET))

    def refusal(code: int, **fields: object) -> RapportError:
        order(meta, "behaviour", faults=[{"on": "registration", "code": code, **fields}])
        with pytest.raises(RapportError) as refused:
            registration.app_of(TOKEN)
        return refused.value

    for code, meaning, remedy in (
        (190, "does not accept the token", "System users"),
        (200, "lacks a permission", "whatsapp_business_messaging"),
        (10, "may not do this", "Assign assets"),
        (4, "no more calls", "Wait an hour"),
        (368, "has blocked", "Business support home"),
    ):
        error = refusal(code)
        assert meaning in str(error)
        assert remedy in (error.hint or "")
    assert refusal(12345).hint is None

    order(meta, "behaviour")
    with pytest.raises(RapportError) as unconfirmed:
        registration.subscribe(
            app_token,
            callback_url=f"{meta}/nowhere",
            verify_token=SecretStr(VERIFY),
            fields=["messages"],
        )
    assert "could not confirm" in str(unconfirmed.value)
    assert "HTTP Status Code = 404" in str(unconfirmed.value)
    registration.close()
