"""Maps a file's columns to fields: our own names, the names of other systems, and `--map`.

Exports of Google Contacts, Outlook (English, German, Slovene), HubSpot, Chatwoot and WATI are
recognized by their headers. Their columns that have no field here are left out. In any other file
an unknown column is refused, so that no data is lost unnoticed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rapport.errors import MalformedTable

COLUMNS = ("id", "name", "phone", "email", "username", "tags", "notes", "conversation_status")
# a name is joined from the first four, in this order; the country code is for a number in another
# column
PARTS = ("first_name", "middle_name", "last_name", "company", "country_code")
# several columns may have these: of phones and emails the first with a value is taken, tags are
# joined
_SEVERAL = frozenset({"phone", "email", "tags"})


@dataclass(frozen=True)
class Column:
    """A column's title in the file and its field; None where the column is left out."""

    title: str
    target: str | None = None
    # of several columns for one field, the lowest is read first
    rank: int = 0
    # separates several values in one cell
    separator: str | None = None


# by title, without case, spaces and punctuation
_KNOWN: dict[str, tuple[str, int]] = {
    **{column.replace("_", ""): (column, 0) for column in COLUMNS},
    **dict.fromkeys(("fullname", "displayname", "contactname", "imeinpriimek"), ("name", 1)),
    **dict.fromkeys(("firstname", "givenname", "vorname", "ime"), ("first_name", 0)),
    **dict.fromkeys(
        ("middlename", "additionalname", "weiterevornamen", "srednjeime"), ("middle_name", 0)
    ),
    **dict.fromkeys(("lastname", "familyname", "surname", "nachname", "priimek"), ("last_name", 0)),
    **dict.fromkeys(
        (
            "mobilephone", "mobilephonenumber", "mobile", "mobilenumber", "cellphone", "whatsapp",
            "whatsappnumber", "whatsappphonenumber", "mobiltelefon", "handy", "handynummer",
            "mobilnummer", "gsm", "mobitel", "mobilnitelefon", "prenosnitelefon",
        ),
        ("phone", -1),
    ),
    **dict.fromkeys(
        ("phonenumber", "telephone", "telefon", "telefonnummer", "telefonskaštevilka"),
        ("phone", 1),
    ),
    "primaryphone": ("phone", 2),
    "haupttelefon": ("phone", 2),
    "glavnitelefon": ("phone", 2),
    "homephone": ("phone", 3),
    "telefonprivat": ("phone", 3),
    "domačitelefon": ("phone", 3),
    "homephone2": ("phone", 4),
    "telefonprivat2": ("phone", 4),
    "businessphone": ("phone", 5),
    "telefongeschäftlich": ("phone", 5),
    "službenitelefon": ("phone", 5),
    "businessphone2": ("phone", 6),
    "telefongeschäftlich2": ("phone", 6),
    "companymainphone": ("phone", 7),
    "telefonfirma": ("phone", 7),
    "otherphone": ("phone", 8),
    "weiterestelefon": ("phone", 8),
    "drugtelefon": ("phone", 8),
    **dict.fromkeys(
        ("emailaddress", "emailadresse", "epošta", "epoštninaslov", "elektronskapošta"),
        ("email", 1),
    ),
    "email2address": ("email", 2),
    "email2adresse": ("email", 2),
    "email2epoštninaslov": ("email", 2),
    "email3address": ("email", 3),
    "email3adresse": ("email", 3),
    **dict.fromkeys(("note", "notizen", "opombe", "opomba"), ("notes", 1)),
    **dict.fromkeys(("labels", "categories", "kategorien", "kategorije"), ("tags", 1)),
    "countrycode": ("country_code", 0),
}  # fmt: skip
_COMPANIES = frozenset(
    {"company", "companyname", "organizationname", "organization1name", "firma", "podjetje"}
)
_GOOGLE = re.compile(r"(email|phone)(\d+)value")

# an export is recognized if it has all titles of one of these sets
_SYSTEMS: dict[str, tuple[frozenset[str], ...]] = {
    "Google Contacts": (
        frozenset({"phone1value"}), frozenset({"email1value"}),
        frozenset({"phonetic first name".replace(" ", ""), "fileas"}),
    ),
    "Outlook": (
        frozenset({"emailaddress", "emailtype"}), frozenset({"firstname", "mobilephone", "title"}),
        frozenset({"emailaddress", "mobilephone", "lastname"}),
        frozenset({"emailadresse", "nachname"}), frozenset({"epoštninaslov", "priimek"}),
    ),
    "HubSpot": (frozenset({"recordid"}), frozenset({"recordidcontact"})),
    "Chatwoot": (
        frozenset({"phonenumber", "identifier"}), frozenset({"id", "name", "email", "phonenumber"}),
    ),
    "WATI": (frozenset({"allowcampaign"}), frozenset({"allowbroadcast", "phone"})),
}  # fmt: skip


