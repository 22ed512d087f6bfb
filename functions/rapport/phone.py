"""Reads phone numbers as people, spreadsheets and other systems write them, as E.164.

A number is accepted only if it has exactly one plausible reading. A reading is plausible if the
numbering plan of its country has such a number. Digits without a plus can have a country code in
front (`386 40 111 222`) or be a number of the region. Where both are plausible, only the writer
knows which is meant, and the number is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberType, ValidationResult

from rapport.errors import NotAPhoneNumber

# digits, and the characters that people put between them
_WRITTEN = re.compile(r"\(?\+?[\d\s().\-/\u00b7\u2010-\u2015\u2212]+", re.ASCII)
_SPACES = re.compile(r"\s")
# invisible marks of direction and joining, which are copied along from web pages
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
# marks by which a spreadsheet takes the cell for text
_QUOTES = "'\u2018\u2019\u00b4`"
_TELEPHONE = re.compile(r"(?:tel|whatsapp|callto):\s*(?=\S)", re.IGNORECASE)
# WhatsApp's own form: a country code and no plus
_WHATSAPP = re.compile(
    r"([1-9]\d{6,14})@(?:s\.whatsapp\.net|c\.us)"
    r"|(?:https?://)?(?:wa\.me/|api\.whatsapp\.com/send/?\?phone=)\+?([1-9]\d{6,14})",
    re.ASCII | re.IGNORECASE,
)
_SCIENTIFIC = re.compile(r"\+?(\d)(?:[.,](\d+))?E\+?(\d{1,3})", re.ASCII | re.IGNORECASE)
_DECIMAL = re.compile(r"(\+?[1-9]\d{4,})[.,]0{1,2}", re.ASCII)
_POINT_ZERO = re.compile(r"[^.,]*[.,](0+)", re.ASCII)
_EXTENSION = re.compile(
    r"\d[\s.,;:/\-(]*(?:ext(?:ension|n)?|x|#|int(?:erno|erna)?|dw|durchwahl|kl|ramal)"
    r"[\s.:=]*\d{1,6}\)?",
    re.ASCII | re.IGNORECASE,
)
_LONGEST = 300  # characters
# E.164 has 15; the rest is room for a national or international prefix
_MOST_DIGITS = 20
_FEWEST_DIGITS = 6
_MORE_THAN_ONE = "There is more than one number. Write one."
# a day as people write it: grouped so, digits are no number of theirs
_DATE = re.compile(
    r"(?:0?[1-9]|[12]\d|3[01])([./-]) ?(?:0?[1-9]|1[0-2])\1 ?(?:19|20)\d\d"
    r"|(?:0?[1-9]|1[0-2])([./-])(?:0?[1-9]|[12]\d|3[01])\2(?:19|20)\d\d"
    r"|(?:19|20)\d\d([./-]) ?(?:0?[1-9]|1[0-2])\3 ?(?:0?[1-9]|[12]\d|3[01])",
    re.ASCII,
)
_SEVERAL = re.compile(r":::|[;,|&/]| (?:or|and|und|oder|ali|in|e|o|et|ou) ")
_LETTERS = re.compile(r"[^\W\d_]")

# old ways of writing that a country has given up, with today's number
_FORMER = (
    # Mexico: 1 before mobile numbers, and prefixes for long-distance and mobile calls
    (re.compile(r"\+52(?:1|01|044|045)(\d{10})"), r"+52\1"),
    # Brazil: mobile numbers had eight digits
    (re.compile(r"\+55(\d\d)([6-9]\d{7})"), r"+55\g<1>9\2"),
)

_UNPARSED = {
    NumberParseException.NOT_A_NUMBER: "The number is too short.",
    NumberParseException.TOO_SHORT_AFTER_IDD: "The number is too short.",
    NumberParseException.TOO_SHORT_NSN: "The number is too short.",
    NumberParseException.TOO_LONG: "The number is too long.",
}
_IMPOSSIBLE = {
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "The area code is missing.",
    ValidationResult.INVALID_COUNTRY_CODE: "The country code is unknown.",
    ValidationResult.TOO_SHORT: "The number is too short.",
    ValidationResult.INVALID_LENGTH: "Numbers of this country have another length.",
    ValidationResult.TOO_LONG: "The number is too long.",
}


def is_region(code: str) -> bool:
    """Whether this is a country (ISO 3166, two letters) whose numbers are known."""
    return code in phonenumbers.SUPPORTED_REGIONS


def to_e164(text: str, region: str | None = None, *, country_code: str | None = None) -> str:
    """The number that `text` means, such as +38640111222.

    Without a country code it is a number of `region` (ISO 3166, two letters). `country_code`
    (digits) is given where a column of its own holds the country code.

    Raises:
        NotAPhoneNumber: It is no number, no existing number, or has several plausible
            readings; the message says which, and what to do.
    """
    written = _written(text)
    if country_code is not None:
        spellings = _with_country_code(written, country_code)
    else:
        spellings = _spellings(written, region)
    readings = _readings(spellings)
    if len(readings) > 1 and region is not None:
        readings = _grouped_as(written, region, readings) or readings
    if len(readings) > 1:
        shown = tuple(_shown(one) for one in readings)
        ambiguous = NotAPhoneNumber(
            f"The number can be read as {' and as '.join(shown)}."
            " Write it with a plus and its country code."
        )
        ambiguous.readings = shown
        raise ambiguous
    if readings:
        return readings[0]
    if region is None and country_code is None and not written.startswith("+"):
        raise NotAPhoneNumber(_without_region(written))
    raise NotAPhoneNumber(_reason(written, region, country_code))


def e164_or_text(text: str | None, region: str | None = None) -> str | None:
    """The number in E.164, or the text as it is where it can't be read as one number."""
    if text is None:
        return None
    try:
        return to_e164(text, region)
    except NotAPhoneNumber:
        return text


