"""The database's part in sending contacts to Metakocka: marks, questions and calls made once."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from datetime import datetime, timedelta
from typing import Literal, Self
from uuid import UUID

from rapport.metakocka_rows import (
    BegunIntent,
    DirtyClaim,
    Fields,
    PartnerItem,
    Settled,
    UnsettledIntent,
)
from rapport.store import Store, understood


class SendingStore(Store):
    """What is asked of the database when contacts are sent; every call may be repeated.

    Every call raises as those of MetakockaStore.
    """

    # whose lease of an account its writes need
    worker: str | None = None

    def bound_to(self, worker: str) -> Self:
        """The same store for one worker: what it writes is refused once its lease is lost."""
        bound = copy(self)
        bound.worker = worker
        return bound

    def claim_dirty_contacts(
        self,
        account_id: UUID,
        worker: str,
        batch: int,
        contact_ids: Sequence[UUID] | None = None,
        *,
        dry_run: bool = False,
    ) -> DirtyClaim:
        """Leases up to `batch` contacts to be sent, in the order of their change.

        All that are due, or those of `contact_ids`; a dry run shows them and leases none.
        """
        answer = self._call(
            "claim_dirty_contacts",
            {
                "account_id": str(account_id),
                "worker": worker,
                "batch": batch,
                "contact_ids": None if contact_ids is None else [str(one) for one in contact_ids],
                "dry_run": dry_run,
            },
        )
        return understood(DirtyClaim, answer)

    def settle_partner(
        self,
        account_id: UUID,
        run_id: UUID | None,
        contact_id: UUID,
        changed_seq: int | None,
        item: PartnerItem,
    ) -> Settled:
        """Notes what was agreed when a contact was sent; `changed_seq` is as it was claimed.

        Also where the result is stale it stands that the contact is this partner.
        """
        answer = self._call(
            "settle_partner",
            {
                "account_id": str(account_id),
                "run_id": None if run_id is None else str(run_id),
                "contact_id": str(contact_id),
                "changed_seq": changed_seq,
                "item": item.model_dump(mode="json"),
                "worker": self.worker,
            },
        )
        return understood(Settled, answer)

    def block_contact(
        self,
        account_id: UUID,
        contact_id: UUID,
        changed_seq: int,
        missing: Sequence[str],
        state: Literal["blocked", "unknown"] = "blocked",
    ) -> bool:
        """Notes why a contact is not sent; False where it has changed and will be claimed again."""
        answer = self._call(
            "block_contact",
            {
                "account_id": str(account_id),
                "contact_id": str(contact_id),
                "changed_seq": changed_seq,
                "missing": list(missing),
                "state": state,
                "worker": self.worker,
            },
        )
        return understood(bool, answer)

    def ask_partner(
        self,
        account_id: UUID,
        contact_id: UUID,
        changed_seq: int | None,
        metakocka_id: str | None,
        partners: Sequence[Fields],
    ) -> bool:
        """Asks people which of up to 100 partners a contact is, each with its `metakocka_id`.

        `metakocka_id` is the one that it is so far, or that is gone. Without `changed_seq` the
        contact goes on with it. False where it has changed and will be claimed again.
        """
        answer = self._call(
            "ask_partner",
            {
                "account_id": str(account_id),
                "contact_id": str(contact_id),
                "changed_seq": changed_seq,
                "metakocka_id": metakocka_id,
                "partners": list(partners),
                "worker": self.worker,
            },
        )
        return understood(bool, answer)

    def unsettled_intents(self, account_id: UUID) -> list[UnsettledIntent]:
        """The open intents of an account, the oldest first, up to 500."""
        answer = self._call("unsettled_intents", {"account_id": str(account_id)})
        return understood(list[UnsettledIntent], answer)

    def forget_partner(self, account_id: UUID, contact_id: UUID, metakocka_id: str) -> bool:
        """Notes which partner a deleted contact is; False where one of the two is another's."""
        answer = self._call(
            "forget_partner",
            {
                "account_id": str(account_id),
                "contact_id": str(contact_id),
                "metakocka_id": metakocka_id,
                "worker": self.worker,
            },
        )
        return understood(bool, answer)

    def note_partners_seen(
        self,
        account_id: UUID,
        metakocka_ids: Sequence[str],
        seen_at: datetime,
        base: Fields | None = None,
    ) -> None:
        """Notes when partners were seen with what was agreed; for contacts that are to be sent.

        `base` is what is agreed from now on, of a single one.
        """
        self._call(
            "note_partners_seen",
            {
                "account_id": str(account_id),
                "metakocka_ids": list(metakocka_ids),
                "seen_at": seen_at.isoformat(),
                "worker": self.worker,
                "base": base,
            },
        )

    def postpone_contact(
        self, account_id: UUID, contact_id: UUID, worker: str, retry_in: timedelta
    ) -> None:
        """Gives a claimed contact back, to be claimed again after a while, a day at most."""
        self._call(
            "postpone_contact",
            {
                "account_id": str(account_id),
                "contact_id": str(contact_id),
                "worker": worker,
                "retry_in": f"{retry_in.total_seconds()} seconds",
            },
        )

    def begin_intent(
        self,
        account_id: UUID,
        contact_id: UUID,
        operation: Literal["add_partner", "update_partner"],
        fingerprint: str,
        sent: Fields,
    ) -> BegunIntent:
        """Notes that a call is about to be made, or answers the one that is open already.

        What was `sent` is what its outcome will be looked for by.
        """
        answer = self._call(
            "begin_intent",
            {
                "account_id": str(account_id),
                "contact_id": str(contact_id),
                "operation": operation,
                "fingerprint": fingerprint,
                "sent": sent,
                "worker": self.worker,
            },
        )
        return understood(BegunIntent, answer)

    def settle_intent(
        self,
        account_id: UUID,
        intent_id: UUID,
        state: Literal["sent", "unknown", "settled", "abandoned"],
        metakocka_id: str | None = None,
    ) -> bool:
        """Notes how a call stands; False where the caller must not go on.

        `sent` is noted just before the call, and True once: where its own answer was lost the
        call may have been made by another worker.
        """
        answer = self._call(
            "settle_intent",
            {
                "account_id": str(account_id),
                "intent_id": str(intent_id),
                "state": state,
                "metakocka_id": metakocka_id,
                "worker": self.worker,
            },
        )
        return understood(bool, answer)
