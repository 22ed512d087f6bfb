"""Cells that no spreadsheet runs, and lists of tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.contacts.cells import guarded, join_tags, split_tags, text_of, unguarded
from rapport.errors import MalformedTable

FORMULA = ("=", "+", "-", "@", "\t", "\r")
# what is special to one of the layers, more often than chance brings it
TRICKY = st.text(st.one_of(st.sampled_from("'=+-@;,\"\t\r\n a"), st.characters()), max_size=12)


@pytest.mark.parametrize("begin", FORMULA)
def test_what_begins_like_a_formula_is_guarded(begin: str) -> None:
    assert guarded(f"{begin}cmd") == f"'{begin}cmd"


@pytest.mark.parametrize("text", ["'t Hooft", "'", "''", "Ana", "", " =1", "a=b", "''Ana''"])
def test_what_is_no_formula_stays_as_it_is(text: str) -> None:
    assert guarded(text) == text
    assert unguarded(text) == text


@given(TRICKY)
def test_guarding_is_undone_exactly(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert text_of(guarded(text)) == text
    assert not guarded(text).startswith(FORMULA)


def test_a_cell_that_people_have_guarded_is_taken_for_what_they_meant() -> None:
    assert unguarded("'+38640111222") == "+38640111222"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("'0401 11 222", "0401 11 222"),
        ('="0401 11 222"', "0401 11 222"),
        ('="+38640111222"', "+38640111222"),
        ('="a ""b"""', 'a "b"'),
        ('\'="0401"', '="0401"'),
        ("''0401", "'0401"),
        ("'90s kid", "'90s kid"),
        ("=1+1", "=1+1"),
    ],
)
def test_what_a_spreadsheet_shall_show_as_a_text_is_that_text(cell: str, text: str) -> None:
    assert text_of(cell) == text
    assert text_of(guarded(text)) == text


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        ("", []),
        ("vip", ["vip"]),
        ("vip;boat", ["vip", "boat"]),
        ("vip; boat ;; ", ["vip", "boat "]),
        ('"a;b";c', ["a;b", "c"]),
        ('vip; "a;b"', ["vip", "a;b"]),
        ("vip\nboat", ["vip", "boat"]),
        ("vip,boat", ["vip,boat"]),
    ],
)
def test_tags_are_told_apart_by_semicolons(cell: str, tags: list[str]) -> None:
    assert split_tags(cell) == tags


@pytest.mark.parametrize("cell", ['"vip', '"vip"x;boat'])
def test_tags_with_quotes_that_do_not_match_are_refused(cell: str) -> None:
    with pytest.raises(MalformedTable):
        split_tags(cell)


@given(st.lists(TRICKY.map(str.strip).filter(bool), max_size=5))
def test_joined_tags_are_split_into_the_same(tags: list[str]) -> None:
    assert split_tags(join_tags(tags)) == tags
