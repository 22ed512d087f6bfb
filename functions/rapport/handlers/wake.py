"""POST /internal/wake: the database calls it to start a worker; it does not wait for the worker."""

from __future__ import annotations

import hmac
from functools import cache
from typing import Literal

from typing_extensions import TypedDict

from rapport.deferred import Deferred
from rapport.errors import MethodNotAllowed, NotAllowed
from rapport.handlers.http import HttpRequest, Response, bearer, http_function, json_, read_json
from rapport.log import logger
from rapport.settings import Current, WakeSettings
from rapport.starter import Starter, starter_of

BODY_LIMIT = 1024
_settings = Current(WakeSettings.load)


class Wake(Deferred):
    """The worker to start."""

    worker: Literal[
        "deliver_outbound",
        "fetch_media",
        "metakocka_sync",
        "send_later",
        "send_notifications",
        "sync_templates",
        # all that are due: for a server whose host sleeps, by pg_cron
        "schedules",
    ]


class Woken(TypedDict):
    """The worker looks for work."""

    worker: str


@cache
def _starter() -> Starter:
    return starter_of(_settings().worker_function_prefix)


def _is_right(given: str) -> bool:
    secret = _settings().wake_secret
    if secret is None:
        logger.error("WAKE_SECRET is not set: workers run only on their schedule")
        return False
    return hmac.compare_digest(given.encode(), secret.get_secret_value().encode())


@http_function
def handler(request: HttpRequest) -> Response:
    """Answers 202 once the worker is certain to look for work."""
    if request.method != "POST":
        raise MethodNotAllowed
    given = bearer(request)
    if not (_is_right(given) or (_settings.reread() and _is_right(given))):
        raise NotAllowed
    worker = read_json(Wake, request, BODY_LIMIT).worker
    _starter().start(worker)
    return json_(202, Woken(worker=worker))
