"""The limits of both sides.

Metakocka's limits come from its documentation of add_partner, a contact's limits from the checks of
its table. A value that does not fit is never cut: it is left out, and the reason names it.
"""

from __future__ import annotations

import re
from typing import Literal

from rapport.email_address import is_email
from rapport.errors import Unprocessable
from rapport.metakocka.agreement.party import ADDRESS_TYPES, FIELDS, Party, Single

Side = Literal["crm", "metakocka"]

# characters
_METAKOCKA = {name: at.longest for name, at in FIELDS.items() if at.longest} | {
    "city": 100,
    # of a person, which is not the partner's name
    "people.name": 255,
}
_CRM = _METAKOCKA | {"name": 200}

_E164 = re.compile(r"\+[1-9][0-9]{1,14}")

# Metakocka makes no partner without these fields, and does not erase them
NEEDED = ("name", "street", "post_number", "place", "country")


def misfit(side: Side, field: str, value: Single) -> str | None:
    """Why the side can't take the value, as a sentence; None if it can.

    `field` is a field of a party, or of an entry as in `people.name`.
    """
    last = field.rpartition(".")[2]
    if value is None:
        return "Metakocka needs it." if side == "metakocka" and field in NEEDED else None
    if not isinstance(value, str):
        return None
    if last == "address_type" and value not in ADDRESS_TYPES:
        return f"An address has one of these types: {', '.join(ADDRESS_TYPES)}."
    limits = _METAKOCKA if side == "metakocka" else _CRM
    limit = limits.get(field) or limits.get(last)
    if limit is not None and len(value) > limit:
        who = "Metakocka" if side == "metakocka" else "a contact"
        return f"It has {len(value)} characters, and {who} takes {limit}."
    if side == "crm" and field == "phone" and not _E164.fullmatch(value):
        return "It can't be read as one phone number: write it with a plus and its country code."
    if side == "crm" and field == "email" and not is_email(value):
        return "It is not one email address: write one address, and nothing else."
    return None


def require_fit(field: str, value: Single) -> None:
    """Checks that Metakocka takes the value.

    Raises:
        Unprocessable: Metakocka does not; the error names the field and the limit.
    """
    if reason := misfit("metakocka", field, value):
        raise Unprocessable(f"{field}: {reason}", field=field, hint="Shorten or correct it.")


def missing_fields(party: Party) -> list[str]:
    """The fields that a contact needs before it can become a partner."""
    return [field for field in NEEDED if getattr(party, field) is None]
