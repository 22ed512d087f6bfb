"""What the schedules do, through the gateway and PostgREST."""

from __future__ import annotations

from pydantic import HttpUrl, SecretStr

from rapport.local.stack.running import Stack
from rapport.settings import StoreSettings
from rapport.store.daily import DailyStore, Kept, Pruned
from rapport.store.later import LaterStore


def test_functions_may_do_each_part(gateway: Stack) -> None:
    settings = StoreSettings(
        supabase_url=HttpUrl(gateway.url),
        supabase_secret_key=SecretStr(gateway.secret_key),
    )
    store, later = DailyStore(settings), LaterStore(settings)
    try:
        assert later.send_scheduled(10).is_done
        assert later.send_reminders(10).is_done
        assert later.end_snoozes(10) == 0
        assert store.mark_overdue_invoices(10) == 0
        assert store.expire_points(10) == 0
        assert store.prune(10) == Pruned.nothing()
        assert store.count_usage(10) == 0
        assert store.prune_kept(10) == Kept(messages=0, files=0, is_done=True)
        assert store.files_to_delete(10) == []
        store.settle_file_deletions(["none"])
    finally:
        store.close()
        later.close()
