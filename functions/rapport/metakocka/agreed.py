"""How far a contact and its partner have come while it is sent. Pure, as the merge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from rapport.metakocka.decisions import Conflict, Held
from rapport.metakocka.party import Value
from rapport.metakocka.plan import Contact, Plan, Terms, as_fields, field_conflicts, plan_of
from rapport.metakocka.wire import PartnerRecord
from rapport.metakocka_rows import PartnerItem


@dataclass(frozen=True)
class Agreed:
    """How far two sides have come: the contact as it is to be, and the last merge.

    The version is that of the contact as it was claimed.
    """

    contact: Contact
    plan: Plan
    # of the merges before the last
    changes: Mapping[str, Value] = field(default_factory=dict)
    decided: tuple[Conflict, ...] = ()
    held: tuple[Held, ...] = ()
    has_sent: bool = False
    # when the partner was read last
    seen_at: datetime | None = None

    def __post_init__(self) -> None:
        known = {one.field: one for one in (*self.held, *self.plan.merged.held)}
        object.__setattr__(self, "held", tuple(known.values()))

    def after(self, record: PartnerRecord, terms: Terms, seen_at: datetime) -> Agreed:
        """The same once more, with the partner as it is now."""
        merged = self.plan.merged
        contact = replace(
            self.contact,
            party=self.contact.party.model_copy(update=dict(merged.crm_changes)),
            base=merged.party,
        )
        return Agreed(
            contact,
            plan_of(contact, record, terms),
            {**self.changes, **merged.crm_changes},
            (*self.decided, *(one for one in merged.conflicts if one.winner is not None)),
            self.held,
            has_sent=True,
            seen_at=seen_at,
        )

    @property
    def is_open(self) -> bool:
        return any(one.winner is None for one in self.plan.merged.conflicts)

    @property
    def has_changes(self) -> bool:
        return self.has_sent or bool(self.changes) or not self.plan.merged.is_quiet

    def item(self) -> PartnerItem:
        changes = as_fields({**self.changes, **self.plan.merged.crm_changes})
        return self.plan.item(self.contact, self.seen_at).model_copy(
            update={
                "changes": changes,
                "expected_version": self.contact.version if changes else None,
                "conflicts": field_conflicts((*self.decided, *self.plan.merged.conflicts)),
                # what Metakocka has not taken after some rounds it would not take now
                "push": False,
            }
        )
