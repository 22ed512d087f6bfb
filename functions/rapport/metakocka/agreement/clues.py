"""The clues by which a contact's partner is searched, and their spellings.

The database says which clues are proved: the contact's identities, and the fields that staff have
written. A field that the customer has written proves nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from rapport.metakocka.agreement.compare import tax_parts
from rapport.metakocka.agreement.countries import region_of
from rapport.metakocka.agreement.party import Party


@dataclass(frozen=True)
class Clues:
    """The values by which a partner is searched; an unknown value is empty."""

    tax_id_number: str | None = None
    emails: tuple[str, ...] = ()
    # in E.164 where they can be read with certainty
    phones: tuple[str, ...] = ()
    name: str | None = None
    # ISO 3166, for numbers without a country code; None if the country's name is not known
    region: str | None = None
    # written by the customer: a partner with another email is not ruled out
    are_words: bool = False


def clues_of(party: Party, region: str = "SI") -> Clues:
    """All clues of a party; `region` is used if the party has no country."""
    # the numbering plans of all countries, which requests without a partner do without
    from rapport.phone import e164_or_text

    where = region_of(party.country) if party.country else region
    return Clues(
        party.tax_id_number,
        _unique([party.email]),
        _unique(e164_or_text(one, where) for one in (party.phone, party.gsm)),
        party.name,
        where,
    )


def proved(
    party: Party,
    unproved: Collection[str],
    region: str = "SI",
    *,
    emails: Iterable[str] = (),
    phones: Iterable[str] = (),
) -> Clues:
    """A party's proved clues, with the emails and phones of its contact's identities."""
    sure = clues_of(party.model_copy(update=dict.fromkeys(unproved)), region)
    return replace(
        sure,
        emails=_unique([*emails, *sure.emails]),
        phones=_unique([*phones, *sure.phones]),
    )


def words(party: Party, unproved: Collection[str], region: str = "SI") -> Clues:
    """The clues that the customer has written, and the tax number that staff have written."""
    kept = {"tax_id_number", "country", *unproved}
    said = party.model_copy(
        update={name: None for name in ("email", "phone", "gsm", "name") if name not in kept}
    )
    return replace(clues_of(said, region), are_words=True)


def tax_spellings(number: str, region: str | None) -> tuple[str, ...]:
    """The spellings of a tax number: with its country and without."""
    country, rest = tax_parts(number)
    country = country or {"GR": "EL"}.get(region or "", region or "")
    written = [number, f"{country}{rest}", rest, f"{country} {rest}" if country else rest]
    return _unique(written)


def email_spellings(email: str) -> tuple[str, ...]:
    return _unique([email, email.lower()])


def phone_spellings(number: str) -> tuple[str, ...]:
    """The spellings of a phone number: international and national."""
    import phonenumbers
    from phonenumbers import PhoneNumberFormat

    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return (number,)
    abroad = phonenumbers.format_number(parsed, PhoneNumberFormat.INTERNATIONAL)
    at_home = phonenumbers.format_number(parsed, PhoneNumberFormat.NATIONAL)
    return _unique(
        [
            number,
            abroad,
            f"00{number.removeprefix('+')}",
            f"00{abroad.removeprefix('+')}",
            number.removeprefix("+"),
            at_home,
            "".join(letter for letter in at_home if letter.isdigit()),
        ]
    )


def _unique(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for one in values if one))
