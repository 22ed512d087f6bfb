"""What is sent to Metakocka, and that it comes back as what was meant."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.metakocka.documented import TESTNI, UPORABNIK

from rapport.errors import Unprocessable
from rapport.local.fakes.metakocka.answers import show
from rapport.local.fakes.metakocka.company import FakeCompany
from rapport.metakocka.agreement.compare import same
from rapport.metakocka.agreement.limits import missing_fields
from rapport.metakocka.agreement.merge import merge
from rapport.metakocka.agreement.party import MEANS, Address, Party, Person, Value
from rapport.metakocka.api.bodies import (
    AddingUpdate,
    PartnerUpdate,
    RepeatableUpdate,
    new_partner,
    partner_update,
)
from rapport.metakocka.api.from_partner import Partner, from_record
from rapport.metakocka.api.records import PartnerRecord

NOVAK = Party(
    name="Novak",
    street="Cesta 1",
    post_number="1000",
    place="Ljubljana",
    country="Slovenija",
    phone="+38612345678",
    gsm="+38640111222",
    email="novak@example.com",
)
ANA = Person(name="Ana", email="ana@example.com")
SHOP = Address(address_type="Poslovna enota", street="Trg 1", post_number="4000", city="Kranj")


def updates(record: PartnerRecord, changes: Mapping[str, Value]) -> PartnerUpdate:
    update = partner_update(from_record(record), changes)
    assert update
    return update


def test_a_new_partner_is_sent_as_documented() -> None:
    made = new_partner(NOVAK.model_copy(update={"people": (ANA,), "addresses": (SHOP,)}))
    assert made.body == {
        "customer": "Novak",
        "business_entity": "false",
        "taxpayer": "false",
        "foreign_county": "false",
        "buyer": "true",
        "street": "Cesta 1",
        "post_number": "1000",
        "place": "Ljubljana",
        "country": "Slovenija",
        "partner_contact": {
            "useCustomerAsContact": "true",
            "email": "novak@example.com",
            "phone": "+38612345678",
            "gsm": "+38640111222",
        },
    }
    # people and further addresses follow
    assert made.agreed == NOVAK.model_copy(
        update={
            "business_entity": False,
            "taxpayer": False,
            "foreign_county": False,
            "buyer": True,
        }
    )


def test_flags_are_what_is_known_and_abroad_is_what_the_country_says() -> None:
    abroad = NOVAK.model_copy(update={"country": "Croatia", "buyer": False, "supplier": True})
    body = new_partner(abroad).body
    assert (body["foreign_county"], body["buyer"], body["supplier"]) == ("true", "false", "true")
    assert "partner_contact" not in new_partner(NOVAK.model_copy(update=dict.fromkeys(MEANS))).body


def test_what_is_missing_is_listed() -> None:
    assert missing_fields(NOVAK) == []
    lacking = NOVAK.model_copy(update={"street": None, "country": None})
    assert missing_fields(lacking) == ["street", "country"]
    with pytest.raises(Unprocessable, match="without street, country") as caught:
        new_partner(lacking)
    assert caught.value.field == "street"


@pytest.mark.parametrize(
    ("field", "limit"),
    [
        ("name", 100),
        ("email", 255),
        ("phone", 255),
        ("gsm", 255),
        ("fax", 255),
        ("tax_id_number", 50),
        ("registration_number", 50),
        ("street", 150),
        ("post_number", 20),
        ("place", 100),
        ("province", 50),
        ("country", 50),
    ],
)
def test_a_value_that_is_too_long_is_named_with_its_limit(field: str, limit: int) -> None:
    new_partner(NOVAK.model_copy(update={field: "x" * limit}))
    for send in (
        lambda value: new_partner(NOVAK.model_copy(update={field: value})),
        lambda value: updates(TESTNI, {field: value}),
    ):
        with pytest.raises(Unprocessable, match=rf"^{field}: .* {limit + 1} .* {limit}\.") as error:
            send("x" * (limit + 1))
        assert error.value.field == field
        assert "xx" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"people": (Person(name="x" * 256),)}, "people.name"),
        ({"addresses": (Address(city="x" * 101),)}, "addresses.city"),
        ({"addresses": (Address(address_type="Garaža"),)}, "addresses.address_type"),
        ({"name": None}, "name"),
    ],
)
def test_an_entry_that_does_not_fit_is_named(changes: Mapping[str, Value], field: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        updates(TESTNI, changes)
    assert caught.value.field == field


def test_an_update_has_what_changes_and_the_partners_id() -> None:
    assert partner_update(from_record(TESTNI), {}) is None
    update = updates(TESTNI, {"name": "TESTNI J.", "taxpayer": True, "tax_id_number": None})
    assert isinstance(update, RepeatableUpdate)
    assert update.body == {
        "mk_id": "228000012291",
        "customer": "TESTNI J.",
        "taxpayer": "true",
        "tax_id_number": "",
    }


def test_the_partners_own_person_is_changed_by_its_id_and_keeps_its_spelling() -> None:
    update = updates(TESTNI, {"email": "new@example.com", "phone": None})
    assert isinstance(update, RepeatableUpdate)
    assert update.body["partner_contact_list"] == [
        {
            "mk_id": "228000012293",
            "mk_address_id": "228000012292",
            "email": "new@example.com",
            "phone": "",
            "gsm": "031111222",
        }
    ]


def test_a_partner_without_a_person_of_its_own_gets_one_and_only_once() -> None:
    update = updates(UPORABNIK, {"email": "new@example.com"})
    assert isinstance(update, AddingUpdate)
    assert update.body["partner_contact_list"] == [
        {
            "mk_address_id": "228000046628",
            "useCustomerAsContact": "true",
            "email": "new@example.com",
        }
    ]


def test_the_partners_own_address_goes_both_ways() -> None:
    update = updates(TESTNI, {"street": "Cesta 5", "place": "Kranj"})
    assert isinstance(update, RepeatableUpdate)
    assert (update.body["street"], update.body["place"]) == ("Cesta 5", "Kranj")
    assert update.body["partner_delivery_address_list"] == [
        {
            "mk_id": "228000012292",
            "address_type": "Račun",
            "street": "Cesta 5",
            "post_number": "1000",
            "city": "Kranj",
            "country": "Slovenija",
        }
    ]


def test_an_entry_that_is_known_may_be_sent_again_and_a_new_one_may_not() -> None:
    known = from_record(UPORABNIK).party.people[0]
    renamed = known.model_copy(update={"name": "Kontakt", "email": None})
    update = updates(UPORABNIK, {"people": (renamed,)})
    assert isinstance(update, RepeatableUpdate)
    assert update.body["partner_contact_list"] == [
        {
            "mk_id": "228000046630",
            "mk_address_id": "228000046628",
            "name": "Kontakt",
            # what it had and has no longer
            "email": "",
            "gsm": "54367865463",
        }
    ]
    added = updates(UPORABNIK, {"people": (renamed, ANA), "addresses": (SHOP,)})
    assert isinstance(added, AddingUpdate)
    people = added.body["partner_contact_list"]
    assert isinstance(people, list)
    # nobody is added without an address
    assert people[1] == {
        "mk_address_id": "228000046628",
        "name": "Ana",
        "email": "ana@example.com",
    }


def test_an_update_that_adds_cannot_be_made_a_repeatable_one() -> None:
    added = updates(UPORABNIK, {"people": (ANA,)})
    with pytest.raises(ValueError, match="each repetition"):
        RepeatableUpdate(added.mk_id, added.body)


def test_no_customers_data_is_in_the_repr() -> None:
    assert "Novak" not in repr(new_partner(NOVAK))
    assert "Kontakt" not in repr(updates(UPORABNIK, {"name": "Kontakt"}))


# There and back, through the stand-in

texts = st.text("abcčšž ", min_size=1, max_size=8).map(lambda text: f"x{text}".strip())
numbers = st.sampled_from(["+38640111222", "+38612345678", "+385981234567"])
flags = st.booleans()
told = {
    "name": texts,
    "business_entity": flags,
    "taxpayer": flags,
    "foreign_county": flags,
    "tax_id_number": st.none() | texts,
    "street": texts,
    "post_number": texts,
    "place": texts,
    "country": st.sampled_from(["Slovenija", "Hrvaška", "Austria"]),
    "email": st.none() | st.sampled_from(["a@example.com", "b@example.com"]),
    "phone": st.none() | numbers,
    "gsm": st.none() | numbers,
}
people = st.lists(
    st.builds(Person, name=texts.map(lambda name: f"y{name}"), gsm=st.none() | numbers),
    max_size=2,
    unique_by=lambda one: one.name,
)
contacts = st.builds(Party, **told, people=people)


def seen(company: FakeCompany, mk_id: str) -> Partner:
    return from_record(PartnerRecord.model_validate(show(company.partners[mk_id])))


@settings(deadline=None)
@given(contacts, contacts)
def test_what_is_sent_comes_back_and_then_nothing_is_left_to_send(
    first: Party, second: Party
) -> None:
    company = FakeCompany()
    made = new_partner(first)
    mk_id = company.add(made.body).mk_id
    base, contact = made.agreed, first
    for edited in (first, second):
        contact = edited.model_copy(update={"people": contact.people + edited.people})
        partner = seen(company, mk_id)
        merged = merge(base, contact, partner.party, "crm")
        update = partner_update(partner, merged.erp_changes)
        if update:
            company.update(update.body)
        contact = contact.model_copy(update=dict(merged.crm_changes))
        settled = merge(merged.party, contact, seen(company, mk_id).party, "crm")
        assert settled.erp_changes == {}
        assert set(settled.crm_changes) <= {"people"}
        assert not settled.held
        base = settled.party
        contact = contact.model_copy(update=dict(settled.crm_changes))
    last = seen(company, mk_id).party
    # another spelling of what is there is not sent
    assert all(same(name, getattr(last, name), getattr(second, name)) for name in told)
    assert sorted(one.name or "" for one in last.people) == sorted(
        one.name or "" for one in contact.people
    )
