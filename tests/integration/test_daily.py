"""The daily function's work, through the gateway and PostgREST."""

from __future__ import annotations

from pydantic import HttpUrl, SecretStr

from rapport.local.stack.running import Stack
from rapport.settings import StoreSettings
from rapport.store.daily import DailyStore, Pruned


def test_functions_may_do_each_part(gateway: Stack) -> None:
    store = DailyStore(
        StoreSettings(
            supabase_url=HttpUrl(gateway.url),
            supabase_secret_key=SecretStr(gateway.secret_key),
        )
    )
    try:
        assert store.mark_overdue_invoices(10) == 0
        assert store.expire_points(10) == 0
        assert store.prune(10) == Pruned(changes=0, webhook_events=0, sync=0)
    finally:
        store.close()
