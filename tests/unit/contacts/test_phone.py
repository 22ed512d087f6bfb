"""Phone numbers as people write them."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.contacts.phone import is_region, to_e164
from rapport.errors import NotAPhoneNumber

WRITINGS = phonenumbers.PhoneNumberFormat
REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("+38640111222", None, "+38640111222"),
        (" +386 40 111 222 ", None, "+38640111222"),
        ("+386 (0)40 111-222", None, "+38640111222"),
        ("0038640111222", None, "+38640111222"),
        ("0038640111222", "SI", "+38640111222"),
        ("040 111 222", "SI", "+38640111222"),
        ("040/111-222", "SI", "+38640111222"),
        ("40111222", "SI", "+38640111222"),
        ("(0)1 425 88.88", "SI", "+38614258888"),
        ("040\u00a0111\u2011222", "SI", "+38640111222"),
        ("\u202a+38640111222\u202c", None, "+38640111222"),
        ("٠٤٠١١١٢٢٢", "SI", "+38640111222"),
        ("0664/1234567", "AT", "+436641234567"),
        ("(202) 456-1414", "US", "+12024561414"),
        ("011 386 40 111 222", "US", "+38640111222"),
        ("06 12345678", "NL", "+31612345678"),
        ("(11) 98765-4321", "BR", "+5511987654321"),
        # a country code is stronger than the region
        ("+38640111222", "US", "+38640111222"),
    ],
)
def test_any_national_writing_is_one_number(text: str, region: str | None, number: str) -> None:
    assert to_e164(text, region) == number


@pytest.mark.parametrize(
    ("text", "region", "reason"),
    [
        ("040 111 222", None, "no country code"),
        ("+999 1234567", None, "country code is unknown"),
        ("+0 1234567", None, "country code is unknown"),
        ("+386 40 11", None, "too short"),
        ("1", "SI", "too short"),
        ("+386 40 111 222 333 444 5", None, "too long"),
        ("1" * 400, "SI", "too long"),
        ("456-1414", "US", "area code"),
        ("+1 555 555 5555", None, "Nobody"),
        ("", "SI", "digits of one"),
        ("Nika", "SI", "digits of one"),
        ("040 111 222 ext. 12", "SI", "digits of one"),
        ("040 111 222; 040 111 333", "SI", "digits of one"),
        ("1-800-FLOWERS", "US", "digits of one"),
        ("()", "SI", "too short"),
    ],
)
def test_what_is_no_number_is_refused_with_the_reason(
    text: str, region: str | None, reason: str
) -> None:
    with pytest.raises(NotAPhoneNumber, match=reason):
        to_e164(text, region)


@given(
    st.sampled_from(REGIONS),
    st.sampled_from([WRITINGS.E164, WRITINGS.INTERNATIONAL, WRITINGS.NATIONAL]),
)
def test_every_country_s_own_writing_is_understood(region: str, writing: int) -> None:
    """The country's example of a mobile number, as E.164, internationally and nationally."""
    number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    if number is None:
        return
    written = phonenumbers.format_number(number, writing)

    assert to_e164(written, region) == phonenumbers.format_number(number, WRITINGS.E164)


@given(st.text(), st.sampled_from([None, "SI", "US"]))
def test_a_number_is_what_the_database_takes_or_refused(text: str, region: str | None) -> None:
    try:
        number = to_e164(text, region)
    except NotAPhoneNumber:
        return
    assert number[0] == "+"
    assert 3 <= len(number) <= 16
    assert number[1:].isascii()
    assert number[1:].isdigit()
    assert to_e164(number) == number


def test_regions_are_countries_in_two_letters() -> None:
    assert is_region("SI")
    assert not any(map(is_region, ("si", "SLO", "", "001")))
