"""Reads the message templates from WhatsApp, on a schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from rapport.errors import RapportError
from rapport.log import WorkerContext, described, logger, worker
from rapport.settings import GraphSettings, StoreSettings
from rapport.store.templates import TemplateStore
from rapport.whatsapp.graph import GraphMedia
from rapport.whatsapp.templates import read_templates


@cache
def _store() -> TemplateStore:
    return TemplateStore(StoreSettings.load())


@cache
def _graph() -> GraphMedia:
    return GraphMedia(GraphSettings.load())


@worker
def handler(_event: dict[str, object], _context: WorkerContext) -> dict[str, int]:
    """Syncs every WhatsApp Business account. One that fails does not stop the others."""
    counts = {"synced": 0, "failed": 0}
    for owner in _store().template_owners():
        try:
            read_at = datetime.now(UTC)
            templates, unknown = read_templates(
                _graph().templates(owner.waba_id, owner.phone_number_ids)
            )
            result = _store().apply_templates(owner.waba_id, templates, read_at)
        except RapportError as error:
            counts["failed"] += 1
            logger.error("not synced", extra={"waba_id": owner.waba_id, **described(error)})
        else:
            counts["synced"] += 1
            logger.info("synced", waba_id=owner.waba_id, unknown=unknown, **result.model_dump())
    return counts
