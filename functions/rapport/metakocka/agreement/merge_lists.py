"""The merge of lists: people and further addresses, entry by entry.

The entries of the three states are paired first, then each is decided.

An entry is identified by its mk_id, which Metakocka gives. An entry that was written in the contact
has no mk_id before Metakocka returns it; before that its values identify it. At Metakocka nothing
can be deleted. If an entry was removed from the contact, Metakocka keeps it, and the agreed state
remembers it, so that it does not come back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from rapport.metakocka.agreement.compare import same
from rapport.metakocka.agreement.decisions import Choice, Conflict, Held, Rules, choose
from rapport.metakocka.agreement.limits import Side, misfit
from rapport.metakocka.agreement.party import Entry

E = TypeVar("E", bound=Entry)

_IDS = frozenset({"mk_id", "mk_address_id"})
# two entries that share none of these fields are different entries
_TELLING = frozenset({"name", "email", "phone", "gsm", "street"})


@dataclass(frozen=True)
class Entries(Generic[E]):
    """A merged list: the agreed one, the contact's, and the entries for Metakocka."""

    agreed: tuple[E, ...] = ()
    crm: tuple[E, ...] = ()
    to_erp: tuple[E, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    held: tuple[Held, ...] = ()

    def __add__(self, other: Entries[E]) -> Entries[E]:
        return Entries(
            self.agreed + other.agreed,
            self.crm + other.crm,
            self.to_erp + other.to_erp,
            self.conflicts + other.conflicts,
            self.held + other.held,
        )


@dataclass(frozen=True)
class _Trio(Generic[E]):
    """One entry as it was agreed, in the contact, and at Metakocka."""

    base: E | None
    crm: E | None
    erp: E | None
    # only one side has the entry, with the agreed values
    is_as_agreed: bool = False


def merge_entries(
    rules: Rules, name: str, base: Sequence[E], crm: Sequence[E], erp: Sequence[E]
) -> Entries[E]:
    """Merges one list; entries for Metakocka are whole, and a new entry has no mk_id."""
    merged: Entries[E] = Entries()
    for trio in _trios(base, crm, erp):
        merged += _decided(rules, name, trio)
    return merged


def _trios(base: Sequence[E], crm: Sequence[E], erp: Sequence[E]) -> list[_Trio[E]]:
    """The entries of the three states, matched: the contact's, then Metakocka's, then the rest."""
    known, listed = list(base), list(erp)
    ids = {one.mk_id for one in (*base, *erp)}
    crm = [one if one.mk_id is None or one.mk_id in ids else _without_ids(one) for one in crm]
    trios: list[_Trio[E]] = []
    for entry, theirs in zip(crm, _partners_of(crm, listed), strict=True):
        before = _take(known, theirs or entry)
        trios.append(_Trio(before, entry, theirs, before is not None and _equal(before, entry)))
    for theirs in listed:
        before = _take(known, theirs)
        is_as_agreed = before is not None and _unchanged(before, theirs)
        trios.append(_Trio(before, None, theirs, is_as_agreed))
    return [*trios, *(_Trio(before, None, None) for before in known)]


def _decided(rules: Rules, name: str, trio: _Trio[E]) -> Entries[E]:
    """The decision on one entry."""
    before, ours, theirs = trio.base, trio.crm, trio.erp
    agreed = () if before is None else (before,)
    if ours is not None and theirs is not None:
        return _merge_fields(rules, name, before, ours, theirs)
    if ours is not None:
        if before is None and not _is_telling(ours):
            return Entries(crm=(ours,))
        if before is None:
            if reason := _misfit("metakocka", name, ours):
                return Entries(crm=(ours,), held=(Held(name, "crm", ours, reason),))
            return Entries((ours,), (ours,), (ours,))
        # Metakocka does not return it any more; that is not an erasure
        gone = Held(_path(name, ours), "crm", ours, "Metakocka does not list it any more.")
        return Entries(agreed, (ours,), held=() if trio.is_as_agreed else (gone,))
    if theirs is None or trio.is_as_agreed:
        # it was removed from the contact
        return Entries(agreed)
    winner: Side | None = "metakocka"
    conflicts: tuple[Conflict, ...] = ()
    if before is not None:
        # it was removed from the contact, and edited at Metakocka
        contest = rules.contest(_path(name, theirs))
        winner = contest.winner
        conflicts = (Conflict(contest.field, before, None, theirs, contest.decided_by, winner),)
    if winner == "crm":
        return Entries((theirs,), conflicts=conflicts)
    if winner is None:
        return Entries(agreed, conflicts=conflicts)
    if reason := _misfit("crm", name, theirs):
        conflicts = tuple(replace(one, winner=None) for one in conflicts)
        held = Held(_path(name, theirs), "metakocka", theirs, reason)
        return Entries(agreed, conflicts=conflicts, held=(held,))
    return Entries((theirs,), (theirs,), conflicts=conflicts)


def _without_ids(entry: E) -> E:
    """An entry without another partner's ids: its contact was merged, or has a new partner."""
    return entry.model_copy(update=dict.fromkeys(_names(entry, ids=True)))


def _merge_fields(rules: Rules, name: str, before: E | None, ours: E, theirs: E) -> Entries[E]:
    """Decides an entry that both sides have, field by field."""
    choices: dict[str, Choice] = {}
    for one in _names(ours):
        key = f"{_path(name, theirs)}.{one}"
        values = (getattr(before, one, None), getattr(ours, one), getattr(theirs, one))
        choices[one] = choose(rules, f"{name}.{one}", *values, key=key)
    ids = {one: getattr(theirs, one) for one in _names(theirs, ids=True)}
    chosen = {one: choice.agreed for one, choice in choices.items()}
    left = {one: chosen[one] for one, choice in choices.items() if choice.write == "crm"}
    right = {one: chosen[one] for one, choice in choices.items() if choice.write == "metakocka"}
    sent = theirs.model_copy(update=right)
    return Entries(
        (theirs.model_copy(update=ids | chosen),),
        (ours.model_copy(update=ids | left),),
        (sent,) if sent != theirs else (),
        tuple(choice.conflict for choice in choices.values() if choice.conflict),
        tuple(choice.held for choice in choices.values() if choice.held),
    )


def _partners_of(crm: Sequence[E], listed: list[E]) -> list[E | None]:
    """Metakocka's entry for each entry of the contact; a found entry leaves `listed`."""
    found: dict[int, E] = {}
    for is_it in (_is_named, _equal, _alike):
        for at, entry in enumerate(crm):
            if at not in found and (entry.mk_id is None or is_it is _is_named):
                theirs = _pop(listed, entry, is_it)
                if theirs is not None:
                    found[at] = theirs
    return [found.get(at) for at in range(len(crm))]


def _take(known: list[E], entry: E) -> E | None:
    """The agreed state of an entry, which then leaves `known`."""
    named = _pop(known, entry, _is_named)
    return named if named is not None else _pop(known, entry, _is_unnamed)


def _pop(entries: list[E], entry: E, is_it: Callable[[E, E], bool]) -> E | None:
    for at, other in enumerate(entries):
        if is_it(entry, other):
            return entries.pop(at)
    return None


def _is_named(entry: E, other: E) -> bool:
    return entry.mk_id is not None and entry.mk_id == other.mk_id


def _is_unnamed(entry: E, other: E) -> bool:
    """It is the same entry, agreed on before Metakocka gave it an mk_id."""
    return other.mk_id is None and _alike(entry, other)


def _names(entry: E, *, ids: bool = False) -> list[str]:
    return [name for name in type(entry).model_fields if (name in _IDS) == ids]


def _equal(one: E, other: E) -> bool:
    return all(same(name, getattr(one, name), getattr(other, name)) for name in _names(one))


def _unchanged(before: E, theirs: E) -> bool:
    """Metakocka has not edited the entry; a value that it does not return counts as unedited."""
    return all(
        getattr(theirs, name) is None or same(name, getattr(before, name), getattr(theirs, name))
        for name in _names(theirs)
    )


def _alike(one: E, other: E) -> bool:
    """All common values are the same, and they are enough to identify the entry."""
    common = [
        name
        for name in _names(one)
        if getattr(one, name) is not None and getattr(other, name) is not None
    ]
    return not _TELLING.isdisjoint(common) and all(
        same(name, getattr(one, name), getattr(other, name)) for name in common
    )


def _is_telling(entry: E) -> bool:
    return any(getattr(entry, name, None) is not None for name in _TELLING)


def _misfit(side: Side, field: str, entry: E) -> str | None:
    return next(
        filter(
            None,
            (misfit(side, f"{field}.{name}", getattr(entry, name)) for name in _names(entry)),
        ),
        None,
    )


def _path(field: str, entry: E) -> str:
    return f"{field}.{entry.mk_id}" if entry.mk_id else field
