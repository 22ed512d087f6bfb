"""Files of contacts, as spreadsheets write them and as they should not."""

from __future__ import annotations

import io
import os
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.contact_store import Contact
from rapport.contacts.rows import RefusedRow, read_row
from rapport.contacts.table import COLUMNS, LINE_LIMIT, Record, Table, write
from rapport.errors import MalformedTable

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "contacts.csv"


def rows(file: Path, content: bytes, delimiter: str | None = None) -> list[Record]:
    file.write_bytes(content)
    table = Table.open(file, delimiter)
    records = list(table.records())
    assert table.rows == len(records)
    return records


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiter_mark_and_line_ends_are_found_out(
    file: Path, delimiter: str, mark: bytes, end: str
) -> None:
    lines = [["phone", "name"], ["+38640111222", "Čiliká"], ["+38640111333", "Ana"]]
    content = mark + "".join(delimiter.join(line) + end for line in lines).encode()

    assert rows(file, content) == [Record(2, lines[1]), Record(3, lines[2])]


def test_order_case_and_space_of_the_header_are_free(file: Path) -> None:
    file.write_bytes(b' Name ;"PHONE";conversation_Status\n')
    assert Table.open(file).columns == ["name", "phone", "conversation_status"]


def test_a_delimiter_that_is_given_is_not_guessed(file: Path) -> None:
    assert rows(file, b"phone\na,b;c\n", ";") == [Record(2, ["a,b", "c"])]


def test_rows_are_counted_as_a_spreadsheet_does(file: Path) -> None:
    content = b'phone,notes\n1,"two\nlines"\n\n  ,\n2,x'
    assert [record.row for record in rows(file, content)] == [2, 5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"empty.*Known: id, name"),
        (b"\n\n", "empty"),
        (b"+38640111222,Ana\n", r"not known: '\+38640111222', 'ana'. Known: id, name"),
        (b"phone,shoe size\n", r"not known: 'shoe size'. Known: id"),
        (b"phone,\n", "not known: ''"),
        (b"phone,Phone\n", "twice: phone"),
        (b"phone,name\n+1,\xe8iro\n", r"Line 2 is not UTF-8 at its byte 4 \(byte 15 of the file\)"),
        (BOM + b"phone,n\xe8\n", r"Line 1 is not UTF-8 at its byte 11 \(byte 11 of the file\)"),
        ("phone,name\n".encode("utf-16"), "Line 1 is not UTF-8 at its byte 1 "),
        (b'phone,name\n1,"' + b"x\n" * 70_000, "not closed"),
        # the rows below would be part of its cell, and nobody would miss them
        (b'phone,name\n1,"Ana\n2,Bor\n3,Cene\n', "Line 4 is no row.*not closed"),
        (b'phone,name\n1,"Ana\n2,"Bor"\n3,Cene\n', "Line 3 is no row.*not closed"),
        (b"phone,name\r1,2\r", "end in another way"),
        (b"phone,name\n" + b"x" * (LINE_LIMIT + 1), f"Line 2 has more than {LINE_LIMIT}"),
    ],
)
def test_a_file_that_can_not_be_read_is_refused_before_its_rows(
    file: Path, content: bytes, message: str
) -> None:
    file.write_bytes(content)
    with pytest.raises(MalformedTable, match=message):
        Table.open(file)


def test_what_can_be_read_only_once_is_refused(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(MalformedTable, match="only once"):
        Table.open(file)


def test_a_header_can_not_steer_the_terminal(file: Path) -> None:
    file.write_bytes(b"phone,\x1b[2J\n")
    with pytest.raises(MalformedTable) as caught:
        Table.open(file)
    assert str(caught.value).isprintable()


def read(region: str | None = None, /, **cells: str) -> Contact:
    return read_row(Record(2, list(cells.values())), list(cells), region)


def test_an_empty_cell_says_nothing() -> None:
    contact = read(phone="+38640111222", name="", email=" ", tags="\t", notes="'", username="\n")
    assert contact == Contact(phone="+38640111222", notes="'")


@pytest.mark.parametrize(
    ("cells", "field", "reason"),
    [
        ({"phone": "040 111 222"}, "phone", "no country code"),
        ({"id": "7"}, "id", "not an id"),
        ({"tags": '"vip'}, "tags", "quotes"),
        ({"notes": "a\0b"}, "notes", "NUL"),
        ({"name": "n" * 25_001}, "name", "more than 25,000"),
    ],
)
def test_a_wrong_cell_is_named(cells: dict[str, str], field: str, reason: str) -> None:
    with pytest.raises(RefusedRow, match=reason) as caught:
        read(**cells)
    assert caught.value.field == field


@pytest.mark.parametrize("cells", [["+38640111222"], ["+38640111222", "Ana", "more"]])
def test_a_row_of_another_width_is_refused(cells: list[str]) -> None:
    with pytest.raises(RefusedRow, match=f"{len(cells)} cells, and the first row 2"):
        read_row(Record(2, cells), ["phone", "name"], None)


def test_a_number_that_was_exported_is_not_judged_again() -> None:
    """The spelling that WhatsApp knows, of a country that has another since."""
    mexican, fictional = "+5215512345678", "+15551234567"
    for number in (mexican, fictional):
        assert read(id=str(UUID(int=1)), phone=number).phone == number
        with pytest.raises(RefusedRow):
            read(phone=number)


# with what is special to one of the layers more often than chance brings it
TEXT = st.text(
    st.one_of(
        st.sampled_from("'=+-@;,\"\t\r\n\u2028 a"),
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    ),
    max_size=20,
).filter(str.strip)
TAG = TEXT.map(lambda text: text.lstrip(" "))
CONTACT = st.builds(
    Contact,
    id=st.uuids(),
    name=st.none() | TEXT,
    phone=st.none() | st.from_regex(r"\+[1-9][0-9]{1,14}", fullmatch=True, alphabet="+0123456789"),
    email=st.none() | TEXT,
    username=st.none() | TEXT,
    tags=st.none() | st.lists(TAG, min_size=1, max_size=4),
    notes=st.none() | TEXT,
    conversation_status=st.sampled_from(["open", "pending", "closed"]),
)


@given(contacts=st.lists(CONTACT, max_size=5))
def test_what_is_written_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, contacts: list[Contact]
) -> None:
    written = io.StringIO(newline="")
    assert write(written, contacts) == len(contacts)
    file = tmp_path_factory.getbasetemp() / "round_trip.csv"
    file.write_bytes(written.getvalue().encode())

    table = Table.open(file)

    assert table.columns == list(COLUMNS)
    assert [read_row(record, table.columns, None) for record in table.records()] == contacts
    for record in table.records():
        cells = dict(zip(COLUMNS, record.cells, strict=True))
        del cells["phone"]
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells.values())
