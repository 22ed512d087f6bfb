"""When two values of a field are one, however each side writes it."""

from __future__ import annotations

import re
import unicodedata

from rapport.metakocka.countries import region_of
from rapport.metakocka.party import Single

NUMBERS = frozenset({"phone", "gsm", "fax"})
CODES = frozenset({"tax_id_number", "registration_number"})

_PUNCTUATION = re.compile(r"[\s().\-/\u00b7\u2010-\u2015]+")
_NUMBER = re.compile(r"\+?[0-9]{3,}")
# a national number of fewer digits could be the end of anybody's
_LEAST_DIGITS = 6


def same(field: str, one: Single, other: Single) -> bool:
    """Tells whether the values mean the same; the field is that of a party or of an entry."""
    if not isinstance(one, str) or not isinstance(other, str):
        return one == other
    if field in NUMBERS:
        return same_number(one, other)
    if field == "email":
        return _written(one).casefold() == _written(other).casefold()
    if field in CODES:
        return code(one) == code(other)
    if field == "country":
        known = region_of(one)
        return known == region_of(other) if known else _folded(one) == _folded(other)
    return _written(one) == _written(other)


def same_number(one: str, other: str) -> bool:
    """Tells whether two spellings may be one number; a national one fits any country code."""
    first, second = sorted((_dialled(one), _dialled(other)))
    if first == second or not (_NUMBER.fullmatch(first) and _NUMBER.fullmatch(second)):
        return first == second
    # a plus sorts before every digit
    if first.startswith("+") == second.startswith("+"):
        return False
    national = second.lstrip("0")
    return len(national) >= _LEAST_DIGITS and first.endswith(national)


def code(value: str) -> str:
    """A tax or registration number without its punctuation."""
    return "".join(letter for letter in value.upper() if letter.isalnum())


def _dialled(number: str) -> str:
    digits = _PUNCTUATION.sub("", _written(number)).casefold()
    return f"+{digits[2:]}" if digits.startswith("00") else digits


def _written(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _folded(text: str) -> str:
    return _written(text).casefold()
