"""What the people who run a deployment do by hand: pause, redrive, and look after a restore."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from rapport.store.postgrest import Store, understood
from rapport.store.webhooks import RawEvent


class Pause(BaseModel):
    """A number that is paused, or without one an account; and how many messages wait."""

    account_id: UUID
    channel_id: UUID | None
    waiting: int
    is_paused: bool = True
    # messages, and of an account scheduled ones
    withdrawn: int = 0
    # what else holds messages after a resumption: the numbers, and the account as a whole
    paused_numbers: list[str] = []
    is_account_paused: bool = False


class Redriven(BaseModel):
    """How many messages are queued again, and how many are not, by reason."""

    redriven: int
    left_out: dict[str, int]
    # where the next call goes on; None at the end
    after: UUID | None


class Numbers(BaseModel):
    """The ids by which webhooks name an account."""

    phone_number_ids: list[str]
    waba_ids: list[str]


class Restored(BaseModel):
    """What a database held when its backup was made; numbers of rows."""

    # of the latest webhook that it has
    latest_webhook_at: datetime | None
    messages: int
    scheduled_messages: int
    reminder_rules: int
    notifications: int
    files: int
    partner_calls: int
    sync_runs: int
    # scheme and host; None where there is none
    doorbell: str | None


class OperationsStore(Store):
    """Each call may be repeated, and raises as `Store` says."""

    def pause(self, named: str) -> Pause:
        """Has nothing sent any more from a number or an account.

        Raises:
            NotFound: There is none of this name.
            Conflict: Several numbers are written like this.
        """
        return understood(Pause, self._call("pause_sending", {"named": named}))

    def resume(self, named: str, *, withdraw: bool) -> Pause:
        """Ends a pause; with `withdraw` what waits is withdrawn first, some hundred in a call.

        Raises:
            NotFound: There is none of this name.
            Conflict: Several numbers are written like this.
        """
        answer = self._call("resume_sending", {"named": named, "withdraw": withdraw})
        return understood(Pause, answer)

    def redrive_messages(
        self,
        account: str | None,
        message_id: UUID | None,
        since: datetime | None,
        after: UUID | None,
        *,
        uncertain: bool,
        dry_run: bool,
    ) -> Redriven:
        """Queues a part of the messages again that failed; with `dry_run` it only counts."""
        answer = self._call(
            "redrive_messages",
            {
                **_which(account, message_id, since),
                "after": after and str(after),
                "uncertain": uncertain,
                "dry_run": dry_run,
            },
        )
        return understood(Redriven, answer)

    def redrive_notifications(self, account: str | None, *, dry_run: bool) -> int:
        """Lets notifications go now that wait for another try; returns their number."""
        answer = self._call("redrive_notifications", {"account": account, "dry_run": dry_run})
        return understood(int, answer)

    def redrive_files(
        self,
        account: str | None,
        message_id: UUID | None,
        since: datetime | None,
        *,
        dry_run: bool,
    ) -> int:
        """Has files fetched again that failed, a part at a time; returns their number."""
        which = _which(account, message_id, since)
        return understood(int, self._call("redrive_files", {**which, "dry_run": dry_run}))

    def rejected_webhooks(
        self,
        after_id: int,
        page_size: int,
        account: str | None,
        event_id: int | None,
        since: datetime | None,
    ) -> list[RawEvent]:
        """The next webhooks with updates that could not be applied, by id; none at the end."""
        answer = self._call(
            "rejected_webhooks",
            {
                "after_id": after_id,
                "page_size": page_size,
                "account": account,
                "event_id": event_id,
                "since": since and since.isoformat(),
            },
        )
        return understood(list[RawEvent], answer)

    def numbers_of(self, account: str) -> Numbers:
        """The ids by which webhooks name an account.

        Raises:
            NotFound: There is no such account.
        """
        return understood(Numbers, self._call("numbers_of", {"account": account}))

    def after_restore(self, *, dry_run: bool) -> Restored:
        """Holds what would be sent a second time; with `dry_run` it only tells what there is."""
        return understood(Restored, self._call("after_restore", {"dry_run": dry_run}))


def _which(
    account: str | None, message_id: UUID | None, since: datetime | None
) -> dict[str, object]:
    return {
        "account": account,
        "message_id": message_id and str(message_id),
        "since": since and since.isoformat(),
    }
