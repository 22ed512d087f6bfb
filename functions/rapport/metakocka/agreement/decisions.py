"""Who wins where both sides have edited one field, and what becomes of a single field. Pure."""

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
    # `person` where a person has decided this very conflict
    decided_by: Rule | Literal["person"]
    winner: Side | None


@dataclass(frozen=True)
class Held:
    """An edit that stays on its own side, because the other can't take it."""

    field: str
    # where the value is
    side: Side
    value: Compared
    reason: str


@dataclass(frozen=True)
class Rules:
    """An account's rule, and what people have decided."""

    rule: Rule
    crm_changed_at: datetime | None = None
    # Metakocka's edits are later than this
    erp_changed_at: datetime | None = None
    # by field, such as `phone` or `people.228000046630.email`
    decided: Mapping[str, Side] = field(default_factory=dict)
    # the contact's edits by field; a list is one field
    crm_edits: Mapping[str, datetime] = field(default_factory=dict)

    def contest(self, name: str) -> Contest:
        """Who wins a field that both sides have edited."""
        if name in self.decided:
            return Contest(name, "person", self.decided[name])
        if self.rule == "ask":
            return Contest(name, "ask", None)
        if self.rule != "newest":
            return Contest(name, self.rule, self.rule)
        # Metakocka gives no times: its edit may be of any time after the partner was last seen
        ours = self.crm_edits.get(name.partition(".")[0], self.crm_changed_at)
        if ours is None or self.erp_changed_at is None:
            return Contest(name, "newest", "metakocka" if self.erp_changed_at else "crm")
        return Contest(name, "newest", "crm" if ours >= self.erp_changed_at else "metakocka")


@dataclass(frozen=True)
class Contest:
    """A field that both sides may have edited, and who wins it then; None if nobody does."""

    field: str
    decided_by: Rule | Literal["person"]
    winner: Side | None


@dataclass(frozen=True)
class Choice:
    """What becomes of one field: the agreed value, and which side is to be written, if any."""

    agreed: Single
    write: Side | None = None
    conflict: Conflict | None = None
    held: Held | None = None


def choose(
    rules: Rules, name: str, base: Single, crm: Single, erp: Single, key: str | None = None
) -> Choice:
    """Decides one field; `key` is its name in a decision, where `name` is not unique.

    A base of None was never agreed on. A value that Metakocka does not return is no erasure, and
    a flag that is not known in a contact is none either.
    """
    contest = rules.contest(key or name)
    last = name.rpartition(".")[2]
    if same(last, crm, erp):
        return Choice(crm)
    if erp is None and base is not None and same(last, crm, base):
        return Choice(base)
    conflict: Conflict | None = None
    winner: Side | None
    if crm is None and (base is None or isinstance(erp, bool)):
        winner = "metakocka"
    elif erp is None:
        winner = "crm"
    elif base is not None and same(last, crm, base):
        winner = "metakocka"
    elif base is not None and same(last, erp, base):
        winner = "crm"
    else:
        winner = contest.winner
        conflict = Conflict(contest.field, base, crm, erp, contest.decided_by, winner)
    if winner is None:
        return Choice(base, conflict=conflict)
    value = crm if winner == "crm" else erp
    side: Side = "metakocka" if winner == "crm" else "crm"
    if reason := misfit(side, name, value):
        # nobody wins a conflict whose winner the other side can't take
        conflict = conflict and replace(conflict, winner=None)
        return Choice(base, None, conflict, Held(contest.field, winner, value, reason))
    return Choice(value, side, conflict)
