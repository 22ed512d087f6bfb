"""Composes the webhook for an action of a customer on the phone.

Source: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference.
"""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime

from pydantic import BaseModel, JsonValue

from rapport.local.fakes.whatsapp.errors import problem
from rapport.local.fakes.whatsapp.inbound import (
    FlowReply,
    Inbound,
    InboundEdit,
    InboundFile,
    InboundReply,
    InboundRevoke,
    NumberChange,
    Other,
)
from rapport.local.fakes.whatsapp.media import store
from rapport.local.fakes.whatsapp.other_fields import compose_other, is_of_another_field
from rapport.local.fakes.whatsapp.payloads import (
    DISPLAY_NUMBER,
    Payload,
    epoch,
    message_id,
    webhook,
)
from rapport.local.fakes.whatsapp.state import State, WhatsAppPerson, Written

MIME_TYPES = {
    "image": "image/jpeg",
    "video": "video/mp4",
    "audio": "audio/mpeg",
    "voice": "audio/ogg; codecs=opus",
    "document": "application/pdf",
    "sticker": "image/webp",
}


def compose(state: State, order: Inbound) -> Payload:
    """The webhook; a file that the customer sent can then be fetched from the API."""
    at = order.at or datetime.now(UTC)
    if is_of_another_field(order):
        if order.call and not order.call.ours:
            state.note_inbound(
                order.phone_number_id, WhatsAppPerson(wa_id=order.sender, user_id=order.user_id), at
            )
        return compose_other(order, at, _contact(order))
    type_, content = _content(state, order)
    message: Payload = {
        "id": order.provider_id or message_id(),
        "timestamp": epoch(at),
        "type": type_,
    }
    if content is not None:
        message[type_] = content
    if order.unsupported:
        message["errors"] = [problem(131051)]
    if order.reply_to or order.forwarded:
        message["context"] = _context(order)
    if order.referral is not None:
        message["referral"] = order.referral
    if order.group_id is not None:
        message["group_id"] = order.group_id
    sender = WhatsAppPerson(wa_id=order.sender, user_id=order.user_id, group_id=order.group_id)
    if type_ != "system":
        written = Written(
            id=str(message["id"]),
            phone_number_id=order.phone_number_id,
            sender=sender,
            type=type_,
            content=content,
            at=at,
            reply_to=order.reply_to,
            is_echo=order.echo,
        )
        state.keep(state.written, written.id, written)
    if order.echo:
        message |= {"from": DISPLAY_NUMBER}
        message |= {"to": order.sender} if order.sender else {}
        message |= {"to_user_id": order.user_id} if order.user_id else {}
        return webhook(order.phone_number_id, {"message_echoes": [message]}, "smb_message_echoes")

    message |= {"from": order.sender} if order.sender else {}
    message |= {"from_user_id": order.user_id} if order.user_id else {}
    if type_ == "system":
        # the customer did not write: no contacts, and no open window
        return webhook(order.phone_number_id, {"messages": [message]})
    state.note_inbound(order.phone_number_id, sender, at)
    news: Payload = {"contacts": [_contact(order)], "messages": [message]}
    return webhook(order.phone_number_id, news)


def _content(state: State, order: Inbound) -> tuple[str, JsonValue]:
    """The type of the message, and the object under that name."""
    kind = order.kind
    value = getattr(order, kind)
    match value:
        case InboundFile():
            number = order.phone_number_id
            return ("audio" if kind == "voice" else kind), _file(state, number, kind, value)
        case FlowReply():
            reply: Payload = {
                "name": value.name,
                "body": value.body,
                "response_json": json.dumps(value.response, separators=(",", ":")),
            }
            return "interactive", {"type": "nfm_reply", "nfm_reply": reply}
        case InboundReply():
            return "interactive", {"type": kind, kind: value.model_dump(exclude_none=True)}
        case NumberChange(new_wa_id=new):
            body = f"User {order.name} changed from {order.sender} to {new}"
            return "system", {"body": body, "wa_id": new, "type": "user_changed_number"}
        case InboundEdit():
            edited: Payload = {"type": "text", "text": {"body": value.text}}
            return "edit", {"original_message_id": value.message_id, "message": edited}
        case InboundRevoke():
            return "revoke", {"original_message_id": value.message_id}
        case Other():
            return value.type, value.content
        case BaseModel():
            return kind, value.model_dump(exclude_none=True)
        case str():
            return "text", {"body": value}
        case True:
            return "unsupported", None
        case _:
            return kind, value


def _file(state: State, number: str, kind: str, file: InboundFile) -> Payload:
    mime_type = file.mime_type or MIME_TYPES[kind]
    media = store(state, file.data, mime_type, file.filename, number)
    described: Payload = {
        "id": media.id,
        "mime_type": media.mime_type,
        # webhooks write it in base64, the API in hex
        "sha256": b64encode(bytes.fromhex(media.sha256)).decode(),
        "caption": file.caption,
        "filename": file.filename,
        "animated": file.animated,
        "voice": kind == "voice" if kind in ("audio", "voice") else None,
    }
    return {name: value for name, value in described.items() if value is not None}


def _context(order: Inbound) -> Payload:
    context: Payload = {}
    if order.reply_to:
        context |= {"from": DISPLAY_NUMBER, "id": order.reply_to}
    if order.forwarded:
        context["forwarded"] = True
    return context


def _contact(order: Inbound) -> Payload:
    profile: Payload = {"name": order.name}
    if order.username:
        profile["username"] = order.username
    contact: Payload = {"profile": profile}
    if order.sender:
        contact["wa_id"] = order.sender
    if order.user_id:
        contact["user_id"] = order.user_id
    return contact
