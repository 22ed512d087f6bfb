"""Sends scheduled messages and reminders at their time, and ends snoozes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import JsonValue

from rapport.store.later import LaterStore, Sent

BATCH = 100  # messages in one call; each is posted by itself
REMINDERS = 300  # reminders in one call; they are posted together
SNOOZES = 500  # snoozes in one call
# seconds: a call that starts with less time left could be cut off during its retries
RESERVE = 15.0
# seconds: a run waits for messages that are due before the schedule's next run
WATCH = 60.0
# seconds: at least so long between two looks, since the clocks of both machines may differ
PAUSE = 1.0


@dataclass
class SendLater:
    """One run. `remaining` gives the seconds until it is cut off."""

    store: LaterStore
    remaining: Callable[[], float]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def run(self) -> Counter[str]:
        """Sends all that is due, and what becomes due within a minute; counts it by outcome.

        A kind that fails does not stop the other.

        Raises:
            StoreError: The first failure, once everything has been tried.
        """
        ends: Counter[str] = Counter()
        watches_until = self.clock().timestamp() + WATCH
        while True:
            failures: list[Exception] = []
            try:
                self._end_snoozes(ends)
            except Exception as error:  # noqa: BLE001 - raised again below
                failures.append(error)
            next_times: list[datetime] = []
            for kind in (self._send_scheduled, self._send_reminders):
                try:
                    next_at = self._repeat(kind, ends)
                except Exception as error:  # noqa: BLE001 - raised again below
                    failures.append(error)
                else:
                    next_times += [next_at] if next_at else []
            if failures:
                raise failures[0]
            if not next_times or min(next_times).timestamp() > watches_until:
                return ends
            pause = max(PAUSE, (min(next_times) - self.clock()).total_seconds())
            if self.remaining() - pause < RESERVE:
                return ends
            self.sleep(pause)

    def _end_snoozes(self, ends: Counter[str]) -> None:
        while self.remaining() > RESERVE and (ended := self.store.end_snoozes(SNOOZES)):
            ends["unsnoozed"] += ended

    def _send_scheduled(self, _after: JsonValue) -> Sent:
        return self.store.send_scheduled(BATCH)

    def _send_reminders(self, after: JsonValue) -> Sent:
        return self.store.send_reminders(REMINDERS, after)

    def _repeat(self, kind: Callable[[JsonValue], Sent], ends: Counter[str]) -> datetime | None:
        """Calls until nothing is due, or the time is nearly over; when the next one is due."""
        after: JsonValue = None
        while self.remaining() > RESERVE:
            sent = kind(after)
            after = sent.after
            counts = sent.model_dump(include={"sent", "failed", "dropped", "moved"})
            ends.update({end: count for end, count in counts.items() if count})
            if sent.is_done:
                return sent.next_at
        return None
