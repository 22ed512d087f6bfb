"""Reads the message templates from WhatsApp, on a schedule."""

from __future__ import annotations

from functools import cache

from aws_lambda_powertools.utilities.typing import LambdaContext

from rapport.errors import RapportError
from rapport.log import correlated, logger
from rapport.media_store import MediaStore
from rapport.settings import GraphSettings, StoreSettings
from rapport.whatsapp.graph_media import GraphMedia
from rapport.whatsapp.templates import read_templates


@cache
def _store() -> MediaStore:
    return MediaStore(StoreSettings.load())


@cache
def _graph() -> GraphMedia:
    return GraphMedia(GraphSettings.load())


def handler(_event: dict[str, object], context: LambdaContext) -> dict[str, int]:
    """Syncs every WhatsApp Business account; one that fails keeps none of the others."""
    counts = {"synced": 0, "failed": 0}
    with correlated(context.aws_request_id):
        for waba_id in _store().template_owners():
            try:
                templates, unknown = read_templates(_graph().templates(waba_id))
                result = _store().apply_templates(waba_id, templates)
            except RapportError as error:
                counts["failed"] += 1
                logger.error("not synced", waba_id=waba_id, code=error.code, reason=str(error))
            else:
                counts["synced"] += 1
                logger.info("synced", waba_id=waba_id, unknown=unknown, **result.model_dump())
    return counts
