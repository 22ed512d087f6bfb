"""Takes WhatsApp's webhooks: GET proves to Meta that the address is ours, POST delivers.

Source: developers.facebook.com, "Create a webhook endpoint".
"""

from __future__ import annotations

import hmac
from functools import cache

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2
from pydantic import SecretStr

from rapport.errors import BadSignature, MalformedPayload, MethodNotAllowed, NotAllowed
from rapport.handlers.http import Response, body_of, http_function, json_, text
from rapport.log import logger
from rapport.settings import StoreSettings, WhatsAppSettings
from rapport.store import Store
from rapport.whatsapp import signature
from rapport.whatsapp.items import items_of
from rapport.whatsapp.webhook import parse

BODY_LIMIT = 4 * 1024 * 1024  # bytes; Meta sends 3 MB at most
CHALLENGE_LIMIT = 256

_settings = cache(WhatsAppSettings.load)


@cache
def _store() -> Store:
    return Store(StoreSettings.load())


@http_function
def handler(request: APIGatewayProxyEventV2) -> Response:
    """Answers one request of Meta's."""
    match request.http_method:
        case "GET":
            return _challenge(request, _settings().whatsapp_verify_token)
        case "POST":
            return _deliver(request, _settings().whatsapp_app_secret)
        case _:
            raise MethodNotAllowed


def _challenge(request: APIGatewayProxyEventV2, token: SecretStr | None) -> Response:
    query = request.query_string_parameters
    if token is None:
        logger.error("WHATSAPP_VERIFY_TOKEN is not set: no verification can succeed")
        raise NotAllowed
    given = query.get("hub.verify_token", "").encode()
    if not hmac.compare_digest(given, token.get_secret_value().encode()):
        raise NotAllowed("The verify token is wrong.")
    challenge = query.get("hub.challenge", "")
    if query.get("hub.mode") != "subscribe" or not 0 < len(challenge) <= CHALLENGE_LIMIT:
        raise NotAllowed("This is not a subscription's verification.")
    return text(200, challenge)


def _deliver(request: APIGatewayProxyEventV2, secret: SecretStr | None) -> Response:
    raw = body_of(request, BODY_LIMIT)
    given = request.headers.get(signature.HEADER)
    if secret is None:
        logger.error("WHATSAPP_APP_SECRET is not set: every webhook is refused")
        raise BadSignature
    if given is None or not signature.is_signed(raw, given, secret.get_secret_value()):
        raise BadSignature
    try:
        body = raw.decode()
    except UnicodeDecodeError:
        raise MalformedPayload("The body is not UTF-8.") from None
    items = items_of(parse(body))
    result = _store().ingest_whatsapp(body, items)
    logger.info(
        "stored",
        event_id=result.event_id,
        items=len(items),
        applied=result.applied,
        duplicates=result.duplicates,
        rejected=[rejection.model_dump() for rejection in result.rejected],
    )
    return json_(
        200,
        {
            "received": len(items),
            "applied": result.applied,
            "duplicates": result.duplicates,
            "rejected": len(result.rejected),
        },
    )
