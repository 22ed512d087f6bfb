"""What the rules of an account will send, as the server computes it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Unpack
from uuid import UUID, uuid5

from pydantic import JsonValue, TypeAdapter

from rapport.client.asked import AskedList, AskedSubscription
from rapport.client.catch_up import CatchUp
from rapport.client.database import UpcomingRemindersAnswer, UpcomingRemindersAnswerReminder
from rapport.client.server import Server
from rapport.client.subscription import RowCallbacks
from rapport.client.timing import Timing

_TABLES = ("jobs", "invoices", "loyalty_transactions", "reminder_rules", "contacts")
# rows in one answer
_MOST = 200
# seconds between two questions: an answer is computed of all that is due
_PAUSE = 3.0
_ANSWER = TypeAdapter(UpcomingRemindersAnswer)


class Reminder(UpcomingRemindersAnswerReminder):
    """A reminder to come."""

    @property
    def id(self) -> UUID:
        """Made of its rule, its occasion and its time: one that is moved is another."""
        subject = self.job_id or self.invoice_id or self.customer_id
        return uuid5(self.rule_id, f"{subject} {self.due_at.isoformat()}")


class ReminderSubscription(AskedSubscription[Reminder]):
    """Reminders to come, the earliest first."""

    def __init__(
        self,
        catch_up: CatchUp,
        server: Server,
        timing: Timing,
        account_id: UUID,
        until: timedelta,
        page_size: int,
        **callbacks: Unpack[RowCallbacks[Reminder]],
    ) -> None:
        self._account_id = account_id
        self._until = until
        self._page_size = page_size
        # how many are wanted
        self._size = page_size
        self._has_more = False
        source = AskedList(_TABLES, self._read, _is_over)
        super().__init__(catch_up, server, timing, source, _PAUSE, **callbacks)

    @property
    def has_more(self) -> bool:
        """Whether there are further reminders to load."""
        return self._has_more

    async def load_more(self) -> None:
        """Loads a further page, if there is one. Raises what the server refuses."""
        if self._has_more:
            self._size += self._page_size
            await self.refresh()

    async def _read(self, server: Server) -> list[Reminder]:
        until = (datetime.now(UTC) + self._until).isoformat()
        found: list[Reminder] = []
        cursor: JsonValue = None
        while True:
            answer = await server.call(
                "upcoming_reminders",
                _ANSWER,
                account_id=str(self._account_id),
                until=until,
                cursor=cursor,
                page_size=min(_MOST, self._size - len(found)),
            )
            found += [Reminder.model_validate(one.model_dump()) for one in answer.reminders]
            cursor = answer.cursor
            self._has_more = cursor is not None
            if cursor is None or len(found) >= self._size:
                return found


def _is_over(reminders: Iterable[Reminder]) -> bool:
    """Whether one has been sent by now."""
    now = datetime.now(UTC)
    return any(one.send_at is not None and one.send_at < now for one in reminders)
