"""Workbooks as spreadsheets write them, and as they should not."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import pytest
from tests.workbooks import number, text, write

from rapport.commands import workbook
from rapport.commands.workbook import as_table
from rapport.errors import MalformedTable


def rows(file: Path, sheet: str | None = None) -> list[list[str]]:
    with as_table(file, sheet) as table, table.open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "contacts.xlsx"


def test_numbers_keep_their_digits_and_days_are_days(file: Path) -> None:
    write(
        file,
        Contacts=[
            text("A1", "phone") + text("B1", "notes"),
            number("A2", "38640111222") + text("B2", 'Two\nlines, "both"'),
            number("A3", "4.36641234567E11") + number("B3", "46356", style=1),
            text("A4", "+38640111333") + number("B4", "1.5"),
            text("A5", "0401") + '<c r="B5" t="b"><v>1</v></c>',
        ],
    )
    assert rows(file) == [
        ["phone", "notes"],
        ["38640111222", 'Two\nlines, "both"'],
        ["436641234567", "2026-11-30"],
        ["+38640111333", "1.5"],
        ["0401", "TRUE"],
    ]


def test_rows_are_those_of_the_sheet_though_the_first_are_empty(file: Path) -> None:
    write(file, Contacts=["", "", text("B3", "phone"), "", number("B5", "38640111222")])
    found = rows(file)
    assert [row[-1:] for row in found] == [[""], [""], ["phone"], [""], ["38640111222"]]


def test_the_first_sheet_is_read_or_the_one_that_is_named(file: Path) -> None:
    write(file, One=[text("A1", "phone")], Two=[text("A1", "email")])
    assert rows(file) == [["phone"]]
    assert rows(file, "Two") == [["email"]]
    with pytest.raises(MalformedTable, match=r"no sheet 'Three'\. Sheets: 'One', 'Two'"):
        rows(file, "Three")


def test_an_empty_sheet_is_an_empty_table(file: Path) -> None:
    assert rows(write(file, Contacts=[])) == []


def test_another_file_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text("phone\n")
    with as_table(file, None) as table:
        assert table == file
    with pytest.raises(MalformedTable, match="not a workbook"), as_table(file, "One"):
        pass


def test_what_is_no_workbook_is_refused(tmp_path: Path, file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("contacts.csv", "phone\n")
    with pytest.raises(MalformedTable, match="workbook can't be read"):
        rows(file)
    broken = tmp_path / "broken.xlsx"
    broken.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(MalformedTable, match="damaged"):
        rows(broken)
    encrypted = tmp_path / "encrypted.xlsx"
    encrypted.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 1000)
    with pytest.raises(MalformedTable, match="workbook can't be read"):
        rows(encrypted)


def test_a_cell_that_stands_far_from_the_table_is_refused(file: Path) -> None:
    """As one sheet it would be 17,000,000,000 cells."""
    write(file, Contacts=[text("A1", "phone") + text("XFD1048576", "x")])
    with pytest.raises(MalformedTable, match="Delete the cells far from the table"):
        rows(file)


def test_a_workbook_that_unpacks_to_too_much_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "UNPACKED_LIMIT", 1_000_000)
    write(file, Contacts=[text("A1", "phone")])
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/zeros", bytes(workbook.UNPACKED_LIMIT))
    assert file.stat().st_size < 10_000
    with pytest.raises(MalformedTable, match=r"1,000,000 are allowed\. Divide it"):
        rows(file)


def test_a_workbook_that_is_too_large_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, Contacts=[text("A1", "phone")])
    monkeypatch.setattr(workbook, "FILE_LIMIT", 100)
    with pytest.raises(MalformedTable, match="100 are allowed"):
        rows(file)