def _written(text: str) -> str:
    """The digits of a number with their separators, and a plus in front if it has one.

    Raises:
        NotAPhoneNumber: It holds something else.
    """
    if len(text) > _LONGEST:
        raise NotAPhoneNumber("The number is too long.")
    text = _INVISIBLE.sub("", text).replace("\uff0b", "+")
    text = "".join(
        str(unicodedata.decimal(one)) if one.isdecimal() else _SPACES.sub(" ", one) for one in text
    )
    text = _TELEPHONE.sub("", text.strip().lstrip(_QUOTES).strip(), count=1)
    if named := _WHATSAPP.fullmatch(text):
        return f"+{named[1] or named[2]}"
    if scientific := _SCIENTIFIC.fullmatch(text):
        whole, decimals, exponent = scientific[1], scientific[2] or "", int(scientific[3])
        if len(decimals) != exponent:
            raise NotAPhoneNumber(
                f"A spreadsheet has shortened the number to {text[:32]}; its last digits are lost."
                " Format the column as text and write the number again."
            )
        text = whole + decimals
    if decimal := _DECIMAL.fullmatch(text):
        # a number that was saved as a decimal: the zero is not part of it
        return decimal[1]
    if ends := _POINT_ZERO.fullmatch(text):
        raise NotAPhoneNumber(
            f"The number ends in .{ends[1][:8]} like an amount. Write only its digits."
        )
    if _DATE.fullmatch(text):
        raise NotAPhoneNumber(
            "It is written as a date. A number that is grouped so needs its plus and country code."
        )
    if _EXTENSION.search(text):
        raise NotAPhoneNumber("The number has an extension. Write the number without it.")
    if not _WRITTEN.fullmatch(text) or len(_digits(text)) > _MOST_DIGITS:
        raise NotAPhoneNumber(_foreign(text))
    return text.removeprefix("(") if text.startswith("(+") else text


def _foreign(text: str) -> str:
    if _are_several(text):
        return _MORE_THAN_ONE
    if text and set(text) == {"#"}:
        return "The spreadsheet's column was too narrow for the number. Widen it and save again."
    if _LETTERS.search(text):
        return "The number contains letters. Write the digits of one number."
    if _WRITTEN.fullmatch(text):
        return "The number is too long."
    return "There is more than the digits of one number."


def _are_several(text: str) -> bool:
    return sum(len(_digits(part)) >= _FEWEST_DIGITS for part in _SEVERAL.split(text)) > 1


def _spellings(written: str, region: str | None) -> list[str]:
    """The possible readings, each with a plus and a country code."""
    spellings = []
    # a zero in parentheses is not dialled from abroad, except in Italy
    for text in dict.fromkeys((written, re.sub(r"(?<=\S)\s*\(0\)", "", written, count=1))):
        digits = _digits(text)
        if text.startswith("+"):
            spellings.append(f"+{digits}")
        elif digits.startswith("00"):
            # most of the world dials 00 for the plus
            spellings.append(f"+{digits[2:]}")
        elif region is not None and not digits.startswith("0"):
            spellings.append(f"+{digits}")
        if region is not None and not text.startswith("+"):
            spellings.extend(_national(digits, region))
    return spellings


