"""Who wins where both sides have edited one field, and what comes of a single field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from rapport.metakocka.agreement.compare import same
from rapport.metakocka.agreement.limits import Side, misfit
from rapport.metakocka.agreement.party import Entry, Single

Rule = Literal["crm", "metakocka", "newest", "ask"]
Compared = Single | Entry


@dataclass(frozen=True)
class Conflict:
    """Both sides have edited `field`; `winner` is None where it stays as it is on each."""

    field: str
    base: Compared
    crm: Compared
    erp: Compared
    # `person` where somebody has decided this very conflict
    decided_by: Rule | Literal["person"]
    winner: Side | None


@dataclass(frozen=True)
class Held:
    """An edit that stays on its own side, since the other can't take it."""

    field: str
    # where the value is
    side: Side
    value: Compared
    reason: str


@dataclass
class Decisions:
    """An account's rule, what people have decided, and what came of it so far."""

    rule: Rule
    crm_changed_at: datetime | None = None
    # an edit of Metakocka's is later than this
    erp_changed_at: datetime | None = None
    # by field, such as `phone` or `people.228000046630.email`
    made: Mapping[str, Side] = field(default_factory=dict)
    # of the contact, by field; a list is one
    crm_edits: Mapping[str, datetime] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def settle(self, name: str, base: Compared, crm: Compared, erp: Compared) -> Side | None:
        """Who wins an edit of both sides, None if nobody does; the conflict is recorded."""
        decided_by: Rule | Literal["person"] = self.rule
        winner: Side | None
        if name in self.made:
            decided_by, winner = "person", self.made[name]
        elif self.rule == "ask":
            winner = None
        elif self.rule == "newest":
            winner = self._newest(name)
        else:
            winner = self.rule
        self.conflicts.append(Conflict(name, base, crm, erp, decided_by, winner))
        return winner

    def hold(self, name: str, side: Side, value: Compared, reason: str) -> None:
        """Leaves an edit where it is; a conflict that it has won is won by nobody then."""
        self.held.append(Held(name, side, value, reason))
        self.conflicts = [
            replace(one, winner=None) if one.field == name else one for one in self.conflicts
        ]

    def _newest(self, name: str) -> Side:
        # Metakocka gives no times: an edit of its is of any time since it was last seen without
        ours = self.crm_edits.get(name.partition(".")[0], self.crm_changed_at)
        if ours is None or self.erp_changed_at is None:
            return "metakocka" if self.erp_changed_at else "crm"
        return "crm" if ours >= self.erp_changed_at else "metakocka"


@dataclass(frozen=True)
class Choice:
    """What becomes of one field: the agreed value, and which side is to be written, if any."""

    agreed: Single
    write: Side | None = None


def choose(
    decisions: Decisions, name: str, base: Single, crm: Single, erp: Single, key: str | None = None
) -> Choice:
    """Decides one field; `key` is how it is called in a decision, where `name` is not unique.

    What was never agreed on has a base of None. What Metakocka does not tell is no erasure,
    and a flag that is not known in a contact is none either.
    """
    last = name.rpartition(".")[2]
    if same(last, crm, erp):
        return Choice(crm)
    if erp is None and base is not None and same(last, crm, base):
        return Choice(base)
    if crm is None and (base is None or isinstance(erp, bool)):
        winner: Side | None = "metakocka"
    elif erp is None:
        winner = "crm"
    elif base is not None and same(last, crm, base):
        winner = "metakocka"
    elif base is not None and same(last, erp, base):
        winner = "crm"
    else:
        winner = decisions.settle(key or name, base, crm, erp)
    if winner is None:
        return Choice(base)
    value = crm if winner == "crm" else erp
    side: Side = "metakocka" if winner == "crm" else "crm"
    if reason := misfit(side, name, value):
        decisions.hold(key or name, winner, value, reason)
        return Choice(base)
    return Choice(value, side)
