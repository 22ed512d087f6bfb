from __future__ import annotations

import pytest

from rapport.local.supabase.realtime.snapshots import Snapshot

EPOCH = 1 << 32


@pytest.mark.parametrize(
    ("text", "xid", "is_over"),
    [
        ("100:100:", 99, True),
        ("100:100:", 100, False),
        ("100:110:103,105", 104, True),
        ("100:110:103,105", 105, False),
        # after the counter has wrapped around
        (f"{EPOCH + 10}:{EPOCH + 10}:", 9, True),
        (f"{EPOCH + 10}:{EPOCH + 10}:", EPOCH - 1, True),
        (f"{EPOCH - 1}:{EPOCH - 1}:", 3, False),
        (f"{EPOCH - 5}:{EPOCH + 10}:{EPOCH - 5}", EPOCH - 5, False),
    ],
)
def test_a_transaction_is_over_once_the_snapshot_has_it(text: str, xid: int, is_over: bool) -> None:
    assert Snapshot.parse(text).is_over(xid) is is_over