def folded(title: str) -> str:
    """A column's title without its case, spaces and punctuation."""
    text = unicodedata.normalize("NFC", title).casefold()
    return "".join(letter for letter in text if letter.isalnum())


def recognised(header: Sequence[str]) -> int:
    """How many of these titles are known; the right delimiter gives the most."""
    titles = {folded(cell) for cell in header}
    return sum(_known(title, None) is not None for title in titles)


def system_of(header: Sequence[str]) -> str | None:
    """The system whose exports have this header."""
    titles = {folded(cell) for cell in header}
    if "conversationstatus" in titles:
        return None
    for system, signatures in _SYSTEMS.items():
        if any(signature <= titles for signature in signatures):
            return system
    return None


def columns_of(header: Sequence[str], mapping: Mapping[str, str]) -> list[Column]:
    """The field of each column of a file.

    `mapping` gives fields by title, and an empty text for a column to leave out. It comes before
    the known titles.

    Raises:
        MalformedTable: A column is not known, or there twice, or the mapping names one that is
            not there; the message says what to do.
    """
    titles = [cell.strip() for cell in header]
    if not any(titles):
        raise MalformedTable(
            f"The file is empty: its first row names the columns. Known: {', '.join(COLUMNS)}."
        )
    mapped = _mapped(titles, mapping)
    system = system_of(titles)
    columns = _named_apart(
        [mapped.get(folded(title)) or _column(title, system) for title in titles]
    )
    unknown = [
        column.title
        for column in columns
        if column.title and column.target is None and folded(column.title) not in mapped
    ]
    if unknown and system is None:
        listed = ", ".join(repr(title[:64]) for title in unknown[:10])
        raise MalformedTable(
            f"The first row has unknown columns: {listed}. Known:"
            f" {', '.join(COLUMNS)}. Name its field, such as --map {unknown[0][:64]!r}=notes, or"
            f" leave it out with --map {unknown[0][:64]!r}= ."
        )
    _require_once(columns)
    return columns


def _mapped(titles: list[str], mapping: Mapping[str, str]) -> dict[str, Column]:
    by_title = {folded(title): title for title in titles}
    found = {}
    for place, (theirs, ours) in enumerate(mapping.items()):
        title = by_title.get(folded(theirs))
        if title is None or not title:
            there = ", ".join(repr(one[:64]) for one in titles[:20] if one)
            raise MalformedTable(
                f"--map names a column that is not there: {theirs!r} (has {there})."
            )
        if ours and ours not in (*COLUMNS, *PARTS):
            raise MalformedTable(
                f"--map {theirs}={ours}: {ours!r} is not a field. Fields:"
                f" {', '.join((*COLUMNS, *PARTS))}."
            )
        found[folded(theirs)] = Column(title, ours or None, rank=place - len(mapping) - 1)
    return found


def _column(title: str, system: str | None) -> Column:
    name = folded(title)
    if system is not None and name == "id":
        # the other system's status: ours would be in the column conversation_status
        return Column(title)
    known = _known(name, system)
    if known is None:
        return Column(title)
    target, rank = known
    separator = None
    if system == "Google Contacts" and (_GOOGLE.fullmatch(name) or target == "tags"):
        separator = ":::"
    elif system == "Chatwoot" and target == "tags":
        separator = ","
    return Column(title, target, rank, separator)


def _known(title: str, system: str | None) -> tuple[str, int] | None:
    if google := _GOOGLE.fullmatch(title):
        return google[1], int(google[2])
    if system is not None and title in _COMPANIES:
        return "company", 0
    if system == "Google Contacts" and title == "groupmembership":
        return "tags", 1
    return _KNOWN.get(title)


def _named_apart(columns: list[Column]) -> list[Column]:
    """Beside a first name, the column `Name` is the last name, as in `Vorname;Name`."""
    targets = {column.target for column in columns}
    if "last_name" in targets:
        return columns
    if "first_name" in targets and "name" in targets:
        return [
            Column(column.title, "last_name") if column.target == "name" else column
            for column in columns
        ]
    return [
        # a first name alone is the whole name
        Column(column.title, "name") if column.target == "first_name" else column
        for column in columns
    ]


def _require_once(columns: list[Column]) -> None:
    told: dict[str, Column] = {}
    for column in columns:
        if column.target is None:
            continue
        # several phones, emails or tags each have a column of their own
        key = column.target
        if key in _SEVERAL:
            key = f"{key} {folded(column.title)}"
        other = told.setdefault(key, column)
        if other is not column:
            raise MalformedTable(
                f"The first row names a column twice: {column.target}"
                f" ({other.title[:64]!r}, {column.title[:64]!r}). Leave one out with"
                f" --map {column.title[:64]!r}= ."
            )
