"""Phone numbers in any national writing, as E.164."""

from __future__ import annotations

import re

import phonenumbers
from phonenumbers import NumberParseException, ValidationResult

from rapport.errors import NotAPhoneNumber

# digits of any script, and what people put between them
_WRITTEN = re.compile(r"[+\uff0b]?[\d\s().\-/\u00b7\u2010-\u2015]+")
# marks of direction and joints, which come along when a number is copied from a page
_INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")

_UNPARSED = {
    NumberParseException.NOT_A_NUMBER: "It is too short.",
    NumberParseException.TOO_SHORT_AFTER_IDD: "It is too short.",
    NumberParseException.TOO_SHORT_NSN: "It is too short.",
    NumberParseException.TOO_LONG: "It is too long.",
}
_IMPOSSIBLE = {
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "It lacks its area code.",
    ValidationResult.INVALID_COUNTRY_CODE: "Its country code is unknown.",
    ValidationResult.TOO_SHORT: "It is too short.",
    ValidationResult.INVALID_LENGTH: "Numbers of this country have another length.",
    ValidationResult.TOO_LONG: "It is too long.",
}


def is_region(code: str) -> bool:
    """Tells whether this is a country (ISO 3166, two letters) whose numbers are known."""
    return code in phonenumbers.SUPPORTED_REGIONS


def to_e164(text: str, region: str | None = None) -> str:
    """The number that `text` writes, such as +38640111222.

    Without a country code it is one of `region` (ISO 3166, two letters).

    Raises:
        NotAPhoneNumber: It is none, or not one that anybody can have; the message says why.
    """
    text = _INVISIBLE.sub("", text).strip()
    if not _WRITTEN.fullmatch(text):
        raise NotAPhoneNumber("It holds more than the digits of one number.")
    if region is None and text.startswith("00"):
        # how most of the world dials what is written as a plus
        text = f"+{text[2:]}"
    try:
        number = phonenumbers.parse(text, region)
    except NumberParseException as error:
        if reason := _UNPARSED.get(error.error_type):
            raise NotAPhoneNumber(reason) from None
        if region is None and not text.startswith(("+", "\uff0b")):
            raise NotAPhoneNumber("It has no country code, and no region is given.") from None
        raise NotAPhoneNumber("Its country code is unknown.") from None
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible != ValidationResult.IS_POSSIBLE:
        raise NotAPhoneNumber(_IMPOSSIBLE[possible])
    if not phonenumbers.is_valid_number(number):
        raise NotAPhoneNumber("Nobody can have it: no numbers of its country begin so.")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
