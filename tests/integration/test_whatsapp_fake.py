"""The Graph API's stand-in against the real function."""

from __future__ import annotations

import json

import httpx

from rapport.local.stack import Stack


def order(stack: Stack, what: str, **fields: object) -> httpx.Response:
    return httpx.post(f"{stack.whatsapp_url}/_fake/{what}", json=fields, trust_env=False)


def test_its_webhooks_are_taken_as_metas(stack: Stack) -> None:
    customer = {"phone_number_id": "106540352242922", "from": "385911234567"}
    text = order(stack, "inbound", **customer, name="Ana", text="hello 🧽")
    assert text.json()["status"] == 200
    assert json.loads(text.json()["answer"])["received"] == 1
    (change,) = text.json()["webhook"]["entry"][0]["changes"]
    (message,) = change["value"]["messages"]
    assert (message["from"], message["text"]["body"]) == ("385911234567", "hello 🧽")

    moved = order(stack, "number", **customer, to="385997654321")
    assert moved.json()["status"] == 200
    assert json.loads(moved.json()["answer"])["received"] == 1
    (change,) = moved.json()["webhook"]["entry"][0]["changes"]
    assert change["value"]["messages"][0]["system"]["wa_id"] == "385997654321"

    failure = order(
        stack,
        "status",
        phone_number_id="106540352242922",
        recipient="385911234567",
        provider_id=message["id"],
        status="failed",
        error={"code": 131026, "title": "Message undeliverable"},
    )
    assert failure.json()["status"] == 200
    (change,) = failure.json()["webhook"]["entry"][0]["changes"]
    assert change["value"]["statuses"][0]["errors"][0]["code"] == 131026

    nonsense = order(stack, "inbound", **{"from": "Ana"})
    assert nonsense.status_code == 422
    assert {fault["loc"][0] for fault in nonsense.json()} == {"from", "phone_number_id", "text"}
