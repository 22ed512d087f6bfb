"""The answers of each operation, in the documented shapes: all values are strings."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue

from rapport.local.fakes.metakocka.company import FakeCompany, FakeDocument, FakePartner
from rapport.local.fakes.metakocka.fields import Fields, MetakockaFault, Payload

PAGE_LIMIT = 100
DOC_TYPES = frozenset(
    {
        "sales_order",
        "sales_offer",
        "sales_bill_domestic",
        "sales_bill_foreign",
        "sales_bill_retail",
        "purchase_order",
        "purchase_bill_domestic",
        "purchase_bill_foreign",
        "workorder",
        "warehouse_delivery_note",
        "warehouse_packing_list",
        "warehouse_receiving_note",
        "warehouse_acceptance_note",
    }
)
# the fields that get_partner returns of a partner, its contacts and its addresses; the stand-in
# hides the others
_TOLD = ("business_entity", "taxpayer", "foreign_county", "customer", "tax_id_number")
_TOLD_OF_PEOPLE = ("name", "gsm", "phone", "email")
_TOLD_OF_ADDRESSES = ("address_type", "street", "post_number", "city", "country")


def add_partner(company: FakeCompany, body: Payload) -> Payload:
    partner = company.add(_partner_of(body))
    answer: Payload = {"mk_id": partner.mk_id}
    if partner.people:
        answer["mk_contact_id"] = next(iter(partner.people))
    answer["mk_address_id_list"] = [
        {"mk_id": id_, **_some(address, ("street",))} for id_, address in partner.addresses.items()
    ]
    return answer


def update_partner(company: FakeCompany, body: Payload) -> Payload:
    return _listed([company.update(_partner_of(body))])


def get_partner(company: FakeCompany, body: Payload) -> Payload:
    return _listed(_found(company, body))


def search(company: FakeCompany, body: Payload) -> Payload:
    doc_type = body.get("doc_type")
    if doc_type not in DOC_TYPES:
        raise MetakockaFault("2", f"Unknown document type : {doc_type}")
    limit, offset = _number(body, "limit", PAGE_LIMIT), _number(body, "offset", 0)
    documents = sorted(
        (one for one in company.documents if one.doc_type == doc_type and _passes(one, body)),
        key=lambda one: one.mk_id,
    )
    page = documents[offset : offset + min(limit, PAGE_LIMIT)]
    is_whole = body.get("result_type") == "doc"
    return {
        "opr_code": "0",
        "opr_time_ms": "5",
        "result_all_records": str(len(documents)),
        "result_count": str(len(page)),
        "offset": str(offset),
        "limit": str(min(limit, PAGE_LIMIT)),
        "result": [_document(company, one) if is_whole else _reference(one) for one in page],
    }


def show(partner: FakePartner) -> Payload:
    """The partner as get_partner returns it."""
    people: list[JsonValue] = []
    for id_, person in partner.people.items():
        at = person.get("mk_address_id", "")
        street = partner.addresses.get(at, {}).get("street")
        entry: Payload = {"mk_id": id_, "mk_address_id": at}
        if street:
            entry["contact_address"] = street
        people.append({**entry, **_some(person, _TOLD_OF_PEOPLE)})
    addresses: list[JsonValue] = [
        {"mk_id": id_, **_some(address, _TOLD_OF_ADDRESSES), "language": "Slovenski"}
        for id_, address in partner.addresses.items()
    ]
    shown: Payload = {
        "mk_id": partner.mk_id,
        **_some(partner.fields, _TOLD),
        "count_code": partner.count_code,
    }
    # empty lists are left out
    if people:
        shown["partner_contact_list"] = people
    if addresses:
        shown["partner_delivery_address_list"] = addresses
    return shown


def with_bare_lists(value: JsonValue) -> JsonValue:
    """The answer in which each list of one element is replaced by the element."""
    if isinstance(value, list):
        plain = [with_bare_lists(one) for one in value]
        return plain[0] if len(plain) == 1 else plain
    if isinstance(value, dict):
        return {name: with_bare_lists(one) for name, one in value.items()}
    return value


def _partner_of(body: Payload) -> Payload:
    partner = body.get("partner")
    if not isinstance(partner, dict):
        raise MetakockaFault("6", "partner is required")
    return partner


def _listed(partners: list[FakePartner]) -> Payload:
    listed: Payload = {"partner_list_count": str(len(partners))}
    if partners:
        listed["partner_list"] = [show(one) for one in partners]
    return listed


def _found(company: FakeCompany, body: Payload) -> list[FakePartner]:
    every = list(company.partners.values())
    match body:
        case {"partner_id": str(id_)}:
            return [company.partners[id_]] if id_ in company.partners else []
        case {"partner_name": str(name)}:
            part = name.casefold()
            return [one for one in every if part in one.fields.get("customer", "").casefold()]
        case {"partner_tax_number": str(number)} if number:
            return [one for one in every if one.fields.get("tax_id_number") == number]
        case {"partner_email": str(email)} if email:
            return [one for one in every if _has(one, email, "email")]
        case {"partner_phone_number": str(number)} if number:
            return [one for one in every if _has(one, number, "phone", "gsm")]
    raise MetakockaFault("2", "At least one search parameter must be set.")


def _has(partner: FakePartner, value: str, *names: str) -> bool:
    return any(
        person.get(name, "").casefold() == value.casefold()
        for person in partner.people.values()
        for name in names
    )


def _passes(document: FakeDocument, body: Payload) -> bool:
    conditions = body.get("query_advance", [])
    for condition in conditions if isinstance(conditions, list) else [conditions]:
        match condition:
            case {"type": "last_change_from", "value": str(since)}:
                if document.changed_at < _time(since):
                    return False
            case {"type": "last_change_to", "value": str(until)}:
                if document.changed_at > _time(until):
                    return False
            case _:
                raise MetakockaFault("2", f"Unknown query_advance : {condition}")
    return True


def _time(value: str) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise MetakockaFault("6", "datetime is not valid")
    return time


def _number(body: Payload, name: str, default: int) -> int:
    value = str(body.get(name, default))
    if not value.isascii() or not value.isdigit():
        raise MetakockaFault("2", f"Paramether '{name}' has invalid value : {value}")
    return int(value)


def _reference(document: FakeDocument) -> Payload:
    return {"mk_id": document.mk_id, "opr_code": "0", "count_code": f"PRD-{document.mk_id}"}


def _document(company: FakeCompany, document: FakeDocument) -> Payload:
    parties = {"partner": document.partner, "receiver": document.receiver}
    return {
        **_reference(document),
        "doc_type": document.doc_type,
        "doc_date": f"{document.changed_at:%Y-%m-%d}+02:00",
        **{
            role: _party(company.partners[id_])
            for role, id_ in parties.items()
            if id_ in company.partners
        },
    }


def _party(partner: FakePartner) -> Payload:
    address_id, address = next(iter(partner.addresses.items()), ("", {}))
    return {
        **_some(partner.fields, _TOLD),
        **_some(address, ("street", "post_number")),
        **({"place": address["city"]} if "city" in address else {}),
        **_some(address, ("country",)),
        "count_code": partner.count_code,
        "useCustomerAsContact": "false",
        "mk_id": partner.mk_id,
        "mk_address_id": address_id,
    }


def _some(fields: Fields, names: tuple[str, ...]) -> Payload:
    return {name: fields[name] for name in names if fields.get(name)}
