"""What holds for any three states under any rule."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from rapport.metakocka.agreement.compare import same
from rapport.metakocka.agreement.decisions import Rule
from rapport.metakocka.agreement.limits import misfit
from rapport.metakocka.agreement.merge import Merged, merge
from rapport.metakocka.agreement.party import FLAGS, SINGLE, Address, Party, Person, Value

# few values, so that sides often agree; spellings of one; what does not fit
VALUES = {
    "name": ["Novak", "Kovač", "N" * 150],
    "email": ["a@example.com", "A@example.com", "b@example.com", "no address"],
    "phone": ["+38640111222", "040 111 222", "+38640333444", "01 / 040"],
    "gsm": ["+38640111222", "040 111 222", "112"],
    "country": ["Slovenija", "Slovenia", "Hrvaška"],
    "tax_id_number": ["SI12345678", "SI 12345678", "87654321"],
    "street": ["Cesta 1", "Cesta 2"],
    "place": ["Kranj", "Celje"],
}
rules = st.sampled_from(["crm", "metakocka", "newest", "ask"])


def optional(field: str) -> st.SearchStrategy[object]:
    if field in FLAGS:
        return st.sampled_from([None, True, False])
    return st.sampled_from([None, *VALUES.get(field, ["x", "y"])])


persons = st.builds(
    Person,
    mk_id=st.sampled_from(["1", "2", "3"]),
    name=st.sampled_from([None, "Ana", "Bine"]),
    email=st.sampled_from([None, "ana@example.com", "bine@example.com"]),
    gsm=st.sampled_from([None, "+38640555666", "040 555 666"]),
)
places = st.builds(
    Address,
    mk_id=st.sampled_from(["5", "6"]),
    address_type=st.sampled_from(["Dobava", "Poslovna enota"]),
    street=st.sampled_from(["Trg 1", "Trg 2"]),
    city=st.sampled_from([None, "Kranj"]),
)
new_persons = persons.map(lambda one: one.model_copy(update={"mk_id": None}))


def by_id(entry: Person | Address) -> object:
    return entry.mk_id


people = st.lists(persons, max_size=3, unique_by=by_id)
addresses = st.lists(places, max_size=2, unique_by=by_id)
fields = {name: optional(name) for name in SINGLE}
partners = st.builds(Party, **fields, people=people, addresses=addresses)
contacts = st.builds(
    Party,
    **fields,
    people=st.builds(operator.add, people, st.lists(new_persons, max_size=2)),
    addresses=addresses,
).map(
    lambda party: party.model_copy(
        update={name: None for name in SINGLE if misfit("crm", name, getattr(party, name))}
    )
)
bases = st.one_of(st.none(), contacts, partners)
ids = count(100)


def written_to_contact(contact: Party, changes: Mapping[str, Value]) -> Party:
    return contact.model_copy(update=dict(changes))


def written_to_partner(partner: Party, changes: Mapping[str, Value]) -> Party:
    """As Metakocka does: entries by their mk_id, and a new one for each that has none."""
    written: dict[str, Value] = dict(changes)
    for name in ("people", "addresses"):
        entries = {entry.mk_id: entry for entry in getattr(partner, name)}
        for entry in changes.get(name, ()):  # type: ignore[union-attr]
            id_ = entry.mk_id or str(next(ids))  # type: ignore[union-attr]
            entries[id_] = entry.model_copy(update={"mk_id": id_})  # type: ignore[union-attr]
        written[name] = tuple(entries.values())
    return partner.model_copy(update=written)


def apply(merged: Merged, crm: Party, erp: Party) -> tuple[Party, Party]:
    return (
        written_to_contact(crm, merged.crm_changes),
        written_to_partner(erp, merged.erp_changes),
    )


@settings(max_examples=200, deadline=None)
@given(bases, contacts, partners, rules)
def test_once_both_are_written_there_is_nothing_more_to_write(
    base: Party | None, crm: Party, erp: Party, rule: Rule
) -> None:
    first = merge(base, crm, erp, rule)
    crm, erp = apply(first, crm, erp)
    # new entries come back with their ids
    second = merge(first.party, crm, erp, rule)
    assert second.erp_changes == {}
    assert set(second.crm_changes) <= {"people", "addresses"}
    crm, erp = apply(second, crm, erp)
    third = merge(second.party, crm, erp, rule)
    assert third.is_quiet
    assert third.party == second.party
    # what is left over is what nobody could or should write
    assert {one.field for one in third.held} <= {one.field for one in first.held + second.held}
    assert all(one.winner is None for one in third.conflicts)


@settings(max_examples=200, deadline=None)
@given(bases, contacts, partners, rules)
def test_no_edit_of_one_side_is_lost(
    base: Party | None, crm: Party, erp: Party, rule: Rule
) -> None:
    merged = merge(base, crm, erp, rule)
    after_crm, after_erp = apply(merged, crm, erp)
    apart = {one.field for one in merged.conflicts} | {one.field for one in merged.held}
    for name in set(SINGLE) - apart:
        before = getattr(base, name, None)
        ours, theirs = getattr(crm, name), getattr(erp, name)
        left, right = getattr(after_crm, name), getattr(after_erp, name)
        if ours is not None and not same(name, ours, before) and same(name, theirs, before):
            assert same(name, left, ours)
            assert same(name, right, ours)
        if theirs is not None and not same(name, theirs, before) and same(name, ours, before):
            assert same(name, left, theirs)
            assert same(name, right, theirs)
        if same(name, ours, before) and same(name, theirs, before):
            assert (left, right) == (ours, theirs)


@settings(max_examples=200, deadline=None)
@given(bases, contacts, partners, rules)
def test_nothing_known_becomes_unknown_unless_a_person_has_erased_it(
    base: Party | None, crm: Party, erp: Party, rule: Rule
) -> None:
    after_crm, after_erp = apply(merge(base, crm, erp, rule), crm, erp)
    for name in SINGLE:
        if getattr(crm, name) is not None:
            assert getattr(after_crm, name) is not None
        if getattr(erp, name) is not None and getattr(after_erp, name) is None:
            assert base is not None
            assert getattr(base, name) is not None
            assert getattr(crm, name) is None
    for name in ("people", "addresses"):
        assert len(getattr(after_crm, name)) >= len(getattr(crm, name))
        assert len(getattr(after_erp, name)) >= len(getattr(erp, name))


@settings(deadline=None)
@given(bases, partners, rules)
def test_sides_that_are_equal_agree_whatever_was_before(
    base: Party | None, both: Party, rule: Rule
) -> None:
    merged = merge(base, both, both, rule)
    assert merged.is_quiet
    assert not merged.conflicts
    assert all(getattr(merged.party, name) == getattr(both, name) for name in SINGLE)


@settings(deadline=None)
@given(contacts, partners, rules)
def test_a_side_that_was_not_edited_gives_way_to_one_that_was(
    crm: Party, erp: Party, rule: Rule
) -> None:
    assert not merge(crm, crm, erp, rule).conflicts
    assert not [one for one in merge(erp, crm, erp, rule).conflicts if "." not in one.field]
