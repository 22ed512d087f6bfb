"""Files of contacts, as spreadsheets write them and as they should not."""

from __future__ import annotations

import codecs
import io
import os
import re
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.contacts import table as table_module
from rapport.contacts.columns import COLUMNS, Column
from rapport.contacts.rows import RefusedRow, Said, read_row
from rapport.contacts.table import LINE_LIMIT, Record, Table, write
from rapport.errors import MalformedTable
from rapport.store.contacts import Contact

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
    assert targets(Table.open(file)) == ["name", "phone", "conversation_status"]


def targets(table: Table) -> list[str | None]:
    return [column.target for column in table.columns]


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
        (b"+38640111222,Ana\n", r"unknown columns: '\+38640111222', 'Ana'. Known: id, name"),
        (b"phone,shoe size\n", r"Name its field, such as --map 'shoe size'=notes"),
        (b"phone,shoe size\n", r"unknown columns: 'shoe size'. Known: id"),
        (b"phone,Phone\n", "twice: phone"),
        (
            b"phone,name\n+1,Ana\n+1,\xe8iro\n",
            "Line 3 is not UTF-8. It has 'čiro' .* Central .*'èiro' .* Western .*--encoding cp1250",
        ),
        (BOM + b"phone,n\xe8\n", r"Line 1 is not UTF-8 \(byte 11 of the file\)"),
        (b"phone,name\n+1,\x81\x88\x90\x98\n", r"Line 2 is not UTF-8 \(byte 15 of the file\)"),
        (b'phone,name\n1,"' + b"x\n" * 70_000, "not closed"),
        # the rows below would be part of its cell, and nobody would miss them
        (b'phone,name\n1,"Ana\n2,Bor\n3,Cene\n', "Line 4 can't be read.*not closed"),
        (b'phone,name\n1,"Ana\n2,"Bor"\n3,Cene\n', "Line 3 can't be read.*not closed"),
        (b"phone\n" + b"," * 1_001 + b"x\n", "Row 2 has more than 1,000 cells"),
        (b"phone,name\n" + b"x" * (LINE_LIMIT + 1), f"Line 2 has more than {LINE_LIMIT:,}"),
    ],
)
def test_a_file_that_can_not_be_read_is_refused_before_its_rows(
    file: Path, content: bytes, message: str
) -> None:
    file.write_bytes(content)
    with pytest.raises(MalformedTable, match=message):
        Table.open(file)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("phone;name\r\n1;Žiga Šmid\r\n".encode("cp1250"), None),
        ("phone;name\r\n1;Jörg Weiß\r\n".encode("cp1252"), None),
        ("phone;name\r\n1;Čiro\r\n".encode("cp1250"), "cp1250"),
        ("phone;name\r\n1;Lènart\r\n".encode("cp1252"), "cp1252"),
        ("phone\tname\r\n1\tČiro 😀\r\n".encode("utf-16"), None),
        (codecs.BOM_UTF16_BE + "phone\tname\n1\tČiro\n".encode("utf-16-be"), None),
        ("phone\tname\n1\tČiro\n".encode("utf-16-le"), None),
        ("phone,name\n1,Čiro\n".encode(), None),
        (BOM + "phone,name\n1,Čiro\n".encode(), "utf-8"),
        (b"phone;name\r1;Ana\r", None),
    ],
)
def test_the_encodings_of_spreadsheets_are_read(
    file: Path, content: bytes, encoding: str | None
) -> None:
    file.write_bytes(content)
    table = Table.open(file, encoding=encoding)
    [record] = table.records()
    text = content.decode(encoding or table.encoding)
    assert record.cells == ["1", re.split(r"[\r\n;,\t]+", text.strip())[-1]]
    assert "\ufeff" not in table.columns[0].title


@pytest.mark.parametrize(
    "content",
    [
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\nendobj",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"\xff\xd8\xff\xe0\0\x10JFIF\0",
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
        b"{\\rtf1\\ansi phone;name}",
        b"SQLite format 3\0",
        b"\0" * 4096,
    ],
)
def test_what_is_no_table_is_refused_in_plain_words(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(MalformedTable, match=r"is not a table.*Give a CSV file or a workbook"):
        Table.open(file)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["č", "Žiga Šk\x0bofič", "Ελένη Παπαδοπούλου"])
def test_letters_of_other_alphabets_are_text(file: Path, encoding: str, name: str) -> None:
    file.write_bytes(f"phone;name\n+38640111222;{name}\n".encode(encoding))
    assert Table.open(file).rows == 1


def test_an_encoding_that_does_not_fit_is_refused(file: Path) -> None:
    file.write_bytes("phone,name\n1,Ana\n2,Čiro\n".encode("cp1250"))
    with pytest.raises(MalformedTable, match=r"Line 3 is not UTF-8 \(byte 20 of the file\)"):
        Table.open(file, encoding="utf-8")


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "sep=;;;", "sep=;\r"])
def test_the_line_with_which_excel_tells_the_delimiter_is_no_row(file: Path, first: str) -> None:
    content = f"{first}\nphone;name;\n+38640111222;a,b;\n".encode()
    assert rows(file, content) == [Record(2, ["+38640111222", "a,b", ""])]


