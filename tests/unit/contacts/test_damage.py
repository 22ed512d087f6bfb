"""What spreadsheets make of cells, told from what people write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.contacts.damage import is_damaged


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("38640111222", "+38640111222"),
        ("38640111222.0", "+38640111222"),
        ("3.86401E+10", "+38640111222"),
        ("3,86401E+10", "+38640111222"),
        ("3.8640111222E+10", "+38640111222"),
        ("4.36512E+11", "+436512345678"),
        ("4,37E+11", "+436512345678"),
        ("38.640.111.222", "+38640111222"),
        ("38 640 111 222", "+38640111222"),
        ("########", "+38640111222"),
        ("1.23457E+19", "12345678901234567890"),
        ("12345678901234500000", "12345678901234567890"),
        ("7", "007"),
        ("1.5", "1.50"),
        ("1,5", "1.50"),
        ("1.00E+05", "1E5"),
        ("TRUE", "true"),
        ("WAHR", "True"),
        ("NERESNIČNO", "false"),
        ("02.Jan", "1-2"),
        ("1. feb", "1-2"),
        ("2-Jan", "1/2"),
        ("01.02.2026", "1-2"),
        ("30.11.2026", "2026-11-30"),
        ("11/30/2026", "2026-11-30"),
        ("30. 11. 2026", "2026-11-30"),
        ("Two\nlines", "Two\r\nlines"),
        ("?iga Novak", "Žiga Novak"),
        ("?or?e", "Đorđe"),
        ("Ana ??", "Ana 😀"),
        ("Ana ?", "Ana 😀"),
        ("Å½iga", "Žiga"),
        ("Ĺ˝iga", "Žiga"),
        ("Novak", "Novak "),
        ("same", "same"),
    ],
)
def test_what_a_spreadsheet_makes_of_a_value_is_known(cell: str, value: str) -> None:
    assert is_damaged(cell, value)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("38640111223", "+38640111222"),
        ("4.36513E+11", "+436512345678"),
        ("4.3E+11", "+436512345678"),
        ("43651234568", "+436512345678"),
        ("380", "375"),
        ("3.8", "3.75"),
        ("12345678901234600000", "12345678901234567890"),
        ("8", "007"),
        ("TRUE", "false"),
        ("01.03.2026", "1-2"),
        ("30.11.2025", "2026-11-30"),
        ("?iga Novak", "Ziga Novak"),
        ("Zhiga?", "Žiga"),
        ("Really?", "Really"),
        ("Jana", "Ana"),
        ("", "Ana"),
        ("1E400", "1"),
        ("9" * 400, "8" * 400),
    ],
)
def test_what_people_have_written_is_not_taken_for_damage(cell: str, value: str) -> None:
    assert not is_damaged(cell, value)


@given(
    st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True, alphabet="+0123456789"), st.integers(3, 14)
)
def test_every_shortening_of_a_number_is_known_and_of_no_other(number: str, digits: int) -> None:
    value = int(number)
    assert is_damaged(f"{value:.{digits}E}", number)
    assert is_damaged(str(value), number)
    assert not is_damaged(str(value + 1), number)


@given(st.text(), st.text())
def test_any_two_texts_can_be_compared(cell: str, value: str) -> None:
    assert is_damaged(value, value)
    assert isinstance(is_damaged(cell, value), bool)