def _national(digits: str, region: str) -> Iterator[str]:
    code = phonenumbers.country_code_for_region(region)
    if not digits.startswith("00"):
        yield f"+{code}{digits}"
        if not digits.startswith("0") and _lacks_zero(code, digits):
            yield f"+{code}0{digits}"
    try:
        # as dialled in the region, which may be a call abroad
        dialled = phonenumbers.parse(digits, region)
    except NumberParseException:
        return
    if dialled.country_code != code:
        yield _format(dialled)


def _lacks_zero(code: int, digits: str) -> bool:
    """Whether a spreadsheet may have cut off a zero at the start.

    In Italy 341123456 may be 0341 123456. Ten digits that are a mobile number have lost nothing.
    """
    plain = _valid(f"+{code}{digits}")
    if plain is None or phonenumbers.number_type(plain) != PhoneNumberType.MOBILE:
        return True
    usual = phonenumbers.example_number_for_type(
        phonenumbers.region_code_for_number(plain), PhoneNumberType.MOBILE
    )
    length = len(phonenumbers.national_significant_number(plain))
    return usual is None or len(phonenumbers.national_significant_number(usual)) != length


def _with_country_code(written: str, country_code: str) -> list[str]:
    digits, code = _digits(written), _digits(country_code).lstrip("0")
    if not code:
        raise NotAPhoneNumber("The country code is unknown.")
    if written.startswith("+"):
        return [f"+{digits}"]
    if digits.startswith("00"):
        return [f"+{digits[2:]}"]
    # the number may repeat the country code
    return [f"+{code}{digits}", *([f"+{digits}"] if digits.startswith(code) else [])]


def _readings(spellings: list[str]) -> list[str]:
    """The readings that can exist, each once."""
    found = (_valid(spelling) for spelling in dict.fromkeys(spellings))
    return list(dict.fromkeys(_format(number) for number in found if number is not None))


def _grouped_as(written: str, region: str, readings: list[str]) -> list[str]:
    """The number of the region, if its digits are grouped as in that country and in no other.

    2015550123 may be American or Egyptian; (201) 555-0123 is American.
    """
    groups = _groups(written)
    if written.startswith("+") or len(groups) == 1:
        return []
    code = phonenumbers.country_code_for_region(region)
    numbers = {reading: phonenumbers.parse(reading) for reading in readings}
    own = [
        reading
        for reading, number in numbers.items()
        if number.country_code == code
        and groups == _groups(_written_as(number, phonenumbers.PhoneNumberFormat.NATIONAL))
    ]
    others = [
        reading
        for reading, number in numbers.items()
        if groups == _groups(_written_as(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL))
    ]
    return own if len(own) == 1 and not others else []


def _groups(text: str) -> list[int]:
    return [len(group) for group in re.findall(r"\d+", text)]


def _valid(spelling: str) -> PhoneNumber | None:
    former = (pattern.sub(now, spelling) for pattern, now in _FORMER if pattern.fullmatch(spelling))
    for text in (spelling, *former):
        try:
            number = phonenumbers.parse(text)
        except NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return number
    return None


def _without_region(written: str) -> str:
    digits = _digits(written)
    if readings := _readings([f"+{digits}"] if not digits.startswith("0") else []):
        return (
            "The number has no country code, and no region is given. If it is"
            f" {_shown(readings[0])}, write the plus."
        )
    if digits.startswith("00"):
        return _reason(f"+{digits[2:]}", None, None)
    return "The number has no country code, and no region is given."


def _reason(written: str, region: str | None, country_code: str | None) -> str:
    """Why the number can't exist."""
    if _are_several(written):
        return _MORE_THAN_ONE
    if country_code is not None:
        written = _with_country_code(written, country_code)[0]
    elif not written.startswith("+") and _digits(written).startswith("00"):
        written = f"+{_digits(written)[2:]}"
    try:
        number = phonenumbers.parse(written, region)
    except NumberParseException as error:
        return _UNPARSED.get(error.error_type, "The country code is unknown.")
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible != ValidationResult.IS_POSSIBLE:
        return _IMPOSSIBLE[possible]
    return "The number can't exist: no number of its country begins like this."


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _format(number: PhoneNumber) -> str:
    return _written_as(number, phonenumbers.PhoneNumberFormat.E164)


def _written_as(number: PhoneNumber, writing: int) -> str:
    return phonenumbers.format_number(number, writing)


def _shown(number: str) -> str:
    """The number with its country, such as `+38640111222 (SI)`."""
    region = phonenumbers.region_code_for_number(phonenumbers.parse(number))
    return f"{number} ({region})" if region else number