def test_a_column_without_a_title_is_empty_or_its_rows_are_refused(file: Path) -> None:
    first, second = rows(file, b"phone;name;\n+38640111222;Ana;\n+38640111333;Bor;x\n")
    table = Table.open(file)
    assert Said.of(first, table.columns).first("name") == "Ana"
    with pytest.raises(RefusedRow, match="'x' in a column without a title"):
        Said.of(second, table.columns)


def test_too_many_rows_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "ROW_LIMIT", 2)
    with pytest.raises(MalformedTable, match=r"more than 2 rows\. Divide it"):
        rows(file, b"phone\n1\n2\n3\n")


@pytest.mark.parametrize(
    ("written", "email"),
    [
        ("ana@example.si", "ana@example.si"),
        (" ana@example.si ", "ana@example.si"),
        ("Ana Novak <ana@example.si>", "ana@example.si"),
        ("mailto:ana@example.si", "ana@example.si"),
    ],
)
def test_an_email_is_read(written: str, email: str) -> None:
    assert read(email=written).email == email


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("e@b.si;b", "2 addresses or words.*Keep only 'e@b.si'"),
        ("a@b.si, c@d.si", "2 addresses or words"),
        ("a@b.si c@d.si", "2 addresses or words"),
        ("ana", "not an email address"),
        ("ana@", "not an email address"),
        ("a@b@c.si", "not an email address"),
    ],
)
def test_what_is_no_single_email_is_refused(written: str, reason: str) -> None:
    with pytest.raises(RefusedRow, match=reason) as refused:
        read(email=written)
    assert refused.value.field == "email"


def test_what_can_be_read_only_once_is_refused(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(MalformedTable, match="only once"):
        Table.open(file)


def test_a_header_can_not_steer_the_terminal(file: Path) -> None:
    file.write_bytes(b"phone,\x1b[2J\n")
    with pytest.raises(MalformedTable) as caught:
        Table.open(file)
    assert str(caught.value).isprintable()


def columns(*targets: str) -> list[Column]:
    return [Column(target, target) for target in targets]


def read(region: str | None = None, /, **cells: str) -> Contact:
    said = Said.of(Record(2, list(cells.values())), columns(*cells))
    return read_row(said, region).contact


def test_an_empty_cell_says_nothing() -> None:
    contact = read(phone="+38640111222", name="", email=" ", tags="\t", notes="'", username="\n")
    assert contact == Contact(phone="+38640111222", notes="'")


@pytest.mark.parametrize(
    ("cells", "field", "reason"),
    [
        ({"phone": "040 111 222"}, "phone", "no country code"),
        ({"id": "7"}, "id", "not a contact's id"),
        ({"tags": '"vip'}, "tags", "quote"),
        ({"notes": "a\0b"}, "notes", "NUL"),
        ({"name": "n" * 25_001}, "name", "more than 25,000"),
    ],
)
def test_a_wrong_cell_is_named(cells: dict[str, str], field: str, reason: str) -> None:
    with pytest.raises(RefusedRow, match=reason) as caught:
        read(**cells)
    assert caught.value.field == field


def test_a_row_of_more_cells_is_refused() -> None:
    with pytest.raises(RefusedRow, match="3 cells; the first row has 2"):
        Said.of(Record(2, ["+38640111222", "Ana", "more"]), columns("phone", "name"))


@pytest.mark.parametrize("cells", [["+38640111222"], ["+38640111222", "", "", " "]])
def test_empty_cells_at_the_end_of_a_row_may_be_missing_or_more(cells: list[str]) -> None:
    said = Said.of(Record(2, cells), columns("phone", "name"))
    assert read_row(said, None).contact == Contact(phone="+38640111222")


def test_a_number_that_was_exported_is_not_judged_again() -> None:
    """The spelling that WhatsApp knows, of a country that has another since."""
    mexican, fictional = "+5215512345678", "+15551234567"
    for number in (mexican, fictional):
        assert read(id=str(UUID(int=1)), phone=number).phone == number
    assert read(phone=mexican).phone == "+525512345678"
    with pytest.raises(RefusedRow, match="can't exist"):
        read(phone=fictional)


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
    email=st.none() | st.sampled_from(["ana@example.si", "+tag@example.si", "=1@example.si"]),
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

    assert targets(table) == list(COLUMNS)
    read = [read_row(Said.of(record, table.columns), None) for record in table.records()]
    assert [one.contact for one in read] == contacts
    for record in table.records():
        cells = dict(zip(COLUMNS, record.cells, strict=True))
        del cells["phone"]
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells.values())
