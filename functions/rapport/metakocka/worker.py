"""The worker that synchronizes whatever account has something to do."""

from __future__ import annotations

import time
from collections import Counter
from uuid import UUID

from rapport.errors import Conflict, NotFound, RapportError
from rapport.log import described, log_crash, logger
from rapport.metakocka.sync import Sync
from rapport.metakocka_rows import Direction, Due, Trigger

ACCOUNTS = 50


def serve(sync: Sync, watch: float = 0) -> Counter[str]:
    """Runs until nobody has anything to do, or the time is nearly over; answers runs by state.

    It looks again after each run: who rang while an account was leased found nothing due. For
    `watch` seconds it stays while others are at work: one that was killed is followed at once
    when its lease is over.

    Raises:
        StoreError: The database can't be asked.
    """
    ends: Counter[str] = Counter()
    left_alone: set[UUID] = set()
    watches_until = time.monotonic() + watch
    while sync.remaining() > sync.reserve:
        due = [
            one for one in sync.store.connections_due(ACCOUNTS) if one.account_id not in left_alone
        ]
        if not due:
            lease_end = sync.store.next_lease_end() if time.monotonic() < watches_until else None
            if lease_end is None:
                break
            time.sleep(min(lease_end + 0.05, max(watches_until - time.monotonic(), 0)))
            continue
        for one in due:
            if sync.remaining() <= sync.reserve:
                break
            end = _run(sync, one)
            ends[end] += 1
            if end != "done":
                # the next worker's
                left_alone.add(one.account_id)
    return ends


def _run(sync: Sync, due: Due) -> str:
    direction: Direction = "to_metakocka"
    trigger: Trigger = "wake"
    if "schedule" in due.reasons and "run" not in due.reasons:
        direction, trigger = "both", "schedule"
    try:
        report = sync.run(due.account_id, direction, trigger)
    except (NotFound, Conflict):
        return "passed over"  # disconnected, or another's
    except RapportError as error:
        # one account's trouble is not the others'
        logger.error("not run", extra={"account_id": str(due.account_id), **described(error)})
        return "failed"
    except Exception as error:  # noqa: BLE001 - nor is its crash
        log_crash(error, account_id=str(due.account_id))
        return "failed"
    return report.state if report else "passed over"
