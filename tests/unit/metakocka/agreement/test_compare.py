"""When two values are one."""

from __future__ import annotations

import pytest

from rapport.metakocka.agreement.compare import same
from rapport.metakocka.agreement.countries import region_of
from rapport.metakocka.agreement.party import Address, Party, Person, Single, as_json


@pytest.mark.parametrize(
    ("field", "one", "other", "expected"),
    [
        ("phone", "+38640111222", "040/111-222", True),
        ("phone", "+38640111222", "0038640111222", True),
        ("phone", "+38640111222", "+386 40 111 223", False),
        ("phone", "+38640111222", "+38540111222", False),
        # too short to be told from the end of another
        ("phone", "+38640111222", "11222", False),
        ("phone", "+38640111222", "111222", True),
        ("phone", "112", "+38612345112", False),
        ("phone", "int. 5", "INT.5", True),
        ("phone", "+", "+", True),
        ("fax", "01 111", "+", False),
        ("email", "A@Example.com", "a@example.com", True),
        ("country", "ZDA", "United States", True),
        ("country", "Atlantida", "ATLANTIDA", True),
        ("country", "Slovenija", "Atlantida", False),
        ("registration_number", "1234-567.000", "1234567000", True),
        ("name", "Novak", "NOVAK", False),
        ("street", "Cesta  1", "Cesta 1", True),
        ("buyer", True, None, False),
        ("buyer", True, True, True),
        ("name", None, "x", False),
        ("name", None, None, True),
    ],
)
def test_it_depends_on_the_field(field: str, one: Single, other: Single, expected: bool) -> None:
    assert same(field, one, other) is expected
    assert same(field, other, one) is expected


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Slovenija", "SI"),
        (" slovenia ", "SI"),
        ("HR", "HR"),
        ("Avstrija", "AT"),
        ("", None),
        (None, None),
        ("Atlantida", None),
    ],
)
def test_a_country_is_known_in_slovenian_english_and_by_its_code(
    name: str | None, code: str | None
) -> None:
    assert region_of(name) == code


def test_a_party_has_no_empty_texts_and_nothing_that_postgres_cannot_hold() -> None:
    party = Party.model_validate(
        {"name": " No\x00vak\ud800 ", "email": "  ", "street": "a\nb", "unknown": 1}
    )
    assert (party.name, party.email, party.street) == ("Novak", None, "a\nb")


def test_entries_that_were_written_by_hand_are_read_as_far_as_they_make_sense() -> None:
    party = Party.model_validate({"people": [{"name": 5, "email": ["x"], "gsm": True}, {}]})
    assert party.people == (Person(name="5"), Person())


def test_a_value_is_given_to_the_database_as_json() -> None:
    assert as_json((Person(mk_id="1", name="Ana"), Person())) == [{"mk_id": "1", "name": "Ana"}, {}]
    assert as_json(Address(city="Kranj")) == {"city": "Kranj"}
    assert [as_json(value) for value in ("x", True, None, ())] == ["x", True, None, []]
