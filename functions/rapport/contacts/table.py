"""Files of contacts: separated by commas, semicolons or tabs, with a header that names the columns.

A file is read twice, line by line. The first reading checks that all of it can be read, so that no
row of a broken file is imported; the second yields the rows.

The encoding is UTF-8, UTF-16, or a Windows code page of Central or Western Europe. Those two differ
in some letters, and a file does not name its own. Where the difference matters, `encoding` has to
name it.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

from rapport.contacts.cells import guarded, join_tags
from rapport.contacts.columns import COLUMNS, Column, columns_of, recognised, system_of
from rapport.errors import MalformedTable
from rapport.store.contacts import Contact

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t"}
ENCODINGS = ("utf-8", "utf-16", "cp1250", "cp1252")
FILE_LIMIT = 1024 * 1024 * 1024  # bytes
LINE_LIMIT = 1024 * 1024  # characters; our own rows have a tenth of it at most
ROW_LIMIT = 1_000_000
CELLS_LIMIT = 1_000  # in a row

_CHUNK = 1024 * 1024
# Excel's line before the header that names the delimiter
_SEP = re.compile(r'"?sep=(?P<delimiter>.)"?[,;\s]*', re.IGNORECASE)

_DOCUMENTS = (b"%PDF", b"{\\rtf", b"\x1f\x8b", b"\x89PNG", b"GIF8", b"\xff\xd8\xff")


@dataclass(frozen=True)
class Record:
    """A row of the file; the header is row 1, as in a spreadsheet."""

    row: int
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """A file that was checked to its end."""

    path: Path
    encoding: str
    delimiter: str
    columns: list[Column]
    # the system that made the export, if its columns are known
    system: str | None
    # without the header and empty lines
    rows: int

    @classmethod
    def open(
        cls,
        path: Path,
        delimiter: str | None = None,
        *,
        encoding: str | None = None,
        mapping: Mapping[str, str] | None = None,
    ) -> Table:
        """Checks the whole file, and finds out the delimiter and the encoding if they are not
        given.

        `mapping` gives fields by title, as in `columns_of`.

        Raises:
            MalformedTable: It can't be read, or has columns that nobody knows; the message
                names the line or the column.
        """
        if path.is_fifo():
            raise MalformedTable("This input can be read only once. Give a file.")
        if (size := path.stat().st_size) > FILE_LIMIT:
            raise MalformedTable(
                f"The file has {size:,} bytes; {FILE_LIMIT:,} are allowed. Divide it."
            )
        encoding = _encoding_of(path, encoding)
        with _opened(path, encoding) as file:
            lines = _lines(file)
            header = next(lines, "")
            if sep := _SEP.fullmatch(header):
                delimiter = delimiter or sep["delimiter"]
                header = next(lines, "")
        delimiter = delimiter or _delimiter_of(header)
        records = _records(path, encoding, delimiter)
        first = next(records, None)
        titles = first.cells if first else []
        columns = columns_of(titles, mapping or {})
        rows = 0
        for _ in records:
            rows += 1
            if rows > ROW_LIMIT:
                raise MalformedTable(f"The file has more than {ROW_LIMIT:,} rows. Divide it.")
        return cls(path, encoding, delimiter, columns, system_of(titles), rows)

    def records(self) -> Iterator[Record]:
        """The rows after the header."""
        records = _records(self.path, self.encoding, self.delimiter)
        next(records)
        return records

    @property
    def left_out(self) -> list[str]:
        """The titles of the columns that are left out."""
        return [column.title for column in self.columns if column.title and not column.target]


def write(file: IO[str], contacts: Iterable[Contact]) -> int:
    """Writes contacts as a file that `Table` reads; returns their number.

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
                # the table's check makes it a plus and digits, which is no formula
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


def _records(path: Path, encoding: str, delimiter: str) -> Iterator[Record]:
    with _opened(path, encoding) as file:
        lines = _lines(file)
        first = next(lines, "")
        # strict: otherwise an open quote swallows the rows below it
        reader = csv.reader(
            lines if _SEP.fullmatch(first) else _after(first, lines),
            delimiter=delimiter,
            strict=True,
        )
        for row in count(1):
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                raise MalformedTable(
                    f"Line {reader.line_num} can't be read: a quote in it or before it is not"
                    " closed."
                ) from None
            if len(cells) > CELLS_LIMIT:
                raise MalformedTable(f"Row {row} has more than {CELLS_LIMIT:,} cells.")
            if any(cell.strip() for cell in cells):
                yield Record(row, cells)


