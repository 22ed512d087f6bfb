"""Webhooks as the WhatsApp Cloud API composes them, for the stand-in, the demo and tests.

Source: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64encode
from datetime import UTC, datetime
from typing import Literal

from pydantic import JsonValue

Payload = dict[str, JsonValue]
StatusWord = Literal["sent", "delivered", "read", "failed"]

WABA_ID = "102290129340398"


def message_id() -> str:
    """A new id in the form of WhatsApp's."""
    return f"wamid.{b64encode(secrets.token_bytes(36)).decode()}"


def inbound_text(
    *,
    phone_number_id: str,
    sender: str,
    name: str,
    text: str,
    provider_id: str | None = None,
    sent_at: datetime | None = None,
) -> Payload:
    """The webhook of one text, from the WhatsApp number `sender` (digits alone)."""
    return _webhook(
        phone_number_id,
        {
            "contacts": [{"profile": {"name": name}, "wa_id": sender}],
            "messages": [
                {
                    "from": sender,
                    "id": provider_id or message_id(),
                    "timestamp": _epoch(sent_at),
                    "text": {"body": text},
                    "type": "text",
                }
            ],
        },
    )


def number_change(
    *,
    phone_number_id: str,
    sender: str,
    new_number: str,
    name: str,
    provider_id: str | None = None,
    sent_at: datetime | None = None,
) -> Payload:
    """The webhook of a customer who has `new_number` for `sender` (digits alone)."""
    return _webhook(
        phone_number_id,
        {
            "messages": [
                {
                    "from": sender,
                    "id": provider_id or message_id(),
                    "timestamp": _epoch(sent_at),
                    "type": "system",
                    "system": {
                        "body": f"User {name} changed from {sender} to {new_number}",
                        "wa_id": new_number,
                        "type": "user_changed_number",
                    },
                }
            ]
        },
    )


def status_update(
    *,
    phone_number_id: str,
    recipient: str,
    provider_id: str,
    status: StatusWord,
    at: datetime | None = None,
    error: Payload | None = None,
) -> Payload:
    """The webhook of what became of one message; `error` is one of Meta's error objects."""
    update: Payload = {
        "id": provider_id,
        "status": status,
        "timestamp": _epoch(at),
        "recipient_id": recipient,
    }
    if error:
        update["errors"] = [error]
    return _webhook(phone_number_id, {"statuses": [update]})


def encode(payload: Payload) -> bytes:
    """The bytes that are signed and sent: Meta escapes all that is not ASCII."""
    return json.dumps(payload, separators=(",", ":")).encode()


def _webhook(phone_number_id: str, news: Payload) -> Payload:
    value: Payload = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": phone_number_id},
        **news,
    }
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": WABA_ID, "changes": [{"value": value, "field": "messages"}]}],
    }


def _epoch(moment: datetime | None) -> str:
    return str(int((moment or datetime.now(UTC)).timestamp()))
