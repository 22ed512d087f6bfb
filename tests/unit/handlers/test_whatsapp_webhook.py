"""What the webhook function refuses before it needs a database; the rest is integration."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from rapport import metrics
from rapport.errors import (
    ConfigError,
    MalformedPayload,
    QueueUnavailable,
    StoreError,
    StoreUnavailable,
)
from rapport.store.webhooks import IngestResult, Rejection
from rapport.whatsapp.webhook import sign

SECRET = "app-secret"
MODULE = "rapport.handlers.whatsapp_webhook"

Invoke = Callable[[dict[str, Any]], dict[str, Any]]


def post(body: str, **headers: str) -> dict[str, Any]:
    return {
        "headers": headers,
        "body": body,
        "isBase64Encoded": False,
        "requestContext": {"requestId": "request-1", "http": {"method": "POST"}},
    }


def get(**query: str) -> dict[str, Any]:
    return {
        "headers": {},
        "queryStringParameters": {f"hub.{name}": value for name, value in query.items()},
        "requestContext": {"requestId": "request-1", "http": {"method": "GET"}},
    }


def signed(body: str) -> dict[str, Any]:
    return post(body, **{"x-hub-signature-256": sign(body.encode(), SECRET)})


@pytest.fixture
def cold_start(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Invoke]:
    def start() -> Invoke:
        monkeypatch.delitem(sys.modules, MODULE, raising=False)
        module = importlib.import_module(MODULE)
        return lambda event: module.handler(event, None)

    return start


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, cold_start: Callable[[], Invoke]) -> Invoke:
    monkeypatch.setenv("WHATSAPP_APP_SECRET", SECRET)
    monkeypatch.setenv("WHATSAPP_VERIFY_TOKEN", "verify")
    return cold_start()


def test_a_verification_is_answered_with_its_challenge(invoke: Invoke) -> None:
    answer = invoke(get(mode="subscribe", verify_token="verify", challenge="1158201444"))
    assert (answer["statusCode"], answer["body"]) == (200, "1158201444")


@pytest.mark.parametrize(
    "query",
    [
        {"mode": "subscribe", "verify_token": "guess", "challenge": "1"},
        {"mode": "subscribe", "verify_token": "", "challenge": "1"},
        {"mode": "subscribe", "challenge": "1"},
        {"mode": "unsubscribe", "verify_token": "verify", "challenge": "1"},
        {"mode": "subscribe", "verify_token": "verify"},
        {"mode": "subscribe", "verify_token": "verify", "challenge": "1" * 257},
        {},
    ],
)
def test_any_other_verification_is_refused(invoke: Invoke, query: dict[str, str]) -> None:
    assert invoke(get(**query))["statusCode"] == 403


def test_without_a_verify_token_no_verification_succeeds(
    cold_start: Callable[[], Invoke],
) -> None:
    query = get(mode="subscribe", verify_token="", challenge="1")
    assert cold_start()(query)["statusCode"] == 403


@pytest.mark.parametrize(
    "headers", [{}, {"x-hub-signature-256": ""}, {"x-hub-signature": sign(b"{}", SECRET)}]
)
def test_a_post_without_its_signature_is_refused(invoke: Invoke, headers: dict[str, str]) -> None:
    answer = invoke(post("{}", **headers))
    assert answer["statusCode"] == 401
    assert json.loads(answer["body"])["code"] == "bad_signature"


@pytest.mark.parametrize("secret", ["app-secret", "next-secret"])
def test_while_the_secret_is_changed_both_are_good(
    monkeypatch: pytest.MonkeyPatch, cold_start: Callable[[], Invoke], secret: str
) -> None:
    monkeypatch.setenv("WHATSAPP_APP_SECRET", "app-secret,next-secret")
    # not JSON: what is signed is read
    body = "not JSON"
    event = post(body, **{"x-hub-signature-256": sign(body.encode(), secret)})
    assert cold_start()(event)["statusCode"] == 400
    event = post(body, **{"x-hub-signature-256": sign(body.encode(), "app-secret,next-secret")})
    assert cold_start()(event)["statusCode"] == 401


def test_a_signature_of_other_bytes_is_refused(invoke: Invoke) -> None:
    event = signed("{}")
    event["body"] = "{} "
    assert invoke(event)["statusCode"] == 401


def test_without_an_app_secret_every_post_is_refused(cold_start: Callable[[], Invoke]) -> None:
    forged = post("{}", **{"x-hub-signature-256": sign(b"{}", "")})
    assert cold_start()(forged)["statusCode"] == 401


def test_the_header_is_found_in_any_case(invoke: Invoke) -> None:
    event = post("not json", **{"X-HUB-signature-256": sign(b"not json", SECRET)})
    assert invoke(event)["statusCode"] == 400


@pytest.mark.parametrize("body", ["", "not json", "[" * 10_000])
def test_a_signed_body_that_is_no_json_is_malformed(invoke: Invoke, body: str) -> None:
    answer = invoke(signed(body))
    assert answer["statusCode"] == 400
    assert json.loads(answer["body"])["code"] == "malformed_payload"


def test_a_body_above_4_mb_is_refused_unread(invoke: Invoke) -> None:
    assert invoke(post("x" * (4 * 1024 * 1024 + 1)))["statusCode"] == 413
    assert invoke(post("x" * (4 * 1024 * 1024)))["statusCode"] == 401


def test_another_method_is_refused(invoke: Invoke) -> None:
    event = post("{}")
    event["requestContext"]["http"]["method"] = "PUT"
    assert invoke(event)["statusCode"] == 405


# --- what alarms count


Figures = Callable[[], dict[str, float]]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Figures:
    """The figures that were told; tests/unit/test_metrics.py knows that alarms hear of them."""
    monkeypatch.setattr(metrics, "_namespace", lambda: "Rapport/test")

    def figures() -> dict[str, float]:
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return {
            name: value
            for line in lines
            if "_aws" in line
            for name, value in line.items()
            if name != "_aws"
        }

    return figures


def test_a_wrong_app_secret_is_counted_for_an_alarm(
    invoke: Invoke, caplog: pytest.LogCaptureFixture, figures: Figures
) -> None:
    invoke(post("{}", **{"x-hub-signature-256": sign(b"{}", "the secret of another app")}))
    assert "wrong signature" in caplog.messages
    assert figures() == {"RefusedSignatures": 1}


def test_a_missing_app_secret_is_counted_as_well(
    cold_start: Callable[[], Invoke], caplog: pytest.LogCaptureFixture, figures: Figures
) -> None:
    cold_start()(signed("{}"))
    assert "wrong signature" in caplog.messages
    assert figures() == {"RefusedSignatures": 1}


@pytest.mark.parametrize("headers", [{}, {"x-hub-signature-256": "sha256=x"}])
def test_a_passer_by_raises_no_alarm(
    invoke: Invoke, headers: dict[str, str], figures: Figures
) -> None:
    invoke(post("{}", **headers))
    assert figures() == {}


def test_a_webhook_for_a_number_that_is_not_registered_is_counted_for_an_alarm(
    invoke: Invoke,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    figures: Figures,
) -> None:
    class Store:
        def ingest_whatsapp(self, *_: object) -> IngestResult:
            nobodys = Rejection(
                index=0, reason="unknown_phone_number_id", phone_number_id="999", waba_id="102"
            )
            other = Rejection(index=1, reason="unknown_status", phone_number_id="999")
            return IngestResult(event_id=7, applied=0, duplicates=0, rejected=[nobodys, other])

    monkeypatch.setattr(sys.modules[MODULE], "_store", Store)
    answer = invoke(signed('{"entry": []}'))
    # it is kept: that Meta repeats it would change nothing
    assert (answer["statusCode"], json.loads(answer["body"])["rejected"]) == (200, 2)
    assert figures() == {"UnregisteredNumbers": 1}
    (line,) = [one for one in caplog.records if one.message == "not registered"]
    assert line.levelname == "WARNING"
    assert vars(line) | {"phone_number_id": "999", "waba_id": "102", "event_id": 7} == vars(line)


class Kept:
    """A queue that takes everything, or nothing."""

    def __init__(self, *, is_away: bool = False) -> None:
        self._is_away = is_away
        self.bodies: list[str] = []

    def keep(self, body: str) -> None:
        if self._is_away:
            raise QueueUnavailable
        self.bodies.append(body)


@pytest.mark.parametrize(
    "fault",
    [StoreUnavailable(), StoreError(), ConfigError(), MalformedPayload(), ZeroDivisionError()],
)
def test_whatever_keeps_a_webhook_from_being_stored_it_is_queued(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(*_arguments: object) -> None:
        raise fault

    kept = Kept()
    module = sys.modules[MODULE]
    monkeypatch.setattr(module, "_store", lambda: None)
    monkeypatch.setattr(module, "take_in", fail)
    monkeypatch.setattr(module, "_backlog", lambda: kept)
    answer = invoke(signed('{"entry": []}'))
    assert (answer["statusCode"], json.loads(answer["body"])) == (200, {"queued": True})
    assert kept.bodies == ['{"entry": []}']


def test_what_is_kept_nowhere_is_not_answered_with_200(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[MODULE], "_backlog", lambda: Kept(is_away=True))
    assert invoke(signed('{"entry": []}'))["statusCode"] == 503


@pytest.mark.parametrize("body", ["", "not json"])
def test_what_is_no_webhook_is_not_queued(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    kept = Kept()
    monkeypatch.setattr(sys.modules[MODULE], "_backlog", lambda: kept)
    assert invoke(signed(body))["statusCode"] == 400
    assert invoke(post("{}"))["statusCode"] == 401
    assert kept.bodies == []


def test_without_a_queue_a_missing_database_setting_is_ours_to_mend(invoke: Invoke) -> None:
    assert invoke(signed('{"entry": []}'))["statusCode"] == 500
