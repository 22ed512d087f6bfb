"""Webhooks in fields other than messages: calls, marketing choices, the phone app, groups.

Source: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference, and
.../groups/webhooks.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from datetime import datetime, timedelta

from pydantic import JsonValue

from rapport.local.fakes.whatsapp.inbound import GroupChange, Inbound, InboundCall, Past
from rapport.local.fakes.whatsapp.payloads import (
    DISPLAY_NUMBER,
    Payload,
    epoch,
    message_id,
    webhook,
)

# each event's webhook field and its name there
_GROUP_EVENTS = {
    "create": ("group_lifecycle_update", "group_create"),
    "delete": ("group_lifecycle_update", "group_delete"),
    "suspend": ("group_status_update", "group_suspend"),
    "unsuspend": ("group_status_update", "group_suspend_cleared"),
    "rename": ("group_settings_update", "group_settings_update"),
    "join": ("group_participants_update", "group_participants_add"),
    "leave": ("group_participants_update", "group_participants_remove"),
}


def is_of_another_field(order: Inbound) -> bool:
    """Whether the order is no message."""
    return order.kind in ("call", "marketing", "history", "phone_book", "group_change")


def compose_other(order: Inbound, at: datetime, contact: Payload) -> Payload:
    """The webhook for an order that is no message; `contact` is the customer."""
    if order.call:
        field, news = "calls", _call(order, order.call, at)
        news = {"contacts": [contact], **news}
    elif order.marketing:
        preference: Payload = {
            "detail": f"User requested to {order.marketing} marketing messages",
            "category": "marketing_messages",
            "value": order.marketing,
            "timestamp": int(epoch(at)),
            **_ids(order),
        }
        field = "user_preferences"
        news = {"contacts": [contact], "user_preferences": [preference]}
    elif order.history:
        field, news = "history", _history(order, order.history, at)
    elif order.group_change:
        field, news = _group(order, order.group_change, at)
    else:
        field, news = "smb_app_state_sync", _phone_book(order, at)
    return webhook(order.phone_number_id, news, field)


def _ids(order: Inbound) -> Payload:
    ids: Payload = {"wa_id": order.sender} if order.sender else {}
    return ids | ({"user_id": order.user_id} if order.user_id else {})


def _call(order: Inbound, call: InboundCall, at: datetime) -> Payload:
    call_id = call.call_id or f"wacid.{b64encode(secrets.token_bytes(24)).decode()}"
    if call.event not in ("connect", "terminate"):
        status: Payload = {
            "id": call_id,
            "type": "call",
            "status": call.event.upper(),
            "timestamp": epoch(at),
        }
        status |= {"recipient_id": order.sender} if order.sender else {}
        status |= {"recipient_user_id": order.user_id} if order.user_id else {}
        return {"statuses": [status]}
    mine, theirs = ("from", "to") if call.ours else ("to", "from")
    told: Payload = {
        "id": call_id,
        mine: DISPLAY_NUMBER,
        "event": call.event,
        "timestamp": epoch(at),
        "direction": "BUSINESS_INITIATED" if call.ours else "USER_INITIATED",
    }
    told |= {theirs: order.sender} if order.sender else {}
    told |= {f"{theirs}_user_id": order.user_id} if order.user_id else {}
    if call.event == "connect":
        told["session"] = {"sdp_type": "answer" if call.ours else "offer", "sdp": "v=0\r\n"}
    elif call.seconds is None:
        told["status"] = "FAILED"
    else:
        told |= {
            "status": "COMPLETED",
            "start_time": epoch(at - timedelta(seconds=call.seconds)),
            "end_time": epoch(at),
            "duration": call.seconds,
        }
    return {"calls": [told]}


def _history(order: Inbound, history: list[Past], at: datetime) -> Payload:
    messages: list[JsonValue] = []
    for past in history:
        message: Payload = {
            "from": DISPLAY_NUMBER if past.ours else order.sender,
            "id": past.provider_id or message_id(),
            "timestamp": epoch(past.at or at),
            "type": "text",
            "text": {"body": past.text},
            "history_context": {"status": past.status},
        }
        if past.ours:
            message["to"] = order.sender
        messages.append(message)
    thread: Payload = {"id": order.sender, "messages": messages}
    progress: Payload = {"phase": 0, "chunk_order": 1, "progress": 100}
    return {"history": [{"metadata": progress, "threads": [thread]}]}


def _phone_book(order: Inbound, at: datetime) -> Payload:
    action = order.phone_book.action if order.phone_book else "add"
    entry: Payload = {"phone_number": order.sender}
    if action == "add":
        entry |= {"full_name": order.name, "first_name": order.name.split(" ", maxsplit=1)[0]}
    return {
        "state_sync": [
            {
                "type": "contact",
                "contact": entry,
                "action": action,
                "metadata": {"timestamp": epoch(at)},
            }
        ]
    }


def _group(order: Inbound, change: GroupChange, at: datetime) -> tuple[str, Payload]:
    field, type_ = _GROUP_EVENTS[change.event]
    group: Payload = {"timestamp": epoch(at), "group_id": order.group_id, "type": type_}
    match change.event:
        case "create":
            group |= {"subject": change.name or "Group", "join_approval_mode": "auto_approve"}
        case "rename":
            group["group_subject"] = {"text": change.name, "update_successful": True}
        case "join":
            group |= {"reason": "invite_link", "added_participants": [_ids(order)]}
        case "leave":
            group |= {"initiated_by": "participant", "removed_participants": [_ids(order)]}
    return field, {"groups": [group]}
