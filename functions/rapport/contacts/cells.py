"""What stands in a cell: texts that no spreadsheet takes for a formula or a number, and tags.

Source: owasp.org, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
import re

from rapport.errors import MalformedTable

# apostrophes as well, so that taking one off gives back what was there; a name such as
# 't Hooft is neither guarded nor stripped
_TO_GUARD = re.compile(r"'*[=+\-@\t\r]|'+[0-9][0-9 ./()\-]*\Z")
_GUARDED = re.compile(r"'+[=+\-@\t\r]|'+[0-9][0-9 ./()\-]*\Z")
# how programs write a number that a spreadsheet shall show as a text
_TEXT_FORMULA = re.compile(r'="((?:[^"]|"")*)"')


def guarded(text: str) -> str:
    """The text with an apostrophe before it where a spreadsheet could take it for a formula."""
    return f"'{text}" if _TO_GUARD.match(text) else text


def unguarded(cell: str) -> str:
    """The text that `guarded` has made this cell of."""
    return cell[1:] if _GUARDED.match(cell) else cell


def text_of(cell: str) -> str:
    """What the writer of this cell meant it to show: `="0401"` and `'0401` are 0401."""
    if formula := _TEXT_FORMULA.fullmatch(cell.strip()):
        return formula[1].replace('""', '"')
    return unguarded(cell)


def join_tags(tags: list[str]) -> str:
    """Tags with semicolons between them; one that holds a semicolon, quote or line is quoted."""
    if not tags:
        return ""
    joined = io.StringIO(newline="")
    csv.writer(joined, delimiter=";").writerow(tags)
    return joined.getvalue().removesuffix("\r\n")


def split_tags(cell: str) -> list[str]:
    """The tags of a cell; a line's end separates as a semicolon does.

    Raises:
        MalformedTable: A quote is not closed, or stands within a tag.
    """
    lines = csv.reader(
        io.StringIO(cell, newline=""), delimiter=";", skipinitialspace=True, strict=True
    )
    try:
        return [tag for line in lines for tag in line if tag.strip()]
    except csv.Error:
        raise MalformedTable("Its quotes do not match.") from None
