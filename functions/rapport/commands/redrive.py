"""The command `rapport redrive`: what failed is put back, once its cause is mended.

Figures come first, and a person says yes. Nothing is sent twice: what was put back is not found
again, and a message that WhatsApp may have is left out unless it is asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

import typer
from rich.console import Console

from rapport.commands.dead_letters import DeadLetter, DeadLetters
from rapport.commands.project import store_settings, webhook_queues
from rapport.errors import Unprocessable
from rapport.store.operations import Numbers, OperationsStore
from rapport.store.webhooks import RawEvent, WebhookStore
from rapport.whatsapp.backlog import Backlog
from rapport.whatsapp.replay import replay_each

_PAGE = 100
# as many files as one call of the database takes
_FILES = 1000
# the database's reasons to leave a message out, in words
_REASONS = {
    "uncertain": "WhatsApp may have them; --uncertain sends them again",
    "too_early": "their outcome may still come; try again in two minutes",
    "dropped": "a person has withdrawn or dropped them",
    "not_ours": "they came from WhatsApp or from the phone app",
    "contact_deleted": "their contacts were deleted",
    "window_closed": "the person has not written for 24 hours, and they are no templates",
    "rests": "WhatsApp would refuse them again today",
}


@dataclass(frozen=True)
class Choice:
    """What to redrive: everything, or only that of one account, of one id, or since a time."""

    account: str | None = None
    message_id: UUID | None = None
    # of a webhook
    event_id: int | None = None
    since: datetime | None = None
    uncertain: bool = False

    @property
    def is_of_one(self) -> bool:
        """Whether it is one message or one webhook."""
        return self.message_id is not None or self.event_id is not None


@dataclass
class Figures:
    """How much was put back, or would be."""

    webhooks: int = 0
    updates: int = 0
    still_rejected: int = 0
    failed: int = 0
    # None where no queue is named
    dead_letters: int | None = None
    messages: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    notifications: int = 0
    files: int = 0

    @property
    def any(self) -> bool:
        """Whether there is anything to put back."""
        found = (self.updates, self.dead_letters, self.messages, self.notifications, self.files)
        return any(found)

    def lines(self) -> Iterator[str]:
        """The figures for a person."""
        yield f"{self.webhooks:8} stored webhooks with updates that could not be applied"
        yield f"{self.updates:8} updates of these that can be applied now"
        yield f"{self.still_rejected:8} updates that still can't"
        if self.failed:
            yield f"{self.failed:8} webhooks that failed: run the command again"
        if self.dead_letters is None:
            yield "       0 dead letters: no queue is named (WEBHOOK_DEAD_LETTERS_URL)"
        else:
            yield f"{self.dead_letters:8} dead letters of the webhooks' queue"
        yield f"{self.messages:8} messages that failed"
        for reason, count in sorted(self.left_out.items()):
            yield f"{count:8} messages left out: {_REASONS.get(reason, reason)}"
        yield f"{self.notifications:8} notifications that wait for another try"
        yield f"{self.files:8} files that could not be fetched"


class Redrive:
    """Puts back what a choice says, in the project that commands talk to."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        settings = store_settings()
        self.url = settings.supabase_url
        self._store = OperationsStore(settings)
        self._webhooks = WebhookStore(settings)
        queues = webhook_queues()
        self._letters: DeadLetters | None = None
        self._backlog: Backlog | None = None
        if queues.webhook_queue_url and queues.webhook_dead_letters_url:
            self._letters = DeadLetters(str(queues.webhook_dead_letters_url))
            self._backlog = Backlog(str(queues.webhook_queue_url))

    def close(self) -> None:
        """Closes the connections."""
        self._store.close()
        self._webhooks.close()

    def run(self, *, dry_run: bool) -> Figures:
        """Puts everything back; with `dry_run` it only counts.

        Raises:
            RapportError: The database or the queue can't be reached, or there is no such account.
                What was put back before stays so; running it again does the rest.
        """
        figures = Figures()
        if self._choice.message_id is None:
            self._redrive_webhooks(figures, dry_run=dry_run)
        if not self._choice.is_of_one:
            self._redrive_letters(figures, dry_run=dry_run)
            figures.notifications = self._store.redrive_notifications(
                self._choice.account, dry_run=dry_run
            )
        if self._choice.event_id is None:
            self._redrive_messages(figures, dry_run=dry_run)
            self._redrive_files(figures, dry_run=dry_run)
        return figures

    def _redrive_webhooks(self, figures: Figures, *, dry_run: bool) -> None:
        for replayed in replay_each(self._webhooks, self._rejected(), dry_run=dry_run):
            figures.webhooks += 1
            figures.updates += replayed.applied
            figures.still_rejected += replayed.rejected
            figures.failed += replayed.failure is not None

    def _rejected(self) -> Iterator[RawEvent]:
        one = self._choice
        after_id = 0
        while page := self._store.rejected_webhooks(
            after_id, _PAGE, one.account, one.event_id, one.since
        ):
            yield from page
            after_id = page[-1].id

    def _redrive_letters(self, figures: Figures, *, dry_run: bool) -> None:
        if self._letters is None or self._backlog is None:
            return
        account = self._choice.account
        numbers = None if account is None else self._store.numbers_of(account)
        figures.dead_letters = 0
        # all are read first: one that is shown again would be read again
        for letter in list(self._letters.read()):
            is_chosen = self._is_chosen(letter, numbers)
            figures.dead_letters += is_chosen
            if is_chosen and not dry_run:
                self._letters.move(letter, self._backlog)
            else:
                self._letters.release(letter)

    def _is_chosen(self, letter: DeadLetter, numbers: Numbers | None) -> bool:
        since = self._choice.since
        if since is not None and letter.kept_since < since:
            return False
        return (
            numbers is None
            or not letter.phone_number_ids.isdisjoint(numbers.phone_number_ids)
            or not letter.waba_ids.isdisjoint(numbers.waba_ids)
        )

    def _redrive_messages(self, figures: Figures, *, dry_run: bool) -> None:
        one = self._choice
        after: UUID | None = None
        while True:
            part = self._store.redrive_messages(
                one.account,
                one.message_id,
                one.since,
                after,
                uncertain=one.uncertain,
                dry_run=dry_run,
            )
            figures.messages += part.redriven
            figures.left_out.update(part.left_out)
            after = part.after
            if after is None:
                return

    def _redrive_files(self, figures: Figures, *, dry_run: bool) -> None:
        one = self._choice
        while True:
            count = self._store.redrive_files(
                one.account, one.message_id, one.since, dry_run=dry_run
            )
            figures.files += count
            # a dry run would find the same ones again
            if dry_run or count < _FILES:
                return


