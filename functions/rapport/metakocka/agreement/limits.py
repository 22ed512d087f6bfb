"""What each side can take.

Metakocka's limits are those of its documentation of add_partner; ours are the checks of the
table of contacts. What does not fit is named and left out, never cut.
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

# what a partner can't be made without, and can't be left without
NEEDED = ("name", "street", "post_number", "place", "country")


def misfit(side: Side, field: str, value: Single) -> str | None:
    """Why the side can't take the value, as a sentence, or None if it can.

    `field` is that of a party, or of an entry as in `people.name`.
    """
    last = field.rpartition(".")[2]
    if value is None:
        return "Metakocka needs it." if side == "metakocka" and field in NEEDED else None
    if not isinstance(value, str):
        return None
    if last == "address_type" and value not in ADDRESS_TYPES:
        return f"Known are {', '.join(ADDRESS_TYPES)}."
    limits = _METAKOCKA if side == "metakocka" else _CRM
    limit = limits.get(field) or limits.get(last)
    if limit is not None and len(value) > limit:
        who = "Metakocka" if side == "metakocka" else "a contact"
        return f"It has {len(value)} characters, and {who} takes {limit}."
    if side == "crm" and field == "phone" and not _E164.fullmatch(value):
        return "It can't be read as one phone number: write it with a plus and its country code."
    if side == "crm" and field == "email" and not is_email(value):
        return "It is not one email address: keep one, and nothing beside it."
    return None


def require_fit(field: str, value: Single) -> None:
    """Lets pass what Metakocka takes.

    Raises:
        Unprocessable: It does not; the error names the field and the limit.
    """
    if reason := misfit("metakocka", field, value):
        raise Unprocessable(f"{field}: {reason}", field=field, hint="Shorten or correct it.")


def missing_fields(party: Party) -> list[str]:
    """What a contact lacks to be made a partner."""
    return [field for field in NEEDED if getattr(party, field) is None]
