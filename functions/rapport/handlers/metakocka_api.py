"""Sync of contacts with Metakocka, on request of an account's admins."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING
from uuid import uuid4

from rapport.errors import NotFound
from rapport.handlers.http import (
    HttpRequest,
    Response,
    bearer,
    http_function,
    json_,
    read_json,
    read_query,
)
from rapport.handlers.metakocka import secrets, settings, store
from rapport.log import about
from rapport.metakocka import endpoints as on_request
from rapport.metakocka.endpoints import (
    Answer,
    Contacts,
    OneContact,
    OnePartner,
    Partners,
    SyncBegun,
    SyncQueued,
    Unsynced,
    WhichMappings,
    WhichWay,
    bulk_answer,
    one_answer,
    require_good,
)
from rapport.settings import UserStoreSettings
from rapport.store.metakocka_requests import MetakockaUser
from rapport.store.postgrest import UserStores

if TYPE_CHECKING:
    from rapport.metakocka.sync.run import Sync

BODY_LIMIT = 128 * 1024  # bytes
_BASE = "/api/integrations/metakocka/contacts"


@cache
def _users() -> UserStores[MetakockaUser]:
    return UserStores(UserStoreSettings.load(), MetakockaUser)


def _sync() -> Sync:
    # the whole sync, which requests that only look do without
    from rapport.metakocka.sync.run import Sync

    ends_at = time.monotonic() + on_request.TIME
    return Sync(
        store(),
        secrets(),
        settings(),
        worker=f"request-{uuid4()}",
        remaining=lambda: ends_at - time.monotonic(),
        reserve=on_request.RESERVE,
        policies=on_request.POLICIES,
    )


def _send(request: HttpRequest, user: MetakockaUser) -> Response:
    if read_query(WhichWay, request).bulk:
        many = read_json(Contacts, request, BODY_LIMIT)
        about(account_id=many.account_id)
        return _many(on_request.send(_sync(), user, many.account_id, many.contact_ids))
    one = read_json(OneContact, request, BODY_LIMIT)
    about(account_id=one.account_id, contact_id=one.contact_id)
    return _one(on_request.send(_sync(), user, one.account_id, [one.contact_id]))


def _receive(request: HttpRequest, user: MetakockaUser) -> Response:
    one = read_json(OnePartner, request, BODY_LIMIT)
    about(account_id=one.account_id)
    return _one(on_request.receive(_sync(), user, one.account_id, [one.metakocka_id]))


def _receive_many(request: HttpRequest, user: MetakockaUser) -> Response:
    many = read_json(Partners, request, BODY_LIMIT)
    about(account_id=many.account_id)
    return _many(on_request.receive(_sync(), user, many.account_id, many.metakocka_ids))


def _unsynced(request: HttpRequest, user: MetakockaUser) -> Response:
    page = read_query(Unsynced, request)
    about(account_id=page.account_id)
    return json_(200, on_request.unsynced(_sync(), user, page.account_id, page.cursor, page.limit))


def _mappings(request: HttpRequest, user: MetakockaUser) -> Response:
    page = read_query(WhichMappings, request)
    about(account_id=page.account_id, contact_id=page.contact_id)
    wanted = [page.contact_id] if page.contact_id else []
    allowed = user.authorize(page.account_id, wanted)
    if allowed.not_found:
        raise NotFound("There is no such contact.", field="contact_id")
    found = user.mappings(allowed.account_id, page.contact_id, page.cursor, page.limit)
    if page.contact_id is None:
        return json_(200, found.model_dump(mode="json"))
    if not found.mappings:
        raise NotFound("This contact has no partner at Metakocka yet.", field="contact_id")
    return json_(200, {"mapping": found.mappings[0]})


_ROUTES: dict[str, Callable[[HttpRequest, MetakockaUser], Response]] = {
    f"POST {_BASE}/sync-to-metakocka": _send,
    f"POST {_BASE}/sync-from-metakocka": _receive,
    f"GET {_BASE}/sync-from-metakocka": _unsynced,
    f"POST {_BASE}/sync-all-from-metakocka": _receive_many,
    f"GET {_BASE}/mappings": _mappings,
}


@http_function
def handler(request: HttpRequest) -> Response:
    """Answers one request of a signed-in user."""
    route = _ROUTES.get(request.route_key)
    if route is None:
        raise NotFound
    return route(request, _users().of(bearer(request)))


def _one(answer: Answer) -> Response:
    if not answer.outcomes or answer.run_id:
        return json_(202, SyncQueued(run_id=str(answer.run_id)))
    [outcome] = answer.outcomes
    require_good(outcome)
    return json_(202 if outcome.status == "waiting" else 200, one_answer(outcome))


def _many(answer: Answer) -> Response:
    told = bulk_answer(answer.outcomes)
    if answer.run_id is None:
        return json_(200, told)
    return json_(202, SyncBegun(run_id=str(answer.run_id), **told))