def which(
    account: str | None, one: str | None, since: datetime | None, *, uncertain: bool
) -> Choice:
    """The choice of a command line; `one` is a message's id, or the number of a stored webhook.

    Raises:
        Unprocessable: `one` is neither.
    """
    since = since and (since.replace(tzinfo=UTC) if since.tzinfo is None else since)
    choice = Choice(account=account, since=since, uncertain=uncertain)
    if one is None:
        return choice
    if re.fullmatch(r"[0-9]{1,18}", one):
        return replace(choice, event_id=int(one))
    try:
        return replace(choice, message_id=UUID(one))
    except ValueError:
        raise Unprocessable(
            f"{one!r} is neither a message's id nor the number of a stored webhook.", field="--id"
        ) from None


def redrive(choice: Choice, *, dry_run: bool, yes: bool) -> None:
    """Shows what would be put back, and puts it back once a person has said yes.

    Raises:
        RapportError: As `Redrive.run`.
    """
    console = Console()
    with closing(Redrive(choice)) as work:
        console.print(f"\n  In {work.url}\n", highlight=False, soft_wrap=True)
        figures = work.run(dry_run=True)
        _show(figures, console)
        if dry_run or not figures.any:
            console.print("\n  Nothing was changed.\n", highlight=False)
            return
        console.print()
        if not yes:
            typer.confirm("  Put all of it back?", abort=True)
        console.print("\n  Put back:\n", highlight=False)
        _show(work.run(dry_run=False), console)


def _show(figures: Figures, console: Console) -> None:
    for line in figures.lines():
        console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)
