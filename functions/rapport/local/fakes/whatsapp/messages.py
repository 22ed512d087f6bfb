"""POST /{number}/messages: accepts a message to a customer, or marks the customer's as read."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import JsonValue

from rapport.local.fakes.whatsapp.courier import Courier
from rapport.local.fakes.whatsapp.errors import GraphError
from rapport.local.fakes.whatsapp.payloads import Payload, message_id
from rapport.local.fakes.whatsapp.sends import FILES, Send, parse_read, parse_send
from rapport.local.fakes.whatsapp.state import Sent, State, WhatsAppPerson
from rapport.local.fakes.whatsapp.templates import check_template, shown_template


def accept(state: State, courier: Courier, number: str, body: dict[str, JsonValue]) -> Payload:
    """Accepts a message and returns the API's answer; its statuses follow as webhooks.

    Raises:
        GraphError: It can't be sent.
    """
    send = parse_send(body)
    person = (
        WhatsAppPerson(group_id=send.to)
        if send.recipient_type == "group"
        else WhatsAppPerson(wa_id=send.to, user_id=None if send.to else send.recipient)
    )
    for name in FILES:
        file = getattr(send, name) if send.type == name else None
        if file and file.id and file.id not in state.media:
            raise GraphError(131009, f"Parameter {name}.id: there is no such media.")
    if send.template and send.type == "template":
        check_template(state, send.template)
    is_closed = send.type != "template" and not state.is_window_open(number, person)
    if is_closed and state.behaviour.closed_window == "refuse":
        raise GraphError(131047, "More than 24 hours have passed since the customer last replied.")
    _require_pace(state, number, person)

    sent = Sent(
        id=message_id(),
        phone_number_id=number,
        to=person,
        type=send.type,
        content=body[send.type],
        text=_shown(state, send),
        at=datetime.now(UTC),
        reply_to=send.context.message_id if send.context else None,
        callback_data=send.biz_opaque_callback_data,
    )
    state.keep(state.sent, sent.id, sent)
    fails = is_closed and state.behaviour.closed_window == "fail"
    courier.report(sent, error_code=131047 if fails else None)
    return _answer(body, sent)


def mark_read(state: State, number: str, body: dict[str, JsonValue]) -> Payload:
    """Marks a customer's message as read.

    Raises:
        GraphError: The request is wrong.
    """
    read = parse_read(body)
    mark: Payload = {
        "phone_number_id": number,
        "message_id": read.message_id,
        "typing": read.typing_indicator is not None,
        "at": datetime.now(UTC).isoformat(),
    }
    state.keep(state.reads, read.message_id, mark)
    return {"success": True}


def _require_pace(state: State, number: str, person: WhatsAppPerson) -> None:
    limits = state.behaviour.limits
    if limits.per_second is not None and not state.may_send(
        number, size=limits.per_second, seconds_each=1 / limits.per_second
    ):
        raise GraphError(130429, "Too many messages were sent from this number in a short time.")
    if limits.pair_burst is not None and not state.may_send(
        number, person.key, size=limits.pair_burst, seconds_each=limits.pair_ms / 1000
    ):
        raise GraphError(131056, "Too many messages were sent to this person in a short time.")


def _answer(body: dict[str, JsonValue], sent: Sent) -> Payload:
    contact: Payload = {"input": body.get("to") or body.get("recipient")}
    if sent.to.group_id:
        contact |= {"wa_id": sent.to.group_id}
    else:
        contact |= {"wa_id": sent.to.wa_id} if sent.to.wa_id else {"user_id": sent.to.user_id}
    message: Payload = {"id": sent.id}
    if sent.type == "template":
        message["message_status"] = "accepted"
    return {"messaging_product": "whatsapp", "contacts": [contact], "messages": [message]}


def _shown(state: State, send: Send) -> str:
    """The text that the customer's phone shows."""
    if send.text and send.type == "text":
        return send.text.body
    if send.template and send.type == "template":
        return shown_template(state, send.template)
    if send.interactive and send.type == "interactive":
        return send.interactive.body.text if send.interactive.body else ""
    if send.reaction and send.type == "reaction":
        return send.reaction.emoji
    file = getattr(send, send.type)
    return getattr(file, "caption", None) or ""
