"""Partners as parties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.metakocka.documented import DOCUMENTS, JANEZ, TESTNI, UPORABNIK

from rapport.metakocka.agreement.party import Address, Party, Person
from rapport.metakocka.api.from_partner import from_record
from rapport.metakocka.api.records import PartnerRecord


def record(*people: dict[str, str], **fields: Any) -> PartnerRecord:
    return PartnerRecord.model_validate(
        {"mk_id": "1", "customer": "Novak d.o.o.", "partner_contact_list": [*people], **fields}
    )


def test_a_person_of_the_documentation() -> None:
    partner = from_record(TESTNI)
    assert partner.party == Party(
        name="TESTNI JANEZ",
        email="test1@test.si",
        gsm="+38631111222",
        business_entity=False,
        taxpayer=False,
        foreign_county=False,
        street="Tehnološki park 21",
        post_number="1000",
        place="LJUBLJANA",
        country="Slovenija",
        own_person="228000012293",
    )
    assert partner.person
    assert partner.address
    assert (partner.person.mk_id, partner.address.mk_id) == ("228000012293", "228000012292")
    # without a country, and without a word on taxes
    assert from_record(JANEZ).party.gsm == "+38651123456"
    assert from_record(JANEZ).party.taxpayer is None


def test_a_partner_of_the_documentation_with_people_and_addresses_of_its_own() -> None:
    partner = from_record(UPORABNIK)
    assert partner.person is None
    assert partner.party.email is None
    assert partner.party.street == "Test, 4"
    assert partner.party.people == (
        Person(
            mk_id="228000046630",
            mk_address_id="228000046628",
            name="Test Kontakt",
            # nobody can have it
            gsm="54367865463",
            email="test@test.com",
        ),
        Person(
            mk_id="228000046634",
            mk_address_id="228000046629",
            name="Test Kontakt",
            gsm="+38631111222",
            email="test123@test.com",
        ),
    )
    assert partner.party.addresses == tuple(
        Address(
            mk_id=id_,
            address_type="Poslovna enota",
            street=street,
            post_number="1000",
            city="Ljubljana",
            country="Slovenija",
        )
        for id_, street in (("228000046629", "Tehnološki park 21"), ("228000046633", "Stegne 21c"))
    )


def test_a_partner_of_a_document_has_its_address_itself() -> None:
    partner = from_record(PartnerRecord.model_validate(DOCUMENTS["result"][0]["partner"]))
    assert (partner.party.tax_id_number, partner.party.place) == ("TAX123", "Komenda")
    assert partner.address is None


@pytest.mark.parametrize("name", [{}, {"name": ""}, {"name": "Novak d.o.o."}])
def test_the_person_without_a_name_of_its_own_is_the_partner(name: dict[str, str]) -> None:
    ana = {"mk_id": "5", "name": "Ana", "email": "ana@example.com"}
    own = {"mk_id": "12", "email": "info@example.com", "phone": "01 234 56 78", **name}
    for people in ((ana, own), (own, ana)):
        party = from_record(record(*people)).party
        assert (party.email, party.phone, party.gsm) == ("info@example.com", "+38612345678", None)
        assert [one.name for one in party.people] == ["Ana"]


def test_of_several_it_is_the_one_at_the_address_for_invoices_then_the_oldest() -> None:
    people = [
        {"mk_id": "100", "mk_address_id": "21", "email": "third@example.com"},
        {"mk_id": "99", "mk_address_id": "21", "email": "second@example.com"},
        {"mk_id": "7", "mk_address_id": "22", "email": "first@example.com"},
    ]
    assert from_record(record(*people)).party.email == "first@example.com"
    addresses = [
        {"mk_id": "22", "address_type": "Dobava"},
        {"mk_id": "21", "address_type": "Račun"},
    ]
    partner = from_record(record(*people, partner_delivery_address_list=addresses))
    assert partner.party.email == "second@example.com"
    assert len(partner.party.people) == 2


def test_a_renamed_partner_keeps_its_own_person() -> None:
    renamed = record({"mk_id": "5", "name": "Novak s.p.", "email": "novak@example.com"})
    assert from_record(renamed).party.email is None
    assert from_record(renamed, own_person="5").party.email == "novak@example.com"
    # one that is gone is not
    assert from_record(renamed, own_person="4").party.email is None


@pytest.mark.parametrize(
    ("country", "expected"),
    [
        ("Slovenija", "+38640111222"),
        (None, "+38640111222"),
        ("Slovenia", "+38640111222"),
        ("Hrvaška", "+38540111222"),
        # of a country that is not known nothing is
        ("Atlantida", "040111222"),
    ],
)
def test_a_number_without_a_country_code_is_of_the_partners_country(
    country: str | None, expected: str
) -> None:
    address = {"mk_id": "2", "address_type": "Račun", "country": country}
    partner = record({"mk_id": "3", "gsm": "040111222"}, partner_delivery_address_list=address)
    assert from_record(partner).party.gsm == expected


@pytest.mark.parametrize("text", ["01 234 56 78, 040 111 222", "int. 12", "112", "-"])
def test_what_is_not_one_number_stays_as_it_is(text: str) -> None:
    assert from_record(record({"mk_id": "3", "phone": text})).party.phone == text


texts = st.none() | st.text(max_size=6) | st.sampled_from(["Novak", "Račun", "040111222"])
entries = st.lists(
    st.dictionaries(
        st.sampled_from(
            ["mk_id", "mk_address_id", "name", "email", "phone", "address_type", "street", "city"]
        ),
        texts,
    ),
    max_size=4,
)


@settings(deadline=None)
@given(texts, texts, entries, entries)
def test_every_partner_is_a_party(
    name: str | None, country: str | None, people: list[Any], addresses: list[Any]
) -> None:
    any_record = PartnerRecord.model_validate(
        {
            "mk_id": "1",
            "customer": name,
            "country": country,
            "partner_contact_list": people,
            "partner_delivery_address_list": addresses,
        }
    )
    party = from_record(any_record).party
    assert Party.model_validate_json(party.model_dump_json()) == party


@pytest.mark.parametrize(
    ("country", "written", "number"),
    [
        ("Slovenija", "040 555 666", "+38640555666"),
        ("Slovenija", "386 40 555 666", "+38640555666"),
        ("Slovenija", "38640555666.0", "+38640555666"),
        ("Avstrija", "+386 40 555 666", "+38640555666"),
        # a Slovenian number without its plus, or one of Sankt Marein
        ("Avstrija", "386 40 555 666", "386 40 555 666"),
        ("Avstrija", "4.36512E+11", "4.36512E+11"),
    ],
)
def test_a_number_that_can_be_read_in_two_ways_stays_as_it_is_written(
    country: str, written: str, number: str
) -> None:
    partner = from_record(record({"mk_id": "2", "phone": written}, country=country))
    assert partner.party.phone == number
