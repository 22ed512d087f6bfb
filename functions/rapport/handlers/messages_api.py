"""Messages and conversations for portals, dashboards and bots; each request runs as its user."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from uuid import UUID

from rapport.chat.answers import DropAnswer, PhoneAnswer, ReadAnswer, ResendAnswer, TypingAnswer
from rapport.chat.messages import list_messages, write_message
from rapport.chat.requests import (
    ConversationPath,
    MessagePage,
    MessagePath,
    NewMessage,
    ReadUpTo,
    Where,
    WrittenPhone,
)
from rapport.errors import NotAllowed, NotAPhoneNumber, NotFound, Unprocessable
from rapport.handlers.http import (
    HttpRequest,
    Response,
    bearer,
    http_function,
    json_,
    read_json,
    read_path,
    read_query,
)
from rapport.log import about, logger
from rapport.settings import GraphSettings, UserStoreSettings
from rapport.store.chat import ChatStore
from rapport.store.postgrest import UserStores
from rapport.whatsapp.graph import Accepted, GraphClient, Refused

BODY_LIMIT = 128 * 1024  # bytes; `content` has 64 KB at most


@cache
def _stores() -> UserStores[ChatStore]:
    return UserStores(UserStoreSettings.load(), ChatStore)


@cache
def _graph() -> GraphClient:
    return GraphClient(GraphSettings.load())


def _list(request: HttpRequest, store: ChatStore, *, as_staff: bool = False) -> Response:
    return json_(200, list_messages(store, read_query(MessagePage, request), as_staff=as_staff))


def _write(request: HttpRequest, store: ChatStore, *, as_staff: bool = False) -> Response:
    new = read_json(NewMessage, request, BODY_LIMIT)
    written = write_message(store, new, read_query(Where, request), as_staff=as_staff)
    return json_(201, written)


def _window(request: HttpRequest, store: ChatStore) -> Response:
    return json_(200, store.reply_window(_conversation(request, store)).model_dump())


def _read(request: HttpRequest, store: ChatStore) -> Response:
    up_to_seq = read_json(ReadUpTo, request, BODY_LIMIT).up_to_seq
    conversation_id = _conversation(request, store)
    reached = store.mark_read(conversation_id, up_to_seq)
    try:
        shown = _show(conversation_id, store, typing=False)
    except (NotAllowed, NotFound, Unprocessable):
        # the chat is not on WhatsApp, or the reader is not staff
        shown = False
    return json_(200, ReadAnswer(last_read_seq=reached, shown=shown))


def _typing(request: HttpRequest, store: ChatStore) -> Response:
    shown = _show(_conversation(request, store), store, typing=True)
    return json_(200, TypingAnswer(shown=shown))


def _resend(request: HttpRequest, store: ChatStore) -> Response:
    store.resend_message(_message(request))
    return json_(202, ResendAnswer(status="queued"))


def _drop(request: HttpRequest, store: ChatStore) -> Response:
    store.drop_message(_message(request))
    return json_(200, DropAnswer(status="failed"))


def _phone(request: HttpRequest, store: ChatStore) -> Response:
    # the numbering plans of all countries, which the other requests do without
    from rapport.phone import to_e164

    written = read_json(WrittenPhone, request, BODY_LIMIT)
    country = store.country(written.account_id)
    try:
        return json_(200, PhoneAnswer(phone=to_e164(written.phone, country)))
    except NotAPhoneNumber as error:
        error.field = "phone"
        raise


_ROUTES: dict[str, Callable[[HttpRequest, ChatStore], Response]] = {
    "GET /api/messages": _list,
    "POST /api/messages": _write,
    "GET /api/operator/messages": partial(_list, as_staff=True),
    "POST /api/operator/messages": partial(_write, as_staff=True),
    "POST /api/conversations/{id}/read": _read,
    "POST /api/conversations/{id}/typing": _typing,
    "GET /api/conversations/{id}/window": _window,
    "POST /api/messages/{id}/resend": _resend,
    "POST /api/messages/{id}/drop": _drop,
    "POST /api/phone": _phone,
}


@http_function
def handler(request: HttpRequest) -> Response:
    """Answers one request of a signed-in user."""
    route = _ROUTES.get(request.route_key)
    if route is None:
        raise NotFound
    return route(request, _stores().of(bearer(request)))


def _conversation(request: HttpRequest, store: ChatStore) -> UUID:
    conversation_id = store.resolve_conversation(
        read_path(ConversationPath, request).id, field="id"
    )
    about(conversation_id=conversation_id)
    return conversation_id


def _message(request: HttpRequest) -> UUID:
    message_id = read_path(MessagePath, request).id
    about(message_id=message_id)
    return message_id


def _show(conversation_id: UUID, store: ChatStore, *, typing: bool) -> bool:
    """Shows the customer on WhatsApp that staff have read, or are typing; returns whether WhatsApp
    took it.

    If WhatsApp refuses, that is only logged.
    """
    latest = store.latest_inbound(conversation_id)
    if latest is None:
        return False
    outcome = _graph().mark_read(latest.phone_number_id, latest.provider_id, typing=typing)
    if not isinstance(outcome, Accepted):
        code = outcome.code if isinstance(outcome, Refused) else None
        logger.warning("not shown", outcome=type(outcome).__name__.lower(), code=code)
    return isinstance(outcome, Accepted)
