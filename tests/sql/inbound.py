"""Updates of every kind, as the webhook function hands them to backend.ingest_whatsapp."""

from __future__ import annotations

from typing import Any

from tests.world import ALPINE_NUMBER, Item, text_message

PHONE = "38640999888"


def at(second: int) -> str:
    return f"2026-11-21T10:00:{second:02}Z"


def echo(provider_id: str, wa_id: str | None = PHONE, **changes: Any) -> Item:
    """A message of ours, sent from the phone app."""
    return text_message(provider_id, wa_id, **({"kind": "echo", "profile_name": None} | changes))


def effect(provider_id: str, type_: str, parent: str, second: int, **changes: Any) -> Item:
    """What a customer does to a message."""
    return {
        "kind": "effect",
        "phone_number_id": ALPINE_NUMBER,
        "provider_id": provider_id,
        "type": type_,
        "reply_to": parent,
        "sender_type": "client",
        "sender_id": None,
        "sent_at": at(second),
        "text": None,
        "content": None,
    } | changes


def reaction(provider_id: str, parent: str, second: int, emoji: str | None, **changes: Any) -> Item:
    return effect(provider_id, "reaction", parent, second, text=emoji, **changes)


def edit(provider_id: str, parent: str, second: int, text: str, **changes: Any) -> Item:
    content = {"type": "text", "text": {"body": text}}
    return effect(
        provider_id, "edit", parent, second, **({"text": text, "content": content} | changes)
    )


def revoke(provider_id: str, parent: str, second: int, **changes: Any) -> Item:
    return effect(provider_id, "revoke", parent, second, **changes)


def account_event(**changes: Any) -> Item:
    return {
        "kind": "account_event",
        "phone_number_id": None,
        "waba_id": "102290129340398",
        "type": "message_template_status_update",
        "at": at(0),
        "content": {"event": "PAUSED", "message_template_name": "reminder"},
    } | changes
