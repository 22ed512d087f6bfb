"""Sends by WhatsApp what is queued: woken by the database, and every minute in any case."""

from __future__ import annotations

from functools import cache
from typing import Protocol
from uuid import uuid4

from rapport.log import logger
from rapport.settings import GraphSettings, StoreSettings
from rapport.store import Store
from rapport.whatsapp.deliver import Delivery
from rapport.whatsapp.graph import GraphClient


class Context(Protocol):
    """What is asked of Lambda's context."""

    def get_remaining_time_in_millis(self) -> int: ...


@cache
def _store() -> Store:
    return Store(StoreSettings.load())


@cache
def _settings() -> GraphSettings:
    return GraphSettings.load()


@cache
def _graph() -> GraphClient:
    return GraphClient(_settings())


def handler(_event: dict[str, object], context: Context) -> dict[str, int]:
    """Answers how many messages came to which end."""
    ends = Delivery(
        queue=_store(),
        sender=_graph(),
        name=f"deliver-{uuid4()}",
        remaining=lambda: context.get_remaining_time_in_millis() / 1000,
        user_id_field=_settings().whatsapp_user_id_field,
    ).run()
    if ends:
        logger.info("delivered", ends=dict(ends))
    return dict(ends)
