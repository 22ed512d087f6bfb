"""Texts of cells: safe against formulas, and lists of tags.

Source: owasp.org, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
import re

from rapport.errors import MalformedTable

# apostrophes too, so that `unguarded` restores the text; a name such as 't Hooft is neither guarded
# nor changed
_TO_GUARD = re.compile(r"'*[=+\-@\t\r]|'+[0-9][0-9 ./()\-]*\Z")
_GUARDED = re.compile(r"'+[=+\-@\t\r]|'+[0-9][0-9 ./()\-]*\Z")
# how some programs write a number that a spreadsheet should show as text
_TEXT_FORMULA = re.compile(r'="((?:[^"]|"")*)"')


def guarded(text: str) -> str:
    """The text, with an apostrophe in front where a spreadsheet could run it as a formula."""
    return f"'{text}" if _TO_GUARD.match(text) else text


def unguarded(cell: str) -> str:
    """The text that `guarded` made this cell from."""
    return cell[1:] if _GUARDED.match(cell) else cell


def text_of(cell: str) -> str:
    """The text that the writer of this cell meant: `="0401"` and `'0401` mean 0401."""
    if formula := _TEXT_FORMULA.fullmatch(cell.strip()):
        return formula[1].replace('""', '"')
    return unguarded(cell)


def join_tags(tags: list[str]) -> str:
    """Tags separated by semicolons. A tag that contains a semicolon, a quote or a line break is
    quoted.
    """
    if not tags:
        return ""
    joined = io.StringIO(newline="")
    csv.writer(joined, delimiter=";").writerow(tags)
    return joined.getvalue().removesuffix("\r\n")


def split_tags(cell: str) -> list[str]:
    """The tags of a cell; line breaks separate tags as semicolons do.

    Raises:
        MalformedTable: A quote is not closed, or stands within a tag.
    """
    lines = csv.reader(
        io.StringIO(cell, newline=""), delimiter=";", skipinitialspace=True, strict=True
    )
    try:
        return [tag for line in lines for tag in line if tag.strip()]
    except csv.Error:
        raise MalformedTable("A quote is not closed.") from None
