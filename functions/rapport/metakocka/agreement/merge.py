"""The three-way merge of a contact and a partner against what both last agreed on.

Pure: it is given three states and returns what to agree on and what to write on either side.
An echo needs no mark: where both sides hold the agreed values there is nothing to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from rapport.metakocka.agreement.decisions import Conflict, Decisions, Held, Rule, choose
from rapport.metakocka.agreement.limits import Side
from rapport.metakocka.agreement.merge_lists import merge_entries
from rapport.metakocka.agreement.party import LISTS, SINGLE, Party, Value


@dataclass(frozen=True)
class Merged:
    """What comes of a merge.

    `party` is the next base. `crm_changes` has the contact's new values by field, with whole
    lists; `erp_changes` Metakocka's, with those entries of a list alone that are to be sent.
    """

    party: Party
    crm_changes: Mapping[str, Value]
    erp_changes: Mapping[str, Value]
    conflicts: tuple[Conflict, ...] = ()
    held: tuple[Held, ...] = ()

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to write on either side."""
        return not self.crm_changes and not self.erp_changes


def merge(
    base: Party | None,
    crm: Party,
    erp: Party | None,
    rule: Rule,
    crm_changed_at: datetime | None = None,
    erp_changed_at: datetime | None = None,
    decisions: Mapping[str, Side] | None = None,
    *,
    crm_edits: Mapping[str, datetime] | None = None,
) -> Merged:
    """Merges a contact (`crm`) and a partner (`erp`), field by field.

    An edit of one side goes to the other, equal edits agree, and where both have edited the
    rule decides: `newest` by the two times (`crm_edits` has those of single fields), and with
    `ask` the field stays as it is on each side. `decisions` are those of people and come before
    the rule. Without a base (adoption) what is known fills what is not.

    `erp` is None where there is no such partner: all of a new contact is for Metakocka then,
    and nothing of one that had a partner, since a partner that is gone erases nothing.
    """
    if erp is None and base is not None:
        return Merged(base, {}, {})
    asked = Decisions(rule, crm_changed_at, erp_changed_at, decisions or {}, crm_edits or {})
    base, erp = base or Party(), erp or Party()
    agreed: dict[str, Value] = {}
    crm_changes: dict[str, Value] = {}
    erp_changes: dict[str, Value] = {}
    for name in SINGLE:
        choice = choose(asked, name, getattr(base, name), getattr(crm, name), getattr(erp, name))
        agreed[name] = choice.agreed
        if choice.write == "crm":
            crm_changes[name] = choice.agreed
        elif choice.write == "metakocka":
            erp_changes[name] = choice.agreed
    for name in LISTS:
        ours = getattr(crm, name)
        merged = merge_entries(asked, name, getattr(base, name), ours, getattr(erp, name))
        agreed[name] = merged.agreed
        if merged.crm != ours:
            crm_changes[name] = merged.crm
        if merged.to_erp:
            erp_changes[name] = merged.to_erp
    agreed["own_person"] = erp.own_person or base.own_person
    return Merged(
        Party.model_validate(agreed),
        crm_changes,
        erp_changes,
        tuple(asked.conflicts),
        tuple(asked.held),
    )
