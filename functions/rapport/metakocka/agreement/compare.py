"""Whether two values of a field mean the same, in any spelling."""

from __future__ import annotations

import re
import unicodedata

from rapport.metakocka.agreement.countries import region_of
from rapport.metakocka.agreement.party import Single

NUMBERS = frozenset({"phone", "gsm", "fax"})

_PUNCTUATION = re.compile(r"[\s().\-/\u00b7\u2010-\u2015]+")
_NUMBER = re.compile(r"\+?[0-9]{3,}")
# a national number with fewer digits could be the end of many numbers
_LEAST_DIGITS = 6
# the countries that stand before tax numbers; private.tax_country has the same
_TAX_COUNTRY = re.compile(
    "(A[LT]|B[AEG]|C[HYZ]|D[EK]|E[ELS]|F[IR]|G[BR]|H[RU]|I[ET]|L[TUV]|M[EKT]|N[LO]|P[LT]|R[OS]"
    "|S[EIK]|X[IK])(?=[A-Z]{0,2}[0-9])"
)


def same(field: str, one: Single, other: Single) -> bool:
    """Whether the values mean the same; `field` is a field of a party or of an entry."""
    if not isinstance(one, str) or not isinstance(other, str):
        return one == other
    if field in NUMBERS:
        return same_number(one, other)
    if field == "email":
        return _written(one).casefold() == _written(other).casefold()
    if field == "tax_id_number":
        return same_tax(one, other)
    if field == "registration_number":
        return code(one) == code(other)
    if field == "country":
        known = region_of(one)
        return known == region_of(other) if known else _folded(one) == _folded(other)
    return _written(one) == _written(other)


def same_number(one: str, other: str) -> bool:
    """Whether two spellings may be one number; a national number fits any country code."""
    first, second = sorted((_dialled(one), _dialled(other)))
    if first == second or not (_NUMBER.fullmatch(first) and _NUMBER.fullmatch(second)):
        return first == second
    # a plus sorts before every digit
    if first.startswith("+") == second.startswith("+"):
        return False
    national = second.lstrip("0")
    return len(national) >= _LEAST_DIGITS and first.endswith(national)


def same_tax(one: str, other: str) -> bool:
    """Whether two tax numbers are one; one may lack its country (as private.same_tax)."""
    (country, number), (other_country, other_number) = tax_parts(one), tax_parts(other)
    return number == other_number and (country == other_country or "" in (country, other_country))


def tax_parts(value: str) -> tuple[str, str]:
    """The country before a tax number, empty if there is none, and the rest."""
    plain = code(value)
    country = _TAX_COUNTRY.match(plain)
    return (country[0], plain[country.end() :]) if country else ("", plain)


def code(value: str) -> str:
    """A tax or registration number without its punctuation."""
    return "".join(letter for letter in value.upper() if letter.isascii() and letter.isalnum())


def _dialled(number: str) -> str:
    digits = _PUNCTUATION.sub("", _written(number)).casefold()
    return f"+{digits[2:]}" if digits.startswith("00") else digits


def _written(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _folded(text: str) -> str:
    return _written(text).casefold()
