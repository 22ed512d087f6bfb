"""The decision on one field, and the winner if both sides have edited it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, NamedTuple

from rapport.metakocka.agreement.compare import same
from rapport.metakocka.agreement.limits import Side, misfit
from rapport.metakocka.agreement.party import Entry, Single

Rule = Literal["crm", "metakocka", "newest", "ask"]
Compared = Single | Entry


@dataclass(frozen=True)
class Conflict:
    """Both sides have edited `field`; if `winner` is None, each side keeps its value."""

    field: str
    base: Compared
    crm: Compared
    erp: Compared
    # `person`: a person has decided this conflict
    decided_by: Rule | Literal["person"]
    winner: Side | None


class Held(NamedTuple):
    """An edit that stays on its side, because the other side can't take it."""

    field: str
    # the side that has the value
    side: Side
    value: Compared
    reason: str


@dataclass(frozen=True)
class Rules:
    """An account's rule, and the decisions of people."""

    rule: Rule
    crm_changed_at: datetime | None = None
    # Metakocka's edits are later than this
    erp_changed_at: datetime | None = None
    # decisions by field, such as `phone` or `people.228000046630.email`
    decided: Mapping[str, Side] = field(default_factory=dict)
    # the contact's edits by field; a list is one field
    crm_edits: Mapping[str, datetime] = field(default_factory=dict)

    def contest(self, name: str) -> Contest:
        """The winner of a field that both sides have edited."""
        if name in self.decided:
            return Contest(name, "person", self.decided[name])
        if self.rule == "ask":
            return Contest(name, "ask", None)
        if self.rule != "newest":
            return Contest(name, self.rule, self.rule)
        # Metakocka gives no times: its edit was made at any time after the partner was last seen
        ours = self.crm_edits.get(name.partition(".")[0], self.crm_changed_at)
        if ours is None or self.erp_changed_at is None:
            return Contest(name, "newest", "metakocka" if self.erp_changed_at else "crm")
        return Contest(name, "newest", "crm" if ours >= self.erp_changed_at else "metakocka")


class Contest(NamedTuple):
    """The winner of a field if both sides have edited it; None if each keeps its value."""

    field: str
    decided_by: Rule | Literal["person"]
    winner: Side | None


class Choice(NamedTuple):
    """The decision on one field: the agreed value, and the side that gets it, if any."""

    agreed: Single
    write: Side | None = None
    conflict: Conflict | None = None
    held: Held | None = None


def choose(
    rules: Rules, name: str, base: Single, crm: Single, erp: Single, key: str | None = None
) -> Choice:
    """Decides one field; `key` is its name in a decision, where `name` is not unique.

    A base of None was never agreed on. If Metakocka does not return a value, the value is not
    erased. If a contact does not know a flag, the flag is not erased either.
    """
    last = name.rpartition(".")[2]
    if same(last, crm, erp):
        return Choice(crm)
    if erp is None and base is not None and same(last, crm, base):
        return Choice(base)
    contest = rules.contest(key or name)
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
        # the conflict has no winner if the other side can't take its value
        conflict = conflict and replace(conflict, winner=None)
        return Choice(base, None, conflict, Held(contest.field, winner, value, reason))
    return Choice(value, side, conflict)
