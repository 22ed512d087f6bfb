"""Sends queued messages by WhatsApp: woken by the database, and every minute by schedule."""

from __future__ import annotations

from functools import cache
from uuid import uuid4

from rapport.log import WorkerContext, logger, worker
from rapport.settings import GraphSettings, MediaSettings, StoreSettings
from rapport.storage import Storage
from rapport.store.media import MediaStore
from rapport.store.outbound import OutboundMessage, OutboundStore
from rapport.whatsapp.deliver import Delivery
from rapport.whatsapp.graph import GraphClient, GraphMedia
from rapport.whatsapp.media import Attachments


@cache
def _store() -> OutboundStore:
    return OutboundStore(StoreSettings.load())


@cache
def _settings() -> GraphSettings:
    return GraphSettings.load()


@cache
def _graph() -> GraphClient:
    return GraphClient(_settings())


class _Files:
    """Prepares attachments. Most messages have no file, and need no bucket."""

    def attach(self, message: OutboundMessage) -> OutboundMessage:
        if isinstance(message.content, dict) and "upload_id" in message.content:
            return _attachments().attach(message)
        return message


@cache
def _attachments() -> Attachments:
    store = MediaStore(StoreSettings.load())
    return Attachments(store, GraphMedia(_settings()), Storage(MediaSettings.load()))


@worker
def handler(_event: dict[str, object], context: WorkerContext) -> dict[str, int]:
    """Returns the number of messages by outcome."""
    ends = Delivery(
        queue=_store(),
        sender=_graph(),
        files=_Files(),
        # a run that AWS repeats has the id of the first one
        name=f"deliver-{context.aws_request_id}-{uuid4().hex[:8]}",
        remaining=lambda: context.get_remaining_time_in_millis() / 1000,
        user_id_field=_settings().whatsapp_user_id_field,
    ).run()
    if ends:
        logger.info("delivered", ends=dict(ends))
    return dict(ends)
