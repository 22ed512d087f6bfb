"""Webhooks in the form of the WhatsApp Cloud API, for the stand-in, the demo and tests.

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
DISPLAY_NUMBER = "15550783881"


def message_id() -> str:
    """A new message id in WhatsApp's form."""
    return f"wamid.{b64encode(secrets.token_bytes(36)).decode()}"


def inbound_text(
    *,
    phone_number_id: str,
    sender: str,
    name: str,
    text: str,
    provider_id: str | None = None,
    sent_at: datetime | None = None,
    user_id: str | None = None,
) -> Payload:
    """The webhook of one text from the WhatsApp number `sender` (digits only), who may be known by
    a business-scoped user id as well.
    """
    contact: Payload = {"profile": {"name": name}, "wa_id": sender}
    message: Payload = {
        "from": sender,
        "id": provider_id or message_id(),
        "timestamp": epoch(sent_at),
        "text": {"body": text},
        "type": "text",
    }
    if user_id:
        contact["user_id"] = message["from_user_id"] = user_id
    return webhook(phone_number_id, {"contacts": [contact], "messages": [message]})


def status_update(
    *,
    phone_number_id: str,
    recipient: str | None,
    provider_id: str,
    status: StatusWord,
    at: datetime | None = None,
    error: Payload | None = None,
    user_id: str | None = None,
    callback_data: str | None = None,
    group_id: str | None = None,
) -> Payload:
    """The webhook of a message's status; `error` is one of Meta's error objects.

    The recipient is known by number, by business-scoped user id, or by both; in a group it is a
    participant.
    """
    update: Payload = {"id": provider_id, "status": status, "timestamp": epoch(at)}
    if group_id:
        update |= {"recipient_type": "group", "recipient_id": group_id}
        if recipient:
            update["recipient_participant_id"] = recipient
            recipient = None
    if recipient:
        update["recipient_id"] = recipient
    if user_id:
        update["recipient_user_id"] = user_id
    if callback_data is not None:
        update["biz_opaque_callback_data"] = callback_data
    if error:
        update["errors"] = [error]
    return webhook(phone_number_id, {"statuses": [update]})


def webhook(phone_number_id: str, news: Payload, field: str = "messages") -> Payload:
    """A webhook of one change; `news` is its value, without the number."""
    value: Payload = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": DISPLAY_NUMBER, "phone_number_id": phone_number_id},
        **news,
    }
    return change(WABA_ID, field, value)


def change(account: str, field: str, value: Payload) -> Payload:
    """A webhook about a WhatsApp Business account."""
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": account, "changes": [{"value": value, "field": field}]}],
    }


def encode(payload: Payload) -> bytes:
    """The bytes to sign and send: Meta escapes all characters outside ASCII."""
    return json.dumps(payload, separators=(",", ":")).encode()


def epoch(moment: datetime | None) -> str:
    """A time in WhatsApp's form, in seconds; None means now."""
    return str(int((moment or datetime.now(UTC)).timestamp()))
