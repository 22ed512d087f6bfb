"""Recognizes a cell that a spreadsheet has damaged.

A spreadsheet that opens a CSV file and saves it again changes cells that nobody edited.
`+38640111222` becomes 38640111222 or 3.86401E+10, `007` becomes 7, `1-2` becomes a date, and
letters that the encoding lacks become question marks. Compared with the contact's value, such
damage can be told from an edit.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, InvalidOperation

# shown, and saved, where a column is too narrow for a number
_HIDDEN = re.compile(r"#{2,}")
_NUMBER = re.compile(
    r"[+-]?\d{1,400}(?:[.,]\d{1,400})?(?:E[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE
)
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:([.,' \u00a0\u202f])\d{3})(?:\1\d{3})*", re.ASCII)
_TRUE = frozenset({"true", "wahr", "resnično"})
_FALSE = frozenset({"false", "falsch", "neresnično"})
_DATE = re.compile(r"(\d{1,4})[\s./-]+(\d{1,2}|[^\W\d_]{3,12})\.?(?:[\s./-]+(\d{1,4}))?\.?")
# by their first three letters, in English, German and Slovene
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan", "feb", "mar mär mrz", "apr", "may mai maj", "jun", "jul", "aug avg",
            "sep", "oct okt", "nov", "dec dez",
        ),
        1,
    )
    for name in names.split()
}  # fmt: skip
_ENCODINGS = ("cp1250", "cp1252", "iso-8859-1", "ascii")
_DIGITS_OF_A_SPREADSHEET = 15


def is_damaged(cell: str, value: str) -> bool:
    """Whether this cell is the value, or a form into which a spreadsheet may have damaged it."""
    cell, value = _plain(cell), _plain(value)
    return (
        cell == value
        or _HIDDEN.fullmatch(cell) is not None
        or _is_same_number(cell, value)
        or _is_same_truth(cell, value)
        or _is_same_date(cell, value)
        or _has_lost_letters(cell, value)
        or _was_read_wrongly(cell, value)
    )


def _plain(text: str) -> str:
    """Without line-end styles and surrounding spaces, which any saving may change."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def _is_same_number(cell: str, value: str) -> bool:
    shown, held = _number(cell), _number(value)
    if shown is None or held is None:
        return False
    if shown == held:
        return True
    roundings: tuple[str, ...]
    if "e" in cell.casefold():
        kept, roundings = len(shown.as_tuple().digits), (ROUND_HALF_EVEN, ROUND_HALF_UP)
    elif shown == shown.to_integral_value() and shown.adjusted() >= _DIGITS_OF_A_SPREADSHEET:
        kept, roundings = _DIGITS_OF_A_SPREADSHEET, (ROUND_DOWN,)
    else:
        return False
    if not held:
        return False
    place = Decimal(1).scaleb(held.adjusted() - kept + 1)
    try:
        return any(held.quantize(place, rounding) == shown for rounding in roundings)
    except InvalidOperation:
        # no real count has so many digits
        return False


def _number(text: str) -> Decimal | None:
    if grouped := _GROUPED.fullmatch(text):
        text = text.replace(grouped[1], "")
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text.replace(",", "."))
    except InvalidOperation:
        return None


def _is_same_truth(cell: str, value: str) -> bool:
    one, other = cell.casefold(), value.casefold()
    return any({one, other} <= words for words in (_TRUE, _FALSE)) and value.isalpha()


def _is_same_date(cell: str, value: str) -> bool:
    one, other = _date(cell), _date(value)
    if not one or not other:
        return False
    # a date without a year was given the current year
    return bool({(m, d) for m, d, _ in one} & {(m, d) for m, d, _ in other}) and (
        {y for *_, y in one} == {y for *_, y in other} or None in {y for *_, y in other}
    )


def _date(text: str) -> set[tuple[int, int, int | None]]:
    """The (month, day, year) that a text can mean; day and month may change places."""
    found = _DATE.fullmatch(text)
    if not found:
        return set()
    first, middle, last = found.groups()
    month = int(middle) if middle.isdigit() else _MONTHS.get(middle[:3].casefold())
    if month is None:
        return set()
    one = int(first)
    readings: list[tuple[int, int, int | None]]
    if last is None:
        readings = [(month, one, None), (one, month, None)]
    elif len(first) == 4:
        readings = [(month, int(last), one % 100)]
    else:
        readings = [(month, one, int(last) % 100), (one, month, int(last) % 100)]
    return {reading for reading in readings if _is_day(reading[0], reading[1])}


def _is_day(month: int, day: int) -> bool:
    try:
        date(2000, month, day)
    except ValueError:
        return False
    return True


def _has_lost_letters(cell: str, value: str) -> bool:
    """Each letter that the encoding lacks is one question mark, or two where UTF-16 needs two
    units.
    """
    if "?" not in cell:
        return False
    for encoding in _ENCODINGS:
        if cell == value.encode(encoding, "replace").decode(encoding):
            return True
        units = "".join(letter if ord(letter) < 0x10000 else "??" for letter in value)
        if cell == units.encode(encoding, "replace").decode(encoding):
            return True
    return False


def _was_read_wrongly(cell: str, value: str) -> bool:
    """Whether UTF-8 bytes were read in a Windows code page."""
    if value.isascii():
        return False
    data = value.encode()
    return any(cell == "".join(_letter(byte, encoding) for byte in data) for encoding in _ENCODINGS)


def _letter(byte: int, encoding: str) -> str:
    try:
        return bytes((byte,)).decode(encoding)
    except UnicodeDecodeError:
        return chr(byte)
