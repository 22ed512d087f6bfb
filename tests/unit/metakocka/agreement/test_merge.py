"""The three-way merge, case by case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rapport.metakocka.agreement.decisions import Conflict, Rule
from rapport.metakocka.agreement.limits import Side
from rapport.metakocka.agreement.merge import merge
from rapport.metakocka.agreement.party import Address, Party, Person

RULES: list[Rule] = ["crm", "metakocka", "newest", "ask"]
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BASE = Party(name="Novak", phone="+38640111222", street="Cesta 1", buyer=True)


def changed(**fields: object) -> Party:
    return BASE.model_copy(update=fields)


@pytest.mark.parametrize("rule", RULES)
def test_an_edit_of_one_side_goes_to_the_other(rule: Rule) -> None:
    ours = merge(BASE, changed(name="Kovač"), BASE, rule)
    assert (ours.crm_changes, ours.erp_changes) == ({}, {"name": "Kovač"})
    assert ours.party == changed(name="Kovač")
    theirs = merge(BASE, BASE, changed(street="Cesta 2"), rule)
    assert (theirs.crm_changes, theirs.erp_changes) == ({"street": "Cesta 2"}, {})
    assert not ours.conflicts + theirs.conflicts


@pytest.mark.parametrize("rule", RULES)
def test_edits_of_different_fields_both_survive(rule: Rule) -> None:
    merged = merge(BASE, changed(name="Kovač"), changed(street="Cesta 2", buyer=False), rule)
    assert merged.crm_changes == {"street": "Cesta 2", "buyer": False}
    assert merged.erp_changes == {"name": "Kovač"}
    assert merged.party == changed(name="Kovač", street="Cesta 2", buyer=False)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("base", [None, BASE])
def test_equal_edits_agree(rule: Rule, base: Party | None) -> None:
    both = changed(name="Kovač", phone=None)
    merged = merge(base, both, both, rule)
    assert merged.is_quiet
    assert merged.party == both
    assert not merged.conflicts


@pytest.mark.parametrize("rule", RULES)
def test_an_echo_changes_nothing(rule: Rule) -> None:
    merged = merge(BASE, BASE, BASE, rule)
    assert merged.is_quiet
    assert merged.party == BASE


@pytest.mark.parametrize(
    ("rule", "winner"), [("crm", "crm"), ("metakocka", "metakocka"), ("ask", None)]
)
def test_an_edit_of_both_sides_follows_the_rule_and_is_recorded(
    rule: Rule, winner: Side | None
) -> None:
    merged = merge(BASE, changed(name="Kovač", place="Kranj"), changed(name="Mlakar"), rule)
    assert merged.conflicts == (Conflict("name", "Novak", "Kovač", "Mlakar", rule, winner),)
    assert merged.party.name == {"crm": "Kovač", "metakocka": "Mlakar", None: "Novak"}[winner]
    assert merged.crm_changes.get("name") == ("Mlakar" if winner == "metakocka" else None)
    assert merged.erp_changes.get("name") == ("Kovač" if winner == "crm" else None)
    # the others flow
    assert merged.erp_changes["place"] == "Kranj"


@pytest.mark.parametrize(
    ("crm_at", "erp_at", "winner"),
    [
        (NOW, NOW - timedelta(seconds=1), "crm"),
        (NOW, NOW + timedelta(seconds=1), "metakocka"),
        (NOW, NOW, "crm"),
        (NOW, None, "crm"),
        (None, NOW, "metakocka"),
        (None, None, "crm"),
    ],
)
def test_the_newest_wins_as_far_as_times_are_known(
    crm_at: datetime | None, erp_at: datetime | None, winner: Side
) -> None:
    merged = merge(BASE, changed(name="A"), changed(name="B"), "newest", crm_at, erp_at)
    assert [(one.decided_by, one.winner) for one in merged.conflicts] == [("newest", winner)]
    assert merged.party.name == {"crm": "A", "metakocka": "B"}[winner]


def test_what_a_person_has_decided_comes_before_the_rule() -> None:
    crm, erp = changed(name="A", street="B"), changed(name="C", street="D")
    merged = merge(BASE, crm, erp, "ask", decisions={"name": "metakocka"})
    assert merged.crm_changes == {"name": "C"}
    assert [(one.field, one.decided_by) for one in merged.conflicts] == [
        ("name", "person"),
        ("street", "ask"),
    ]


@pytest.mark.parametrize("rule", RULES)
def test_what_metakocka_does_not_tell_is_no_erasure(rule: Rule) -> None:
    merged = merge(BASE, BASE, Party(name="Novak"), rule)
    assert merged.is_quiet
    assert merged.party == BASE


@pytest.mark.parametrize("rule", RULES)
def test_what_a_person_erases_in_the_contact_is_erased_there(rule: Rule) -> None:
    merged = merge(BASE, changed(phone=None), BASE, rule)
    assert merged.erp_changes == {"phone": None}
    assert merged.party == changed(phone=None)


def test_an_erasure_here_and_an_edit_there_are_a_conflict() -> None:
    erp = changed(phone="+38640999888")
    assert merge(BASE, changed(phone=None), erp, "metakocka").crm_changes == {
        "phone": "+38640999888"
    }
    assert merge(BASE, changed(phone=None), erp, "crm").erp_changes == {"phone": None}
    assert merge(BASE, changed(phone=None), erp, "ask").is_quiet


def test_what_metakocka_cannot_be_without_is_not_erased_there() -> None:
    merged = merge(BASE, changed(street=None), BASE, "crm")
    assert merged.is_quiet
    assert merged.party == BASE
    assert [(one.field, one.side) for one in merged.held] == [("street", "crm")]


def test_a_flag_that_a_contact_does_not_know_is_filled() -> None:
    assert merge(BASE, changed(buyer=None), BASE, "crm").crm_changes == {"buyer": True}


@pytest.mark.parametrize("rule", RULES)
def test_adoption_fills_what_is_not_known_and_asks_the_rule_where_both_know(rule: Rule) -> None:
    crm = Party(name="Novak", phone="+38640111222")
    erp = Party(name="Novak Janez", email="novak@example.com")
    merged = merge(None, crm, erp, rule)
    assert merged.crm_changes["email"] == "novak@example.com"
    assert merged.erp_changes["phone"] == "+38640111222"
    assert [one.field for one in merged.conflicts] == ["name"]


def test_a_new_contact_and_a_new_partner_are_taken_whole() -> None:
    assert merge(None, Party(), BASE, "ask").crm_changes == {
        "name": "Novak",
        "phone": "+38640111222",
        "street": "Cesta 1",
        "buyer": True,
    }
    alone = merge(None, BASE, None, "ask")
    assert alone.erp_changes["name"] == "Novak"
    assert alone.party == BASE


def test_a_partner_that_is_gone_erases_nothing() -> None:
    merged = merge(BASE, changed(name="Kovač"), None, "metakocka")
    assert merged.is_quiet
    assert merged.party == BASE


@pytest.mark.parametrize(
    ("field", "ours", "theirs"),
    [
        ("phone", "+38640111222", "040 111 222"),
        ("phone", "+38640111222", "00386 40/111-222"),
        ("gsm", "040 111 222", "+386 (40) 111 222"),
        ("email", "Ana@Example.com", "ana@example.com"),
        ("country", "Slovenia", "Slovenija"),
        ("tax_id_number", "SI 1234 5678", "si12345678"),
        ("name", "Z\u030celeznik  d.o.o.", "\u017deleznik d.o.o."),
    ],
)
def test_another_spelling_is_no_edit(field: str, ours: str, theirs: str) -> None:
    for base in (None, Party(**{field: ours}), Party(**{field: theirs})):  # type: ignore[arg-type]
        merged = merge(
            base,
            Party.model_validate({field: ours}),
            Party.model_validate({field: theirs}),
            "metakocka",
        )
        assert merged.is_quiet
        assert not merged.conflicts


@pytest.mark.parametrize(
    ("field", "value"),
    [("phone", "01 234 56 78, 040 111 222"), ("email", "a@example.com; b@example.com")],
)
def test_what_a_contact_cannot_hold_stays_at_metakocka_and_is_named(field: str, value: str) -> None:
    erp = Party.model_validate({field: value, "place": "Kranj"})
    merged = merge(None, Party(), erp, "metakocka")
    assert merged.crm_changes == {"place": "Kranj"}
    assert [(one.field, one.side, one.value) for one in merged.held] == [
        (field, "metakocka", value)
    ]
    assert getattr(merged.party, field) is None


def test_what_is_too_long_for_metakocka_stays_here_and_the_rest_goes() -> None:
    merged = merge(BASE, changed(name="N" * 101, place="Kranj"), BASE, "crm")
    assert merged.erp_changes == {"place": "Kranj"}
    assert merged.held[0].reason == "It has 101 characters, and Metakocka takes 100."
    assert merged.party.name == "Novak"


# People and addresses

ANA = Person(mk_id="1", mk_address_id="9", name="Ana", email="ana@example.com")
BINE = Person(mk_id="2", mk_address_id="9", name="Bine", gsm="+38640333444")
SHOP = Address(mk_id="5", address_type="Poslovna enota", street="Trg 1", city="Kranj")


def people(*persons: Person) -> Party:
    return Party(people=persons)


def test_new_people_go_to_the_other_side() -> None:
    cene = Person(name="Cene", email="cene@example.com")
    merged = merge(people(ANA), people(ANA, cene), people(ANA, BINE), "ask")
    assert merged.crm_changes == {"people": (ANA, cene, BINE)}
    assert merged.erp_changes == {"people": (cene,)}
    assert set(merged.party.people) == {ANA, BINE, cene}


def test_a_new_person_gets_the_id_that_metakocka_has_given() -> None:
    cene = Person(name="Cene", email="cene@example.com", fax="01 111")
    # a fax number is not told
    listed = Person(mk_id="7", mk_address_id="9", name="Cene", email="cene@example.com")
    merged = merge(people(cene), people(cene), people(listed), "ask")
    expected = listed.model_copy(update={"fax": "01 111"})
    assert merged.crm_changes == {"people": (expected,)}
    assert merged.erp_changes == {}
    assert merged.party.people == (expected,)


def test_an_entry_is_merged_field_by_field() -> None:
    ours = ANA.model_copy(update={"phone": "+38640555666"})
    theirs = ANA.model_copy(update={"email": "ana@new.example"})
    merged = merge(people(ANA), people(ours), people(theirs), "ask")
    both = ANA.model_copy(update={"phone": "+38640555666", "email": "ana@new.example"})
    assert merged.crm_changes == {"people": (both,)}
    assert merged.erp_changes == {"people": (both,)}
    assert merged.party.people == (both,)


def test_a_conflict_of_an_entry_names_it() -> None:
    ours, theirs = (ANA.model_copy(update={"name": name}) for name in ("Anja", "Anka"))
    merged = merge(people(ANA), people(ours), people(theirs), "ask")
    assert [one.field for one in merged.conflicts] == ["people.1.name"]
    assert merged.is_quiet
    decided = merge(
        people(ANA), people(ours), people(theirs), "ask", decisions={"people.1.name": "crm"}
    )
    assert decided.erp_changes == {"people": (ours,)}


def test_an_entry_that_metakocka_does_not_list_is_kept() -> None:
    merged = merge(people(ANA, BINE), people(ANA, BINE), people(ANA), "metakocka")
    assert merged.is_quiet
    assert set(merged.party.people) == {ANA, BINE}
    edited = BINE.model_copy(update={"name": "Benjamin"})
    held = merge(people(ANA, BINE), people(ANA, edited), people(ANA), "metakocka")
    assert held.is_quiet
    assert [one.field for one in held.held] == ["people.2"]


def test_an_entry_of_another_partner_is_a_new_one_of_this() -> None:
    """The contact was merged with another, or is another partner now."""
    nameless = BINE.model_copy(update={"mk_id": None, "mk_address_id": None})
    for base in (people(ANA), None):
        merged = merge(base, people(ANA, BINE), people(ANA), "metakocka")
        assert merged.erp_changes == {"people": (nameless,)}
        assert merged.crm_changes == {"people": (ANA, nameless)}
        assert merged.held == ()


def test_an_entry_that_was_removed_here_does_not_come_back_until_it_is_edited_there() -> None:
    removed = merge(people(ANA, BINE), people(ANA), people(ANA, BINE), "metakocka")
    assert removed.is_quiet
    again = merge(removed.party, people(ANA), people(ANA, BINE), "metakocka")
    assert again.is_quiet
    edited = BINE.model_copy(update={"email": "bine@example.com"})
    back = merge(again.party, people(ANA), people(ANA, edited), "metakocka")
    assert back.crm_changes == {"people": (ANA, edited)}
    settled = merge(again.party, people(ANA), people(ANA, edited), "crm")
    assert settled.is_quiet
    assert merge(settled.party, people(ANA), people(ANA, edited), "crm").conflicts == ()


def test_the_order_of_a_list_says_nothing() -> None:
    merged = merge(people(ANA, BINE), people(BINE, ANA), people(ANA, BINE), "ask")
    assert merged.is_quiet


def test_addresses_are_merged_as_people_are() -> None:
    moved = SHOP.model_copy(update={"street": "Trg 2"})
    merged = merge(
        Party(addresses=(SHOP,)), Party(addresses=(moved,)), Party(addresses=(SHOP,)), "ask"
    )
    assert merged.erp_changes == {"addresses": (moved,)}
    wrong = Address(address_type="Garaža", street="Trg 3")
    held = merge(Party(), Party(addresses=(wrong,)), Party(), "ask")
    assert held.is_quiet
    assert "Poslovna enota" in held.held[0].reason
