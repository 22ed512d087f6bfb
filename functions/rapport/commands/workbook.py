"""Reads the first sheet of a workbook (.xlsx, .xls, .ods), or a named one, as a CSV file.

A workbook of a few kilobytes can unpack to more than the machine's memory. So a process of its own
reads it, with limits of memory and time:

    python -m rapport.commands.workbook WORKBOOK CSV [SHEET]
"""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import NoReturn

from rapport.contacts.table import CELLS_LIMIT, ROW_LIMIT
from rapport.errors import MalformedTable

FILE_LIMIT = 100 * 1024 * 1024  # bytes
UNPACKED_LIMIT = 500 * 1024 * 1024  # bytes
MEMORY_LIMIT = 3 * 1024 * 1024 * 1024  # bytes of address space
TIME_LIMIT = 120  # seconds of processor time

_ZIP = b"PK\x03\x04"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_WRONG = 3  # exit status with which stderr holds a sentence for people


@contextmanager
def as_table(file: Path, sheet: str | None) -> Iterator[Path]:
    """The file itself, or where it is a workbook, a CSV file of its sheet that is gone afterwards.

    Raises:
        MalformedTable: The workbook can't be read, or has no such sheet.
        OSError: The file can't be opened.
    """
    begin = b""
    if not file.is_fifo():
        with file.open("rb") as opened:
            begin = opened.read(len(_OLE))
    if not begin.startswith((_ZIP, _OLE)):
        if sheet is not None:
            raise MalformedTable("The file is not a workbook; --sheet is only for workbooks.")
        yield file
        return
    _require_size(file, is_zip=begin.startswith(_ZIP))
    with tempfile.TemporaryDirectory(prefix="rapport-") as folder:
        table = Path(folder) / "sheet.csv"
        _convert(file, table, sheet)
        yield table


def _require_size(file: Path, *, is_zip: bool) -> None:
    if (size := file.stat().st_size) > FILE_LIMIT:
        raise MalformedTable(
            f"The workbook has {size:,} bytes; {FILE_LIMIT:,} are allowed. Divide it, or save it as"
            " CSV UTF-8."
        )
    if not is_zip:
        return
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        raise MalformedTable("The workbook is damaged. Save it again.") from None
    if unpacked > UNPACKED_LIMIT:
        raise MalformedTable(
            f"The workbook unpacks to {unpacked:,} bytes; {UNPACKED_LIMIT:,} are allowed."
            " Divide it, or save it as CSV UTF-8."
        )


def _convert(file: Path, table: Path, sheet: str | None) -> None:
    command = [sys.executable, "-m", "rapport.commands.workbook", str(file), str(table)]
    result = subprocess.run(
        [*command, *([] if sheet is None else [sheet])],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode == _WRONG:
        raise MalformedTable(result.stderr.strip())
    if result.returncode:
        raise MalformedTable(
            "The sheet is too large. Delete the cells far from the table, or save it as CSV UTF-8."
        )


def _main(file: str, table: str, sheet: str | None = None) -> None:
    # not a dependency of the importing process
    from python_calamine import (
        CalamineError,
        CalamineWorkbook,
        PasswordError,
        WorksheetNotFound,
    )

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CPU, (TIME_LIMIT, TIME_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    names: list[str] = []
    try:
        workbook = CalamineWorkbook.from_path(file)
        names = workbook.sheet_names
        if not names:
            _refuse("The workbook has no sheet.")
        found = workbook.get_sheet_by_name(names[0] if sheet is None else sheet)
    except WorksheetNotFound:
        _refuse(f"There is no sheet {sheet!r}. Sheets: {', '.join(map(repr, names[:20]))}.")
    except PasswordError:
        _refuse("The workbook is protected by a password. Save it without one.")
    except CalamineError:
        _refuse("The workbook can't be read. Save it as .xlsx or as CSV UTF-8.")
    if found.end is None:
        Path(table).touch()
        return
    rows, cells = found.end[0] + 1, found.end[1] + 1
    if rows > ROW_LIMIT or cells > CELLS_LIMIT:
        _refuse(
            f"The sheet has {rows:,} rows of {cells:,} cells; {ROW_LIMIT:,} of {CELLS_LIMIT:,} are"
            " allowed. Delete the cells far from the table."
        )
    with Path(table).open("w", encoding="utf-8", newline="") as file_:
        writer = csv.writer(file_)
        # from the sheet's first row on, so that row numbers are those that people see
        for row in found.iter_rows():
            writer.writerow([_text(cell) for cell in row])


def _text(value: object) -> str:
    """A cell as text: whole numbers with all digits, dates and times as ISO 8601."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)


def _refuse(sentence: str) -> NoReturn:
    sys.stderr.write(sentence)
    raise SystemExit(_WRONG)


if __name__ == "__main__":
    _main(*sys.argv[1:])
