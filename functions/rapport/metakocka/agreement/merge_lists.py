"""The merge of lists: people and further addresses, entry by entry.

An entry is known by its mk_id, which Metakocka gives. One that was written in the contact has
none until it comes back from there; until then it is known by what it says. Nothing can be
deleted at Metakocka: what is removed from the contact stays there, and the agreed state
remembers it so that it does not come back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rapport.metakocka.agreement.compare import same
from rapport.metakocka.agreement.decisions import Decisions, choose
from rapport.metakocka.agreement.limits import Side, misfit
from rapport.metakocka.agreement.party import Entry, Single

E = TypeVar("E", bound=Entry)

_IDS = frozenset({"mk_id", "mk_address_id"})
# two entries with nothing of this in common are two, even if they contradict each other nowhere
_TELLING = frozenset({"name", "email", "phone", "gsm", "street"})


@dataclass(frozen=True)
class Entries(Generic[E]):
    """A merged list: what is agreed, the contact's list, and the entries for Metakocka."""

    agreed: tuple[E, ...]
    crm: tuple[E, ...]
    to_erp: tuple[E, ...]


def merge_entries(
    decisions: Decisions, field: str, base: Sequence[E], crm: Sequence[E], erp: Sequence[E]
) -> Entries[E]:
    """Merges one list; entries for Metakocka are whole, and without mk_id where they are new."""
    agreed: list[E] = []
    ours: list[E] = []
    to_erp: list[E] = []
    known: list[E] = list(base)
    listed: list[E] = list(erp)
    ids = {one.mk_id for one in (*base, *erp)}
    crm = [one if one.mk_id is None or one.mk_id in ids else _without_ids(one) for one in crm]
    for entry, theirs in zip(crm, _partners_of(crm, listed), strict=True):
        before = _take(known, theirs or entry)
        if theirs is not None:
            both, left, right = _merge_fields(decisions, field, before, entry, theirs)
            agreed.append(both)
            ours.append(left)
            if right != theirs:
                to_erp.append(right)
            continue
        ours.append(entry)
        if before is not None:
            # Metakocka tells no more of it, which is no erasure
            agreed.append(before)
            if not _equal(before, entry):
                gone = "Metakocka does not list it any more."
                decisions.hold(_path(field, entry), "crm", entry, gone)
        elif _telling(entry):
            if reason := _misfit("metakocka", field, entry):
                decisions.hold(field, "crm", entry, reason)
            else:
                agreed.append(entry)
                to_erp.append(entry)
    for theirs in listed:
        before = _take(known, theirs)
        keep, is_ours = _unlisted(decisions, field, before, theirs)
        if keep is not None:
            agreed.append(keep)
        if is_ours:
            ours.append(theirs)
    return Entries((*agreed, *known), tuple(ours), tuple(to_erp))


def _without_ids(entry: E) -> E:
    """One of another partner's, of a contact that was merged or is another partner now."""
    return entry.model_copy(update=dict.fromkeys(_names(entry, ids=True)))


def _unlisted(
    decisions: Decisions, field: str, before: E | None, theirs: E
) -> tuple[E | None, bool]:
    """An entry that the contact lacks: what is agreed of it, and whether the contact gets it."""
    winner: Side | None = "metakocka"
    if before is not None:
        # it was removed from the contact, …
        if _unchanged(before, theirs):
            return before, False
        # … and edited at Metakocka
        winner = decisions.settle(_path(field, theirs), before, None, theirs)
    if winner == "crm":
        return theirs, False
    if winner is None:
        return before, False
    if reason := _misfit("crm", field, theirs):
        decisions.hold(_path(field, theirs), "metakocka", theirs, reason)
        return before, False
    return theirs, True


def _merge_fields(
    decisions: Decisions, field: str, before: E | None, entry: E, theirs: E
) -> tuple[E, E, E]:
    """The entry as agreed, as the contact is to have it, and as Metakocka is to have it."""
    ids = {name: getattr(theirs, name) for name in _names(theirs, ids=True)}
    both: dict[str, Single] = dict(ids)
    left: dict[str, Single] = dict(ids)
    right: dict[str, Single] = {}
    for name in _names(entry):
        choice = choose(
            decisions,
            f"{field}.{name}",
            getattr(before, name, None),
            getattr(entry, name),
            getattr(theirs, name),
            key=f"{_path(field, theirs)}.{name}",
        )
        both[name] = choice.agreed
        if choice.write == "crm":
            left[name] = choice.agreed
        elif choice.write == "metakocka":
            right[name] = choice.agreed
    return (
        theirs.model_copy(update=both),
        entry.model_copy(update=left),
        theirs.model_copy(update=right),
    )


def _partners_of(crm: Sequence[E], listed: list[E]) -> list[E | None]:
    """Metakocka's entry for each of the contact's; those that are found leave `listed`."""
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
    """It is the same, and was agreed on before Metakocka had given it its mk_id."""
    return other.mk_id is None and _alike(entry, other)


def _names(entry: E, *, ids: bool = False) -> list[str]:
    return [name for name in type(entry).model_fields if (name in _IDS) == ids]


def _equal(one: E, other: E) -> bool:
    return all(same(name, getattr(one, name), getattr(other, name)) for name in _names(one))


def _unchanged(before: E, theirs: E) -> bool:
    """Metakocka has not edited it; what it does not tell is not edited."""
    return all(
        getattr(theirs, name) is None or same(name, getattr(before, name), getattr(theirs, name))
        for name in _names(theirs)
    )


def _alike(one: E, other: E) -> bool:
    """They agree in all that both tell, and that is enough to tell them from others."""
    common = [
        name
        for name in _names(one)
        if getattr(one, name) is not None and getattr(other, name) is not None
    ]
    return not _TELLING.isdisjoint(common) and all(
        same(name, getattr(one, name), getattr(other, name)) for name in common
    )


def _telling(entry: E) -> bool:
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