def _after(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _opened(path: Path, encoding: str) -> IO[str]:
    # keeps line breaks within cells as they are
    return path.open(encoding=encoding, newline="")


def _lines(file: IO[str]) -> Iterator[str]:
    for number in count(1):
        line = file.readline(LINE_LIMIT + 1)
        if not line:
            return
        if len(line) > LINE_LIMIT:
            raise MalformedTable(f"Line {number} has more than {LINE_LIMIT:,} characters.")
        yield line


def _encoding_of(path: Path, said: str | None) -> str:
    """The encoding in which the whole file can be read.

    Raises:
        MalformedTable: There is none, or more than one that reads other letters.
    """
    with path.open("rb") as file:
        begin = file.read(4096)
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        found = "utf-16"
    elif begin.startswith(codecs.BOM_UTF8):
        found = "utf-8"
    elif begin.startswith(_DOCUMENTS) or (said != "utf-16" and _is_binary(begin)):
        raise MalformedTable(
            "The file is not a table: it holds no text, as pictures, PDFs and archives do. Give a"
            " CSV file or a workbook (.xlsx, .xls, .ods)."
        )
    elif said == "utf-16" or b"\0" in begin[:4]:
        # no byte order mark, and every second byte of a letter is zero
        found = "utf-16-be" if begin[:1] == b"\0" else "utf-16-le"
    else:
        found = said or "utf-8"
    error = _misfit(path, found)
    if error is None:
        # the -sig form removes a byte order mark
        return "utf-8-sig" if found == "utf-8" else found
    if found == "utf-8" and said is None and not begin.startswith(codecs.BOM_UTF8):
        return _code_page_of(path, error)
    raise MalformedTable(f"{error} Save it as CSV UTF-8, or give another --encoding.")


def _is_binary(begin: bytes) -> bool:
    """Whether the first bytes of a file have zeros as no text has them."""
    # in UTF-16, every second byte of most letters is zero
    if max(begin[::2].count(0), begin[1::2].count(0)) > len(begin) // 4:
        return b"\0\0\0\0" in begin
    return b"\0" in begin


def _misfit(path: Path, encoding: str) -> str | None:
    """A sentence that says where the file does not fit this encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    begin, lines = 0, 1
    with path.open("rb") as file:
        while True:
            chunk = file.read(_CHUNK)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                at = error.start - pending
                lines += chunk[: max(at, 0)].count(b"\n")
                return (
                    f"Line {lines} is not {encoding.upper()} (byte {begin + at + 1:,} of the file)."
                )
            if not chunk:
                return None
            begin += len(chunk)
            lines += chunk.count(b"\n")


def _code_page_of(path: Path, error: str) -> str:
    """The file's Windows code page, if there is no doubt."""
    possible = {"cp1250", "cp1252"}
    doubt: tuple[int, str, str] | None = None
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LINE_LIMIT), b""), 1):
            if line.isascii():
                continue
            read = {}
            for encoding in sorted(possible):
                try:
                    read[encoding] = line.decode(encoding)
                except UnicodeDecodeError:
                    possible.discard(encoding)
            if doubt is None and len(set(read.values())) > 1:
                doubt = number, *_differing_words(read["cp1250"], read["cp1252"])
    if not possible:
        raise MalformedTable(f"{error} Save it as CSV UTF-8.")
    if len(possible) > 1 and doubt is not None:
        number, central, western = doubt
        raise MalformedTable(
            f"Line {number} is not UTF-8. It has {central!r} if the file is from a Windows for"
            f" Central Europe, and {western!r} from one for Western Europe: give --encoding cp1250"
            " or --encoding cp1252, or save it as CSV UTF-8."
        )
    return min(possible)


def _differing_words(one: str, other: str) -> tuple[str, str]:
    word = re.compile(r"[^\W\d_]+|\S")
    pairs = zip(word.findall(one), word.findall(other), strict=False)
    return next(((a[:40], b[:40]) for a, b in pairs if a != b), (one[:40], other[:40]))


def _delimiter_of(header: str) -> str:
    def known(delimiter: str) -> int:
        try:
            return recognised(next(csv.reader([header], delimiter=delimiter), []))
        except csv.Error:
            return 0

    best = max(DELIMITERS.values(), key=known)
    # in an unknown header the most frequent delimiter is taken
    return best if known(best) else max(DELIMITERS.values(), key=header.count)
