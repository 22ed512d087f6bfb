"""Files of contacts: comma, semicolon or tab, UTF-8, a header that names the columns.

A file is read through twice, a line at a time: first to know that all of it can be read, so
that nothing is written of one that can't, then for its rows.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

from rapport.contact_store import Contact
from rapport.contacts.cells import guarded, join_tags
from rapport.errors import MalformedTable

COLUMNS = ("id", "name", "phone", "email", "username", "tags", "notes", "conversation_status")
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t"}
LINE_LIMIT = 1024 * 1024  # bytes; a row of ours has a tenth of it at most


@dataclass(frozen=True)
class Record:
    """A row as it stands in the file; the header is row 1, as in a spreadsheet."""

    row: int
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """A file that can be read to its end."""

    path: Path
    delimiter: str
    columns: list[str]
    # without the header and lines that are empty
    rows: int

    @classmethod
    def open(cls, path: Path, delimiter: str | None = None) -> Table:
        """Reads the file through; without a delimiter, the header tells it.

        Raises:
            MalformedTable: It can't be read, or has columns that nobody knows; the message
                names the line or the column.
        """
        if path.is_fifo():
            raise MalformedTable("It can be read only once, and is read twice: give a file.")
        with path.open("rb") as file:
            header = next(_lines(file), "")
        delimiter = delimiter or _delimiter_of(header)
        records = _records(path, delimiter)
        first = next(records, None)
        columns = _columns(first.cells if first else [])
        return cls(path, delimiter, columns, rows=sum(1 for _ in records))

    def records(self) -> Iterator[Record]:
        """The rows below the header."""
        records = _records(self.path, self.delimiter)
        next(records)
        return records


def write(file: IO[str], contacts: Iterable[Contact]) -> int:
    """Writes contacts as a table that `Table` reads; returns how many.

    The file must be opened with newline="".
    """
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    written = 0
    for contact in contacts:
        writer.writerow(
            [
                contact.id,
                guarded(contact.name or ""),
                # E.164 by the table's check: a plus and digits are no formula of anybody's
                contact.phone,
                guarded(contact.email or ""),
                guarded(contact.username or ""),
                guarded(join_tags(contact.tags or [])),
                guarded(contact.notes or ""),
                contact.conversation_status,
            ]
        )
        written += 1
    return written


def _records(path: Path, delimiter: str) -> Iterator[Record]:
    with path.open("rb") as file:
        # strict: else a quote that is left open takes the rows below it into its cell
        reader = csv.reader(_lines(file), delimiter=delimiter, strict=True)
        for row in count(1):
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                raise MalformedTable(
                    f"Line {reader.line_num} is no row of a table: a quote in it or before it is"
                    " not closed, or lines end in another way than LF or CR LF."
                ) from None
            if any(cell.strip() for cell in cells):
                yield Record(row, cells)


def _lines(file: IO[bytes]) -> Iterator[str]:
    begin = 0
    for number in count(1):
        line = file.readline(LINE_LIMIT + 1)
        if not line:
            return
        if len(line) > LINE_LIMIT:
            raise MalformedTable(f"Line {number} has more than {LINE_LIMIT} bytes.")
        mark = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
        try:
            yield line[mark:].decode()
        except UnicodeDecodeError as error:
            raise MalformedTable(
                f"Line {number} is not UTF-8 at its byte {mark + error.start + 1} (byte"
                f" {begin + mark + error.start + 1} of the file). Save it as CSV UTF-8."
            ) from None
        begin += len(line)


def _delimiter_of(header: str) -> str:
    def known(delimiter: str) -> int:
        return len({_name(cell) for cell in header.split(delimiter)} & set(COLUMNS))

    return max(DELIMITERS.values(), key=known)


def _columns(header: list[str]) -> list[str]:
    names = [_name(cell) for cell in header]
    known = f"Known: {', '.join(COLUMNS)}."
    if not any(names):
        raise MalformedTable(f"The file is empty: its first row names the columns. {known}")
    if unknown := [name for name in names if name not in COLUMNS]:
        listed = ", ".join(repr(name[:64]) for name in unknown[:10])
        raise MalformedTable(f"The first row names columns that are not known: {listed}. {known}")
    if twice := [name for name in COLUMNS if names.count(name) > 1]:
        raise MalformedTable(f"The first row names a column twice: {', '.join(twice)}.")
    return names


def _name(cell: str) -> str:
    return cell.strip().strip('"').strip().lower()
