"""The three-way merge of a contact, a partner and the state that both last agreed on.

Pure: from three states it makes the next agreed state and the changes for each side. An echo needs
no mark: if both sides have the agreed values, there is nothing to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from rapport.metakocka.agreement.decisions import Conflict, Held, Rule, Rules, choose
from rapport.metakocka.agreement.limits import Side
from rapport.metakocka.agreement.merge_lists import merge_entries
from rapport.metakocka.agreement.party import LISTS, SINGLE, Party, Value


@dataclass(frozen=True)
class Merged:
    """The result of a merge.

    `party` is the next base. `crm_changes` has the contact's new values by field, with whole lists.
    `erp_changes` has Metakocka's new values; its lists have only the entries that must be sent.
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

    An edit of one side goes to the other side. Equal edits agree. If both sides have edited a
    field, the rule decides: `newest` compares the times (`crm_edits` has the times of single
    fields), and with `ask` each side keeps its value. `decisions` are made by people and come
    before the rule. Without a base (adoption), a known value fills an unknown one.

    `erp` is None if the partner does not exist. Then a new contact is sent whole. A contact that
    had a partner stays as it is: a deleted partner erases nothing.
    """
    if erp is None and base is not None:
        return Merged(base, {}, {})
    rules = Rules(rule, crm_changed_at, erp_changed_at, decisions or {}, crm_edits or {})
    base, erp = base or Party(), erp or Party()
    agreed: dict[str, Value] = {"own_person": erp.own_person or base.own_person}
    crm_changes: dict[str, Value] = {}
    erp_changes: dict[str, Value] = {}
    conflicts: list[Conflict] = []
    held: list[Held] = []
    for name in SINGLE:
        choice = choose(rules, name, getattr(base, name), getattr(crm, name), getattr(erp, name))
        agreed[name] = choice.agreed
        conflicts += [choice.conflict] if choice.conflict else []
        held += [choice.held] if choice.held else []
        if choice.write == "crm":
            crm_changes[name] = choice.agreed
        elif choice.write == "metakocka":
            erp_changes[name] = choice.agreed
    for name in LISTS:
        ours = getattr(crm, name)
        merged = merge_entries(rules, name, getattr(base, name), ours, getattr(erp, name))
        agreed[name] = merged.agreed
        conflicts += merged.conflicts
        held += merged.held
        if merged.crm != ours:
            crm_changes[name] = merged.crm
        if merged.to_erp:
            erp_changes[name] = merged.to_erp
    # without validating them again: they are values of parties
    party = base.model_copy(update=agreed)
    return Merged(party, crm_changes, erp_changes, tuple(conflicts), tuple(held))
