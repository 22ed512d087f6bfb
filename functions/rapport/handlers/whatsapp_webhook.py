"""Receives WhatsApp's webhooks: GET confirms the address to Meta, POST delivers.

Meta forgets a webhook that was answered with 200, and has no API for past ones. So the answer is
200 only when the database, or in its absence the queue, has the webhook. Otherwise it is 503, and
Meta repeats the webhook for days.

Source: developers.facebook.com, "Create a webhook endpoint".
"""

from __future__ import annotations

import hmac
import threading
import time
from functools import cache

from pydantic import SecretStr

from rapport.errors import (
    BadSignature,
    MalformedPayload,
    MethodNotAllowed,
    NotAllowed,
    RapportError,
)
from rapport.handlers.http import HttpRequest, Response, body_of, http_function, json_, text
from rapport.log import described, log_crash, logger
from rapport.metrics import tell
from rapport.settings import BacklogSettings, Current, StoreSettings, WhatsAppSettings
from rapport.store.health import HealthStore
from rapport.store.webhooks import WebhookStore
from rapport.whatsapp import webhook as signature
from rapport.whatsapp.backlog import Backlog
from rapport.whatsapp.intake import Queued, take_in
from rapport.whatsapp.webhook import parse

BODY_LIMIT = 4 * 1024 * 1024  # bytes; Meta sends 3 MB at most
CHALLENGE_LIMIT = 256
NOTE_INTERVAL = 60.0  # seconds: a stranger who floods us causes one call of the database in these

_settings = Current(WhatsAppSettings.load)


@cache
def _store() -> WebhookStore:
    return WebhookStore(StoreSettings.load())


@cache
def _backlog() -> Backlog | None:
    url = BacklogSettings.load().webhook_queue_url
    return Backlog(str(url)) if url else None


class _Refusals:
    """The webhooks with a wrong signature, for the owners who see it in `account_health`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._next_note = 0.0

    def note(self) -> None:
        """Counts one, for an alarm; the database is told at once, and then no more than once a
        minute.
        """
        tell(RefusedSignatures=1)
        with self._lock:
            self._count += 1
            now = time.monotonic()
            if now < self._next_note:
                return
            self._next_note = now + NOTE_INTERVAL
            count, self._count = self._count, 0
        try:
            _health().note_refused_signatures(count)
        except RapportError as error:
            # the request is refused all the same
            logger.warning("refusal not noted", extra=described(error))


_refusals = _Refusals()


@cache
def _health() -> HealthStore:
    return HealthStore(StoreSettings.load())


@http_function
def handler(request: HttpRequest) -> Response:
    """Answers one request of Meta."""
    match request.method:
        case "GET":
            return _challenge(request, _settings().whatsapp_verify_token)
        case "POST":
            return _deliver(request)
        case _:
            raise MethodNotAllowed


def _challenge(request: HttpRequest, token: SecretStr | None) -> Response:
    query = request.query
    if token is None:
        logger.error("WHATSAPP_VERIFY_TOKEN is not set: no verification can succeed")
        raise NotAllowed
    given = query.get("hub.verify_token", "").encode()
    if not hmac.compare_digest(given, token.get_secret_value().encode()):
        raise NotAllowed("The verify token is wrong.")
    challenge = query.get("hub.challenge", "")
    if query.get("hub.mode") != "subscribe" or not 0 < len(challenge) <= CHALLENGE_LIMIT:
        raise NotAllowed("This is not Meta's verification request.")
    return text(200, challenge)


def _is_meta_s(raw: bytes, given: str) -> bool:
    """Whether Meta has signed, by one of the secrets that are good now.

    After a wrong signature the secrets are read anew, once a minute at most: somebody may have
    changed them.
    """
    if signature.is_signed(raw, given, *_settings().app_secrets):
        return True
    return _settings.reread() and signature.is_signed(raw, given, *_settings().app_secrets)


def _deliver(request: HttpRequest) -> Response:
    raw = body_of(request, BODY_LIMIT)
    given = request.headers.get(signature.HEADER.lower()) or ""
    # such a signature is probably Meta's; what has none is a stranger's
    is_well_formed = signature.is_well_formed(given)
    if not (is_well_formed and _is_meta_s(raw, given)):
        if not _settings().app_secrets:
            logger.error("wrong signature", reason="WHATSAPP_APP_SECRET is not set")
            _refusals.note()
        elif is_well_formed:
            logger.error("wrong signature")
            _refusals.note()
        raise BadSignature
    try:
        body = raw.decode()
    except UnicodeDecodeError:
        raise MalformedPayload("The body is not UTF-8.") from None
    payload = parse(body)
    try:
        intake = take_in(_store(), body, payload)
    # no error on our side, a bug included, may lose the webhook
    except Exception as error:  # noqa: BLE001 - a bug of ours loses no webhook
        return _keep(body, error)
    return json_(200, intake.answer)


def _keep(body: str, cause: Exception) -> Response:
    """Queues a webhook that could not be stored.

    If no try succeeds it becomes a dead letter, and can be queued again once the cause is mended.
    """
    backlog = _backlog()
    if backlog is None:
        raise cause
    if isinstance(cause, RapportError):
        logger.warning("not stored", extra=described(cause))
    else:
        log_crash(cause)
    backlog.keep(body)
    logger.info("queued", bytes=len(body))
    return json_(200, Queued(queued=True))
