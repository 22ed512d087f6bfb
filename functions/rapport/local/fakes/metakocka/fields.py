"""The documented fields of a partner and its entries, and the checks of requests.

Source: github.com/metakocka/metakocka_api_base, docs/add_partner.md.
"""

from __future__ import annotations

from pydantic import JsonValue

Fields = dict[str, str]
Payload = dict[str, JsonValue]

_BOOL = 0
PARTNER = {
    "business_entity": _BOOL,
    "taxpayer": _BOOL,
    "foreign_county": _BOOL,
    "buyer": _BOOL,
    "supplier": _BOOL,
    "tax_id_number": 50,
    "registration_number": 50,
    "customer": 100,
}
PLACE = {"street": 150, "post_number": 20, "place": 100, "province": 50, "country": 50}
CONTACT = {
    "useCustomerAsContact": _BOOL,
    "name": 255,
    "email": 255,
    "gsm": 255,
    "phone": 255,
    "fax": 255,
}
ADDRESS = {"street": 150, "post_number": 20, "city": 100, "province": 50, "country": 50}
TYPES = ("Račun", "Dobava", "Poslovna enota")


class MetakockaFault(Exception):  # noqa: N818 - what Metakocka calls it
    """A request is refused, in Metakocka's words."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description


def take(payload: Payload, known: dict[str, int]) -> Fields:
    """The given fields that are known; an empty value erases.

    Raises:
        MetakockaFault: A field has no valid value.
    """
    return {
        name: _checked(name, payload[name], limit)
        for name, limit in known.items()
        if name in payload
    }


def take_contact(payload: Payload) -> Fields:
    """The fields of a contact entry; the documentation's table calls its name `contact`."""
    if "contact" in payload:
        payload = {"name": payload["contact"], **payload}
    fields = take(payload, CONTACT)
    if fields.pop("useCustomerAsContact", "false") == "true":
        fields.pop("name", None)
    return fields


def take_address(payload: Payload) -> Fields:
    """The fields of an address entry."""
    fields = take(payload, ADDRESS)
    if "address_type" in payload:
        kind = payload["address_type"]
        if kind not in TYPES:
            raise MetakockaFault("2", f"Paramether 'address_type' has invalid value : {kind}")
        fields["address_type"] = str(kind)
    return fields


def _checked(name: str, value: JsonValue, limit: int) -> str:
    if not isinstance(value, str):
        raise MetakockaFault("2", f"Paramether '{name}' has invalid value : {value}")
    if limit == _BOOL and value not in ("true", "false", ""):
        raise MetakockaFault("2", f"Paramether '{name}' has invalid value : {value}")
    if limit and len(value) > limit:
        raise MetakockaFault("6", f"{name} is too long. Max length is {limit}.")
    return value


def entries(payload: Payload, *names: str) -> list[Payload]:
    """The entries under any of the names, as a list or as a single one."""
    found: list[Payload] = []
    for name in names:
        value = payload.get(name)
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict):
                found.append(entry)
            elif entry not in (None, ""):
                raise MetakockaFault("2", f"Paramether '{name}' has invalid value.")
    return found
